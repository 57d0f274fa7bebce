//! The work every broker is given, and how safe its messages are then.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use serde::{Serialize, Serializer};

/// When a send is acknowledged. Classes are never compared with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Class {
    /// After an fsync that covers it.
    Durable,
    /// Once it is in the page cache: it outlives the process, not the machine.
    Cached,
}

impl Class {
    pub(crate) fn says(self) -> &'static str {
        match self {
            Self::Durable => "acknowledged after fsync",
            Self::Cached => "acknowledged from the page cache",
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Durable => "durable",
            Self::Cached => "cached",
        }
    }
}

/// Which messages of a backlog are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Filter {
    All,
    /// One tag of a hundred.
    Tag,
    /// One value of a hundred of a property, in SQL92.
    Sql,
    /// Fifty of a hundred values of a property, in SQL92.
    SqlHalf,
    /// One value of a hundred of a property, by a function that a user wrote.
    Own,
}

impl Filter {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Tag => "tag",
            Self::Sql => "sql",
            Self::SqlHalf => "sql-half",
            Self::Own => "own",
        }
    }

    /// Messages of a backlog that pass.
    pub(crate) fn passes(self, backlog: u64) -> u64 {
        match self {
            Self::All => backlog,
            Self::SqlHalf => backlog / 2,
            Self::Tag | Self::Sql | Self::Own => backlog / VARIETY,
        }
    }

    fn says(self) -> &'static str {
        match self {
            Self::All => "drain a backlog, everything",
            Self::Tag => "drain a backlog by tag, 1 in 100 (per message examined)",
            Self::Sql => "drain a backlog by SQL92, 1 in 100 (per message examined)",
            Self::SqlHalf => "drain a backlog by SQL92, 50 in 100 (per message examined)",
            Self::Own => {
                "drain a backlog by a filter of one's own, 1 in 100 (per message examined)"
            }
        }
    }
}

/// One measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Work {
    /// exec to the first acknowledged message, the directory empty.
    Start,
    /// Nothing to do: memory and processor time.
    Idle,
    /// The first seconds of load, which the others come after: 64 in flight.
    Warm,
    Produce {
        in_flight: u32,
        size: u32,
    },
    /// Batches that an application makes, of so many messages each, and how many of them are under way.
    Batches {
        each: u32,
        in_flight: u32,
    },
    Drain(Filter),
    /// So many groups read the same messages at once.
    FanOut {
        groups: u32,
    },
    EndToEnd {
        rate: u32,
    },
    /// The messages of one producer go to so many topics in turn, 64 in flight.
    Topics {
        count: u32,
    },
    /// So many clients that are connected and do nothing.
    Connections {
        count: u32,
    },
    /// 64 in flight over a path with loss and delay.
    LossyProduce,
    /// A backlog drained over a path with loss and delay.
    LossyDrain,
    /// kill -9, then exec to the first acknowledged message.
    Restart,
}

/// Bytes of a body unless a measurement says otherwise.
pub(crate) const BODY: u32 = 1024;
/// One of so many messages passes a filter.
pub(crate) const VARIETY: u64 = 100;

impl Work {
    pub(crate) const ALL: [Self; 26] = [
        Self::Start,
        Self::Idle,
        Self::Warm,
        Self::produce(1),
        Self::produce(64),
        Self::produce(1_024),
        Self::BATCHES,
        Self::Produce {
            in_flight: 64,
            size: 100,
        },
        Self::Produce {
            in_flight: 1_024,
            size: 100,
        },
        Self::Produce {
            in_flight: 64,
            size: 16_384,
        },
        Self::Produce {
            in_flight: 1_024,
            size: 16_384,
        },
        Self::EndToEnd { rate: 100 },
        Self::EndToEnd { rate: 1_000 },
        Self::EndToEnd { rate: 10_000 },
        Self::Drain(Filter::All),
        Self::Drain(Filter::Tag),
        Self::Drain(Filter::Sql),
        Self::Drain(Filter::SqlHalf),
        Self::Drain(Filter::Own),
        Self::FanOut { groups: 10 },
        Self::Topics { count: 1_000 },
        Self::Connections { count: 1_000 },
        Self::Connections { count: 5_000 },
        Self::LossyProduce,
        Self::LossyDrain,
        Self::Restart,
    ];

