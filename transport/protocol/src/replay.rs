//! `ReplayPlugin`: groups go back to where a version that decides no more began to decide for them.

use serde::{Deserialize, Serialize};

use crate::ids::{GroupName, PluginName, TopicName};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayPlugin {
    pub name: PluginName,
    /// What it decided is judged again; `None` = the one that was active before.
    pub version: Option<u32>,
}

/// A group that has gone back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewound {
    pub group: GroupName,
    pub topic: TopicName,
    pub queues: u32,
    /// Messages of these queues that the version decided, and that are judged again.
    pub messages: u64,
}

/// Durable when this arrives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayPluginReply {
    pub version: u32,
    pub rewound: Vec<Rewound>,
}
