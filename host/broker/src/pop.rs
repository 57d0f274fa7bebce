//! `Pop`: messages given to whoever asks for a group, one at a time and durably, so that a crash gives none again that
//! was acknowledged, and none early. What becomes of them then: [`crate::popped`].

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use quern_protocol::frame::Outgoing;
use quern_protocol::{
    Code, GroupName, MessageType, Permission, Pop, PopReply, Popped, Priority, QueueId,
    QueueOffset, Receipt, Reconsume, RecordHeader, RecordKind, Stall, TopicId, WireError,
    limits as wire,
};

use tokio::sync::OwnedMutexGuard;

use crate::filters;
use crate::pops::{PopWhat, Queue};
use crate::scan::{Scan, look};
use crate::to_the_end::to_the_end;
use crate::topics::Topic;
use crate::{Broker, group_settings, limits, pop_again, popped, reply, retry};

/// What is given so far.
#[derive(Default)]
pub(crate) struct Given {
    pub(crate) messages: Vec<Popped>,
    pub(crate) records: Vec<Bytes>,
    pub(crate) until: u64,
    stall: Option<Stall>,
}

pub(crate) async fn pop(broker: &Arc<Broker>, request: Pop) -> Result<Outgoing, WireError> {
    check(&request)?;
    let request = Arc::new(request);
    group_settings::admit(broker, &request.group)?;
    let topic = broker.topic(&request.topic)?;
    reply::topic_is_open(broker, &topic, "read", Permission::can_read)?;
    let mut queues: Vec<_> = match request.queue {
        Some(queue) => {
            reply::queue_exists(&topic, queue, topic.has_read_queue(queue))?;
            vec![queue]
        }
        None => (0..topic.read_queues).map(QueueId).collect(),
    };
    // A bad expression is refused at once, not when the first message comes.
    if let Some(queue) = queues.first() {
        let view = broker.view(&request.filter, Some(&request.group), (&topic, *queue));
        filters::judge(broker, &view, Some(&request.group)).await?;
    }
    if group_settings::has_to_begin(broker, &request.group, &topic) {
        let one_change_at_a_time = broker.group_changes().await;
        let turn = &one_change_at_a_time;
        group_settings::begin(broker, turn, &request.group, &topic).await?;
    }
    let turn = broker.pop_gates.token(0, 0);
    if topic.rules.messages == Some(MessageType::Priority) {
        by_priority(&mut queues, topic.read_queues, turn);
    } else {
        let first = turn as usize % queues.len().max(1);
        queues.rotate_left(first);
    }
    let mut over = pin!(tokio::time::sleep(Duration::from_millis(
        request.wait_ms.into()
    )));
    // Registered before looking, or a message between look and wait would be missed.
    let waiters = queues
        .iter()
        .map(|queue| broker.waits.enter(topic.id, *queue));
    let waiters: Vec<_> = waiters.collect();
    loop {
        let mut bells: Vec<_> = waiters.iter().map(|it| Box::pin(it.bell())).collect();
        for bell in &mut bells {
            bell.as_mut().enable();
        }
        is_free(broker, &request.group, &topic)?;
        let mut given = Given::default();
        pop_again::once_more(broker, &request, &topic, &mut given).await?;
        // What a lost answer gave is all of this one.
        let is_again = !given.messages.is_empty();
        for queue in queues.iter().take_while(|_| !is_again) {
            let gives = give(broker, &request, &topic, *queue, &mut given).await;
            match gives {
                // What other queues gave is hidden already.
                Err(error) if !given.messages.is_empty() => {
                    tracing::warn!(%error, topic = %topic.name, %queue, "a queue gives nothing");
                    break;
                }
                gives => gives?,
            }
        }
        let gone = broker.is_draining() || !broker.state.topics.is_open(topic.id);
        let is_something = !given.messages.is_empty() || given.stall.is_some();
        if is_something || gone || request.wait_ms == 0 || over.is_elapsed() {
            return answer(broker, given);
        }
        let visible = until_visible(broker, &request.group, topic.id, &queues);
        tokio::select! {
            () = any(&mut bells) => {}
            () = tokio::time::sleep(visible) => {}
            () = over.as_mut() => {}
        }
    }
}

