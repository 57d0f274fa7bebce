//! Why a group has received a message, or has not: what its filter says of it, by which version, and how far
//! the group is. Asked of the broker that has the message.

use serde::{Deserialize, Serialize};

use crate::ids::{GroupName, QueueId, QueueOffset, TopicName};
use crate::pull::{Filter, Stall};

/// Asks about one message in a queue and one group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainDelivery {
    pub topic: TopicName,
    pub queue: QueueId,
    pub offset: QueueOffset,
    pub group: GroupName,
    /// What its members ask for; `None` = nobody knows, or wants to.
    pub filter: Option<Filter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ExplainDeliveryReply {
    /// What those say who decide about the message: by what its members ask for, who decides now first; then by
    /// what is bound to the group. Empty = nobody has to.
    pub opinions: Vec<Opinion>,
    /// The next message of the queue that the group wants; `None` = it never committed.
    pub committed: Option<QueueOffset>,
    /// The member that has the queue.
    pub owner: Option<String>,
    /// `None` = the group does not pop this queue.
    pub popped: Option<PoppedQueue>,
    /// The queue stands still for this filter.
    pub stall: Option<Stall>,
}

impl ExplainDeliveryReply {
    /// Whether the group is done with the message, which is at this offset.
    pub fn is_past(&self, offset: QueueOffset) -> bool {
        match self.popped {
            Some(PoppedQueue {
                hidden: Some(_), ..
            }) => false,
            Some(popped) if popped.next > offset => true,
            _ => self.committed.is_some_and(|next| next > offset),
        }
    }
}

/// What a plugin says of a message when it is asked now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opinion {
    /// `geo@3`, or the name of one that is part of the broker.
    pub plugin: String,
    /// SHA-256 of its component, hex; empty = it could not be asked.
    pub digest: String,
    pub role: OpinionRole,
    pub said: Said,
}

/// How much an opinion counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OpinionRole {
    /// It decides now.
    Decides,
    /// It is the other side of a trial.
    Compared,
    /// It decided in this time, which ended after the message was stored, ms since 1970.
    Decided { from: u64, until: u64 },
    /// It decides now, too: an operator has bound it to the group.
    Bound,
    /// An operator has bound it to the group, and it cannot say; another decides instead.
    StoodInFor,
}

/// What it says.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Said {
    Deliver,
    Reject,
    Fails { code: u16, message: String },
}

/// How a group has popped a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PoppedQueue {
    /// Everything before was given, or is of no interest.
    pub next: QueueOffset,
    /// The message was given and is not acknowledged.
    pub hidden: Option<HiddenMessage>,
}

/// A message that is given to nobody else for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HiddenMessage {
    /// ms since 1970.
    pub until: u64,
    /// How often it was given.
    pub times: u16,
}

/// Asks which groups one broker knows that consume a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicGroups {
    pub topic: TopicName,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicGroupsReply {
    /// By name: those that have committed, own or have popped queues here, and those this broker
    /// coordinates.
    pub groups: Vec<TopicGroup>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicGroup {
    pub group: GroupName,
    /// What its members ask for; `None` = this broker does not coordinate it, or it has none.
    pub filter: Option<Filter>,
}
