//! Pops: who has been given which message until when, and what of it is done with. A message that was acknowledged
//! is never given again; one that was not always is.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quern_protocol::retry::{ORIGIN_OFFSET, ORIGIN_QUEUE, dead_letter_topic};
use quern_protocol::{
    AckPopped, CommitOffsets, Filter, GroupName, HidePopped, Pop, PopReply, QueueId, QueueOffset,
    QueuePosition, Receipt,
};

use super::world::{Answer, QUEUES, World, read, topic};

/// Two groups; the second consumes in order.
pub(super) fn groups() -> [GroupName; 2] {
    ["g", "o"].map(|name| GroupName::new(name).unwrap())
}

/// Of a group, by number: a queue.
type Key = (usize, u32);

/// A message that was given to a group.
#[derive(Debug, Clone, Copy, Default)]
struct Given {
    /// Of the last time that is known of.
    token: u64,
    /// It is hidden until then at the least.
    until: u64,
    /// It was acknowledged when this was its newest token.
    acknowledged: Option<u64>,
    /// Somebody has acknowledged it, and may have been heard.
    may_be_done: bool,
}

#[derive(Default)]
pub(super) struct Popping {
    given: BTreeMap<Key, BTreeMap<u64, Given>>,
    /// Receipts that consumers hold, those that are over, too.
    receipts: Vec<(usize, Receipt)>,
    /// Where the group was sent to; what was before is of no interest.
    floors: BTreeMap<Key, u64>,
    /// Somebody is sending it somewhere.
    resetting: BTreeMap<Key, u64>,
    /// How often it was sent somewhere: once when it was asked for, and again when that was answered, since what was
    /// asked for meanwhile may have been done before.
    resets: BTreeMap<Key, u32>,
    /// How often there was a dead letter of each when the life began.
    dead: BTreeMap<(usize, u32, u64), usize>,
    /// What an attempt was given.
    attempted: Option<(usize, Pop, Vec<Receipt>)>,
}

impl Popping {
    fn one(&mut self, key: Key, offset: u64) -> &mut Given {
        let of_queue = self.given.entry(key).or_default();
        of_queue.entry(offset).or_default()
    }

    fn is_resetting(&self, key: Key) -> bool {
        self.resetting.contains_key(&key)
    }

    fn resets(&self, key: Key) -> u32 {
        self.resets.get(&key).copied().unwrap_or(0)
    }

    /// From this offset on everything may have been given for nothing, or not; what is before may be done with.
    fn doubt(&mut self, key: Key, from: u64) {
        self.is_past(key, from);
        for (_, given) in self.given.entry(key).or_default().range_mut(from..) {
            *given = Given {
                may_be_done: given.may_be_done || given.acknowledged.is_some(),
                ..Given::default()
            };
        }
    }

    /// The broker is gone, and with it all requests; what they asked for may have been done last.
    pub(super) fn nobody_is_under_way(&mut self) {
        for (key, to) in std::mem::take(&mut self.resetting) {
            *self.resets.entry(key).or_default() += 1;
            self.doubt(key, to);
        }
        self.attempted = None;
    }

    fn is_past(&mut self, key: Key, to: u64) {
        for (_, given) in self.given.entry(key).or_default().range_mut(..to) {
            given.until = 0;
            given.may_be_done = true;
        }
    }

    /// From this offset on everything is as if it had never been given, and what is before is done with.
    fn forget(&mut self, key: Key, from: u64) {
        self.is_past(key, from);
        let of_queue = self.given.entry(key).or_default();
        of_queue.split_off(&from);
    }
}

impl World {
    pub(super) fn act_on_popping(&mut self) {
        match self.random.u8(0..20) {
            0..=7 => self.pop(),
            8 => self.pop_once_more(),
            9..=15 => self.acknowledge(),
            16..=18 => self.hide(),
            _ => self.reset(),
        }
    }

    fn pop(&mut self) {
        let group = usize::from(self.random.u8(0..3) == 0);
        let queue = self.random.bool().then(|| self.a_queue());
        let request = Pop {
            attempt: (self.random.u8(0..4) > 0).then(|| self.random.u64(..)),
            ..self.pop_request(group, queue)
        };
        let before = self.popping.resets.clone();
        let asked = request.clone();
        self.ask(&request, Vec::new(), move |world, answer: Answer<Pop>| {
            let (reply, body) = answer.unwrap();
            world.popped(group, (&reply, &body), &before);
            let receipts: Vec<_> = reply.messages.iter().map(|it| it.receipt).collect();
            world.fits(&asked, &receipts);
            if asked.attempt.is_some() && !receipts.is_empty() {
                world.popping.attempted = Some((group, asked, receipts));
            }
        });
    }

