//! Messages that are kept longer than the log keeps its segments, because their topic says so: before a
//! segment goes, they are appended again at the end. A copy is marked as carried; it has its place in its
//! queue still, and when it was first stored. What else is in the segment goes with it, so such a queue has gaps.
//!
//! The size of the log is its operator's to bound: what goes for that goes, kept or not.

use std::collections::HashMap;

use quern_protocol::block::Pairs;
use quern_protocol::{QueueOffset, RecordView, TopicId};

use crate::consume_queue::{ConsumeQueues, Entry, Key};
use crate::error::ReadError;
use crate::limits;
use crate::pending::{Acknowledge, Slot};
use crate::queue::{Batch, Original};
use crate::segments::Segments;
use crate::wait_list::{self, AppendOne};

/// Topics whose messages are kept for so long, ms of the log's time.
pub type KeptTopics = HashMap<TopicId, u64>;

/// Copies on their way to the end of the log.
#[derive(Debug, Default)]
pub(crate) struct Keeping {
    /// What is before this is to go.
    head: u64,
    /// Of each queue, up to where it was looked through.
    done: HashMap<Key, QueueOffset>,
    under_way: Vec<Slot>,
    has_warned: bool,
}

/// A look at what is to go.
pub(crate) struct Look<'a> {
    pub(crate) queues: &'a ConsumeQueues,
    pub(crate) segments: &'a Segments,
    pub(crate) topics: &'a KeptTopics,
    /// What is before this is to go.
    pub(crate) head: u64,
    pub(crate) now: u64,
}

/// What has to happen before a segment can go.
#[derive(Debug)]
pub(crate) enum Carried {
    /// Nothing: all that is kept is behind it.
    All,
    /// These are to be appended; and if there are none, those before them have to be durable first.
    More(Vec<Batch>),
    /// There are more than may be kept: the log cannot let it go.
    TooMany,
}

impl Keeping {
    pub(crate) fn carry(&mut self, look: &Look<'_>) -> Result<Carried, ReadError> {
        let mut failed = self.head != look.head;
        let is_over = |slot: &Slot| slot.outcome().map(|it| it.is_err());
        let outcomes: Option<Vec<bool>> = self.under_way.iter().map(is_over).collect();
        let Some(outcomes) = outcomes else {
            return Ok(Carried::More(Vec::new()));
        };
        self.under_way.clear();
        failed |= outcomes.contains(&true);
        if failed {
            // From the beginning: those that are there are seen to be.
            (self.head, self.done) = (look.head, HashMap::new());
        }
        let mut batches = Vec::new();
        if let Err(error) = self.look_through(look, &mut batches) {
            // With those that were found before it.
            self.done.clear();
            return Err(error);
        }
        if look.queues.kept() + batches.len() > limits::KEPT {
            if !std::mem::replace(&mut self.has_warned, true) {
                tracing::warn!(
                    most = limits::KEPT,
                    "topics keep more messages than can be kept behind their segments: old segments stay"
                );
            }
            self.done.clear();
            return Ok(Carried::TooMany);
        }
        if batches.is_empty() {
            return Ok(Carried::All);
        }
        self.under_way = batches.iter().map(|it| it.slot.clone()).collect();
        Ok(Carried::More(batches))
    }

    fn look_through(&mut self, look: &Look<'_>, batches: &mut Vec<Batch>) -> Result<(), ReadError> {
        let mut bytes = 0;
        for key in look
            .queues
            .of_topics(|topic| look.topics.contains_key(&topic))
        {
            if bytes >= limits::CARRIED_AT_ONCE {
                break;
            }
            self.carry_queue(look, key, &mut bytes, batches)?;
        }
        Ok(())
    }

    fn carry_queue(
        &mut self,
        look: &Look<'_>,
        key: Key,
        bytes: &mut usize,
        batches: &mut Vec<Batch>,
    ) -> Result<(), ReadError> {
        let done = self.done.entry(key).or_default();
        let longest = look.topics.get(&key.0).copied().unwrap_or(0);
        while *bytes < limits::CARRIED_AT_ONCE {
            let entries = look.queues.read_before(key, *done, look.head)?;
            let Some(last) = entries.last() else {
                return Ok(());
            };
            *done = last.offset.plus(1);
            for entry in entries {
                if *bytes >= limits::CARRIED_AT_ONCE {
                    *done = entry.offset;
                    break;
                }
                let copy = match copy(look.segments, key, &entry) {
                    Ok(copy) => copy,
                    Err(error @ ReadError::Damaged { .. }) => {
                        tracing::error!(code = "Q-4007", %error, "a message that was to be kept is lost");
                        continue;
                    }
                    Err(error) => {
                        *done = entry.offset;
                        return Err(error);
                    }
                };
                let stored_at = copy.original.map_or(0, |it| it.stored_at);
                if look.now.saturating_sub(stored_at) <= longest {
                    *bytes += entry.size as usize;
                    batches.push(copy);
                }
            }
        }
        Ok(())
    }
}

/// The same message for the end of the log.
fn copy(segments: &Segments, (topic, queue): Key, entry: &Entry) -> Result<Batch, ReadError> {
    let record = segments.record(entry)?;
    let view = RecordView::parse(&record).map_err(|error| ReadError::Damaged {
        position: entry.position,
        why: error.to_string(),
    })?;
    let one = AppendOne {
        topic,
        queue,
        block: record.slice(view.header.size()..),
        attempts: view.header.attempts,
        notes: Pairs::encode(view.notes.iter()).into(),
        due_at: None,
    };
    let mut copy = wait_list::batch(view.header.kind, one, Slot::new(Acknowledge::Durable));
    copy.origin = view.header.extensions.origin;
    copy.carried = true;
    copy.original = Some(Original {
        offset: entry.offset,
        stored_at: view.header.stored_at,
    });
    Ok(copy)
}
