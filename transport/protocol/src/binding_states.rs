//! `BindingStates`: what stands in for bound filters, and which filters nobody asks for a while because they fail.

use serde::{Deserialize, Serialize};

use crate::ids::{GroupName, PluginName, TopicName};
use crate::pull::PluginFilter;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindingStates {}

/// A bound filter that another stands in for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Otherwise {
    pub topic: TopicName,
    pub group: GroupName,
    pub plugin: PluginName,
    /// Decides about messages the plugin fails on, and about all while it cannot be asked.
    pub otherwise: PluginFilter,
}

/// A plugin that failed too often on what somebody asks it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenBreaker {
    /// `NAME@VERSION`, or the name of one without versions.
    pub plugin: String,
    /// Expression and parameters, as they are given.
    pub asks: String,
    pub topic: TopicName,
    /// `None` = of those who read for no group.
    pub group: Option<GroupName>,
    pub why: String,
    pub again_in_ms: u32,
    /// So often within the last minutes.
    pub times: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindingStatesReply {
    pub otherwise: Vec<Otherwise>,
    pub open: Vec<OpenBreaker>,
}
