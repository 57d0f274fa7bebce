//! Names and numbers with one meaning each. Two of them cannot be swapped by accident, and a name
//! that exists has been checked: every constructor validates, decoding included.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("a {what} name is empty; it has 1 to {max} characters of {allowed}", max = limits::NAME)]
    Empty {
        what: &'static str,
        allowed: &'static str,
    },
    #[error("{what} name is {len} bytes long; at most {max} are allowed", max = limits::NAME)]
    TooLong { what: &'static str, len: usize },
    #[error("{what} name {name:?} contains {bad:?}; allowed are {allowed}")]
    Character {
        what: &'static str,
        name: String,
        bad: char,
        allowed: &'static str,
    },
}

fn check(
    what: &'static str,
    allowed: &'static str,
    name: &str,
    legal: fn(char) -> bool,
) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty { what, allowed });
    }
    if name.len() > limits::NAME {
        return Err(NameError::TooLong {
            what,
            len: name.len(),
        });
    }
    match name.chars().find(|c| !legal(*c)) {
        None => Ok(()),
        Some(bad) => Err(NameError::Character {
            what,
            name: name.to_owned(),
            bad,
            allowed,
        }),
    }
}

/// RocketMQ's own alphabet for topics and groups.
fn legal_in_topic(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '%' | '|' | '_' | '-')
}

fn legal_in_broker(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $allowed:literal, $legal:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Checks and takes a name of 1 to 127 bytes.
            pub fn new(name: impl AsRef<str>) -> Result<Self, NameError> {
                let name = name.as_ref();
                check($what, $allowed, name, $legal)?;
                Ok(Self(Arc::from(name)))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl std::str::FromStr for $type {
            type Err = NameError;
            fn from_str(name: &str) -> Result<Self, NameError> {
                Self::new(name)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let name = <&str>::deserialize(deserializer)?;
                Self::new(name).map_err(serde::de::Error::custom)
            }
        }
    };
}

name!(
    /// A topic.
    TopicName, "topic", "A-Z a-z 0-9 % | _ -", legal_in_topic
);
name!(
    /// A consumer or producer group.
    GroupName, "group", "A-Z a-z 0-9 % | _ -", legal_in_topic
);
name!(
    /// A broker, as its operator named it.
    BrokerName, "broker", "A-Z a-z 0-9 _ - .", legal_in_broker
);
name!(
    /// A plugin, as whoever uploaded it named it.
    PluginName, "plugin", "A-Z a-z 0-9 _ - .", legal_in_broker
);

macro_rules! number {
    ($(#[$doc:meta])* $type:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $type(pub $inner);

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number!(
    /// A topic's number in one broker's log. Never reused.
    TopicId(u32)
);
number!(
    /// A queue of a topic on one broker.
    QueueId(u32)
);
number!(
    /// Index of a message in its queue, from 0.
    QueueOffset(u64)
);
number!(
    /// Byte in a broker's commit log.
    LogPosition(u64)
);
number!(
    /// A producer, as the broker numbered it.
    ProducerId(u64)
);
number!(
    /// Rises at every unclean start and every change of leader.
    Epoch(u32)
);

impl QueueOffset {
    /// The offset `by` messages later.
    pub fn plus(self, by: u64) -> Self {
        Self(self.0.saturating_add(by))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_wherever_they_come_from() {
        let long = "a".repeat(128);
        let cases: &[(&str, bool)] = &[
            ("orders", true),
            ("%RETRY%billing", true),
            ("a|b_c-9", true),
            ("", false),
            ("or ders", false),
            ("ördern", false),
            ("a/b", false),
            ("a\0b", false),
            (&long, false),
            (&long[..127], true),
        ];
        for (name, legal) in cases {
            assert_eq!(TopicName::new(name).is_ok(), *legal, "{name:?}");
            let bytes = postcard::to_stdvec(name).unwrap();
            let decoded: Result<TopicName, _> = postcard::from_bytes(&bytes);
            assert_eq!(decoded.is_ok(), *legal, "decoding {name:?}");
        }
    }

    #[test]
    fn a_refused_name_says_which_character_and_what_is_allowed() {
        let error = TopicName::new("my topic").unwrap_err().to_string();
        assert_eq!(
            error,
            "topic name \"my topic\" contains ' '; allowed are A-Z a-z 0-9 % | _ -"
        );
    }
}
