//! `Send`: message blocks for one queue. They are appended together or not at all, and answered
//! when they are durable.

use serde::{Deserialize, Serialize};

use crate::ids::{LogPosition, QueueId, QueueOffset, TopicName};

/// The body holds `messages` blocks (see [`crate::message`]), one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Send {
    pub topic: TopicName,
    pub queue: QueueId,
    pub messages: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SendStatus {
    /// Durable as the topic asks.
    Ok,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendReply {
    pub status: SendStatus,
    /// Offset of the first message; the others follow without a gap.
    pub first: QueueOffset,
    /// Log position of the first message.
    pub position: LogPosition,
    /// By the log's clock, ms since 1970.
    pub stored_at: u64,
}
