//! `Pull`: read one queue from an offset, filtered on the broker, waiting for news if asked to.

use serde::{Deserialize, Serialize};

use crate::ids::{GroupName, QueueId, QueueOffset, TopicName};

/// Which messages of a queue are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Filter {
    All,
    /// An expression of a language that a plugin of the broker speaks: `TAG` and `SQL92` are always
    /// there.
    Expression {
        language: String,
        text: String,
    },
}

impl Filter {
    /// A tag expression: `paid`, `paid || refunded`, `*`.
    pub fn tag(expression: impl Into<String>) -> Self {
        Self::Expression {
            language: "TAG".to_owned(),
            text: expression.into(),
        }
    }

    /// A condition on properties: `region = 'eu' AND amount > 100`. They are texts; beside a number
    /// they are read as one. RocketMQ's SQL92, to the letter.
    pub fn sql(expression: impl Into<String>) -> Self {
        Self::Expression {
            language: "SQL92".to_owned(),
            text: expression.into(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pull {
    /// For metrics and limits only: a pull never moves a group's offset.
    pub group: Option<GroupName>,
    pub topic: TopicName,
    pub queue: QueueId,
    pub from: QueueOffset,
    /// At most this many messages, 1 to 4,096.
    pub max_messages: u32,
    /// At most this many bytes, unless the first message alone is larger.
    pub max_bytes: u32,
    /// Held this long when nothing matches yet, at most 30,000 ms; 0 = answer at once.
    pub wait_ms: u32,
    pub filter: Filter,
}

/// Delivery of this queue stands still because its filter fails on a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stall {
    pub offset: QueueOffset,
    pub code: u16,
    /// Which plugin, and why.
    pub message: String,
    /// Ask again after this long, ms.
    pub retry_ms: u32,
}

/// The body holds `messages` log records verbatim (see [`crate::record`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullReply {
    pub messages: u32,
    /// Where to go on: everything before it was delivered or did not match.
    pub next: QueueOffset,
    /// The queue's bounds when the reply was made.
    pub min: QueueOffset,
    pub max: QueueOffset,
    /// The offset asked for lay outside the queue; `next` is the nearest one inside.
    pub moved: bool,
    pub stall: Option<Stall>,
}
