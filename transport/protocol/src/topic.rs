//! Topics of one broker: create, describe, list, delete.

use serde::{Deserialize, Serialize};

use crate::ids::{QueueId, QueueOffset, TopicId, TopicName};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateTopic {
    pub topic: TopicName,
    /// 1 to 1,024 each.
    pub read_queues: u32,
    pub write_queues: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateTopicReply {
    pub id: TopicId,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescribeTopic {
    pub topic: TopicName,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueReport {
    pub queue: QueueId,
    /// First message still there.
    pub min: QueueOffset,
    /// Where the next message goes.
    pub max: QueueOffset,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescribeTopicReply {
    pub id: TopicId,
    pub read_queues: u32,
    pub write_queues: u32,
    /// ms since 1970.
    pub created_at: u64,
    pub queues: Vec<QueueReport>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListTopics {}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicSummary {
    pub topic: TopicName,
    pub id: TopicId,
    pub read_queues: u32,
    pub write_queues: u32,
    /// Messages in all its queues.
    pub messages: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListTopicsReply {
    pub topics: Vec<TopicSummary>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteTopic {
    pub topic: TopicName,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteTopicReply {
    /// Messages that can no longer be read.
    pub messages: u64,
}
