//! `Status`: what a broker says of itself; also the cheapest request, for probes and benchmarks.

use serde::{Deserialize, Serialize};

use crate::ids::{BrokerName, Epoch, LogPosition};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {}

/// What one plugin did since the broker started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginReport {
    pub name: String,
    pub version: String,
    /// SHA-256 of the component, hex.
    pub digest: String,
    /// Calls into the guest, and messages judged by them.
    pub calls: u64,
    pub messages: u64,
    /// Calls that failed: traps, fuel, memory, wrong answers.
    pub faults: u64,
    pub fuel: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReply {
    pub broker: BrokerName,
    pub cluster: String,
    pub epoch: Epoch,
    /// ms since 1970.
    pub started_at: u64,
    pub time_ms: u64,
    /// End of the durable log.
    pub durable: LogPosition,
    /// Where the log lies on the broker's disk.
    pub data_dir: String,
    pub topics: u32,
    pub connections: u32,
    pub messages_in: u64,
    pub messages_out: u64,
    /// Entries the tag-hash pre-check spared the filters.
    pub messages_skipped: u64,
    /// Processor time of the whole process, µs.
    pub cpu_us: u64,
    /// Resident memory, bytes; 0 where the system does not tell.
    pub rss_bytes: u64,
    pub plugins: Vec<PluginReport>,
}
