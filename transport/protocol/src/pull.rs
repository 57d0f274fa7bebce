//! `Pull`: read one queue from an offset, filtered on the broker, waiting for news if asked to.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{GroupName, QueueId, QueueOffset, TopicName};
use crate::limits;
use crate::plugin::{BadPluginRef, PluginRef};

/// Which messages of a queue are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Filter {
    All,
    /// An expression of a language that a plugin of the broker speaks: `TAG` and `SQL92` are always
    /// there.
    Expression {
        language: String,
        text: String,
    },
    /// A plugin by its name.
    Plugin(PluginFilter),
}

/// A filter plugin, what it is set to, and what it is asked if it understands expressions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PluginFilter {
    pub plugin: PluginRef,
    pub params: Vec<(String, String)>,
    pub expression: String,
}

impl PluginFilter {
    pub fn new(plugin: PluginRef) -> Self {
        Self {
            plugin,
            params: Vec::new(),
            expression: String::new(),
        }
    }

    #[must_use]
    pub fn param(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.params.push((name.into(), value.into()));
        self
    }

    #[must_use]
    pub fn expression(mut self, expression: impl Into<String>) -> Self {
        self.expression = expression.into();
        self
    }
}

/// As a person would write it: `TAG "paid"`, `geo@3 min=100`.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Expression { language, text } => write!(f, "{language} {text:?}"),
            Self::Plugin(it) => {
                write!(f, "{}", it.plugin)?;
                let mut params = it.params.iter();
                params.try_for_each(|(name, value)| write!(f, " {name}={value}"))?;
                match it.expression.as_str() {
                    "" => Ok(()),
                    expression => write!(f, " {expression:?}"),
                }
            }
        }
    }
}

impl From<PluginFilter> for Filter {
    fn from(filter: PluginFilter) -> Self {
        Self::Plugin(filter)
    }
}

impl Filter {
    /// The plugin `geo`, or one version of it, `geo@3`; see [`PluginFilter`] for its parameters.
    pub fn plugin(plugin: &str) -> Result<PluginFilter, BadPluginRef> {
        plugin.parse().map(PluginFilter::new)
    }

    /// A tag expression: `paid`, `paid || refunded`, `*`.
    pub fn tag(expression: impl Into<String>) -> Self {
        Self::Expression {
            language: "TAG".to_owned(),
            text: expression.into(),
        }
    }

    /// A condition on properties: `region = 'eu' AND amount > 100`. They are texts; beside a number
    /// they are read as one. RocketMQ's SQL92, to the letter.
    pub fn sql(expression: impl Into<String>) -> Self {
        Self::Expression {
            language: "SQL92".to_owned(),
            text: expression.into(),
        }
    }

    /// What is beyond a limit, in words.
    pub fn beyond_limits(&self) -> Option<String> {
        let (expression, params) = match self {
            Self::All => return None,
            Self::Expression { text, .. } => (text, &[][..]),
            Self::Plugin(it) => (&it.expression, &it.params[..]),
        };
        let params = params.iter().map(|(name, value)| name.len() + value.len());
        for (what, have, most) in [
            ("expression", expression.len(), limits::EXPRESSION),
            ("parameters", params.sum(), limits::FILTER_PARAMS),
        ] {
            if have > most {
                return Some(format!(
                    "a filter has {have} bytes of {what}, the limit is {most}"
                ));
            }
        }
        None
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pull {
    /// For metrics and limits only: a pull never moves a group's offset.
    pub group: Option<GroupName>,
    pub topic: TopicName,
    pub queue: QueueId,
    pub from: QueueOffset,
    /// At most this many messages, 1 to 4,096.
    pub max_messages: u32,
    /// At most this many bytes, unless the first message alone is larger.
    pub max_bytes: u32,
    /// Held this long when nothing matches yet, at most 30,000 ms; 0 = answer at once.
    pub wait_ms: u32,
    pub filter: Filter,
    /// Whoever asks takes all queues for itself, as all others of the group do. Since version 2.
    pub broadcast: bool,
}

impl Pull {
    pub(crate) fn says_more_than_version_1(&self) -> bool {
        self.broadcast
    }
}

/// Delivery of this queue stands still because its filter fails on a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stall {
    pub offset: QueueOffset,
    pub code: u16,
    /// Which plugin, and why.
    pub message: String,
    /// Ask again after this long, ms.
    pub retry_ms: u32,
}

/// The body holds `messages` log records verbatim (see [`crate::record`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullReply {
    pub messages: u32,
    /// Where to go on: everything before it was delivered or did not match.
    pub next: QueueOffset,
    /// The queue's bounds when the reply was made.
    pub min: QueueOffset,
    pub max: QueueOffset,
    /// The offset asked for lay outside the queue; `next` is the nearest one inside.
    pub moved: bool,
    pub stall: Option<Stall>,
}
