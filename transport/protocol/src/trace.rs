//! Records of who sent a message and who consumed it when, as clients write them that were told to. They are
//! text in the form RocketMQ's clients have, so that its tools read ours: fields between U+0001, each record ends
//! with U+0002. A message of the trace topic has many of them, and their messages' ids as keys.

use crate::ids::{GroupName, TopicName};
use crate::transaction::TransactionEnd;

/// Where they go unless it is said otherwise; the name is RocketMQ's.
pub const TRACE_TOPIC: &str = "RMQ_SYS_TRACE_TOPIC";

const FIELD: char = '\u{1}';
const END: char = '\u{2}';
/// There are no regions here.
const REGION: &str = "DefaultRegion";

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceRecord {
    /// By the client's clock, ms since 1970.
    pub at: u64,
    /// Of the producer or the consumers.
    pub group: GroupName,
    pub message_id: String,
    /// Separated by spaces.
    pub keys: String,
    pub what: Traced,
}

/// What it tells of its message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Traced {
    /// It was sent, and answered or given up.
    Sent(TracedSend),
    /// A consumer of the group got it.
    Begun {
        /// The same when it ends.
        hand_out: String,
        /// How often the group has given it back, or it was given to somebody before.
        attempts: u16,
        /// Which member, or which client; empty = not said. RocketMQ's clients do not say it.
        by: String,
    },
    /// The consumer is done with it.
    Ended {
        hand_out: String,
        took_ms: u64,
        is_consumed: bool,
    },
    /// A producer has ended its transaction.
    TransactionEnded(TracedEnd),
}

/// How a transaction was ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracedEnd {
    pub topic: TopicName,
    pub tag: String,
    /// The broker that took it.
    pub broker: String,
    /// What the transaction is known by.
    pub handle: String,
    pub end: TransactionEnd,
    /// The broker had asked.
    pub is_answer: bool,
}

/// How a message was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracedSend {
    pub topic: TopicName,
    pub tag: String,
    /// The broker that took it; empty = none did.
    pub broker: String,
    pub body_bytes: u32,
    pub took_ms: u64,
    pub kind: TracedKind,
    /// `QUEUE/OFFSET`, or the handle of one that waits; empty = it was not stored.
    pub place: String,
    pub is_stored: bool,
}

/// Kinds of messages, by the numbers RocketMQ gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum TracedKind {
    Normal = 0,
    Half = 1,
    Delayed = 3,
}

impl TraceRecord {
    /// Appends it.
    pub fn encode(&self, out: &mut String) {
        let Self {
            at,
            group,
            message_id: id,
            keys,
            what,
        } = self;
        let fields: Vec<String> = match what {
            Traced::Sent(it) => vec![
                "Pub".to_owned(),
                at.to_string(),
                REGION.to_owned(),
                group.to_string(),
                it.topic.to_string(),
                id.clone(),
                it.tag.clone(),
                keys.clone(),
                it.broker.clone(),
                it.body_bytes.to_string(),
                it.took_ms.to_string(),
                (it.kind as u8).to_string(),
                it.place.clone(),
                it.is_stored.to_string(),
            ],
            Traced::Begun {
                hand_out,
                attempts,
                by,
            } => {
                let mut fields = vec![
                    "SubBefore".to_owned(),
                    at.to_string(),
                    REGION.to_owned(),
                    group.to_string(),
                    hand_out.clone(),
                    id.clone(),
                    attempts.to_string(),
                    keys.clone(),
                ];
                // RocketMQ's tools read the fields they know.
                fields.extend((!by.is_empty()).then(|| by.clone()));
                fields
            }
            Traced::Ended {
                hand_out,
                took_ms,
                is_consumed,
            } => vec![
                "SubAfter".to_owned(),
                hand_out.clone(),
                id.clone(),
                took_ms.to_string(),
                is_consumed.to_string(),
                keys.clone(),
                if *is_consumed { SUCCESS } else { FAILED }.to_string(),
                at.to_string(),
                group.to_string(),
            ],
            Traced::TransactionEnded(it) => self.transaction(it),
        };
        // What was checked when its message was made has no such characters.
        let separator = FIELD.to_string();
        out.push_str(&fields.join(&separator));
        out.push(END);
    }

