//! `PluginHealth`: which plugins fail, how, what became of the messages, and who is quarantined for it.

use serde::{Deserialize, Serialize};

use crate::ids::PluginName;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginHealth {}

/// Calls that failed since the broker loaded the plugin, by how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginFaults {
    pub traps: u64,
    pub out_of_fuel: u64,
    pub out_of_memory: u64,
    pub bad_answers: u64,
    /// It said that it cannot answer.
    pub failures: u64,
}

/// What became of messages a filter failed on, since the broker's start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unjudged {
    /// How often a queue stood still before one; the same message again counts again.
    pub stalled: u64,
    /// Groups got them all the same.
    pub passed: u64,
    /// They are dead letters.
    pub parked: u64,
}

/// Why a version is not asked any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// ms since 1970.
    pub at: u64,
    pub why: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionHealth {
    pub plugin: PluginName,
    /// 0 = it is part of the broker, or of its configuration.
    pub version: u32,
    pub quarantined: Option<Quarantined>,
    pub faults: PluginFaults,
    pub unjudged: Unjudged,
    /// Code and words of its latest fault; empty = it has not failed.
    pub last_fault: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginHealthReply {
    pub versions: Vec<VersionHealth>,
}
