//! Messages for later: records of kind timer that have not been delivered yet. Which those are follows
//! from the log alone: a timer is there from its record on until a message, or a cancellation, whose origin
//! names its position, so one that fires while the power goes fires once.
//!
//! The log keeps the record of every timer. Retention, before it lets a segment go, has the timers in it
//! appended again at the end: such a copy is marked as carried, and its origin names the first record, which
//! stays the timer's identity. While a copy, a delivery or a cancellation is under way nobody else may begin
//! another, so what comes last in the log is what holds.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::ops::Bound;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use quern_protocol::block::Pairs;
use quern_protocol::{
    LogPosition, Origin, QueueId, QueueOffset, RecordHeader, RecordKind, RecordView, TopicId,
};
use serde::{Deserialize, Serialize};

use crate::error::{AppendError, ReadError};
use crate::pending::{Acknowledge, Appended, Pending, Slot};
use crate::queue::Batch;
use crate::segments::Segments;
use crate::{Append, Entry, Store, facts, key_index, limits, state_batch};

/// One message block, verified by the caller, that has been delivered before or is for later.
#[derive(Debug, Clone, Default)]
pub struct AppendOne {
    pub topic: TopicId,
    pub queue: QueueId,
    pub block: Bytes,
    /// How often it has been delivered.
    pub attempts: u16,
    /// Encoded pairs, at most [`quern_protocol::limits::NOTES`] bytes.
    pub notes: Bytes,
    /// Until then it is in no queue, ms since 1970; `None` = it is in its queue at once.
    pub due_at: Option<u64>,
}

/// Messages that may wait unless it is said otherwise.
pub const DEFAULT_TIMERS: usize = limits::TIMERS;

/// When a message is to be in its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// So many ms after it is stored.
    In(u64),
    /// ms since 1970, not before it is stored.
    At(u64),
}

/// A message that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// Of its first record: what it is known by.
    pub position: LogPosition,
    /// ms since 1970.
    pub due_at: u64,
    /// Of its record, bytes.
    pub size: u32,
    /// Where it goes.
    pub topic: TopicId,
}

impl Timer {
    /// One that says no time is due at once.
    pub(crate) fn of(header: &RecordHeader) -> Self {
        let origin = header.extensions.origin.unwrap_or_default();
        Self {
            position: match header.extensions.carried {
                true => origin.root,
                false => header.position,
            },
            due_at: origin.due_at,
            size: header.len,
            topic: header.topic,
        }
    }
}

/// What is known of a timer besides its position.
#[derive(Debug)]
struct Waiting {
    due_at: u64,
    /// Where its record is now.
    at: LogPosition,
    size: u32,
    topic: TopicId,
    /// A record that is on its way to the log says what becomes of it.
    is_taken: bool,
}

impl Waiting {
    fn timer(&self, position: LogPosition) -> Timer {
        Timer {
            position,
            due_at: self.due_at,
            size: self.size,
            topic: self.topic,
        }
    }
}

#[derive(Debug, Default)]
struct Table {
    by_position: BTreeMap<LogPosition, Waiting>,
    by_due: BTreeSet<(u64, LogPosition)>,
    /// Timers whose record is not the first one.
    carried: usize,
}

impl Table {
    fn remove(&mut self, position: LogPosition) {
        if let Some(waiting) = self.by_position.remove(&position) {
            self.by_due.remove(&(waiting.due_at, position));
            self.carried -= usize::from(waiting.at != position);
        }
    }

    /// Its record is there now.
    fn put(&mut self, timer: Timer, at: LogPosition) {
        self.remove(timer.position);
        self.by_due.insert((timer.due_at, timer.position));
        self.carried += usize::from(at != timer.position);
        let waiting = Waiting {
            due_at: timer.due_at,
            at,
            size: timer.size,
            topic: timer.topic,
            is_taken: false,
        };
        self.by_position.insert(timer.position, waiting);
    }

    /// Nobody else decides what becomes of it until it is put back. Where its record is.
    fn take(&mut self, position: LogPosition) -> Option<(Timer, LogPosition)> {
        let waiting = self.by_position.get_mut(&position)?;
        if std::mem::replace(&mut waiting.is_taken, true) {
            return None;
        }
        Some((waiting.timer(position), waiting.at))
    }
}

