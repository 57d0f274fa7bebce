//! Which segments may go. Decided without I/O: segments go whole, oldest first, and nothing that is not
//! expired goes to make room.

use std::time::Duration;

/// How long messages are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Segments whose newest message is older may go; `None` keeps them for ever. Default: 72 hours
    /// (RocketMQ's `fileReservedTime`).
    pub age: Option<Duration>,
    /// The log may have so many bytes, and is cut at once when it has more; `None` = no such bound, the
    /// default.
    pub bytes: Option<u64>,
    /// Hours of the day, UTC, in which expired segments go; empty = all. Default: 4 (`deleteWhen`). When
    /// the disk is [`DiskLevel::Busy`] they go at any hour.
    pub hours: Vec<u8>,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            age: Some(Duration::from_secs(72 * 60 * 60)),
            bytes: None,
            hours: vec![4],
        }
    }
}

/// How full the disk is, in steps that mean something. A share of a large disk is more than anyone
/// needs to be careful, so each step has a bound in bytes, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum DiskLevel {
    #[default]
    Ample,
    /// Less than 25 % and 32 GiB free: expired segments go at any hour.
    Busy,
    /// Less than 15 % and 8 GiB free: operators are warned.
    Warning,
    /// Less than 10 % and 4 GiB free: messages are refused, the broker's own records are not.
    Refusing,
}

impl DiskLevel {
    pub(crate) fn of(free: u64, capacity: u64) -> Self {
        const STEPS: [(DiskLevel, u64, u64); 3] = [
            (DiskLevel::Refusing, 10, 4 << 30),
            (DiskLevel::Warning, 15, 8 << 30),
            (DiskLevel::Busy, 25, 32 << 30),
        ];
        let share = u128::from(free) * 100;
        let step = STEPS
            .iter()
            .find(|(_, percent, bytes)| share < u128::from(capacity * percent) && free < *bytes);
        step.map_or(Self::Ample, |(level, ..)| *level)
    }
}

/// A segment that is no longer written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sealed {
    pub(crate) end: u64,
    pub(crate) size: u64,
    /// When its last message was stored, at the latest; ms.
    pub(crate) newest: u64,
}

const HOUR_MS: u64 = 60 * 60 * 1000;

/// Where the log should begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) at: u64,
    /// Before this it goes because the log is too large, whatever topics keep for a time; of a compacted one the newest of
    /// each key stays all the same. 0 = nothing.
    pub(crate) surplus: u64,
}

impl Retention {
    /// Where the log should begin, of sealed segments in their order.
    pub(crate) fn head(
        &self,
        sealed: &[Sealed],
        active: u64,
        now: u64,
        disk: DiskLevel,
    ) -> Option<Head> {
        let hour = (now / HOUR_MS % 24) as u8;
        let is_time =
            self.hours.is_empty() || self.hours.contains(&hour) || disk >= DiskLevel::Busy;
        let age = self
            .age
            .map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        let mut left = active + sealed.iter().map(|it| it.size).sum::<u64>();
        let mut head: Option<Head> = None;
        for segment in sealed {
            let expired = age.is_some_and(|age| now.saturating_sub(segment.newest) > age);
            let surplus = self.bytes.is_some_and(|bytes| left > bytes);
            if !(surplus || expired && is_time) {
                break;
            }
            left -= segment.size;
            let before = head.map_or(0, |it| it.surplus);
            head = Some(Head {
                at: segment.end,
                surplus: if surplus { segment.end } else { before },
            });
        }
        head
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(count: u64) -> Vec<Sealed> {
        let segment = |n| Sealed {
            end: (n + 1) * 100,
            size: 100,
            newest: n * HOUR_MS,
        };
        (0..count).map(segment).collect()
    }

    /// Policy: hours of age, bytes, `deleteWhen`; then the hour it is, the disk, and what should go.
    type Case = (Option<u64>, Option<u64>, &'static [u8], u64, DiskLevel);

    #[test]
    fn segments_go_by_age_in_their_hour_and_by_size_at_once() {
        use DiskLevel::{Ample, Busy, Refusing};
        let cases: [(&str, Case, Option<u64>); 9] = [
            ("too young", (Some(10), None, &[], 9, Ample), None),
            ("one is older", (Some(10), None, &[], 11, Ample), Some(100)),
            ("three are", (Some(10), None, &[13], 13, Ample), Some(300)),
            ("not their hour", (Some(10), None, &[4], 13, Ample), None),
            ("yet needed", (Some(10), None, &[4], 13, Busy), Some(300)),
            (
                "need is no reason",
                (Some(20), None, &[4], 13, Refusing),
                None,
            ),
            ("kept for ever", (None, None, &[], 1_000, Refusing), None),
            ("too large", (None, Some(450), &[4], 0, Ample), Some(100)),
            ("by far", (None, Some(10), &[], 0, Ample), Some(500)),
        ];
        for (name, (age, bytes, hours, now, disk), head) in cases {
            let policy = Retention {
                age: age.map(|hours| Duration::from_millis(hours * HOUR_MS)),
                bytes,
                hours: hours.to_vec(),
            };
            let found = policy.head(&sealed(5), 50, now * HOUR_MS, disk);
            assert_eq!(found.map(|it| it.at), head, "{name}");
            let is_surplus = found.is_some_and(|it| it.surplus == it.at);
            assert_eq!(
                is_surplus,
                name.starts_with("too large") || name == "by far",
                "{name}"
            );
        }
    }

    #[test]
    fn a_disk_fills_in_steps() {
        let level = |free| DiskLevel::of(free, 100);
        assert_eq!(level(100), DiskLevel::Ample);
        assert_eq!(level(25), DiskLevel::Ample);
        assert_eq!(level(24), DiskLevel::Busy);
        assert_eq!(level(14), DiskLevel::Warning);
        assert_eq!(level(9), DiskLevel::Refusing);
        assert_eq!(level(0), DiskLevel::Refusing);
        assert_eq!(DiskLevel::of(40 << 30, 1 << 40), DiskLevel::Ample);
        assert_eq!(DiskLevel::of(5 << 30, 1 << 40), DiskLevel::Warning);
    }
}
