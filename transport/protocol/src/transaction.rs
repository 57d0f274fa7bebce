//! Transactions: a message that is sent with [`Later::OnCommit`](crate::Later) is in no queue until
//! `EndTransaction` says that it shall be. A producer that does not say so is asked: its group hears of it by
//! `PollTransactions`. One nobody can decide is set aside in [`parked_topic`].

use serde::{Deserialize, Serialize};

use crate::ids::{GroupName, LogPosition, QueueId, QueueOffset, TopicName};

/// Where messages lie whose transaction nobody has decided; the name is RocketMQ's.
const PARKED: &str = "TRANS_CHECK_MAX_TIME_TOPIC";

/// The note that names the group whose members are asked.
pub const PRODUCER_GROUP: &str = "PGROUP";

/// See [`PARKED`]: the notes of its messages say where they were to go.
pub fn parked_topic() -> TopicName {
    TopicName::new(PARKED).expect("the name is legal")
}

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TransactionEnd {
    /// Its message is delivered.
    Commit,
    /// It never is.
    RollBack,
}

/// Ends a transaction, or asks how it ended. Answered when the end is durable. The first end holds; who
/// says another later hears of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndTransaction {
    /// The message's.
    pub topic: TopicName,
    /// Of the message's record, as `Send` was answered.
    pub position: LogPosition,
    /// The message's, so that a position is never taken for another's; empty = it is not compared.
    pub message_id: String,
    /// `None` = only tell.
    pub end: Option<TransactionEnd>,
}

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TransactionOutcome {
    /// Nobody has said.
    Undecided,
    /// Its message is there.
    Committed {
        queue: QueueId,
        offset: QueueOffset,
    },
    RolledBack,
    /// Its producers were asked too often, or none was there for too long; the message is in
    /// [`parked_topic`].
    Parked {
        offset: QueueOffset,
    },
}

impl TransactionOutcome {
    /// Which end it came to by what a producer, or an operator, said.
    pub fn end(self) -> Option<TransactionEnd> {
        match self {
            Self::Committed { .. } => Some(TransactionEnd::Commit),
            Self::RolledBack => Some(TransactionEnd::RollBack),
            Self::Undecided | Self::Parked { .. } => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndTransactionReply {
    pub message_id: String,
    /// What holds.
    pub outcome: TransactionOutcome,
}

/// Asks for messages of a producer group whose transactions have been open for long. Held until there are
/// some, or for `wait_ms`. Who takes one tells its end by [`EndTransaction`]; who does not, or does not
/// know, is asked again later, or another member is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PollTransactions {
    pub group: GroupName,
    /// At most so many.
    pub messages: u32,
    /// At most 30,000.
    pub wait_ms: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PollTransactionsReply {
    pub checks: Vec<TransactionCheck>,
}

/// A message whose producer shall say how its transaction ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionCheck {
    pub topic: TopicName,
    /// Of its first record.
    pub position: LogPosition,
    /// How often somebody was asked, this time included.
    pub asked: u32,
    /// The message's block.
    pub block: Vec<u8>,
}

/// Transactions of one broker that are open, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListTransactions {
    /// `None` = of all topics.
    pub topic: Option<TopicName>,
    /// Only those behind this one: when it was stored, and its position. Zeros: from the first.
    pub behind: (u64, LogPosition),
    /// At most so many; a broker gives at most 256 at once.
    pub messages: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListTransactionsReply {
    /// Empty = there are no more.
    pub transactions: Vec<OpenTransaction>,
}

/// A transaction whose end is not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenTransaction {
    pub topic: TopicName,
    /// See [`EndTransaction::position`].
    pub position: LogPosition,
    /// ms since 1970.
    pub stored_at: u64,
    /// Who is asked.
    pub group: String,
    pub message_id: String,
    /// Separated by spaces.
    pub keys: String,
    /// How often somebody was asked since the broker started.
    pub asked: u32,
}
