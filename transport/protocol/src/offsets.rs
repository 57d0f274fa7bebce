//! Offsets: those a group commits, a queue's bounds, and the one that belongs to a time.

use serde::{Deserialize, Serialize};

use crate::group::Lease;
use crate::ids::{GroupName, QueueId, QueueOffset, TopicName};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuePosition {
    pub queue: QueueId,
    pub offset: QueueOffset,
}

/// Answered when the commit is durable: all of it or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitOffsets {
    pub group: GroupName,
    pub topic: TopicName,
    /// The next message the group wants, queue by queue.
    pub offsets: Vec<QueuePosition>,
    /// By what right: a member's leases of these queues; one that is over fails the request. Empty = by
    /// somebody outside of the group, and members who have these queues begin again at the offsets given.
    /// Since version 2.
    pub leases: Vec<Lease>,
}

impl CommitOffsets {
    pub(crate) fn says_more_than_version_1(&self) -> bool {
        !self.leases.is_empty()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitOffsetsReply {}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryOffsets {
    pub group: GroupName,
    pub topic: TopicName,
}

/// Queues the group has never committed are absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryOffsetsReply {
    pub offsets: Vec<QueuePosition>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetRange {
    pub topic: TopicName,
    pub queue: QueueId,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetRangeReply {
    /// First message still there.
    pub min: QueueOffset,
    /// Where the next message goes.
    pub max: QueueOffset,
}

/// The first message stored at or after a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetAt {
    pub topic: TopicName,
    pub queue: QueueId,
    /// ms since 1970.
    pub stored_at: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetAtReply {
    /// The queue's end when nothing is that young.
    pub offset: QueueOffset,
}
