//! Messages for later: records of kind timer that have not been delivered yet. Which those are follows
//! from the log alone: a timer is there from its record on until a message whose origin names its position,
//! so one that fires while the power goes fires once. The log keeps the record of every timer it has:
//! retention stops before the oldest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use quern_protocol::block::Pairs;
use quern_protocol::{
    LogPosition, Origin, QueueId, QueueOffset, RecordHeader, RecordKind, RecordView, TopicId,
};
use serde::{Deserialize, Serialize};

use crate::error::{AppendError, ReadError};
use crate::pending::{Acknowledge, Pending, Slot};
use crate::queue::Batch;
use crate::{Entry, Store, facts, key_index, limits};

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
pub struct Timer {
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
        Self {
            position: header.position,
            due_at: header.extensions.origin.map_or(0, |it| it.due_at),
            size: header.len,
            topic: header.topic,
        }
    }
}

#[derive(Debug, Default)]
struct Table {
    by_position: BTreeMap<LogPosition, Timer>,
    by_due: BTreeSet<(u64, LogPosition)>,
}

impl Table {
    fn remove(&mut self, position: LogPosition) {
        if let Some(timer) = self.by_position.remove(&position) {
            self.by_due.remove(&(timer.due_at, position));
        }
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

    pub(crate) fn add(&self, timer: Timer) {
        let mut table = self.table();
        table.by_due.insert((timer.due_at, timer.position));
        table.by_position.insert(timer.position, timer);
    }

    /// The record there has become a message, or shall not.
    pub(crate) fn remove(&self, position: LogPosition) {
        self.table().remove(position);
    }

    pub(crate) fn retain_topics(&self, is_kept: impl Fn(TopicId) -> bool) {
        let mut table = self.table();
        let gone = table.by_position.values().filter(|it| !is_kept(it.topic));
        let gone: Vec<_> = gone.map(|it| it.position).collect();
        gone.into_iter().for_each(|it| table.remove(it));
    }

    /// Those whose time has come, the longest due first.
    pub(crate) fn due(&self, now: u64, most: usize) -> Vec<Timer> {
        let table = self.table();
        let due = table.by_due.iter().take_while(|(at, _)| *at <= now);
        let due = due.filter_map(|(_, position)| table.by_position.get(position));
        due.take(most).copied().collect()
    }

    /// The log must not begin behind this.
    pub(crate) fn oldest(&self) -> Option<LogPosition> {
        self.table().by_position.keys().next().copied()
    }

    pub(crate) fn count(&self) -> usize {
        self.table().by_position.len()
    }

    pub(crate) fn all(&self) -> Vec<Timer> {
        self.table().by_position.values().copied().collect()
    }
}

impl Store {
    /// Hands over one message. One for later is refused when too many wait already.
    pub fn submit_one(&self, one: AppendOne) -> Pending {
        let waiting = self.0.timers.count();
        let slot = Slot::new(Acknowledge::Durable);
        let Some(due_at) = one.due_at else {
            return self.enqueue(message_batch(one, None, slot));
        };
        if waiting >= limits::TIMERS {
            let pending = slot.pending(&self.0.queue);
            slot.settle(Err(AppendError::TooManyTimers(waiting)));
            return pending;
        }
        let origin = Origin {
            due_at,
            root: LogPosition(0),
        };
        self.enqueue(Batch {
            kind: RecordKind::Timer,
            keys: Vec::new(),
            ..message_batch(one, Some(origin), slot)
        })
    }

    /// Messages whose time has come, the longest due first.
    pub fn due_timers(&self, now: u64, most: usize) -> Vec<Timer> {
        self.0.timers.due(now, most)
    }

    /// Makes a timer's message one of its queue. The timer is gone when this resolves to `Ok`; who calls
    /// this for it again before delivers it twice. May block.
    pub fn fire(&self, timer: &Timer) -> Result<Pending, ReadError> {
        let record = self.0.segments.record(&Entry {
            offset: QueueOffset(0),
            position: timer.position,
            size: timer.size,
            tag_code: 0,
        })?;
        let view = RecordView::parse(&record).map_err(|error| ReadError::Damaged {
            position: timer.position,
            why: error.to_string(),
        })?;
        let one = AppendOne {
            topic: view.header.topic,
            queue: view.header.queue,
            block: record.slice(view.header.size()..),
            attempts: view.header.attempts,
            notes: Pairs::encode(view.notes.iter()).into(),
            due_at: None,
        };
        let origin = Origin {
            due_at: timer.due_at,
            root: timer.position,
        };
        let slot = Slot::new(Acknowledge::Durable);
        Ok(self.enqueue(message_batch(one, Some(origin), slot)))
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

/// A message with what is known of it besides.
fn message_batch(one: AppendOne, origin: Option<Origin>, slot: Slot) -> Batch {
    let mut keys = Vec::new();
    let facts = facts(&one.block, 1, |index, block| {
        key_index::hashes(one.topic, block, |hash| keys.push((index, hash)));
    });
    debug_assert!(one.notes.len() <= quern_protocol::limits::NOTES);
    Batch {
        key: (one.topic, one.queue),
        kind: RecordKind::Message,
        producer: None,
        origin,
        attempts: one.attempts,
        notes: one.notes,
        blocks: one.block,
        facts,
        keys,
        slot,
    }
}
