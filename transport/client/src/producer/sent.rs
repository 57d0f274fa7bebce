//! Where a message went.

use quern_protocol::{LogPosition, MessageHandle, QueueOffset, SendStatus};

use crate::routes::MessageQueue;

/// Where a message went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendResult {
    pub(super) message_id: String,
    pub(super) status: SendStatus,
    pub(super) queue: MessageQueue,
    pub(super) offset: QueueOffset,
    pub(super) position: LogPosition,
    pub(super) stored_at: u64,
    pub(super) how: How,
}

/// What else is known of a message that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum How {
    /// It went to the queue whose turn it was.
    InTurn,
    /// A plugin chose its queue: name and version.
    Selected(String),
    /// It is in no queue yet.
    Waiting(MessageHandle),
}

impl SendResult {
    /// The message's id, made by this producer.
    pub fn message_id(&self) -> &str {
        &self.message_id
    }

    /// Whether it is as durable as was asked for. It is in the broker's log in any case.
    pub fn status(&self) -> SendStatus {
        self.status
    }

    /// Topic, broker and queue.
    pub fn queue(&self) -> &MessageQueue {
        &self.queue
    }

    /// Its place in the queue; 0 for a message that is for later, which has none yet.
    pub fn offset(&self) -> QueueOffset {
        self.offset
    }

    /// Log position of the first message it travelled with.
    pub fn position(&self) -> LogPosition {
        self.position
    }

    /// By the broker's log clock, ms since 1970.
    pub fn stored_at(&self) -> u64 {
        self.stored_at
    }

    /// Name and version of the plugin that chose the queue; `None` = the producer did.
    pub fn selector(&self) -> Option<&str> {
        match &self.how {
            How::Selected(selector) => Some(selector),
            How::InTurn | How::Waiting(_) => None,
        }
    }

    /// What a message that is for later, or of a transaction, is known by until it is in its queue: see
    /// [`crate::Client::recall`]. `None` = it is there at once.
    pub fn handle(&self) -> Option<&MessageHandle> {
        match &self.how {
            How::Waiting(handle) => Some(handle),
            How::InTurn | How::Selected(_) => None,
        }
    }
}