/// All timers of a log.
#[derive(Debug, Default)]
pub(crate) struct Timers(Mutex<Table>);

impl Timers {
    fn table(&self) -> MutexGuard<'_, Table> {
        let table = self.0.lock();
        table.expect("no code that can panic runs under the timers lock")
    }

    /// A timer, and where its record is: the first one, or a copy.
    pub(crate) fn put(&self, timer: Timer, at: LogPosition) {
        self.table().put(timer, at);
    }

    /// The same, of a copy: one whose topic was deleted meanwhile stays away.
    pub(crate) fn moved(&self, timer: Timer, at: LogPosition) {
        let mut table = self.table();
        if table.by_position.contains_key(&timer.position) {
            table.put(timer, at);
        }
    }

    /// The record there has become a message, or shall not.
    pub(crate) fn remove(&self, position: LogPosition) {
        self.table().remove(position);
    }

    pub(crate) fn retain_topics(&self, is_kept: impl Fn(TopicId) -> bool) {
        let mut table = self.table();
        let all = table.by_position.iter();
        let gone: Vec<_> = all
            .filter(|(_, it)| !is_kept(it.topic))
            .map(|(position, _)| *position)
            .collect();
        gone.into_iter().for_each(|it| table.remove(it));
    }

    /// Those whose time has come and of which nothing is under way, the longest due first.
    fn due(&self, now: u64, most: usize) -> Vec<Timer> {
        let table = self.table();
        let due = table.by_due.iter().take_while(|(at, _)| *at <= now);
        let due = due.filter_map(|(_, position)| {
            let waiting = table.by_position.get(position)?;
            (!waiting.is_taken).then(|| waiting.timer(*position))
        });
        due.take(most).collect()
    }

    fn next_due(&self) -> Option<u64> {
        self.table().by_due.first().map(|(due_at, _)| *due_at)
    }

    /// Those of a topic, the soonest first, behind one.
    fn of_topic(&self, topic: TopicId, behind: (u64, LogPosition), most: usize) -> Vec<Timer> {
        let table = self.table();
        let rest = (Bound::Excluded(behind), Bound::Unbounded);
        let all = table.by_due.range(rest).filter_map(|(_, position)| {
            let waiting = table.by_position.get(position)?;
            (waiting.topic == topic).then(|| waiting.timer(*position))
        });
        all.take(most).collect()
    }

    /// The log must not begin behind this.
    pub(crate) fn oldest(&self) -> Option<LogPosition> {
        let table = self.table();
        match table.carried {
            0 => table.by_position.keys().next().copied(),
            _ => table.by_position.values().map(|it| it.at).min(),
        }
    }

    /// Those with a record before a position, so many bytes of them, to be appended again.
    fn take_before(&self, head: u64, bytes: usize) -> Vec<(Timer, LogPosition)> {
        let mut table = self.table();
        let (mut positions, mut taken) = (Vec::new(), 0);
        for (position, waiting) in &table.by_position {
            if position.0 >= head || taken >= bytes {
                break;
            }
            if waiting.at.0 < head && !waiting.is_taken {
                taken += waiting.size as usize;
                positions.push(*position);
            }
        }
        let taken = positions.into_iter().filter_map(|it| table.take(it));
        taken.collect()
    }

    fn take(&self, position: LogPosition) -> Option<(Timer, LogPosition)> {
        self.table().take(position)
    }

    fn put_back(&self, position: LogPosition) {
        if let Some(waiting) = self.table().by_position.get_mut(&position) {
            waiting.is_taken = false;
        }
    }

    fn find(&self, position: LogPosition) -> Option<(Timer, LogPosition)> {
        let table = self.table();
        let waiting = table.by_position.get(&position)?;
        Some((waiting.timer(position), waiting.at))
    }

    fn count(&self) -> usize {
        self.table().by_position.len()
    }

    /// All of them, each with the place of its record.
    pub(crate) fn all(&self) -> Vec<(Timer, LogPosition)> {
        let table = self.table();
        let all = table.by_position.iter();
        all.map(|(position, it)| (it.timer(*position), it.at))
            .collect()
    }

    /// Copies of timers whose records stand before a position, so many bytes of them at once: batches for
    /// the end of the log. One whose record is damaged is lost.
    pub(crate) fn carry(&self, segments: &Segments, head: u64) -> Result<Vec<Batch>, ReadError> {
        let mut batches = Vec::new();
        let mut failed = None;
        for (timer, at) in self.take_before(head, limits::CARRIED_AT_ONCE) {
            if failed.is_some() {
                self.put_back(timer.position);
                continue;
            }
            match record(segments, &timer, at) {
                Ok(one) => {
                    let mut copy = batch(RecordKind::Timer, one, Slot::new(Acknowledge::Durable));
                    copy.origin = Some(origin(&timer));
                    copy.carried = true;
                    batches.push(copy);
                }
                Err(error @ ReadError::Damaged { .. }) => {
                    tracing::error!(code = "Q-4007", %error, "a message that waited is lost");
                    self.remove(timer.position);
                }
                Err(error) => {
                    self.put_back(timer.position);
                    failed = Some(error);
                }
            }
        }
        match failed {
            Some(error) if batches.is_empty() => Err(error),
            _ => Ok(batches),
        }
    }
}

