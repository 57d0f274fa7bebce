//! Pop: the broker gives messages of a topic to whoever asks for the group, and hides each from the rest of
//! the group for a while. One that is not acknowledged by then is given again. No queue has an owner.

use serde::{Deserialize, Serialize};

use crate::ids::{GroupName, QueueId, QueueOffset, TopicName};
use crate::pull::{Filter, Stall};

/// Takes messages. The reply's body holds their records, one after the other. Held until there are some, or
/// for `wait_ms`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pop {
    pub group: GroupName,
    pub topic: TopicName,
    /// `None` = whichever has some.
    pub queue: Option<QueueId>,
    /// 1 to 256.
    pub max_messages: u32,
    /// Of their records, unless the first alone has more.
    pub max_bytes: u32,
    /// So long they are hidden from the group, 10 ms to 12 h.
    pub invisible_ms: u32,
    /// At most 30,000.
    pub wait_ms: u32,
    /// Nothing of a queue is given while something of it is hidden: so messages are consumed in order.
    pub in_order: bool,
    /// Where a group begins that has consumed nothing of a queue: at its first message, or at its end.
    pub from_first: bool,
    pub filter: Filter,
    /// One that asks again under the number of an attempt whose answer was lost is given what that one was, as far
    /// as it is hidden still; the broker knows until it is started again.
    pub attempt: Option<u64>,
}

impl Pop {
    pub(crate) fn says_more_than_version_1(&self) -> bool {
        self.attempt.is_some()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PopReply {
    /// One for each record, in their order.
    pub messages: Vec<Popped>,
    /// Until then they are hidden, ms since 1970.
    pub invisible_until: u64,
    /// The filter fails on a message of a queue, and delivery of that waits.
    pub stall: Option<Stall>,
}

/// A message that was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Popped {
    pub receipt: Receipt,
    /// How often it was given before.
    pub attempts: u16,
}

/// Proves that a message was given, and which time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Receipt {
    pub queue: QueueId,
    pub offset: QueueOffset,
    /// Another each time it is given.
    pub token: u64,
}

/// Messages are consumed: they are never given again. Answered when that is durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AckPopped {
    pub group: GroupName,
    pub topic: TopicName,
    /// At most 1,024.
    pub receipts: Vec<Receipt>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AckPoppedReply {
    /// Receipts that are worth nothing any more: the message was acknowledged before, or its time was over
    /// and it was given again.
    pub stale: Vec<Receipt>,
}

/// Messages stay hidden for so long from now on; 0 = they are given again at once. Answered when that is
/// durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HidePopped {
    pub group: GroupName,
    pub topic: TopicName,
    /// At most 1,024.
    pub receipts: Vec<Receipt>,
    /// At most 12 h.
    pub invisible_ms: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HidePoppedReply {
    /// ms since 1970.
    pub invisible_until: u64,
    /// As of [`AckPoppedReply`].
    pub stale: Vec<Receipt>,
}
