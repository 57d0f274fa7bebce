//! `PluginUsers`: who asks a plugin for something that one of its versions does not accept. An activation asks first.

use serde::{Deserialize, Serialize};

use crate::error::{Code, WireError};
use crate::ids::{GroupName, PluginName, TopicName};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginUsers {
    pub name: PluginName,
    /// `None` = the newest.
    pub version: Option<u32>,
}

/// Somebody the version would refuse, and the active one does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedUser {
    /// `None` = a producer, which names a selector.
    pub group: Option<GroupName>,
    /// `None` = all topics of the group, whose queues a strategy shares out.
    pub topic: Option<TopicName>,
    /// Expression and parameters, as they are given.
    pub asks: String,
    pub reason: WireError,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginUsersReply {
    /// The version that was asked.
    pub version: u32,
    pub refused: Vec<RefusedUser>,
}

/// Users named in one error.
const NAMED: usize = 8;

impl PluginUsersReply {
    /// Why the name cannot stand for this version; `None` = nobody is refused.
    pub fn refusal(&self, name: &PluginName) -> Option<WireError> {
        let first = self.refused.first()?;
        let code = *Code::find(first.reason.code).unwrap_or(&Code::EXPRESSION_REFUSED);
        let (version, count) = (self.version, self.refused.len());
        let users = self.refused.iter().take(NAMED).map(|it| {
            let group = it.group.as_ref().map(|group| format!("group {group}"));
            let topic = it.topic.as_ref().map(|topic| format!("topic {topic}"));
            let who: Vec<_> = group.into_iter().chain(topic).collect();
            let (who, asks) = (who.join(", "), &it.asks);
            format!(
                "\n  {who}: {asks}: Q-{} {}",
                it.reason.code, it.reason.message
            )
        });
        let more = match count.saturating_sub(NAMED) {
            0 => String::new(),
            more => format!("\n  and {more} more"),
        };
        let text = format!(
            "{name}@{version} does not accept what {count} of those who use {name} ask:{}{more}\nthey would wait, or be \
             refused; if they may: quern plugin activate {name}@{version} --force",
            users.collect::<String>()
        );
        Some(WireError::new(code, text))
    }
}