/// What becomes of a timer, on its way to the log: it is a message, or will never be one, when this
/// resolves to `Ok`. Otherwise it waits as before, unless the log takes no more writes at all.
#[derive(Debug)]
#[must_use = "it is certain when this resolves, not before"]
pub struct Decided {
    timers: Arc<Timers>,
    position: LogPosition,
    pending: Pending,
    outcome: Option<Result<Appended, AppendError>>,
}

impl Future for Decided {
    type Output = Result<Appended, AppendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(Pin::new(&mut self.pending).poll(context));
        self.outcome = Some(outcome.clone());
        Poll::Ready(outcome)
    }
}

impl Drop for Decided {
    fn drop(&mut self) {
        // One that was not waited for may still come to be, and then the log says so.
        if let Some(Err(_)) = self.outcome {
            self.timers.put_back(self.position);
        }
    }
}

impl Store {
    /// Hands over one message. One for later is refused when too many wait already.
    pub fn submit_one(&self, one: AppendOne) -> Pending {
        let slot = Slot::new(Acknowledge::Durable);
        let Some(due_at) = one.due_at else {
            return self.enqueue(message(one, slot));
        };
        let mut timer = batch(RecordKind::Timer, one, slot);
        timer.origin = Some(Origin {
            due_at,
            root: LogPosition(0),
        });
        self.enqueue_timer(timer)
    }

    /// Hands over messages for later, as [`Self::submit`] does those for now: they are in no queue before
    /// they are due. Refused when too many wait already.
    pub fn submit_later(&self, append: Append, due: Due) -> Pending {
        let (due_at, due_in) = match due {
            Due::In(ms) => (0, Some(ms)),
            Due::At(ms) => (ms, None),
        };
        let mut timers = Batch::new(
            RecordKind::Timer,
            (append.topic, append.queue),
            facts(&append.blocks, append.count, |_, _| {}),
            append.blocks,
            Slot::new(append.acknowledge),
        );
        timers.producer = append.producer.map(Into::into);
        timers.due_in = due_in;
        timers.origin = Some(Origin {
            due_at,
            root: LogPosition(0),
        });
        self.enqueue_timer(timers)
    }

    fn enqueue_timer(&self, batch: Batch) -> Pending {
        let waiting = self.0.timers.count();
        if waiting + batch.facts.len() > self.0.most_timers {
            let pending = batch.slot.pending(&self.0.queue);
            batch.slot.settle(Err(AppendError::TooManyTimers(waiting)));
            return pending;
        }
        self.enqueue(batch)
    }

    /// Messages whose time has come and of which nobody has begun to decide, the longest due first.
    pub fn due_timers(&self, now: u64, most: usize) -> Vec<Timer> {
        self.0.timers.due(now, most)
    }

    /// When the next message is due, ms since 1970.
    pub fn next_due(&self) -> Option<u64> {
        self.0.timers.next_due()
    }