    /// As if the answer had been lost.
    fn pop_once_more(&mut self) {
        let Some((group, mut request, first)) = self.popping.attempted.take() else {
            return self.pop();
        };
        // Nobody has to want as many as before.
        let wants = request.max_messages;
        if self.random.u8(0..4) == 0 {
            request.max_messages = self.random.u32(1..=wants);
        }
        let before = self.popping.resets.clone();
        let is_acknowledged = |it: &Receipt| {
            let of_queue = self.popping.given.get(&(group, it.queue.0));
            let given = of_queue.and_then(|of_queue| of_queue.get(&it.offset.0));
            let by = given.and_then(|given| given.acknowledged);
            by.is_some_and(|token| token >= it.token)
        };
        let acknowledged: Vec<Receipt> = first.iter().copied().filter(is_acknowledged).collect();
        let asked = request.clone();
        self.ask(&request, Vec::new(), move |world, answer: Answer<Pop>| {
            let (reply, body) = answer.unwrap();
            let receipts: Vec<_> = reply.messages.iter().map(|it| it.receipt).collect();
            world.fits(&asked, &receipts);
            if !receipts.iter().any(|it| first.contains(it)) {
                world.nothing_is_held(group, &first, &before);
                world.popped(group, (&reply, &body), &before);
                return;
            }
            world.reach("given once more");
            for receipt in &receipts {
                let key = (group, receipt.queue.0);
                let was_reset = before.get(&key).copied().unwrap_or(0) != world.popping.resets(key)
                    || world.popping.is_resetting(key);
                if !first.contains(receipt) || acknowledged.contains(receipt) && !was_reset {
                    world.fail(&format!(
                        "{receipt:?} is given once more, of {first:?}; {acknowledged:?} are acknowledged"
                    ));
                }
            }
            let is_full = receipts.len() as u32 >= asked.max_messages && asked.max_messages < wants;
            let left: Vec<_> = first
                .into_iter()
                .filter(|it| !receipts.contains(it) && !is_full)
                .collect();
            world.nothing_is_held(group, &left, &before);
        });
    }

    fn fits(&self, asked: &Pop, receipts: &[Receipt]) {
        if receipts.len() as u32 > asked.max_messages {
            self.fail(&format!("{asked:?} is given {receipts:?}"));
        }
    }

    /// None of these is hidden for who has the receipt, as far as this group's consumers know.
    fn nothing_is_held(&mut self, group: usize, receipts: &[Receipt], before: &BTreeMap<Key, u32>) {
        let now = self.now();
        for receipt in receipts {
            let key = (group, receipt.queue.0);
            let was_reset = before.get(&key).copied().unwrap_or(0) != self.popping.resets(key);
            if was_reset || self.popping.is_resetting(key) {
                continue;
            }
            let given = *self.popping.one(key, receipt.offset.0);
            let is_held = given.token == receipt.token && given.until > now && !given.may_be_done;
            if is_held && given.acknowledged.is_none() {
                self.fail(&format!("{receipt:?} is not given once more: {given:?}"));
            }
        }
    }

    fn pop_request(&mut self, group: usize, queue: Option<QueueId>) -> Pop {
        Pop {
            group: groups()[group].clone(),
            topic: topic(),
            queue,
            max_messages: self.random.u32(1..6),
            max_bytes: 1 << 20,
            invisible_ms: self.random.u32(10..600),
            wait_ms: 0,
            in_order: group == 1,
            from_first: true,
            filter: Filter::All,
            attempt: None,
        }
    }

    /// `before`: the group's resets when it asked.
    fn popped(
        &mut self,
        group: usize,
        (reply, body): (&PopReply, &Bytes),
        before: &BTreeMap<Key, u32>,
    ) -> Vec<Receipt> {
        let now = self.now();
        let messages = read(body);
        if messages.len() != reply.messages.len() {
            self.fail("as many receipts as messages");
        }
        let mut receipts = Vec::new();
        for (message, popped) in messages.iter().zip(&reply.messages) {
            let receipt = popped.receipt;
            if receipt.offset.0 != message.offset {
                self.fail("a receipt is of another message");
            }
            self.saw(&message.id, (receipt.queue.0, message.offset));
            let key = (group, receipt.queue.0);
            if before.get(&key).copied().unwrap_or(0) != self.popping.resets(key) {
                continue;
            }
            self.check_given(group, receipt, now);
            let given = self.popping.one(key, message.offset);
            let is_again = given.token > 0;
            if receipt.token > given.token {
                given.token = receipt.token;
                given.until = reply.invisible_until;
            }
            self.reach(if is_again { "given again" } else { "given" });
            self.popping.receipts.push((group, receipt));
            receipts.push(receipt);
        }
        receipts
    }

