//! A message as an application makes it, and what it may say.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::block::{Body, Parts, lay_out};
use crate::compression::Compression;
use crate::delay::Later;
use crate::ids::{GroupName, TopicName};
use crate::limits;
use crate::priority::{PRIORITY, Priority};
use crate::request::{CORRELATION_ID, REPLY_TO, TTL};

/// The system property that names a message uniquely; the SDK always sets it.
pub const UNIQUE_KEY: &str = "UNIQ_KEY";
/// The system property that holds the order key (RocketMQ's sharding key).
pub const ORDER_KEY: &str = "__SHARDINGKEY";
/// Separates keys, as in RocketMQ.
pub const KEY_SEPARATOR: char = ' ';

/// True for a property that only the system may set: names RocketMQ and we use ourselves.
pub fn is_reserved(name: &str) -> bool {
    name.starts_with("__")
        || matches!(
            name,
            "CLUSTER"
                | "CONSUME_START_TIME"
                | "CORRELATION_ID"
                | "DELAY"
                | "DUP_INFO"
                | "EXTEND_UNIQ_INFO"
                | "INSTANCE_ID"
                | "INNER_MULTI_DISPATCH"
                | "INNER_MULTI_QUEUE_OFFSET"
                | "KEYS"
                | "MAX_OFFSET"
                | "MAX_RECONSUME_TIMES"
                | "MIN_OFFSET"
                | "MSG_REGION"
                | "MSG_TYPE"
                | "ORIGIN_GROUP"
                | "ORIGIN_MESSAGE_ID"
                | "PGROUP"
                | "POP_CK"
                | "POP_CK_OFFSET"
                | "PUSH_REPLY_TIME"
                | "REAL_QID"
                | "REAL_TOPIC"
                | "RECONSUME_TIME"
                | "REPLY_TO_CLIENT"
                | "RETRY_TOPIC"
                | "TAGS"
                | "TIMER_DELAY_LEVEL"
                | "TIMER_DELAY_MS"
                | "TIMER_DELAY_SEC"
                | "TIMER_DELIVER_MS"
                | "TIMER_DEL_UNIQKEY"
                | "TIMER_DEQUEUE_MS"
                | "TIMER_ENQUEUE_MS"
                | "TIMER_OUT_MS"
                | "TIMER_ROLL_LABEL"
                | "TIMER_ROLL_TIMES"
                | "TRACE_ON"
                | "TRANSFER_FLAG"
                | "TRAN_MSG"
                | "TRAN_PREPARED_QUEUE_OFFSET"
                | "TTL"
                | "UNIQ_KEY"
                | "WAIT"
                | "_SYS_MSG_PRIORITY_"
                | "1ST_POP_TIME"
                | "ARRIVE_TIME"
                | "BORN_HOST"
                | "BORN_TIMESTAMP"
        )
}

/// Why a message cannot be sent as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    #[error(transparent)]
    Topic(#[from] crate::ids::NameError),
    #[error("tag is {len} bytes, the limit is {max}", max = limits::TAG)]
    TagTooLong { len: usize },
    #[error("tag {tag:?} contains {bad:?}; a tag has no '|' and no control characters")]
    TagCharacter { tag: String, bad: char },
    #[error("keys are {len} bytes together, the limit is {max}", max = limits::KEYS)]
    KeysTooLong { len: usize },
    #[error("key {key:?} contains {bad:?}; a key has no spaces and no control characters")]
    KeyCharacter { key: String, bad: char },
    #[error("a property has an empty name")]
    PropertyName,
    #[error("property {name:?} is reserved for the system")]
    ReservedProperty { name: String },
    #[error("properties are {len} bytes together, the limit is {max}", max = limits::PROPERTIES)]
    PropertiesTooLong { len: usize },
    #[error("body is {len} bytes, the limit is {max}", max = limits::MESSAGE_BODY)]
    BodyTooLarge { len: usize },
    #[error(
        "a body of {len} bytes says it is {raw_len} once decompressed: more than {max} times as long, which nobody takes",
        max = limits::EXPANSION
    )]
    ExpandsTooFar { len: usize, raw_len: usize },
    #[error(
        "a message with a priority goes to the queue for that, at once: it has no order key and is not for later, nor of a transaction"
    )]
    PriorityAlone,
    #[error(
        "a message with an order key is delivered in its order: it cannot be for later, nor of a transaction"
    )]
    OrderedAndWaiting,
}

