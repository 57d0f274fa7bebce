//! `Heartbeat`: a broker's sign of life to its name servers, and the probe any client may send.

use serde::{Deserialize, Serialize};

use crate::ids::BrokerName;

/// Sent by brokers every second, named; by clients unnamed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    pub broker: Option<BrokerName>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatReply {
    /// False asks the broker to register again: the name server has restarted or let it expire.
    pub registered: bool,
    /// The answering node's wall clock, ms since 1970.
    pub time_ms: u64,
}
