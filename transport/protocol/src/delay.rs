//! Messages for later. `Send` says when they are to be in their queue; until then they are in none, and
//! known by the position of their record. `RecallMessage` takes one back; `ListDelayed` tells which there are.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::block::Pairs;
use crate::ids::{BrokerName, GroupName, LogPosition, ProducerId, QueueId, TopicName};
use crate::record::{Extensions, Origin, ProducerStamp, RECORD_HEADER};
use crate::transaction::PRODUCER_GROUP;

/// When a message is to be in its queue. By the clock of the broker's log, and never earlier.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Later {
    /// So many ms after it is stored.
    In(u64),
    /// ms since 1970; at once if that is over.
    At(u64),
    /// After the delay the broker has under this number, from 1 on (RocketMQ's `delayTimeLevel`).
    Level(u8),
    /// When the transaction it is of is committed, if it is; members of this group are asked about it.
    OnCommit(GroupName),
}

impl Later {
    /// What the broker notes of such a message, as encoded pairs.
    pub fn notes(&self) -> Vec<u8> {
        match self {
            Self::OnCommit(group) => Pairs::encode([(PRODUCER_GROUP, group.as_str())]),
            Self::In(_) | Self::At(_) | Self::Level(_) => Vec::new(),
        }
    }
}

/// Bytes of the record of a message for later with a block of so many bytes. Those of one send follow one
/// another, so this tells their positions.
pub fn waiting_record_len(block: usize, is_numbered: bool, later: &Later) -> u64 {
    let stamp = ProducerStamp {
        id: ProducerId(0),
        epoch: 0,
        sequence: 0,
        to_follow: 0,
    };
    let extensions = Extensions {
        producer: is_numbered.then_some(stamp),
        origin: Some(Origin::default()),
        notes_len: later.notes().len() as u16,
        ..Extensions::default()
    };
    (RECORD_HEADER + extensions.size() + block) as u64
}

/// What a message that waits is known by: `BROKER/POSITION`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MessageHandle {
    pub broker: BrokerName,
    /// Of its record in that broker's log.
    pub position: LogPosition,
}

impl fmt::Display for MessageHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.broker, self.position)
    }
}

/// A text that is no [`MessageHandle`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no handle of a message that waits: they look like broker-a/4096")]
pub struct BadHandle(String);

impl FromStr for MessageHandle {
    type Err = BadHandle;

    fn from_str(text: &str) -> Result<Self, BadHandle> {
        let parts = text.rsplit_once('/').and_then(|(broker, position)| {
            let broker = BrokerName::new(broker).ok()?;
            Some((broker, position.parse().ok()?))
        });
        let (broker, position) = parts.ok_or_else(|| BadHandle(text.to_owned()))?;
        Ok(Self {
            broker,
            position: LogPosition(position),
        })
    }
}

/// Takes a message for later back: it will not be delivered. Answered when that is durable; `Q-2001` when
/// no such message waits (any more).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecallMessage {
    /// The message's.
    pub topic: TopicName,
    /// See [`MessageHandle::position`].
    pub position: LogPosition,
}

/// What was taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecallMessageReply {
    pub message: DelayedMessage,
}

/// Messages for later of one topic on one broker, the soonest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListDelayed {
    pub topic: TopicName,
    /// Only those behind this one: its due time and position. Zeros: from the first.
    pub behind: (u64, LogPosition),
    /// At most so many; a broker gives at most 256 at once.
    pub messages: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListDelayedReply {
    /// Empty = there are no more.
    pub messages: Vec<DelayedMessage>,
}

/// A message that waits for its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelayedMessage {
    /// See [`MessageHandle::position`].
    pub position: LogPosition,
    /// ms since 1970.
    pub due_at: u64,
    /// Where it goes.
    pub queue: QueueId,
    pub message_id: String,
    pub tag: String,
    /// Separated by spaces.
    pub keys: String,
    /// Of its body, as it was sent.
    pub body_bytes: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_read_as_it_is_written() {
        let handle = MessageHandle {
            broker: BrokerName::new("broker-a").unwrap(),
            position: LogPosition(4_096),
        };
        assert_eq!(handle.to_string(), "broker-a/4096");
        assert_eq!(handle.to_string().parse(), Ok(handle));
        for text in ["", "broker-a", "broker-a/", "/12", "broker-a/x", "a b/1"] {
            assert!(text.parse::<MessageHandle>().is_err(), "{text}");
        }
    }
}
