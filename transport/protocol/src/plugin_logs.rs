//! `PluginLogs`: what the guests of a plugin have said lately. Each broker keeps the latest lines of each name
//! in memory, numbered from its start on.

use serde::{Deserialize, Serialize};

use crate::ids::PluginName;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginLogs {
    pub name: PluginName,
    /// The number to go on with; `None` = all lines that are kept.
    pub from: Option<u64>,
    /// At most so many lines, 1 to 1,000.
    pub max_lines: u32,
}

/// How much a line matters to its guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginLine {
    pub number: u64,
    /// ms since 1970.
    pub at: u64,
    /// Which version: `geo@3`.
    pub plugin: String,
    pub level: LogLevel,
    pub line: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginLogsReply {
    pub lines: Vec<PluginLine>,
    /// Where to go on. A broker that has started again has begun with 0 again, and gives what it keeps.
    pub next: u64,
    /// Lines between where this began and `next` that are not kept any more, or were too many in one call.
    pub lost: u64,
}
