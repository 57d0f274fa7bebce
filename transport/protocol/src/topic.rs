//! Topics of one broker: create, describe, list, set.

use serde::{Deserialize, Serialize};

use crate::durability::Durability;
use crate::ids::{GroupName, QueueId, QueueOffset, TopicId, TopicName};
use crate::topic_rules::{Cleanup, MessageType, Permission};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateTopic {
    pub topic: TopicName,
    /// 1 to 1,024 each.
    pub read_queues: u32,
    pub write_queues: u32,
    /// What is not as the broker has it by default. Since version 2.
    pub settings: Vec<TopicSetting>,
}

impl CreateTopic {
    /// A topic with as many queues to read as to write, and settings by default.
    pub fn new(topic: TopicName, queues: u32) -> Self {
        Self {
            topic,
            read_queues: queues,
            write_queues: queues,
            settings: Vec::new(),
        }
    }

    pub(crate) fn says_more_than_version_1(&self) -> bool {
        !self.settings.is_empty()
    }
}

/// One thing about a topic that can be changed while it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TopicSetting {
    /// Of messages that do not name a class themselves; `None` = as the broker has it.
    Durability(Option<Durability>),
    /// 1 to 1,024. Queues beyond are not read until the number is raised again.
    ReadQueues(u32),
    /// 1 to 1,024.
    WriteQueues(u32),
    Permission(Permission),
    /// `None` = any message.
    Messages(Option<MessageType>),
    /// How long its messages are kept, ms: less than the log is, or longer. `None` = as long as the log. Told only
    /// where there is one.
    Retention(Option<u64>),
    /// Told only where messages are not deleted.
    Cleanup(Cleanup),
}

/// Changes settings of a topic that exists: all of those given, or none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetTopic {
    pub topic: TopicName,
    pub settings: Vec<TopicSetting>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetTopicReply {
    /// All settings, as they are now.
    pub settings: Vec<TopicSetting>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicSettings {
    pub topic: TopicName,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicSettingsReply {
    /// All of them.
    pub settings: Vec<TopicSetting>,
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

/// How many messages a topic has: in a compacted topic, not all that were ever between two offsets are there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountMessages {
    pub topic: TopicName,
    /// Only those that this group has not consumed, as far as it has committed.
    pub group: Option<GroupName>,
}

/// Messages of one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueCount {
    pub queue: QueueId,
    pub messages: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountMessagesReply {
    /// Of all queues.
    pub queues: Vec<QueueCount>,
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
