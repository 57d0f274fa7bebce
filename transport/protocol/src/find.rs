//! Finding messages: by key or unique key across a broker's log, by the position of a record, and sending one
//! that was found again.

use serde::{Deserialize, Serialize};

use crate::ids::{GroupName, LogPosition, QueueId, QueueOffset, TopicName};

/// What a message is looked for by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MessageKey {
    /// One of the keys its producer gave it.
    Key(String),
    /// Its id: all copies of it have the same.
    Unique(String),
}

impl MessageKey {
    /// What is looked for.
    pub fn text(&self) -> &str {
        match self {
            Self::Key(text) | Self::Unique(text) => text,
        }
    }
}

/// Looks for messages on one broker, the newest first. Answered in pages: what takes long or brings much is
/// gone on with from where it stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindMessages {
    /// `None` = any topic of the broker, if it has not too many.
    pub topic: Option<TopicName>,
    pub key: MessageKey,
    /// When they were stored, both included, ms since 1970.
    pub stored: (u64, u64),
    /// Only those before this position; `None` = to the end.
    pub before: Option<LogPosition>,
    /// At most so many, from 1 on; a broker gives at most 64 at once.
    pub messages: u32,
}

/// The body holds the records, one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindMessagesReply {
    /// One for each record.
    pub found: Vec<FoundMessage>,
    /// Records that may be what was looked for, and cannot be read.
    pub unreadable: u32,
    /// There may be more before this; `None` = that was all.
    pub next: Option<LogPosition>,
}

/// What a record does not say of its message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundMessage {
    pub topic: TopicName,
    pub state: MessageState,
}

/// Where a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MessageState {
    /// In its queue, or it was until the log let it go.
    Queued,
    /// In no queue: it waits for its time, ms since 1970.
    Waits { due_at: u64 },
    /// In no queue: nobody has said how its transaction ended.
    Undecided,
    /// It has waited, and has become the message at this place of its topic.
    Delivered {
        queue: QueueId,
        offset: QueueOffset,
        position: LogPosition,
    },
    /// Nobody could say how its transaction ended: it was set aside, in
    /// [`parked_topic`](crate::transaction::parked_topic).
    Parked {
        offset: QueueOffset,
        position: LogPosition,
    },
    /// It was taken back, or its transaction rolled back: it never is in a queue.
    CalledOff,
}

/// Asks for the message whose record begins at a position of one broker's log; of one that has waited, its
/// first record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageAt {
    pub position: LogPosition,
}

/// The body holds the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageAtReply {
    pub found: FoundMessage,
}

/// Sends a message again that is in a queue, its bytes and its id the same. Answered when the copy is durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResendMessage {
    pub topic: TopicName,
    pub queue: QueueId,
    pub offset: QueueOffset,
    /// Only for this group, by its retry topic; `None` = for all who read the topic.
    pub group: Option<GroupName>,
    /// Only tell what would be done.
    pub dry_run: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResendMessageReply {
    /// Where the copy is.
    pub topic: TopicName,
    pub queue: QueueId,
    /// `None` = it was only asked.
    pub offset: Option<QueueOffset>,
}