/// How long until something hidden can be given again, or a look is due anyway.
fn until_visible(
    broker: &Broker,
    group: &GroupName,
    topic: TopicId,
    queues: &[QueueId],
) -> Duration {
    let visible = broker.state.pops.next_visible(group, topic, queues);
    visible.map_or(limits::POP_LOOK, |at| {
        let left = at.saturating_sub(broker.store.now_ms()).max(1);
        Duration::from_millis(left).min(limits::POP_LOOK)
    })
}

/// The most urgent first; but from time to time another lane is looked at before, the more often the more urgent it is,
/// so that every lane has its turn.
fn by_priority(queues: &mut [QueueId], of: u32, turn: u64) {
    queues.sort_unstable_by_key(|queue| std::cmp::Reverse(*queue));
    let weight = |queue: &QueueId| u64::from(Priority::of_lane(*queue, of).weight());
    let all: u64 = queues.iter().map(weight).sum();
    // Turns count up; spread over all lanes they must not be.
    let mut at = turn.wrapping_mul(0x9E37_79B9_7F4A_7C15) % all.max(1);
    let first = queues.iter().position(|queue| {
        let is_first = at < weight(queue);
        at = at.saturating_sub(weight(queue));
        is_first
    });
    if let Some(first) = first {
        queues[..=first].rotate_right(1);
    }
}

