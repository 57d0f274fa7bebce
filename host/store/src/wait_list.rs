//! Messages that wait: in the log, and in no queue. A timer waits for its time, a half for the outcome of its
//! transaction. Which they are follows from the log alone: one is there from its record on until a record, a
//! message or one that calls it off, whose origin names its position. So one that is decided while the power
//! goes is decided once.
//!
//! The log keeps the record of each. Retention, before it lets a segment go, has those in it appended again
//! at the end: such a copy is marked as carried, and its origin names the first record, which stays the
//! message's identity. While a copy or a decision is under way nobody else may begin another, so what
//! comes last in the log is what holds.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::poll_fn;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};

use bytes::Bytes;
use quern_protocol::block::Pairs;
use quern_protocol::{
    LogPosition, Origin, QueueId, QueueOffset, RecordHeader, RecordKind, RecordView, TopicId,
};
use serde::{Deserialize, Serialize};

use crate::error::{AppendError, ReadError};
use crate::pending::{Pending, Slot, Taken};
use crate::queue::Batch;
use crate::segments::Segments;
use crate::unreadable::Unreadable;
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

/// A message that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Of its first record: what it is known by.
    pub position: LogPosition,
    /// ms since 1970. Of a half: when it was stored.
    pub due_at: u64,
    /// Of its record, bytes.
    pub size: u32,
    /// Where it goes.
    pub topic: TopicId,
}

impl Waiting {
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

/// What is known of one besides its position.
#[derive(Debug)]
struct Row {
    due_at: u64,
    /// Where its record is now.
    at: LogPosition,
    size: u32,
    topic: TopicId,
    /// A record that is on its way to the log says what becomes of it.
    is_taken: bool,
}

impl Row {
    fn at(&self, position: LogPosition) -> Waiting {
        Waiting {
            position,
            due_at: self.due_at,
            size: self.size,
            topic: self.topic,
        }
    }
}

#[derive(Debug, Default)]
struct Table {
    by_position: BTreeMap<LogPosition, Row>,
    by_due: BTreeSet<(u64, LogPosition)>,
    /// How many of each topic; none has zero.
    by_topic: HashMap<TopicId, usize>,
    /// Those whose record is not the first one.
    carried: usize,
    /// Who wants to know when nothing is under way any more for one of them.
    wakers: Vec<(LogPosition, Waker)>,
}

impl Table {
    fn remove(&mut self, position: LogPosition) {
        self.wake(position);
        if let Some(waiting) = self.by_position.remove(&position) {
            self.by_due.remove(&(waiting.due_at, position));
            self.carried -= usize::from(waiting.at != position);
            if let Some(count) = self.by_topic.get_mut(&waiting.topic) {
                *count -= 1;
                if *count == 0 {
                    self.by_topic.remove(&waiting.topic);
                }
            }
        }
    }

    fn wake(&mut self, position: LogPosition) {
        let all = self.wakers.extract_if(.., |(it, _)| *it == position);
        all.for_each(|(_, waker)| waker.wake());
    }

    /// Its record is there now.
    fn put(&mut self, waiting: Waiting, at: LogPosition) {
        self.remove(waiting.position);
        self.by_due.insert((waiting.due_at, waiting.position));
        self.carried += usize::from(at != waiting.position);
        *self.by_topic.entry(waiting.topic).or_default() += 1;
        let row = Row {
            due_at: waiting.due_at,
            at,
            size: waiting.size,
            topic: waiting.topic,
            is_taken: false,
        };
        self.by_position.insert(waiting.position, row);
    }