    /// Messages that wait for a topic, the soonest first, from behind one: its due time and position.
    pub fn waiting(&self, topic: TopicId, behind: (u64, LogPosition), most: usize) -> Vec<Timer> {
        self.0.timers.of_topic(topic, behind, most)
    }

    /// The message of a timer; `None` = it does not wait any more. May block.
    pub fn waiting_message(&self, position: LogPosition) -> Result<Option<AppendOne>, ReadError> {
        let Some((timer, at)) = self.0.timers.find(position) else {
            return Ok(None);
        };
        record(&self.0.segments, &timer, at).map(Some)
    }

    /// Makes a timer's message one of its queue, or of another that `place` names instead. `None` = it does
    /// not wait any more, or something else becomes of it just now. May block.
    pub fn fire(
        &self,
        timer: &Timer,
        place: impl FnOnce(TopicId, QueueId) -> QueueId,
    ) -> Result<Option<Decided>, ReadError> {
        let Some((timer, at)) = self.0.timers.take(timer.position) else {
            return Ok(None);
        };
        let read = record(&self.0.segments, &timer, at);
        let mut one = read.inspect_err(|_| self.0.timers.put_back(timer.position))?;
        one.queue = place(one.topic, one.queue);
        let mut message = message(one, Slot::new(Acknowledge::Durable));
        message.origin = Some(origin(&timer));
        Ok(Some(self.decide(timer.position, message)))
    }

    /// A timer's message shall never come. `None` = it does not wait any more, or is delivered just now.
    pub fn cancel_timer(&self, position: LogPosition) -> Option<Decided> {
        let (timer, _) = self.0.timers.take(position)?;
        let slot = Slot::new(Acknowledge::Durable);
        let mut cancel = state_batch(RecordKind::TimerCancel, &[1], self.now_ms(), slot);
        cancel.origin = Some(origin(&timer));
        Some(self.decide(position, cancel))
    }

    fn decide(&self, position: LogPosition, batch: Batch) -> Decided {
        Decided {
            timers: Arc::clone(&self.0.timers),
            position,
            pending: self.enqueue(batch),
            outcome: None,
        }
    }

    /// Forgets a timer that cannot be read, until the log is opened again.
    pub fn forget_timer(&self, timer: &Timer) {
        self.0.timers.remove(timer.position);
    }

    /// Messages that wait for their time.
    pub fn timers(&self) -> usize {
        self.0.timers.count()
    }
}

/// What a record that decides about a timer says of it.
fn origin(timer: &Timer) -> Origin {
    Origin {
        due_at: timer.due_at,
        root: timer.position,
    }
}

/// The message of a timer whose record is there.
fn record(segments: &Segments, timer: &Timer, at: LogPosition) -> Result<AppendOne, ReadError> {
    let record = segments.record(&Entry {
        offset: QueueOffset(0),
        position: at,
        size: timer.size,
        tag_code: 0,
    })?;
    let view = RecordView::parse(&record).map_err(|error| ReadError::Damaged {
        position: at,
        why: error.to_string(),
    })?;
    Ok(AppendOne {
        topic: view.header.topic,
        queue: view.header.queue,
        block: record.slice(view.header.size()..),
        attempts: view.header.attempts,
        notes: Pairs::encode(view.notes.iter()).into(),
        due_at: Some(timer.due_at),
    })
}

/// A message for its queue, which can be found by its keys.
fn message(one: AppendOne, slot: Slot) -> Batch {
    let topic = one.topic;
    let mut batch = batch(RecordKind::Message, one, slot);
    let mut keys = Vec::new();
    facts(&batch.blocks, 1, |index, block| {
        key_index::hashes(topic, block, |hash| keys.push((index, hash)));
    });
    batch.keys = keys;
    batch
}

/// One block with what is known of it besides.
fn batch(kind: RecordKind, one: AppendOne, slot: Slot) -> Batch {
    debug_assert!(one.notes.len() <= quern_protocol::limits::NOTES);
    let facts = facts(&one.block, 1, |_, _| {});
    let mut batch = Batch::new(kind, (one.topic, one.queue), facts, one.block, slot);
    batch.attempts = one.attempts;
    batch.notes = one.notes;
    batch
}
