//! How urgent a message is: 0 to 9, as a property. The queues of a topic are lanes: a message goes to the one for its
//! priority, so that what is urgent never stands behind what is not. Consumers take more of the higher lanes, and
//! something of the lower ones ([`Priority::weight`]).

use std::fmt;
use std::str::FromStr;

use crate::ids::QueueId;

/// The property; the name is RocketMQ's.
pub const PRIORITY: &str = "_SYS_MSG_PRIORITY_";

/// How urgent a message is: 0, not at all, to 9.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(u8);

impl Priority {
    /// How many there are.
    pub const LEVELS: u8 = 10;
    /// Of messages that say nothing, among others that do.
    pub const MIDDLE: Self = Self(4);

    /// `None` = there is no such level.
    pub fn new(level: u8) -> Option<Self> {
        (level < Self::LEVELS).then_some(Self(level))
    }

    /// 0 to 9.
    pub fn level(self) -> u8 {
        self.0
    }

    /// The queue of so many that messages of this priority go to. With ten queues each has its own; with fewer,
    /// neighbours share one.
    pub fn lane(self, queues: u32) -> QueueId {
        let lane = u64::from(self.0) * u64::from(queues) / u64::from(Self::LEVELS);
        QueueId(lane as u32)
    }

    /// The highest priority whose lane this is, of so many queues.
    pub fn of_lane(queue: QueueId, queues: u32) -> Self {
        let all = (0..Self::LEVELS).map(Self);
        let of = all.filter(|it| it.lane(queues) <= queue);
        of.max().unwrap_or(Self(0))
    }

    /// While there is something of each, so many messages of this priority are taken for one of priority 0: twice as
    /// many for each level.
    pub fn weight(self) -> u32 {
        1 << self.0
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Not a priority.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no priority: they are 0 to 9, and 9 is the most urgent")]
pub struct NoPriority(String);

impl FromStr for Priority {
    type Err = NoPriority;

    fn from_str(text: &str) -> Result<Self, NoPriority> {
        let level = text.parse().ok().and_then(Self::new);
        level.ok_or_else(|| NoPriority(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_priority_has_a_lane_and_a_higher_one_never_a_lower_lane() {
        for queues in 1..=64 {
            let lanes: Vec<_> = (0..10).map(|it| Priority(it).lane(queues)).collect();
            assert!(lanes.is_sorted());
            assert!(lanes.iter().all(|lane| lane.0 < queues));
            for (level, lane) in lanes.iter().enumerate() {
                let of = Priority::of_lane(*lane, queues);
                assert!(usize::from(of.0) >= level && of.lane(queues) == *lane);
            }
        }
        let own: Vec<_> = (0..10).map(|it| Priority(it).lane(10).0).collect();
        assert_eq!(own, (0..10).collect::<Vec<_>>());
        assert_eq!("9".parse(), Ok(Priority(9)));
        assert!("10".parse::<Priority>().is_err() && "-1".parse::<Priority>().is_err());
    }
}