    /// Nobody else decides what becomes of it until it is put back. Where its record is.
    fn take(&mut self, position: LogPosition) -> Option<(Waiting, LogPosition)> {
        let waiting = self.by_position.get_mut(&position)?;
        if std::mem::replace(&mut waiting.is_taken, true) && !cfg!(zoo = "z21") {
            return None;
        }
        Some((waiting.at(position), waiting.at))
    }
}

/// All messages of a log that wait for the same thing.
#[derive(Debug)]
pub(crate) struct WaitList {
    /// Of their records.
    kind: RecordKind,
    table: Mutex<Table>,
}

impl WaitList {
    pub(crate) fn new(kind: RecordKind) -> Self {
        Self {
            kind,
            table: Mutex::default(),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        let table = self.table.lock();
        table.expect("no code that can panic runs under this lock")
    }

    /// One that waits, and where its record is: the first one, or a copy.
    pub(crate) fn put(&self, waiting: Waiting, at: LogPosition) {
        self.table().put(waiting, at);
    }

    /// The same, of a copy: one whose topic was deleted meanwhile stays away.
    pub(crate) fn moved(&self, waiting: Waiting, at: LogPosition) {
        let mut table = self.table();
        if table.by_position.contains_key(&waiting.position) {
            table.put(waiting, at);
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
    pub(crate) fn due(&self, now: u64, most: usize) -> Vec<Waiting> {
        let table = self.table();
        let due = table.by_due.iter().take_while(|(at, _)| *at <= now);
        let due = due.filter_map(|(_, position)| {
            let waiting = table.by_position.get(position)?;
            (!waiting.is_taken).then(|| waiting.at(*position))
        });
        due.take(most).collect()
    }

    pub(crate) fn next_due(&self) -> Option<u64> {
        self.table().by_due.first().map(|(due_at, _)| *due_at)
    }

    /// Those of a topic, or of any, the soonest first, behind one.
    pub(crate) fn behind(
        &self,
        topic: Option<TopicId>,
        behind: (u64, LogPosition),
        most: usize,
    ) -> Vec<Waiting> {
        let table = self.table();
        let rest = (Bound::Excluded(behind), Bound::Unbounded);
        let all = table.by_due.range(rest).filter_map(|(_, position)| {
            let waiting = table.by_position.get(position)?;
            topic
                .is_none_or(|it| it == waiting.topic)
                .then(|| waiting.at(*position))
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
    fn take_before(&self, head: u64, bytes: usize) -> Vec<(Waiting, LogPosition)> {
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

    pub(crate) fn take(&self, position: LogPosition) -> Option<(Waiting, LogPosition)> {
        self.table().take(position)
    }

    pub(crate) fn put_back(&self, position: LogPosition) {
        let mut table = self.table();
        if let Some(waiting) = table.by_position.get_mut(&position) {
            waiting.is_taken = false;
        }
        table.wake(position);
    }

    /// Resolves when what is under way for one that waits has come to its end.
    pub(crate) async fn settled(&self, position: LogPosition) {
        poll_fn(|context| match self.is_settled(position, context.waker()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }

    /// Whether nothing is under way for it; if something is, the waker is told of its end.
    fn is_settled(&self, position: LogPosition, waker: &Waker) -> bool {
        let mut table = self.table();
        let row = table.by_position.get(&position);
        if !row.is_some_and(|it| it.is_taken) {
            return true;
        }
        let wakers = &mut table.wakers;
        if !wakers
            .iter()
            .any(|(at, it)| *at == position && it.will_wake(waker))
        {
            wakers.push((position, waker.clone()));
        }
        false
    }

    /// Of the batch that says what becomes of one that was taken.
    fn slot(self: &Arc<Self>, position: LogPosition) -> Slot {
        Slot::deciding(Taken {
            list: Arc::clone(self),
            position,
        })
    }

    pub(crate) fn find(&self, position: LogPosition) -> Option<(Waiting, LogPosition)> {
        let table = self.table();
        let waiting = table.by_position.get(&position)?;
        Some((waiting.at(position), waiting.at))
    }

    pub(crate) fn count(&self) -> usize {
        self.table().by_position.len()
    }

    /// How many of each topic, in no order.
    pub(crate) fn by_topic(&self) -> Vec<(TopicId, usize)> {
        let table = self.table();
        let all = table.by_topic.iter();
        all.map(|(topic, count)| (*topic, *count)).collect()
    }

    /// All of them, each with the place of its record.
    pub(crate) fn all(&self) -> Vec<(Waiting, LogPosition)> {
        let table = self.table();
        let all = table.by_position.iter();
        all.map(|(position, it)| (it.at(*position), it.at))
            .collect()
    }

    /// Copies of those whose records stand before a position, so many bytes of them at once: batches for
    /// the end of the log. One whose record is damaged is lost, and so is one that the disk has not given for long.
    pub(crate) fn carry(
        self: &Arc<Self>,
        segments: &Segments,
        (head, now): (u64, u64),
        unreadable: &mut Unreadable,
    ) -> Vec<Batch> {
        let mut batches = Vec::new();
        for (waiting, at) in self.take_before(head, limits::CARRIED_AT_ONCE) {
            match record(segments, &waiting, at) {
                Ok(one) => {
                    unreadable.found(at);
                    let mut copy = batch(self.kind, one, self.slot(waiting.position));
                    copy.origin = Some(origin(&waiting));
                    copy.carried = true;
                    batches.push(copy);
                }
                Err(error @ ReadError::Damaged { .. }) => {
                    tracing::error!(code = "Q-4007", %error, "a message that waited is lost");
                    self.remove(waiting.position);
                }
                Err(error) if unreadable.miss(at, now, ("a message that waits", &error)) => {
                    self.remove(waiting.position);
                }
                Err(_) => self.put_back(waiting.position),
            }
        }
        batches
    }
}

impl Store {
    /// The message of one that waits; `None` = it does not any more. May block.
    pub(crate) fn waiting_in(
        &self,
        list: &WaitList,
        position: LogPosition,
    ) -> Result<Option<AppendOne>, ReadError> {
        let Some((waiting, at)) = list.find(position) else {
            return Ok(None);
        };
        record(&self.0.segments, &waiting, at).map(Some)
    }

    /// Makes one that waits a message of its queue, as `dress` changes it. `None` = it does not wait any more,
    /// or something else becomes of it just now. It waits as before when the answer is an error. May block.
    pub(crate) fn deliver(
        &self,
        list: &Arc<WaitList>,
        position: LogPosition,
        dress: impl FnOnce(&mut AppendOne),
    ) -> Result<Option<Pending>, ReadError> {
        let Some((waiting, at)) = list.take(position) else {
            return Ok(None);
        };
        let read = record(&self.0.segments, &waiting, at);
        let mut one = read.inspect_err(|_| list.put_back(position))?;
        dress(&mut one);
        let mut message = batch(RecordKind::Message, one, list.slot(position));
        message.origin = Some(origin(&waiting));
        Ok(Some(self.enqueue(message)))
    }

    /// One that waits shall never come: a record of this kind says so. `None` as above.
    pub(crate) fn call_off(
        &self,
        list: &Arc<WaitList>,
        position: LogPosition,
        kind: RecordKind,
    ) -> Option<Pending> {
        let (waiting, _) = list.take(position)?;
        let mut record = state_batch(kind, &[CALLED_OFF], self.now_ms(), list.slot(position));
        record.origin = Some(origin(&waiting));
        Some(self.enqueue(record))
    }

    /// Messages of a send that are to wait.
    pub(crate) fn waiting_batch(kind: RecordKind, append: Append) -> Batch {
        let mut keys = Vec::new();
        let facts = facts(&append.blocks, append.count, |index, block| {
            key_index::hashes(kind, append.topic, block, |hash| keys.push((index, hash)));
        });
        let slot = Slot::new(append.acknowledge);
        let mut batch = Batch::new(
            kind,
            (append.topic, append.queue),
            facts,
            append.blocks,
            slot,
        );
        batch.producer = append.producer.map(Into::into);
        batch.keys = keys;
        batch
    }

    /// Hands them over. Refused when too many wait already.
    pub(crate) fn enqueue_waiting(&self, list: &WaitList, batch: Batch) -> Pending {
        let waiting = list.count();
        let most = self.0.most_waiting;
        if waiting + batch.facts.len() <= most {
            return self.enqueue(batch);
        }
        let pending = batch.slot.pending(&self.0.queue);
        batch.slot.settle(Err(AppendError::TooManyWait(waiting)));
        pending
    }
}

/// Version of the body of a record that calls a message off; there is nothing behind it.
const CALLED_OFF: u8 = 1;

/// What a record that copies or decides one says of it.
fn origin(waiting: &Waiting) -> Origin {
    Origin {
        due_at: waiting.due_at,
        root: waiting.position,
    }
}

/// The message whose record is there.
fn record(segments: &Segments, waiting: &Waiting, at: LogPosition) -> Result<AppendOne, ReadError> {
    let record = segments.record(&Entry {
        offset: QueueOffset(0),
        position: at,
        size: waiting.size,
        tag_code: 0,
    })?;
    let view = RecordView::parse(&record).map_err(ReadError::damaged(at))?;
    Ok(AppendOne {
        topic: view.header.topic,
        queue: view.header.queue,
        block: record.slice(view.header.size()..),
        attempts: view.header.attempts,
        notes: Pairs::encode(view.notes.iter()).into(),
        due_at: Some(waiting.due_at),
    })
}

/// One block with what is known of it besides, and what it can be found by.
pub(crate) fn batch(kind: RecordKind, one: AppendOne, slot: Slot) -> Batch {
    debug_assert!(one.notes.len() <= quern_protocol::limits::NOTES);
    let mut keys = Vec::new();
    let facts = facts(&one.block, 1, |index, block| {
        key_index::hashes(kind, one.topic, block, |hash| keys.push((index, hash)));
    });
    let mut batch = Batch::new(kind, (one.topic, one.queue), facts, one.block, slot);
    batch.keys = keys;
    batch.attempts = one.attempts;
    batch.notes = one.notes;
    batch
}
