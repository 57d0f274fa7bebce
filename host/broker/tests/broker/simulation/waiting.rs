//! Messages for later and transactions: what of each is certain, and whether answers and queues agree with it.

use std::collections::{BTreeMap, BTreeSet};

use quern_protocol::transaction::parked_topic;
use quern_protocol::{
    Code, Durability, EndTransaction, GroupName, Later, ListDelayed, ListTransactions, LogPosition,
    OpenTransaction, PollTransactions, QueueId, QueueOffset, RecallMessage, Send, TransactionEnd,
    TransactionOutcome,
};

use super::world::{Answer, QUEUES, World, topic};

/// Where a message has been seen.
type Place = (u32, u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Later,
    Transaction,
}

#[derive(Debug)]
struct One {
    kind: Kind,
    /// Known since the send was answered.
    position: Option<LogPosition>,
    /// Of a message for later; known in the same way.
    due_at: u64,
    /// When its send was answered.
    stored_by: u64,
    /// So many wanted it back, and one may have got it.
    recalled: u32,
    /// And has.
    taken_back: bool,
    /// What it was told to become.
    ends: BTreeSet<bool>,
    outcome: Option<TransactionOutcome>,
    seen: Option<Place>,
}

#[derive(Default)]
pub(super) struct Waiting {
    all: BTreeMap<String, One>,
    /// Ends that somebody has said or will say, again and again.
    ends: Vec<(String, EndTransaction)>,
}

fn producers() -> GroupName {
    GroupName::new("producers").unwrap()
}

impl Waiting {
    pub(super) fn sent_plain(&mut self, id: &str) {
        self.sent(id, Kind::Plain);
    }

    fn sent(&mut self, id: &str, kind: Kind) {
        let one = One {
            kind,
            position: None,
            due_at: 0,
            stored_by: 0,
            recalled: 0,
            taken_back: false,
            ends: BTreeSet::new(),
            outcome: None,
            seen: None,
        };
        self.all.insert(id.to_owned(), one);
    }
}

impl World {
    pub(super) fn act_on_waiting(&mut self) {
        match self.random.u8(0..10) {
            0..=1 => self.send_later(),
            2..=3 => self.send(Kind::Transaction, Later::OnCommit(producers())),
            4 => self.recall(),
            5 => self.poll_transactions(),
            _ => self.end_transaction(),
        }
    }

    fn one(&mut self, id: &str) -> &mut One {
        self.waiting.all.get_mut(id).unwrap()
    }

    fn send_later(&mut self) {
        let ms = match self.random.u8(0..4) {
            0 => 40 * 24 * 3_600_000,
            _ => self.random.u64(0..1_500),
        };
        let later = match self.random.bool() {
            true => Later::In(ms),
            false => Later::At(self.now() + ms),
        };
        self.send(Kind::Later, later);
    }

    fn send(&mut self, kind: Kind, later: Later) {
        let (id, queue) = (self.new_id(), self.a_queue());
        self.waiting.sent(&id, kind);
        let block = self.block(&id);
        let send = Send {
            later: Some(later.clone()),
            durability: self.random.bool().then_some(Durability::Fast),
            ..Send::new(topic(), queue, 1)
        };
        self.ask(&send, vec![block], move |world, sent: Answer<Send>| {
            let sent = sent.unwrap().0;
            let now = world.now();
            let one = world.one(&id);
            one.position = Some(sent.position);
            one.stored_by = now;
            one.due_at = match later {
                Later::In(ms) => sent.stored_at + ms,
                Later::At(at) => at,
                _ => 0,
            };
            if kind == Kind::Transaction {
                world.will_end(&id, sent.position);
            }
        });
    }

    /// What its producer will say of it, more than once, and not always the same.
    fn will_end(&mut self, id: &str, position: LogPosition) {
        let ends = [
            Some(TransactionEnd::Commit),
            Some(TransactionEnd::RollBack),
            None,
        ];
        for _ in 0..self.random.u8(0..4) {
            let end = EndTransaction {
                topic: topic(),
                position,
                message_id: id.to_owned(),
                end: ends[self.random.usize(0..3)],
            };
            self.waiting.ends.push((id.to_owned(), end));
        }
    }

    fn end_transaction(&mut self) {
        let ends = &self.waiting.ends;
        if ends.is_empty() {
            return;
        }
        let which = match self.random.bool() {
            true => ends.len() - 1,
            false => self.random.usize(0..ends.len()),
        };
        let (id, end) = self.waiting.ends[which].clone();
        if let Some(end) = end.end {
            self.one(&id).ends.insert(end == TransactionEnd::Commit);
        }
        let asked = end.end;
        self.ask(
            &end,
            Vec::new(),
            move |world, answer: Answer<EndTransaction>| match answer {
                Ok((reply, _)) if reply.message_id == id => {
                    world.ended(&id, asked, reply.outcome);
                }
                answer => world.fail(&format!("{id} was stored, and its end is {answer:?}")),
            },
        );
    }

