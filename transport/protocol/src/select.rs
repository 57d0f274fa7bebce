//! `SendSelected`: message blocks for a topic, whose queues a plugin of the broker chooses.
//!
//! The sender tells the route it knows, so that every broker chooses among the same queues and comes
//! to the same answer. What is chosen here is stored here; what another broker has is not stored, and
//! the sender sends it there. A sender that numbers its batches has the queues only chosen, and sends what is for
//! each under the number that it has there.

use serde::{Deserialize, Serialize};

use crate::durability::Durability;
use crate::error::WireError;
use crate::ids::{BrokerName, GroupName, LogPosition, QueueId, QueueOffset, TopicName};
use crate::limits;
use crate::send::SendStatus;

/// A queue selector by its name, and its parameters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Selector {
    pub plugin: String,
    pub params: Vec<(String, String)>,
}

impl Selector {
    /// `hash`, `fifo`, `round-robin`, `random`, `least-latency` and `machine-room` are always there.
    pub fn named(plugin: impl Into<String>) -> Self {
        Self {
            plugin: plugin.into(),
            params: Vec::new(),
        }
    }

    #[must_use]
    pub fn param(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.params.push((name.into(), value.into()));
        self
    }

    /// Bytes of the name and the parameters.
    pub(crate) fn size(&self) -> usize {
        let params = self.params.iter();
        params.fold(self.plugin.len(), |size, (name, value)| {
            size + name.len() + value.len()
        })
    }
}

/// The write queues of a topic on one broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteQueues {
    pub broker: BrokerName,
    pub queues: u32,
}

/// The body holds `messages` blocks (see [`crate::message`]), one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendSelected {
    pub topic: TopicName,
    pub messages: u32,
    pub selector: Selector,
    /// The producer's.
    pub group: Option<GroupName>,
    /// Where the producer stands; empty = unknown.
    pub zone: String,
    /// As the sender knows it, the asked broker included; any order.
    pub route: Vec<WriteQueues>,
    /// `None` = as the topic says. Since version 2.
    pub durability: Option<Durability>,
    /// Nothing is stored: every message is answered with the queue that is chosen, as if it were another
    /// broker's. Since version 3.
    pub choose_only: bool,
}

impl SendSelected {
    /// Messages of nobody in particular, by a selector; the broker's own queues are the route.
    pub fn new(topic: TopicName, messages: u32, selector: Selector) -> Self {
        Self {
            topic,
            messages,
            selector,
            group: None,
            zone: String::new(),
            route: Vec::new(),
            durability: None,
            choose_only: false,
        }
    }

    pub(crate) fn says_more_than_version_1(&self) -> bool {
        self.durability.is_some() || self.says_more_than_version_2()
    }

    pub(crate) fn says_more_than_version_2(&self) -> bool {
        self.choose_only
    }

    /// What is beyond a limit, in words.
    pub fn beyond_limits(&self) -> Option<String> {
        let queues: u64 = self.route.iter().map(|it| u64::from(it.queues)).sum();
        for (what, have, most) in [
            (
                "bytes of selector and parameters",
                self.selector.size(),
                limits::SELECTOR,
            ),
            ("bytes of zone", self.zone.len(), limits::NAME),
            ("brokers", self.route.len(), limits::ROUTE_BROKERS),
            ("queues", queues as usize, limits::ROUTE_QUEUES),
        ] {
            if have > most {
                return Some(format!("a send names {have} {what}, the limit is {most}"));
            }
        }
        None
    }
}

/// What became of one message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Placed {
    /// Stored, and as durable as was asked for.
    Stored {
        queue: QueueId,
        offset: QueueOffset,
        position: LogPosition,
        /// By the log's clock, ms since 1970.
        stored_at: u64,
    },
    /// Not stored: the chosen queue is another broker's, or it was only to be chosen.
    Elsewhere { broker: BrokerName, queue: QueueId },
    /// Not stored.
    Refused(WireError),
    /// Stored, but not as durable as was asked for.
    NotYetDurable {
        status: SendStatus,
        queue: QueueId,
        offset: QueueOffset,
        position: LogPosition,
        /// By the log's clock, ms since 1970.
        stored_at: u64,
    },
}

/// What became of one message, and who chose its queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The selector failed on it, and the message has no order key: its queue was its turn.
    pub fell_back: bool,
    pub placed: Placed,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendSelectedReply {
    /// Name and version of the plugin.
    pub selector: String,
    /// One for each message, in their order.
    pub placements: Vec<Placement>,
}
