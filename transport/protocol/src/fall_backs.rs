//! `PluginFallBacks`: what brokers did where a plugin failed that was to decide. What became of messages a filter failed
//! on and that waited, were passed or parked, [`crate::PluginHealth`] tells.

use serde::{Deserialize, Serialize};

use crate::ids::PluginName;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginFallBacks {}

/// Of one version, since the broker's start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FallBacks {
    pub plugin: PluginName,
    /// 0 = it is part of the broker, or of its configuration.
    pub version: u32,
    /// Messages with an order key that a selector failed on: nothing was stored.
    pub refused: u64,
    /// Messages without one: they took the queues in turn.
    pub in_turn: u64,
    /// Groups a strategy failed on, each time: members kept the queues they had.
    pub kept: u64,
    /// The queues were shared out by `averagely` instead.
    pub averagely: u64,
    /// Messages a bound filter failed on: the one that was named for that decided.
    pub instead: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginFallBacksReply {
    pub versions: Vec<FallBacks>,
}
