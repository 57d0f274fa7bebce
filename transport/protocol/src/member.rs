//! Questions to one member of a group: how it is doing, and whether it consumes a message that it is given to try.
//! They go through the group's coordinator, which members ask for questions all the time: nobody connects to
//! a client.

use serde::{Deserialize, Serialize};

use crate::ids::{BrokerName, GroupName, QueueId, QueueOffset, TopicName};
use crate::pull::Filter;

/// What a member can be asked. Kinds are only added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberQuestion {
    /// How are you doing?
    State,
    /// What does your listener say of this message? It is read anew and nothing is committed or given back for it.
    Consume {
        topic: TopicName,
        broker: BrokerName,
        queue: QueueId,
        offset: QueueOffset,
    },
}

/// What a member answers. Kinds are only added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberAnswer {
    State(Box<MemberState>),
    /// Its listener consumed the message, or said why not; and how long that took.
    Consumed {
        took_ms: u64,
        failed: Option<String>,
    },
    /// It cannot do what it was asked, and why.
    Unable(String),
}

/// A consumer, as it sees itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberState {
    /// Program and version of the client.
    pub software: String,
    /// ms since 1970.
    pub started_at: u64,
    /// Its settings, by name.
    pub properties: Vec<(String, String)>,
    pub subscriptions: Vec<(TopicName, Filter)>,
    pub queues: Vec<MemberQueue>,
}

/// A queue that a member has. Times are ms ago.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberQueue {
    pub topic: TopicName,
    pub broker: BrokerName,
    pub queue: QueueId,
    /// As the member knows.
    pub committed: Option<QueueOffset>,
    /// Behind the last message that was read.
    pub read: QueueOffset,
    /// Messages that were read and are not done with, and their bytes.
    pub cached: u32,
    pub cached_bytes: u64,
    /// Of those, which the application has.
    pub at_work: u32,
    pub read_ago: Option<u64>,
    pub consumed_ago: Option<u64>,
    /// How long its lease still holds.
    pub lease_left: u64,
}

/// Asks a member of a group, by the group's coordinator. Answered when the member answers; `DEADLINE` = it did not
/// within the time, as clients of releases that know no questions never do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskMember {
    pub group: GroupName,
    /// `None` = any of those that can.
    pub member: Option<String>,
    pub question: MemberQuestion,
    /// At most 900,000.
    pub wait_ms: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskMemberReply {
    pub member: String,
    pub answer: MemberAnswer,
}

/// A member asks its coordinator what it is asked; held until there is something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwaitQuestions {
    pub group: GroupName,
    pub member: String,
    /// At most 30,000; 60,000 where the broker has said [`crate::LONG_HOLDS`].
    pub wait_ms: u32,
}

/// A question under way, by the number its answer names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    pub number: u64,
    pub question: MemberQuestion,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwaitQuestionsReply {
    pub questions: Vec<Asked>,
}

/// A member's answer to the question of this number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerQuestion {
    pub number: u64,
    pub answer: MemberAnswer,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerQuestionReply {
    /// Somebody still waits for it.
    pub is_heard: bool,
}
