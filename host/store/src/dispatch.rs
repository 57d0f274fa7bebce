//! What the store tells of its log, in log order: once for what it finds at start, then live.

use quern_protocol::{LogPosition, QueueId, QueueOffset, RecordKind, TopicId};

/// Something became durable and visible.
#[derive(Debug)]
pub enum Dispatched<'a> {
    /// Messages of a queue; it ends at `next` now.
    Message {
        topic: TopicId,
        queue: QueueId,
        next: QueueOffset,
    },
    /// A state record.
    State {
        kind: RecordKind,
        position: LogPosition,
        body: &'a [u8],
    },
}