impl MessageError {
    pub fn code(&self) -> crate::Code {
        use crate::Code;
        match self {
            Self::Topic(_) => Code::BAD_NAME,
            Self::TagCharacter { .. }
            | Self::KeyCharacter { .. }
            | Self::PropertyName
            | Self::OrderedAndWaiting
            | Self::PriorityAlone => Code::BAD_MESSAGE,
            Self::ReservedProperty { .. } => Code::RESERVED_NAME,
            Self::TagTooLong { .. }
            | Self::KeysTooLong { .. }
            | Self::PropertiesTooLong { .. }
            | Self::BodyTooLarge { .. }
            | Self::ExpandsTooFar { .. } => Code::TOO_LARGE,
        }
    }
}

/// A message tag: at most 255 bytes, no `|`, no control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag;

impl Tag {
    pub fn check(tag: &str) -> Result<(), MessageError> {
        if tag.len() > limits::TAG {
            return Err(MessageError::TagTooLong { len: tag.len() });
        }
        match tag.chars().find(|c| *c == '|' || c.is_control()) {
            None => Ok(()),
            Some(bad) => Err(MessageError::TagCharacter {
                tag: tag.to_owned(),
                bad,
            }),
        }
    }

    /// Java's `String.hashCode`: the number consume queues keep beside each message. Empty = 0.
    pub fn code(tag: &str) -> i32 {
        tag.encode_utf16().fold(0i32, |hash, unit| {
            hash.wrapping_mul(31).wrapping_add(i32::from(unit))
        })
    }
}

/// What an application sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    topic: String,
    tag: String,
    keys: String,
    order_key: Option<String>,
    properties: Vec<(String, String)>,
    body: Bytes,
    later: Option<Later>,
    asks: Option<Asks>,
    priority: Option<Priority>,
}

/// For whom a reply is, and how long it is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asks {
    inbox: String,
    correlation: String,
    ttl_ms: String,
}