    fn ended(&mut self, id: &str, asked: Option<TransactionEnd>, outcome: TransactionOutcome) {
        let one = self.one(id);
        let before = one.outcome;
        let was_asked_for = match outcome {
            TransactionOutcome::Committed { .. } => one.ends.contains(&true),
            TransactionOutcome::RolledBack => one.ends.contains(&false),
            TransactionOutcome::Undecided => asked.is_none(),
            TransactionOutcome::Parked { .. } => true,
        };
        let is_undecided = outcome == TransactionOutcome::Undecided;
        if !was_asked_for || before.is_some_and(|it| it != outcome) {
            self.fail(&format!(
                "{id} has ended: {outcome:?}, and before: {before:?}, asked {asked:?}"
            ));
        }
        if !is_undecided {
            self.one(id).outcome = Some(outcome);
        }
        let state = match (asked, outcome, before) {
            (None, ..) => "asked how it ended",
            (_, TransactionOutcome::Parked { .. }, _) => "parked",
            (Some(TransactionEnd::Commit), TransactionOutcome::RolledBack, _)
            | (Some(TransactionEnd::RollBack), TransactionOutcome::Committed { .. }, _) => {
                "ended otherwise, too late"
            }
            (.., Some(_)) => "ended again as before",
            (_, TransactionOutcome::Committed { .. }, _) => "committed",
            _ => "rolled back",
        };
        self.reach(state);
    }

    fn recall(&mut self) {
        let all = self.waiting.all.iter();
        let known = all.filter(|(_, it)| it.kind == Kind::Later && it.position.is_some());
        let known: Vec<_> = known
            .map(|(id, it)| (id.clone(), it.position.unwrap()))
            .collect();
        if known.is_empty() {
            return;
        }
        let (id, position) = known[self.random.usize(0..known.len())].clone();
        self.one(&id).recalled += 1;
        let request = RecallMessage {
            topic: topic(),
            position,
        };
        self.ask(
            &request,
            Vec::new(),
            move |world, answer: Answer<RecallMessage>| {
                let now = world.now();
                let one = world.one(&id);
                match answer {
                    Ok((reply, _)) if reply.message.message_id == id && !one.taken_back => {
                        one.taken_back = true;
                        if one.seen.is_some() {
                            world.fail(&format!("{id} was delivered, and then taken back"));
                        }
                        world.reach("taken back");
                    }
                    Err(error) if error.is(Code::NOT_FOUND) => {
                        // Only then may it be gone.
                        if one.due_at > now && one.recalled == 1 {
                            world.fail(&format!("{id} should wait, and is not found"));
                        }
                        world.reach("too late to take back");
                    }
                    answer => world.fail(&format!("{id} is taken back: {answer:?}")),
                }
            },
        );
    }

    fn poll_transactions(&mut self) {
        let request = PollTransactions {
            group: producers(),
            messages: self.random.u32(1..5),
            wait_ms: 0,
        };
        self.ask(
            &request,
            Vec::new(),
            |world, answer: Answer<PollTransactions>| {
                for check in answer.unwrap().0.checks {
                    let mut all = world.waiting.all.iter();
                    let known = all.find(|(_, it)| it.position == Some(check.position));
                    // One whose send was not answered is asked about, too.
                    if known.is_some_and(|(_, it)| it.kind != Kind::Transaction) {
                        world.fail("a producer is asked about something else");
                    }
                    world.reach("a producer was asked");
                }
            },
        );
    }

    /// A message is in a queue, as somebody has read it.
    pub(super) fn saw(&mut self, id: &str, place: Place) {
        let now = self.now();
        let Some(one) = self.waiting.all.get_mut(id) else {
            self.fail(&format!("{id} was never sent"));
        };
        let here = TransactionOutcome::Committed {
            queue: QueueId(place.0),
            offset: QueueOffset(place.1),
        };
        let wrong = match one.kind {
            _ if one.seen.is_some_and(|it| it != place) => "is there twice",
            Kind::Plain => "",
            Kind::Later if one.taken_back => "was taken back, and delivered",
            Kind::Later if one.due_at > now => "is early",
            Kind::Transaction if !one.ends.contains(&true) => "was committed by nobody",
            Kind::Transaction if one.outcome.is_some_and(|it| it != here) => "ended otherwise",
            _ => "",
        };
        if !wrong.is_empty() {
            let what = format!("{id} {wrong}: {place:?} at {now}, {one:?}");
            self.fail(&what);
        }
        if one.kind == Kind::Transaction {
            one.outcome = Some(here);
        }
        if one.seen.replace(place).is_none() && one.kind == Kind::Later {
            self.reach("delivered when due");
        }
    }