    fn transaction(&self, it: &TracedEnd) -> Vec<String> {
        vec![
            "EndTransaction".to_owned(),
            self.at.to_string(),
            REGION.to_owned(),
            self.group.to_string(),
            it.topic.to_string(),
            self.message_id.clone(),
            it.tag.clone(),
            self.keys.clone(),
            it.broker.clone(),
            COMMITTED.to_string(),
            it.handle.clone(),
            state(it.end).to_owned(),
            it.is_answer.to_string(),
        ]
    }

    /// The records of a body; those of kinds that are not known here, or that do not read, are left out.
    pub fn decode(body: &str) -> Vec<Self> {
        let records = body.split(END).filter(|it| !it.is_empty());
        records.filter_map(Self::read).collect()
    }

    fn read(record: &str) -> Option<Self> {
        let fields: Vec<&str> = record.split(FIELD).collect();
        match fields.split_first()? {
            (&"Pub", fields) => Self::sent(fields),
            (&"SubBefore", fields) => Self::begun(fields),
            (&"SubAfter", fields) => Self::ended(fields),
            (&"EndTransaction", fields) => Self::transaction_ended(fields),
            _ => None,
        }
    }

    fn sent(fields: &[&str]) -> Option<Self> {
        let &[
            at,
            _,
            group,
            topic,
            id,
            tag,
            keys,
            broker,
            bytes,
            took,
            kind,
            place,
            stored,
            ..,
        ] = fields
        else {
            return None;
        };
        let sent = TracedSend {
            topic: topic.parse().ok()?,
            tag: tag.to_owned(),
            broker: broker.to_owned(),
            body_bytes: bytes.parse().ok()?,
            took_ms: took.parse().ok()?,
            kind: match kind {
                "1" | "2" => TracedKind::Half,
                "3" => TracedKind::Delayed,
                _ => TracedKind::Normal,
            },
            place: place.to_owned(),
            is_stored: stored == "true",
        };
        Self::new(at, group, id, keys, Traced::Sent(sent))
    }

    fn begun(fields: &[&str]) -> Option<Self> {
        let &[at, _, group, hand_out, id, attempts, keys, ref more @ ..] = fields else {
            return None;
        };
        let begun = Traced::Begun {
            hand_out: hand_out.to_owned(),
            attempts: attempts.parse().ok()?,
            by: more.first().copied().unwrap_or_default().to_owned(),
        };
        Self::new(at, group, id, keys, begun)
    }

    fn ended(fields: &[&str]) -> Option<Self> {
        let &[hand_out, id, took, consumed, keys, _, at, group, ..] = fields else {
            return None;
        };
        let ended = Traced::Ended {
            hand_out: hand_out.to_owned(),
            took_ms: took.parse().ok()?,
            is_consumed: consumed == "true",
        };
        Self::new(at, group, id, keys, ended)
    }

    fn transaction_ended(fields: &[&str]) -> Option<Self> {
        let &[
            at,
            _,
            group,
            topic,
            id,
            tag,
            keys,
            broker,
            _,
            handle,
            state,
            is_answer,
            ..,
        ] = fields
        else {
            return None;
        };
        let ended = TracedEnd {
            topic: topic.parse().ok()?,
            tag: tag.to_owned(),
            broker: broker.to_owned(),
            handle: handle.to_owned(),
            end: end(state)?,
            is_answer: is_answer == "true",
        };
        Self::new(at, group, id, keys, Traced::TransactionEnded(ended))
    }

    fn new(at: &str, group: &str, id: &str, keys: &str, what: Traced) -> Option<Self> {
        Some(Self {
            at: at.parse().ok()?,
            group: group.parse().ok()?,
            message_id: id.to_owned(),
            keys: keys.to_owned(),
            what,
        })
    }
}

