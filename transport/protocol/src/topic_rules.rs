//! What may be done with a topic, and what kind of message it takes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::delay::Later;

/// What clients may do with a topic on one broker (RocketMQ's `perm` 6, 4, 2 and 0).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Permission {
    #[default]
    ReadWrite,
    Read,
    Write,
    Nothing,
}

impl Permission {
    /// Every permission, with its name and RocketMQ's number.
    pub const ALL: &'static [(Self, &'static str, &'static str)] = &[
        (Self::ReadWrite, "rw", "6"),
        (Self::Read, "r", "4"),
        (Self::Write, "w", "2"),
        (Self::Nothing, "none", "0"),
    ];

    pub fn can_read(self) -> bool {
        matches!(self, Self::ReadWrite | Self::Read)
    }

    pub fn can_write(self) -> bool {
        matches!(self, Self::ReadWrite | Self::Write)
    }

    /// What both allow.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let read = self.can_read() && other.can_read();
        match (read, self.can_write() && other.can_write()) {
            (true, true) => Self::ReadWrite,
            (true, false) => Self::Read,
            (false, true) => Self::Write,
            (false, false) => Self::Nothing,
        }
    }

    pub fn name(self) -> &'static str {
        let named = Self::ALL.iter().find(|(it, ..)| *it == self);
        named.map_or("", |(_, name, _)| name)
    }
}

/// The only kind of message a topic takes. A topic without one is RocketMQ's `MIXED`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MessageType {
    /// No order key.
    Normal,
    /// An order key: those that have the same are delivered in their order.
    Fifo,
    /// A time before which they are not delivered.
    Delay,
    /// Of a transaction.
    Transaction,
    /// A priority, see [`crate::Priority`].
    Priority,
}

impl MessageType {
    pub const ALL: &'static [Self] = &[
        Self::Normal,
        Self::Fifo,
        Self::Delay,
        Self::Transaction,
        Self::Priority,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Fifo => "fifo",
            Self::Delay => "delay",
            Self::Transaction => "transaction",
            Self::Priority => "priority",
        }
    }

    /// What a message is, by what it says.
    pub fn of(has_order_key: bool, has_priority: bool, later: Option<&Later>) -> Self {
        match (has_order_key, later) {
            (false, None) if has_priority => Self::Priority,
            (true, _) => Self::Fifo,
            (false, None) => Self::Normal,
            (false, Some(Later::OnCommit(_))) => Self::Transaction,
            (false, Some(Later::In(_) | Later::At(_) | Later::Level(_))) => Self::Delay,
        }
    }
}

/// What becomes of the messages of a topic in time (RocketMQ's `cleanup.policy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Cleanup {
    /// They go when they are old enough.
    #[default]
    Delete,
    /// Of each key, the newest in its queue stays; those before it go when they are old enough.
    Compact,
}

impl Cleanup {
    /// Every policy, with its name and RocketMQ's.
    pub const ALL: &'static [(Self, &'static str, &'static str)] = &[
        (Self::Delete, "delete", "DELETE"),
        (Self::Compact, "compact", "COMPACTION"),
    ];

    pub fn name(self) -> &'static str {
        let named = Self::ALL.iter().find(|(it, ..)| *it == self);
        named.map_or("", |(_, name, _)| name)
    }
}

macro_rules! shown_by_name {
    ($($type:ty),*) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    )*};
}

shown_by_name!(Permission, MessageType, Cleanup);

/// A word that names none of what there is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} is none of {known}")]
pub struct UnknownRule {
    word: String,
    known: &'static str,
}

impl FromStr for Permission {
    type Err = UnknownRule;

    fn from_str(text: &str) -> Result<Self, UnknownRule> {
        let mut all = Self::ALL.iter();
        let named = all.find(|(_, name, number)| [*name, *number].contains(&text));
        named.map(|(it, ..)| *it).ok_or_else(|| UnknownRule {
            word: text.to_owned(),
            known: "rw, r, w, none (6, 4, 2, 0)",
        })
    }
}

impl FromStr for Cleanup {
    type Err = UnknownRule;

    fn from_str(text: &str) -> Result<Self, UnknownRule> {
        let mut all = Self::ALL.iter();
        let named = all.find(|(_, name, rocketmq)| [*name, *rocketmq].contains(&text));
        named.map(|(it, ..)| *it).ok_or_else(|| UnknownRule {
            word: text.to_owned(),
            known: "delete, compact (DELETE, COMPACTION)",
        })
    }
}

impl FromStr for MessageType {
    type Err = UnknownRule;

    fn from_str(text: &str) -> Result<Self, UnknownRule> {
        let named = Self::ALL.iter().find(|it| it.name() == text).copied();
        named.ok_or_else(|| UnknownRule {
            word: text.to_owned(),
            known: "normal, fifo, delay, transaction",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_read_as_it_is_written() {
        for (permission, name, number) in Permission::ALL {
            assert_eq!(permission.to_string(), *name);
            assert_eq!(name.parse(), Ok(*permission));
            assert_eq!(number.parse(), Ok(*permission));
            assert_eq!(permission.and(Permission::ReadWrite), *permission);
            for (other, ..) in Permission::ALL {
                let both = permission.and(*other);
                assert_eq!(both.can_read(), permission.can_read() && other.can_read());
                assert_eq!(
                    both.can_write(),
                    permission.can_write() && other.can_write()
                );
            }
        }
        for it in MessageType::ALL {
            assert_eq!(it.to_string().parse(), Ok(*it));
        }
        for (cleanup, name, rocketmq) in Cleanup::ALL {
            assert_eq!(cleanup.to_string(), *name);
            assert_eq!(
                (name.parse(), rocketmq.parse()),
                (Ok(*cleanup), Ok(*cleanup))
            );
        }
        let error = "wr".parse::<Permission>().unwrap_err();
        assert!(error.to_string().contains("rw, r, w"), "{error}");
    }
}