    /// What is in the queues may be there, and in this order.
    pub(super) fn check_contents(&mut self) {
        for queue in 0..QUEUES {
            let contents = self.contents(&topic(), queue);
            let mut before: Option<(u64, u64)> = None;
            for (offset, message) in contents.iter().enumerate() {
                if message.offset != offset as u64 {
                    self.fail("offsets have gaps");
                }
                self.saw(&message.id, (queue, message.offset));
                let one = &self.waiting.all[&message.id];
                if one.kind != Kind::Later || one.position.is_none() {
                    continue;
                }
                // Both waited when the first of them was due.
                if before.is_some_and(|(due, _)| one.due_at < due && one.stored_by < one.due_at)
                    && one.recalled == 0
                {
                    let what = format!("{} comes late: {one:?} behind {before:?}", message.id);
                    self.fail(&what);
                }
                before = Some((one.due_at, message.offset));
            }
        }
        let parked = self.contents(&parked_topic(), 0);
        for message in parked {
            let outcome = TransactionOutcome::Parked {
                offset: QueueOffset(message.offset),
            };
            let one = self.one(&message.id);
            let before = one.outcome.replace(outcome);
            if one.kind != Kind::Transaction || before.is_some_and(|it| it != outcome) {
                self.fail(&format!("{} is parked, and {before:?}", message.id));
            }
        }
        self.nothing_is_lost();
    }

    /// What waits is told, and what does not wait any more is where it belongs.
    fn nothing_is_lost(&mut self) {
        let (mut listed, mut behind) = (BTreeMap::new(), (0, LogPosition(0)));
        loop {
            let request = ListDelayed {
                topic: topic(),
                behind,
                messages: 7,
            };
            let page = self.ask_now(request, Vec::new()).unwrap().0.messages;
            let Some(last) = page.last() else {
                break;
            };
            behind = (last.due_at, last.position);
            let page = page.into_iter();
            listed.extend(page.map(|it| (it.message_id, (it.due_at, it.position))));
        }
        for (id, one) in &self.waiting.all {
            let Some(position) = one.position.filter(|_| one.kind == Kind::Later) else {
                continue;
            };
            let waits = listed.get(id).copied();
            let gone = one.seen.is_some() || one.recalled > 0;
            let wrong = match waits {
                None => !gone,
                Some(it) => it != (one.due_at, position) || one.taken_back || one.seen.is_some(),
            };
            if wrong {
                self.fail(&format!("{id} waits: {waits:?}, and {one:?}"));
            }
        }
    }

    /// Those that are open, and nobody was asked about since the broker began. One that a leap of the clock has made too
    /// old may be set aside when no producer asks in time.
    pub(super) fn never_asked(&mut self) -> BTreeSet<LogPosition> {
        let oldest = self.now().saturating_sub(30_000);
        let open = self.open_transactions().into_iter();
        let never = open.filter(|it| it.asked == 0 && it.stored_at > oldest);
        never.map(|it| it.position).collect()
    }

    fn open_transactions(&mut self) -> Vec<OpenTransaction> {
        let request = ListTransactions {
            topic: Some(topic()),
            behind: (0, LogPosition(0)),
            messages: 256,
        };
        self.ask_now(request, Vec::new()).unwrap().0.transactions
    }

    /// What a producer is asked about now.
    pub(super) fn asked_about(&mut self) -> Vec<LogPosition> {
        let request = PollTransactions {
            group: producers(),
            messages: 64,
            wait_ms: 0,
        };
        let checks = self.ask_now(request, Vec::new()).unwrap().0.checks;
        checks.into_iter().map(|it| it.position).collect()
    }

    /// Of each transaction one outcome is told, and it is the one that was told before.
    pub(super) fn check_transactions(&mut self) {
        let open = self.open_transactions();
        if !open.is_empty() {
            self.fail(&format!("nobody has set aside {open:?}"));
        }
        let all = self.waiting.all.iter();
        let known = all.filter(|(_, it)| it.kind == Kind::Transaction);
        let known = known.filter_map(|(id, it)| Some((id.clone(), it.position?)));
        let known: Vec<_> = known.collect();
        for (id, position) in known {
            let before = self.one(&id).outcome;
            let end = EndTransaction {
                topic: topic(),
                position,
                message_id: id.clone(),
                end: None,
            };
            let told = self.ask_now(end, Vec::new());
            let told = told
                .unwrap_or_else(|error| self.fail(&format!("{id}: {error}")))
                .0
                .outcome;
            let one = self.one(&id);
            let agrees = match told {
                TransactionOutcome::Undecided => false,
                TransactionOutcome::RolledBack => one.ends.contains(&false) && one.seen.is_none(),
                outcome => before == Some(outcome),
            };
            if !agrees || before.is_some_and(|it| it != told) {
                let what = format!("{id} has ended: {told:?}, and {:?}", self.waiting.all[&id]);
                self.fail(&what);
            }
        }
    }
}
