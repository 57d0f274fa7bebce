//! `WaitFigures`: what waits on a broker, for the outcome of its transaction or for its time, and what became of what
//! has waited.

use serde::{Deserialize, Serialize};

use crate::ids::TopicName;

/// Asks one broker. Counts are since it started; what waits is as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitFigures {}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitFiguresReply {
    pub transactions: TransactionFigures,
    pub delays: DelayFigures,
}

/// Messages of one topic that wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicWaits {
    pub topic: TopicName,
    pub messages: u64,
}

/// Of transactions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionFigures {
    pub open: u64,
    /// Those topics with the most of them.
    pub by_topic: Vec<TopicWaits>,
    /// When the one that is open for longest was stored, ms since 1970; 0 = none is.
    pub oldest: u64,
    pub begun: u64,
    pub committed: u64,
    pub rolled_back: u64,
    /// Set aside, because nobody could say how they ended.
    pub parked: u64,
    /// How often a producer was asked how one ended.
    pub checks: u64,
}

/// Of messages that are for later, and of those that were given back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelayFigures {
    pub waiting: u64,
    /// Those topics with the most of them.
    pub by_topic: Vec<TopicWaits>,
    /// When the next of them is due, ms since 1970; 0 = none waits.
    pub next_due: u64,
    /// That have begun to wait.
    pub taken: u64,
    pub delivered: u64,
    /// Taken back before they were due.
    pub recalled: u64,
    /// How late they were delivered, the time their broker was down included: by how many ms at most (the last: any
    /// more), and how many.
    pub late: Vec<(u64, u64)>,
    pub latest_ms: u64,
}
