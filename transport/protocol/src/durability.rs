//! Durability classes: how safe a message is when its send is answered.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How safe a message is when its send is answered, from the least to the most.
///
/// A class is a promise of the broker to the sender. Which is given: the one the send asks for, else its
/// topic's, else the broker's. A class a broker cannot give is refused, never replaced by another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Durability {
    /// Handed to the operating system: the process may die, the machine may not
    /// (RocketMQ's `ASYNC_FLUSH`).
    Fast,
    /// On the disk of the broker that took it (RocketMQ's `SYNC_FLUSH`).
    Local,
    /// On its disk, and in the memory of one replica (RocketMQ's `SYNC_MASTER`).
    Replicated,
    /// On the disks of most of the replicas.
    Quorum,
}

impl Durability {
    /// Every class, in its order.
    pub const ALL: &'static [Self] = &[Self::Fast, Self::Local, Self::Replicated, Self::Quorum];

    pub fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Local => "local",
            Self::Replicated => "replicated",
            Self::Quorum => "quorum",
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that names no class.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no durability class; there are fast, local, replicated and quorum")]
pub struct UnknownDurability(String);

impl FromStr for Durability {
    type Err = UnknownDurability;

    fn from_str(text: &str) -> Result<Self, UnknownDurability> {
        let named = Self::ALL.iter().find(|it| it.name() == text).copied();
        named.ok_or_else(|| UnknownDurability(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_read_as_it_is_written() {
        for class in Durability::ALL {
            assert_eq!(class.to_string().parse(), Ok(*class));
        }
        let error = "sync".parse::<Durability>().unwrap_err();
        assert!(error.to_string().contains("fast, local"), "{error}");
    }
}
