//! `Send`: message blocks for one queue. They are appended together or not at all, and answered
//! when they are as durable as was asked for.

use serde::{Deserialize, Serialize};

use crate::delay::Later;
use crate::durability::Durability;
use crate::ids::{LogPosition, ProducerId, QueueId, QueueOffset, TopicName};

/// The body holds `messages` blocks (see [`crate::message`]), one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Send {
    pub topic: TopicName,
    pub queue: QueueId,
    pub messages: u32,
    /// `None` = as the topic says. Since version 2.
    pub durability: Option<Durability>,
    /// So that a batch sent twice is stored once; `None` = it is not recognised. Since version 2.
    pub batch: Option<ProducerBatch>,
    /// When the messages are to be in their queue; `None` = at once. Since version 3.
    pub later: Option<Later>,
}

/// Which of a producer's batches for a queue one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerBatch {
    /// Chosen by the producer, at random: no two producers have the same.
    pub producer: ProducerId,
    /// Raised by a producer that takes the place of an earlier one of the same id.
    pub epoch: u16,
    /// Of the batch, within its queue; they follow one another.
    pub sequence: u32,
}

impl Send {
    /// A send as durable as its topic says, from nobody in particular.
    pub fn new(topic: TopicName, queue: QueueId, messages: u32) -> Self {
        Self {
            topic,
            queue,
            messages,
            durability: None,
            batch: None,
            later: None,
        }
    }

    pub(crate) fn says_more_than_version_1(&self) -> bool {
        self.durability.is_some() || self.batch.is_some() || self.says_more_than_version_2()
    }

    pub(crate) fn says_more_than_version_2(&self) -> bool {
        self.later.is_some()
    }
}

/// What became of messages that were taken. They are in the log in every case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SendStatus {
    /// As durable as was asked for.
    Ok,
    /// Written, but the disk did not confirm it in time.
    FlushDiskTimeout,
    /// On this broker's disk, but no replica confirmed it in time.
    FlushReplicaTimeout,
    /// On this broker's disk, but no replica was there to take it.
    ReplicaNotAvailable,
}

impl SendStatus {
    /// Whether the messages are as durable as was asked for.
    pub fn is_durable(self) -> bool {
        self == Self::Ok
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendReply {
    pub status: SendStatus,
    /// Offset of the first message; the others follow without a gap. 0 for messages that are for later:
    /// they have none yet.
    pub first: QueueOffset,
    /// Log position of the first message's record; the others' follow without a gap.
    pub position: LogPosition,
    /// By the log's clock, ms since 1970.
    pub stored_at: u64,
}