/// Resolves with the first of these.
async fn any<F: Future<Output = ()>>(bells: &mut [Pin<Box<F>>]) {
    poll_fn(|context| {
        let mut bells = bells.iter_mut();
        match bells.any(|bell| bell.as_mut().poll(context).is_ready()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
}

fn check(request: &Pop) -> Result<(), WireError> {
    if !(1..=wire::POP_MESSAGES).contains(&request.max_messages) {
        return Err(reply::bad_request(format!(
            "a pop asks for 1 to {} messages, not {}",
            wire::POP_MESSAGES,
            request.max_messages
        )));
    }
    if !wire::POP_INVISIBLE_MS.contains(&request.invisible_ms) {
        return Err(popped::hidden_for(request.invisible_ms));
    }
    if request.wait_ms > wire::PULL_WAIT_MS {
        return Err(reply::bad_request(format!(
            "a pop is held at most {} ms, not {}",
            wire::PULL_WAIT_MS,
            request.wait_ms
        )));
    }
    match request.filter.beyond_limits() {
        Some(beyond) => Err(reply::bad_request(beyond)),
        None => Ok(()),
    }
}

/// A queue with an owner is given to nobody else.
fn is_free(broker: &Broker, group: &GroupName, topic: &Topic) -> Result<(), WireError> {
    group_settings::is_open(broker, group)?;
    group_settings::may_have(broker, group, &topic.name)?;
    match broker.state.leases.in_use(broker.store.steady_ms(), group) {
        true => Err(reply::has_members(group)),
        false => Ok(()),
    }
}

fn answer(broker: &Broker, given: Given) -> Result<Outgoing, WireError> {
    broker.metrics.messages_out.add(given.records.len() as u64);
    let header = PopReply {
        messages: given.messages,
        invisible_until: given.until,
        stall: given.stall,
    };
    Ok(Outgoing::reply::<Pop>(&header, given.records)?)
}

/// Adds what a queue has for the group: what is visible again, then what is new.
async fn give(
    broker: &Arc<Broker>,
    request: &Arc<Pop>,
    topic: &Arc<Topic>,
    queue: QueueId,
    given: &mut Given,
) -> Result<(), WireError> {
    let Some(room) = Room::left(request, given) else {
        return Ok(());
    };
    let key = (request.group.clone(), topic.id, queue);
    let alone = Arc::new(broker.pop_gates.enter(key).await);
    let turn = Turn {
        broker: Arc::clone(broker),
        request: Arc::clone(request),
        topic: Arc::clone(topic),
        queue,
        known: Arc::new(known(broker, request, topic, queue)),
        room,
        alone,
    };
    // Another request of the same attempt may have been at it just now.
    if pop_again::held(broker, (request, topic, queue), given).await? {
        return Ok(());
    }
    let mut part = turn.again().await?;
    if turn.may_give_new(&part) {
        turn.unseen(&mut part).await?;
    }
    if given.stall.is_none() {
        given.stall = part.stall;
    }
    let is_known = broker
        .state
        .pops
        .queue(&request.group, topic.id, queue)
        .is_some();
    if part.records.is_empty() && part.next == turn.known.next && is_known {
        return Ok(());
    }
    let offsets = part.messages.iter().map(|(offset, _)| *offset).collect();
    let token = turn.token();
    turn.note(token);
    let (receipts, until) = turn.hide(offsets, part.next, token).await?;
    if given.messages.is_empty() {
        // Of those that were hidden first: the others are hidden longer.
        given.until = until;
    }
    // In the meantime somebody may have acknowledged one of them, or reset the group.
    let receipts: BTreeMap<_, _> = receipts.into_iter().map(|it| (it.offset, it)).collect();
    for ((offset, attempts), record) in part.messages.into_iter().zip(part.records) {
        if let Some(receipt) = receipts.get(&offset).copied() {
            given.messages.push(Popped { receipt, attempts });
            given.records.push(record);
        }
    }
    Ok(())
}

/// What still fits the answer.
#[derive(Clone, Copy)]
pub(crate) struct Room {
    messages: usize,
    bytes: usize,
}

impl Room {
    /// `None` = nothing does.
    pub(crate) fn left(request: &Pop, given: &Given) -> Option<Self> {
        let bytes: usize = given.records.iter().map(Bytes::len).sum();
        let most = request.max_bytes.min(wire::PULL_BYTES) as usize;
        let room = Self {
            messages: (request.max_messages as usize).saturating_sub(given.messages.len()),
            bytes: most.saturating_sub(bytes),
        };
        (room.messages > 0 && room.bytes > 0).then_some(room)
    }
}

/// What one look at a queue brings: messages, each with how often it was given before.
struct Part {
    messages: Vec<(QueueOffset, u16)>,
    records: Vec<Bytes>,
    bytes: usize,
    next: QueueOffset,
    stall: Option<Stall>,
}

fn known(broker: &Broker, request: &Pop, topic: &Topic, queue: QueueId) -> Queue {
    let state = &broker.state;
    let known = state.pops.queue(&request.group, topic.id, queue);
    known.unwrap_or_else(|| {
        let (min, end) = broker.store.range(topic.id, queue);
        let committed = state.offsets.next(&request.group, topic.id, queue);
        Queue {
            next: committed.unwrap_or(if request.from_first { min } else { end }),
            ..Queue::default()
        }
    })
}

/// One queue's turn to give.
#[derive(Clone)]
struct Turn {
    broker: Arc<Broker>,
    request: Arc<Pop>,
    topic: Arc<Topic>,
    queue: QueueId,
    known: Arc<Queue>,
    room: Room,
    /// Nobody else gives messages of the queue before the log has what this one gave.
    alone: Arc<OwnedMutexGuard<()>>,
}

impl Turn {
    /// One that was never given.
    fn token(&self) -> u64 {
        let known = self.broker.state.pops.newest();
        let now = self.broker.store.now_ms();
        self.broker.pop_gates.token(now, known)
    }

    /// What is given with this token is this attempt's. Noted before anything is hidden: who asks may be gone then.
    fn note(&self, token: u64) {
        if let Some(attempt) = pop_again::attempt(&self.request, &self.topic) {
            let now = self.broker.store.now_ms();
            let until = now + u64::from(self.request.invisible_ms);
            let attempts = &self.broker.pop_attempts;
            attempts.note(attempt, (self.queue, token), (now, until));
        }
    }

    /// Hides messages, as the log has it: what it says of each holds, and its receipt is worth something.
    async fn hide(
        &self,
        offsets: Vec<QueueOffset>,
        next: QueueOffset,
        token: u64,
    ) -> Result<(Vec<Receipt>, u64), WireError> {
        let Self {
            broker,
            request,
            topic,
            queue,
            ..
        } = self;
        let until = broker.store.now_ms() + u64::from(request.invisible_ms);
        let receipt = |offset: &QueueOffset| Receipt {
            queue: *queue,
            offset: *offset,
            token,
        };
        let receipts = offsets.iter().map(receipt).collect();
        let what = PopWhat::Given {
            queue: *queue,
            next,
            offsets,
            token,
            until,
        };
        let change = popped::change(&request.group, topic.id, what);
        let alone = Box::new(Arc::clone(&self.alone));
        let logged = broker.log_holding(RecordKind::Group, &change, alone);
        logged.await?;
        let pops = &broker.state.pops;
        let (hidden, _) = pops.sort(&request.group, topic.id, receipts);
        Ok((hidden, until))
    }

    /// Makes dead letters of messages that were given so often. First they are hidden again, so that nobody
    /// acknowledges one meanwhile.
    async fn bury(&self, dead: BTreeMap<QueueOffset, u16>) -> Result<(), WireError> {
        let (broker, request) = (&self.broker, &self.request);
        let offsets = dead.keys().copied().collect();
        let (receipts, _) = self.hide(offsets, self.known.next, self.token()).await?;
        for receipt in &receipts {
            let times = dead.get(&receipt.offset).copied().unwrap_or_default();
            let back = Reconsume {
                group: request.group.clone(),
                topic: request.topic.clone(),
                queue: self.queue,
                offset: receipt.offset,
                delay_ms: 0,
                reason: format!("popped {times} times and not acknowledged"),
                dead_after: Some(times),
                giving: None,
            };
            match retry::bury(broker, &back, times).await {
                // The log has let it go.
                Err(error) if error.is(Code::NOT_FOUND) => {}
                buried => buried?,
            }
        }
        self.is_over(receipts).await
    }

    async fn is_over(&self, receipts: Vec<Receipt>) -> Result<(), WireError> {
        if receipts.is_empty() {
            return Ok(());
        }
        let what = PopWhat::Acknowledged(receipts);
        popped::log(&self.broker, &self.request.group, self.topic.id, what).await
    }

    /// Messages whose time is over: they are given again, or are dead letters when that was often enough.
    async fn again(&self) -> Result<Part, WireError> {
        let Self {
            broker,
            request,
            topic,
            queue,
            known,
            room,
            ..
        } = self;
        let queue = *queue;
        let mut part = Part {
            messages: Vec::new(),
            records: Vec::new(),
            bytes: 0,
            next: known.next,
            stall: None,
        };
        let now = broker.store.now_ms();
        let is_over = |until: u64| until <= now;
        if request.in_order && !known.hidden.values().all(|it| is_over(it.until)) {
            return Ok(part);
        }
        let retries = broker.state.group_settings.of(&request.group).retries;
        let (mut over, mut dead) = (Vec::new(), BTreeMap::new());
        for (offset, hidden) in known.hidden.iter().filter(|(_, it)| is_over(it.until)) {
            if part.records.len() >= room.messages || part.bytes >= room.bytes {
                break;
            }
            let receipt = Receipt {
                queue,
                offset: *offset,
                token: hidden.token,
            };
            if hidden.times > retries {
                dead.insert(*offset, hidden.times);
                continue;
            }
            match retry::stored(broker, topic, queue, *offset).await? {
                Some(record) => {
                    part.bytes += record.len();
                    part.records.push(record);
                    part.messages.push((*offset, hidden.times));
                }
                // The log has let it go.
                None => over.push(receipt),
            }
        }
        self.is_over(over).await?;
        if !dead.is_empty() {
            let turn = self.clone();
            to_the_end(broker, async move { turn.bury(dead).await }).await?;
        }
        Ok(part)
    }

    /// There is room, in the answer and among what is hidden, and nothing has to be acknowledged first.
    fn may_give_new(&self, part: &Part) -> bool {
        let hidden = self.known.hidden.len();
        let is_blocked = self.request.in_order && hidden > 0;
        !is_blocked && hidden < limits::HIDDEN && part.records.len() < self.room.messages
    }

    /// Messages nobody of the group was given.
    async fn unseen(&self, part: &mut Part) -> Result<(), WireError> {
        let Self {
            broker,
            request,
            topic,
            queue,
            known,
            room,
            ..
        } = self;
        let queue = *queue;
        let (min, end) = broker.store.range(topic.id, queue);
        let from = known.next.clamp(min, end);
        part.next = from;
        if from >= end || part.bytes >= room.bytes {
            return Ok(());
        }
        let scan = Scan {
            view: broker.view(&request.filter, Some(&request.group), (topic, queue)),
            reader: Some(request.group.clone()),
            topic: Arc::clone(topic),
            from,
            max_messages: room.messages - part.records.len(),
            max_bytes: room.bytes - part.bytes,
        };
        let judge = filters::judge(broker, &scan.view, Some(&request.group)).await?;
        let scanned = look(broker, &scan, judge).await?;
        part.next = scanned.next;
        part.stall = scanned.stalled.map(|it| it.told(broker.store.steady_ms()));
        for record in scanned.records {
            let header = RecordHeader::decode(&record);
            let header = header.map_err(|error| reply::bad_record(&error))?;
            part.messages.push((header.queue_offset, 0));
            part.records.push(record);
        }
        Ok(())
    }
}