    /// It could be given, as far as this group's consumers know.
    fn check_given(&mut self, group: usize, receipt: Receipt, now: u64) {
        let key = (group, receipt.queue.0);
        if self.popping.is_resetting(key) {
            return;
        }
        let given = *self.popping.one(key, receipt.offset.0);
        if given
            .acknowledged
            .is_some_and(|token| receipt.token > token)
        {
            self.fail(&format!(
                "{receipt:?} of {key:?} is given again, and was acknowledged: {given:?}"
            ));
        }
        if receipt.token == given.token {
            self.fail(&format!("{receipt:?} of {key:?} is given twice"));
        }
        // An answer that came late may tell of what was before.
        if receipt.token > given.token && given.until > now {
            self.fail(&format!(
                "{receipt:?} of {key:?} is given at {now}, and hidden: {given:?}"
            ));
        }
        if group == 1 {
            let of_queue = &self.popping.given[&key];
            let mut earlier = of_queue.range(..receipt.offset.0);
            let blocks = earlier.find(|(_, it)| {
                let is_done = it.acknowledged.is_some() || it.may_be_done;
                it.until > now && it.token < receipt.token && !is_done
            });
            if let Some((offset, it)) = blocks {
                self.fail(&format!(
                    "{receipt:?} is given out of order: {offset} is hidden, {it:?}"
                ));
            }
        }
    }

    /// Some that a consumer holds, of one group; most of them were given of late.
    fn held(&mut self) -> Option<(usize, Vec<Receipt>)> {
        let receipts = &self.popping.receipts;
        let least = match self.random.u8(0..4) {
            0 => 0,
            _ => receipts.len().saturating_sub(6),
        };
        let (group, first) =
            *receipts.get(self.random.usize(least..receipts.len().max(least + 1)))?;
        let others = receipts[least..].iter().filter(|(it, _)| *it == group);
        let mut held: Vec<_> = others.map(|(_, it)| *it).collect();
        let most = self.random.usize(1..4);
        held.truncate(most);
        held.push(first);
        held.dedup();
        // While it is not known where the group is, nothing can be said of what becomes of it.
        held.retain(|it| !self.popping.is_resetting((group, it.queue.0)));
        (!held.is_empty()).then_some((group, held))
    }

    fn acknowledge(&mut self) {
        let Some((group, receipts)) = self.held() else {
            return;
        };
        let (asked_at, before) = (self.now(), self.popping.resets.clone());
        for receipt in &receipts {
            self.popping
                .one((group, receipt.queue.0), receipt.offset.0)
                .may_be_done = true;
        }
        let request = AckPopped {
            group: groups()[group].clone(),
            topic: topic(),
            receipts: receipts.clone(),
        };
        self.ask(
            &request,
            Vec::new(),
            move |world, answer: Answer<AckPopped>| {
                let stale = answer.unwrap().0.stale;
                for receipt in receipts {
                    let key = (group, receipt.queue.0);
                    if before.get(&key).copied().unwrap_or(0) == world.popping.resets(key) {
                        world.acknowledged(group, receipt, stale.contains(&receipt), asked_at);
                    }
                }
            },
        );
    }

    fn acknowledged(&mut self, group: usize, receipt: Receipt, is_stale: bool, asked_at: u64) {
        let key = (group, receipt.queue.0);
        if is_stale {
            self.reach("acknowledged too late");
            return;
        }
        let given = self.popping.one(key, receipt.offset.0);
        let was_over = given.until > 0 && given.until <= asked_at;
        given.acknowledged = Some(given.token.max(receipt.token));
        self.reach(if was_over {
            "acknowledged after its time"
        } else {
            "acknowledged"
        });
    }

    fn hide(&mut self) {
        let Some((group, receipts)) = self.held() else {
            return;
        };
        let invisible_ms = [0, self.random.u32(1..2_000)][self.random.usize(0..2)];
        let until = self.now() + u64::from(invisible_ms);
        for receipt in &receipts {
            let given = self.popping.one((group, receipt.queue.0), receipt.offset.0);
            if given.token == receipt.token {
                given.until = given.until.min(until);
            }
        }
        let request = HidePopped {
            group: groups()[group].clone(),
            topic: topic(),
            receipts: receipts.clone(),
            invisible_ms,
        };
        self.ask(
            &request,
            Vec::new(),
            move |world, answer: Answer<HidePopped>| {
                let reply = answer.unwrap().0;
                for receipt in receipts {
                    let key = (group, receipt.queue.0);
                    let given = *world.popping.one(key, receipt.offset.0);
                    let is_stale = reply.stale.contains(&receipt);
                    if !is_stale && given.token == receipt.token && !world.popping.is_resetting(key)
                    {
                        world.reach("hidden for longer");
                    }
                }
            },
        );
    }

