//! `DescribeConfig`: the settings a node runs with, and where each of them comes from.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Asks a broker for the settings of the broker, a name server for its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescribeConfig {}

/// Who gave a setting its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConfigOrigin {
    /// Nobody: it is what it is by default.
    Default,
    /// A line of a file, counted from 1.
    File { path: String, line: u32 },
    /// A variable of the environment.
    Environment(String),
    /// An argument of the command.
    Flag(String),
    /// The program that has started the node.
    Program,
}

impl fmt::Display for ConfigOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Environment(name) => write!(f, "${name}"),
            Self::Flag(flag) => write!(f, "--{flag}"),
            Self::Program => f.write_str("program"),
        }
    }
}

/// One setting of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigEntry {
    /// RocketMQ's name, where RocketMQ has it.
    pub key: String,
    /// What holds, written as in a file.
    pub value: String,
    pub origin: ConfigOrigin,
    /// Why the setting has no effect here; `None` = it has one.
    pub ignored: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescribeConfigReply {
    /// Those that have an effect, then those that were given and have none.
    pub entries: Vec<ConfigEntry>,
}
