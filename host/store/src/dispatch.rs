//! What the store tells of its log, in log order: once for what it finds at start, then live.

use quern_protocol::{LogPosition, QueueId, QueueOffset, RecordKind, TopicId};

use crate::keeping::KeptTopics;

/// Something became durable and visible.
#[derive(Debug)]
pub enum Dispatched<'a> {
    /// Messages of a queue; it ends at `next` now.
    Message {
        topic: TopicId,
        queue: QueueId,
        next: QueueOffset,
    },
    /// Messages of a topic that wait: for their time, ms since 1970, or for the outcome of their transaction, which
    /// they have done since then. Not told at a start.
    Waiting { kind: RecordKind, due_at: u64 },
    /// A state record.
    State {
        kind: RecordKind,
        /// 0 when a snapshot says it.
        position: LogPosition,
        body: &'a [u8],
    },
}

/// A state record, as the log has it or could have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateRecord {
    pub kind: RecordKind,
    pub body: Vec<u8>,
}

/// Hears what the log says, in its order; at start on the caller's thread, then on the syncer's. What it
/// makes of the state records is the state of the log, and it must depend on nothing else.
pub trait Observer: Send {
    fn dispatched(&mut self, event: Dispatched<'_>);

    /// Records that, dispatched in order to a new observer, give the state as it is. They take the place
    /// of all state records so far, so that old segments can go and a start need not read them.
    fn snapshot(&mut self) -> Vec<StateRecord>;

    /// Topics whose messages are kept, those that are old enough to go included: none, usually.
    fn kept_topics(&self) -> KeptTopics {
        KeptTopics::new()
    }
}

/// For a log without state records.
#[derive(Debug)]
pub struct Stateless;

impl Observer for Stateless {
    fn dispatched(&mut self, _: Dispatched<'_>) {}

    fn snapshot(&mut self) -> Vec<StateRecord> {
        Vec::new()
    }
}