    fn reset(&mut self) {
        let (group, queue) = (self.random.usize(0..2), self.a_queue());
        let key = (group, queue.0);
        if self.popping.is_resetting(key) {
            return;
        }
        let known = self.popping.given.get(&key);
        let last = known.and_then(|it| it.keys().last().copied()).unwrap_or(0);
        let to = self.random.u64(0..=last);
        self.popping.resetting.insert(key, to);
        *self.popping.resets.entry(key).or_default() += 1;
        self.popping.doubt(key, to);
        let floor = self.popping.floors.entry(key).or_default();
        *floor = (*floor).max(to);
        let request = CommitOffsets {
            group: groups()[group].clone(),
            topic: topic(),
            offsets: vec![QueuePosition {
                queue,
                offset: QueueOffset(to),
            }],
            leases: Vec::new(),
        };
        self.ask(
            &request,
            Vec::new(),
            move |world, answer: Answer<CommitOffsets>| {
                answer.unwrap();
                world.popping.forget(key, to);
                *world.popping.resets.entry(key).or_default() += 1;
                world.popping.floors.insert(key, to);
                world.popping.resetting.remove(&key);
                world.reach("reset");
            },
        );
    }

    /// Whoever is left takes all there is.
    pub(super) fn drain_pops(&mut self) {
        let mut taken = BTreeSet::new();
        for group in 0..groups().len() {
            let mut idle = 0;
            while idle < 3 {
                let mut request = self.pop_request(group, None);
                request.max_messages = 64;
                let (reply, body) = self.ask_now(request, Vec::new()).unwrap();
                let resets = self.popping.resets.clone();
                let receipts = self.popped(group, (&reply, &body), &resets);
                if receipts.is_empty() {
                    idle += 1;
                    self.pass(5_000);
                    continue;
                }
                taken.extend(receipts.iter().map(|it| (group, it.queue.0, it.offset.0)));
                let request = AckPopped {
                    group: groups()[group].clone(),
                    topic: topic(),
                    receipts: receipts.clone(),
                };
                let stale = self.ask_now(request, Vec::new()).unwrap().0.stale;
                if !stale.is_empty() {
                    self.fail("nobody else is there, and receipts are stale");
                }
                let now = self.now();
                for receipt in receipts {
                    self.acknowledged(group, receipt, false, now);
                }
            }
        }
        self.nothing_was_skipped(&taken);
    }

    /// How often there is a dead letter of each message: group, queue and offset.
    fn dead(&mut self) -> BTreeMap<(usize, u32, u64), usize> {
        let mut dead = BTreeMap::new();
        for (group, name) in groups().iter().enumerate() {
            for letter in self.contents(&dead_letter_topic(name).unwrap(), 0) {
                let note = |note: &str| letter.notes.get(note).map(|it| it.parse::<u64>());
                let number = |name: &str| match note(name) {
                    Some(Ok(number)) => number,
                    _ => self.fail(&format!("a dead letter without {name}: {letter:?}")),
                };
                let place = (group, number(ORIGIN_QUEUE) as u32, number(ORIGIN_OFFSET));
                *dead.entry(place).or_insert(0) += 1;
            }
        }
        dead
    }

    pub(super) fn note_the_dead(&mut self) {
        self.popping.dead = self.dead();
    }

    /// A crash between the dead letter and its end makes another; nothing else does, unless the group was reset.
    pub(super) fn nobody_is_buried_twice(&mut self) {
        for (place, times) in self.dead() {
            let before = self.popping.dead.get(&place).copied().unwrap_or(0);
            if times > before + 1 && self.popping.resets((place.0, place.1)) == 0 {
                self.fail(&format!(
                    "{place:?} is buried {times} times, {before} before"
                ));
            }
        }
    }

    fn nothing_was_skipped(&mut self, taken: &BTreeSet<(usize, u32, u64)>) {
        let all_dead = self.dead();
        for group in 0..groups().len() {
            for queue in 0..QUEUES {
                let key = (group, queue);
                let end = self.contents(&topic(), queue).len() as u64;
                let floor = self.popping.floors.get(&key).copied().unwrap_or(0);
                let was_reset = self.popping.resets(key) > 0;
                for offset in floor..end {
                    let given = *self.popping.one(key, offset);
                    let is_dead = all_dead.contains_key(&(group, queue, offset));
                    let is_taken = taken.contains(&(group, queue, offset));
                    let is_done = given.acknowledged.is_some() || given.may_be_done;
                    if !is_dead && !is_taken && !is_done {
                        self.fail(&format!(
                            "{offset} of {key:?} is never given again: {given:?}"
                        ));
                    }
                    if is_dead && given.acknowledged.is_some() && !was_reset && !is_taken {
                        self.fail(&format!(
                            "{offset} of {key:?} is dead, and was acknowledged"
                        ));
                    }
                    if is_dead {
                        self.reach("a dead letter");
                    }
                }
            }
        }
    }
}