    pub(crate) const BATCHES: Self = Self::Batches {
        each: 32,
        in_flight: 8,
    };

    pub(crate) const fn produce(in_flight: u32) -> Self {
        Self::Produce {
            in_flight,
            size: BODY,
        }
    }

    /// Whether it differs with the class: reading what is stored does not.
    pub(crate) fn is_of(self, class: Class) -> bool {
        class == Class::Cached
            || !matches!(
                self,
                Self::Idle
                    | Self::Drain(_)
                    | Self::FanOut { .. }
                    | Self::Connections { .. }
                    | Self::LossyProduce
                    | Self::LossyDrain
                    | Self::Restart
            )
    }

    /// Whether the driver is at the other end of a path with loss and delay.
    pub(crate) fn is_over_path(self) -> bool {
        matches!(self, Self::LossyProduce | Self::LossyDrain)
    }

    /// What a reader of the report is told.
    pub(crate) fn says(self) -> String {
        match self {
            Self::Start => "exec → first acknowledged message, empty directory".to_owned(),
            Self::Idle => "idle".to_owned(),
            Self::Warm => {
                "produce 1 KiB, 64 in flight, the broker's first seconds of load".to_owned()
            }
            Self::Produce { in_flight, size } => {
                format!("produce {}, {in_flight} in flight", bytes(size))
            }
            Self::Batches { each, in_flight } => {
                format!(
                    "produce 1 KiB in batches of {each}, {in_flight} batches in flight (times are a batch's)"
                )
            }
            Self::Drain(filter) => filter.says().to_owned(),
            Self::FanOut { groups } => {
                format!("drain a backlog to {groups} groups at once (per message delivered)")
            }
            Self::EndToEnd { rate } => format!("end to end at {rate} msg/s, open loop"),
            Self::Topics { count } => {
                format!("produce 1 KiB to {count} topics in turn, 64 in flight")
            }
            Self::Connections { count } => format!("{count} connections, idle"),
            Self::LossyProduce => {
                "produce 1 KiB, 64 in flight, 1 % loss and 20 ms of round trip".to_owned()
            }
            Self::LossyDrain => "drain a backlog, 1 % loss and 20 ms of round trip".to_owned(),
            Self::Restart => "kill -9 → exec → first acknowledged message".to_owned(),
        }
    }
}

fn bytes(size: u32) -> String {
    if size.is_multiple_of(1024) {
        format!("{} KiB", size / 1024)
    } else {
        format!("{size} B")
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => write!(f, "start"),
            Self::Idle => write!(f, "idle"),
            Self::Warm => write!(f, "warm"),
            Self::Produce {
                in_flight,
                size: BODY,
            } => write!(f, "produce-{in_flight}"),
            Self::Produce { in_flight, size } => write!(f, "produce-{in_flight}-{size}b"),
            Self::Batches { each, .. } => write!(f, "batch-{each}"),
            Self::Drain(filter) => write!(f, "drain-{}", filter.name()),
            Self::FanOut { groups } => write!(f, "fan-out-{groups}"),
            Self::EndToEnd { rate } => write!(f, "e2e-{rate}"),
            Self::Topics { count } => write!(f, "topics-{count}"),
            Self::Connections { count } => write!(f, "connections-{count}"),
            Self::LossyProduce => write!(f, "lossy-produce"),
            Self::LossyDrain => write!(f, "lossy-drain"),
            Self::Restart => write!(f, "restart"),
        }
    }
}

impl FromStr for Work {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut all = Self::ALL.into_iter();
        all.find(|it| it.to_string() == text).ok_or_else(|| {
            let names: Vec<String> = Self::ALL.iter().map(ToString::to_string).collect();
            format!("there is {}", names.join(", "))
        })
    }
}

impl Serialize for Work {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_work_is_found_by_its_name() {
        for work in Work::ALL {
            assert_eq!(work.to_string().parse(), Ok(work));
        }
        let refused = "produce-2".parse::<Work>();
        assert!(refused.is_err_and(|it| it.contains("produce-64, ")));
    }
}
