//! `Hello` opens a connection: both sides say what they are and agree on a minor version.
//! `Cancel` takes back one request of the same stream; nothing answers it.

use serde::{Deserialize, Serialize};

use crate::error::{Code, WireError};

/// What the peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    Client,
    Broker,
    NameServer,
}

/// First frame of every connection, within 3 s.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub role: Role,
    /// Program and version, for logs.
    pub software: String,
    /// Oldest and newest minor version spoken.
    pub minor_min: u16,
    pub minor_max: u16,
    /// Optional abilities, one bit each.
    pub features: u64,
}

/// An ability of brokers: a member may have its `JoinGroup` and `AwaitQuestions` held for up to
/// [`crate::limits::HELD_MS`], and whatever it asks of its leases here is a sign of life as well.
pub const LONG_HOLDS: u64 = 1;

impl Hello {
    /// What this build says of itself.
    pub fn new(role: Role) -> Self {
        Self {
            role,
            software: concat!("quern/", env!("CARGO_PKG_VERSION")).to_owned(),
            minor_min: MINOR,
            minor_max: MINOR,
            features: 0,
        }
    }
}

impl Hello {
    /// The reply of a node with this role and name; an error when no minor version is shared.
    pub fn answer(&self, role: Role, node: &str, time_ms: u64) -> Result<HelloReply, WireError> {
        if !(self.minor_min..=self.minor_max).contains(&MINOR) {
            return Err(WireError::new(
                Code::WRONG_PROTOCOL_VERSION,
                format!(
                    "{} speaks minor versions {} to {}, this node {MINOR}",
                    self.software, self.minor_min, self.minor_max
                ),
            ));
        }
        Ok(HelloReply {
            role,
            software: Self::new(role).software,
            minor: MINOR,
            features: match role {
                Role::Broker => LONG_HOLDS,
                Role::Client | Role::NameServer => 0,
            },
            node: node.to_owned(),
            time_ms,
        })
    }
}

/// The only minor version spoken so far.
pub const MINOR: u16 = 0;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloReply {
    pub role: Role,
    pub software: String,
    pub minor: u16,
    pub features: u64,
    /// The answering node's name.
    pub node: String,
    /// Its wall clock, ms since 1970.
    pub time_ms: u64,
}

/// Drops the request with this correlation id on the same stream. Sent one-way; a request that has
/// already reached the log is not taken back, only no longer answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    pub correlation: u64,
}