impl Message {
    /// Names are checked when the message is sent, so that building one reads as a sentence.
    pub fn new(topic: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self {
            topic: topic.into(),
            tag: String::new(),
            keys: String::new(),
            order_key: None,
            properties: Vec::new(),
            body: body.into(),
            later: None,
            asks: None,
            priority: None,
        }
    }

    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tag = tag.into();
        self
    }

    /// Adds a key the message can be found by.
    #[must_use]
    pub fn key(mut self, key: &str) -> Self {
        if !self.keys.is_empty() {
            self.keys.push(KEY_SEPARATOR);
        }
        self.keys.push_str(key);
        self
    }

    #[must_use]
    pub fn prop(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.push((name.into(), value.into()));
        self
    }

    /// Messages with one order key share a queue, and so keep their order.
    #[must_use]
    pub fn order_by(mut self, key: impl Into<String>) -> Self {
        self.order_key = Some(key.into());
        self
    }

    /// Delivered not before so long after it is stored, to the millisecond.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        let ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.later = Some(Later::In(ms));
        self
    }

    /// Delivered not before then, by the broker's clock; at once if that is over.
    #[must_use]
    pub fn deliver_at(mut self, time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH);
        let ms = since.map_or(0, |it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX));
        self.later = Some(Later::At(ms));
        self
    }

    /// Delivered after the delay that the broker has under this number, from 1 on; RocketMQ's levels unless
    /// it is said otherwise there: 1 s 5 s 10 s 30 s, 1 to 10 min by minutes, 20 min, 30 min, 1 h, 2 h.
    #[must_use]
    pub fn delay_level(mut self, level: u8) -> Self {
        self.later = Some(Later::Level(level));
        self
    }

    /// When it is to be delivered; `None` = at once.
    pub fn later(&self) -> Option<&Later> {
        self.later.as_ref()
    }

    /// Delivered when its transaction is committed; members of this group are asked how it ended. A
    /// `TransactionProducer` does this.
    #[must_use]
    pub fn on_commit(mut self, group: GroupName) -> Self {
        self.later = Some(Later::OnCommit(group));
        self
    }

    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Its tag, and its keys separated by spaces; empty = none.
    pub fn labels(&self) -> (&str, &str) {
        (&self.tag, &self.keys)
    }

    /// How urgent it is: it goes to the queue for that, and consumers that want it so take it before what is less
    /// urgent. For topics made for it (`quern topic create --type priority`), best of ten queues.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = Some(priority);
        self
    }

    /// How urgent it is, if it says so.
    pub fn has_priority(&self) -> Option<Priority> {
        self.priority
    }

    /// Whoever consumes it is asked for a reply: see [`crate::request`]. A `Producer` does this.
    #[must_use]
    pub fn ask(mut self, inbox: &str, correlation: &str, within: Duration) -> Self {
        self.asks = Some(Asks {
            inbox: inbox.to_owned(),
            correlation: correlation.to_owned(),
            ttl_ms: within.as_millis().to_string(),
        });
        self
    }

    /// Whether it has an order key.
    pub fn is_ordered(&self) -> bool {
        self.order_key.is_some()
    }

    pub fn topic(&self) -> Result<TopicName, MessageError> {
        Ok(TopicName::new(&self.topic)?)
    }

    /// Checks the message and lays it out. `unique_key` becomes its id.
    pub fn encode(&self, unique_key: &str, born_at: u64) -> Result<Bytes, MessageError> {
        self.encode_with(unique_key, born_at, None)
    }

    /// The same, with the body compressed if that makes it smaller.
    pub fn encode_with(
        &self,
        unique_key: &str,
        born_at: u64,
        compression: Option<Compression>,
    ) -> Result<Bytes, MessageError> {
        Tag::check(&self.tag)?;
        if self.later.is_some() && self.is_ordered() {
            return Err(MessageError::OrderedAndWaiting);
        }
        if self.priority.is_some() && (self.later.is_some() || self.is_ordered()) {
            return Err(MessageError::PriorityAlone);
        }
        if self.keys.len() > limits::KEYS {
            return Err(MessageError::KeysTooLong {
                len: self.keys.len(),
            });
        }
        if let Some(bad) = self.keys.chars().find(|c| c.is_control()) {
            return Err(MessageError::KeyCharacter {
                key: self.keys.clone(),
                bad,
            });
        }
        for (name, _) in &self.properties {
            if name.is_empty() {
                return Err(MessageError::PropertyName);
            }
            if is_reserved(name) {
                return Err(MessageError::ReservedProperty { name: name.clone() });
            }
        }
        if self.body.len() > limits::MESSAGE_BODY {
            return Err(MessageError::BodyTooLarge {
                len: self.body.len(),
            });
        }
        let priority = self.priority.map(|it| it.to_string());
        let pairs = || {
            let priority = priority.as_deref().map(|it| (PRIORITY, it));
            let order_key = self.order_key.as_deref().map(|key| (ORDER_KEY, key));
            let properties = self.properties.iter();
            let asks = self.asks.iter().flat_map(|it| {
                [
                    (REPLY_TO, it.inbox.as_str()),
                    (CORRELATION_ID, it.correlation.as_str()),
                    (TTL, it.ttl_ms.as_str()),
                ]
            });
            std::iter::once((UNIQUE_KEY, unique_key))
                .chain(order_key)
                .chain(priority)
                .chain(asks)
                .chain(properties.map(|(k, v)| (k.as_str(), v.as_str())))
        };
        let pairs_len = pairs().map(|(k, v)| 4 + k.len() + v.len()).sum();
        if pairs_len > limits::PROPERTIES {
            return Err(MessageError::PropertiesTooLong { len: pairs_len });
        }
        let compressed = compression.and_then(|by| Some((by, by.compress(&self.body)?)));
        Ok(lay_out(&Parts {
            tag: &self.tag,
            keys: &self.keys,
            pairs_len,
            pairs,
            body: match &compressed {
                None => Body::Plain(&self.body),
                Some((by, bytes)) => Body::Compressed {
                    by: *by,
                    bytes,
                    raw_len: self.body.len(),
                },
            },
            born_at,
        }))
    }
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_breaks_a_rule_is_refused_with_its_code() {
        use crate::Code;
        let message = || Message::new("t", "b");
        let cases = [
            (message().tag("a|b"), Code::BAD_MESSAGE),
            (message().tag("a\nb"), Code::BAD_MESSAGE),
            (message().tag("x".repeat(256)), Code::TOO_LARGE),
            (message().key("a\tb"), Code::BAD_MESSAGE),
            (message().key(&"k".repeat(4097)), Code::TOO_LARGE),
            (message().prop("", "v"), Code::BAD_MESSAGE),
            (message().prop("TAGS", "v"), Code::RESERVED_NAME),
            (message().prop("__SHARDINGKEY", "v"), Code::RESERVED_NAME),
            (message().prop("p", "v".repeat(40_000)), Code::TOO_LARGE),
            (
                Message::new("t", vec![0; limits::MESSAGE_BODY + 1]),
                Code::TOO_LARGE,
            ),
        ];
        for (message, code) in cases {
            let error = message.encode("id", 0).unwrap_err();
            assert_eq!(error.code(), code, "{error}");
        }
        let largest = Message::new("t", vec![0; limits::MESSAGE_BODY]);
        assert!(largest.encode("id", 0).is_ok());
    }

    #[test]
    fn tag_codes_are_javas() {
        for (tag, code) in [("", 0), ("TagA", 2_598_919), ("Aa", 2112), ("BB", 2112)] {
            assert_eq!(Tag::code(tag), code, "{tag}");
        }
    }
}
