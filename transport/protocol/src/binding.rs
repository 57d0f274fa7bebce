//! `ChangeBindings`, `ListBindings`: filters an operator puts behind what the consumers of a group ask for, for one
//! topic; they need not know. A message comes to the group if its own filter and all of these let it through.

use serde::{Deserialize, Serialize};

use crate::ids::{GroupName, PluginName, TopicName};
use crate::pull::PluginFilter;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeBindings {
    pub topic: TopicName,
    pub group: GroupName,
    pub change: BindingChange,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BindingChange {
    /// As the last; a plugin of that name that is bound already is replaced where it is.
    Bind(PluginFilter),
    Unbind(PluginName),
    /// The same as [`Self::Bind`]; where that filter cannot say, the second one decides, a part of the broker.
    BindElse(PluginFilter, PluginFilter),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeBindingsReply {
    /// What is bound now, in the order it is asked.
    pub filters: Vec<PluginFilter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListBindings {}

/// What is bound to a group for a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupBindings {
    pub topic: TopicName,
    pub group: GroupName,
    /// In the order they are asked.
    pub filters: Vec<PluginFilter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListBindingsReply {
    pub bindings: Vec<GroupBindings>,
}