/// RocketMQ's number for the kind of a message whose transaction ends.
const COMMITTED: u8 = 2;

/// RocketMQ's words for how a transaction ends.
fn state(end: TransactionEnd) -> &'static str {
    match end {
        TransactionEnd::Commit => "COMMIT_MESSAGE",
        TransactionEnd::RollBack => "ROLLBACK_MESSAGE",
    }
}

/// `None` = whoever wrote it did not know yet, so it has not ended.
fn end(state: &str) -> Option<TransactionEnd> {
    match state {
        "COMMIT_MESSAGE" => Some(TransactionEnd::Commit),
        "ROLLBACK_MESSAGE" => Some(TransactionEnd::RollBack),
        _ => None,
    }
}

/// RocketMQ's codes for how a listener ended.
const SUCCESS: u8 = 0;
const FAILED: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all() -> Vec<TraceRecord> {
        let sent = TracedSend {
            topic: TopicName::new("orders").unwrap(),
            tag: "paid".to_owned(),
            broker: "broker-a".to_owned(),
            body_bytes: 12,
            took_ms: 3,
            kind: TracedKind::Normal,
            place: "2/300".to_owned(),
            is_stored: true,
        };
        let hand_out = "0F".to_owned();
        let begun = Traced::Begun {
            hand_out: hand_out.clone(),
            attempts: 2,
            by: "10.0.0.1@4711".to_owned(),
        };
        let ended = Traced::Ended {
            hand_out,
            took_ms: 7,
            is_consumed: false,
        };
        let rolled_back = Traced::TransactionEnded(TracedEnd {
            topic: TopicName::new("orders").unwrap(),
            tag: "paid".to_owned(),
            broker: "broker-a".to_owned(),
            handle: "broker-a/4096".to_owned(),
            end: TransactionEnd::RollBack,
            is_answer: true,
        });
        let record = |what| TraceRecord {
            at: 1_700_000_000_000,
            group: GroupName::new("billing").unwrap(),
            message_id: "0A0B".to_owned(),
            keys: "k1 k2".to_owned(),
            what,
        };
        [Traced::Sent(sent), begun, ended, rolled_back]
            .map(record)
            .to_vec()
    }

    #[test]
    fn records_are_as_rocketmqs_clients_write_them_and_read_back() {
        let mut body = String::new();
        all().iter().for_each(|it| it.encode(&mut body));
        let expected = "Pub|1700000000000|DefaultRegion|billing|orders|0A0B|paid|k1 k2|broker-a|12|3|0|2/300|true;\
            SubBefore|1700000000000|DefaultRegion|billing|0F|0A0B|2|k1 k2|10.0.0.1@4711;\
            SubAfter|0F|0A0B|7|false|k1 k2|4|1700000000000|billing;\
            EndTransaction|1700000000000|DefaultRegion|billing|orders|0A0B|paid|k1 k2|broker-a|2|broker-a/4096|ROLLBACK_MESSAGE|true;";
        assert_eq!(body.replace(FIELD, "|").replace(END, ";"), expected);
        assert_eq!(TraceRecord::decode(&body), all());
        // As RocketMQ's clients write who got it: not at all.
        let theirs = TraceRecord::decode(&body.replace("\u{1}10.0.0.1@4711", ""));
        assert!(matches!(&theirs[1].what, Traced::Begun { by, .. } if by.is_empty()));
        // One of a kind of a later release does not keep the others from being read.
        let more = format!("Recall\u{1}1\u{2}{body}Pub\u{1}x\u{2}");
        assert_eq!(TraceRecord::decode(&more), all());
    }

    proptest! {
        #[test]
        fn no_body_panics(body in "(Pub|SubBefore|SubAfter|EndTransaction|COMMIT_MESSAGE|[0-9a-z \u{1}\u{2}]){0,40}") {
            let _ = TraceRecord::decode(&body);
        }
    }
}
