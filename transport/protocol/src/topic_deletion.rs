//! Topics that are deleted: for good, or closed first, so that they can come back for a while.

use serde::{Deserialize, Serialize};

use crate::error::{Code, WireError};
use crate::ids::{TopicId, TopicName};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteTopic {
    pub topic: TopicName,
    /// For so long nobody can use it and it can be restored, then it is gone; 0 = it is gone at once. Since
    /// version 2.
    pub grace_ms: u64,
}

impl DeleteTopic {
    pub(crate) fn says_more_than_version_1(&self) -> bool {
        self.grace_ms > 0
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteTopicReply {
    /// Messages that can no longer be read.
    pub messages: u64,
}

/// A topic that is being deleted is as it was. One that is not stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreTopic {
    pub topic: TopicName,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreTopicReply {
    /// Messages that can be read again.
    pub messages: u64,
}

/// Which topics can still come back?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListDeletedTopics {}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedTopic {
    pub topic: TopicName,
    pub id: TopicId,
    /// ms since 1970.
    pub gone_at: u64,
    pub messages: u64,
}

/// Sorted by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListDeletedTopicsReply {
    pub topics: Vec<DeletedTopic>,
}

/// What everybody hears who wants something of a topic that is being deleted.
pub fn being_deleted(topic: &TopicName, gone_at: u64) -> WireError {
    let at = moment(gone_at);
    WireError::new(
        Code::TOPIC_DELETED,
        format!(
            "topic \"{topic}\" is being deleted: it is closed, and gone for good at {at}; until then `quern topic restore {topic}` brings it back with its messages and offsets"
        ),
    )
    .after_ms(1_000)
}

/// ms since 1970 as people read them, UTC to the second.
fn moment(ms: u64) -> String {
    let (days, second) = (ms / 86_400_000, ms / 1000 % 86_400);
    // Years that begin in March end with the leap day: days of an era of 400 of them, of a year, of a month.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let (month, next_year) = match month {
        0..=9 => (month + 3, 0),
        _ => (month - 9, 1),
    };
    let year = era * 400 + year + next_year;
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    let second = second % 60;
    format!("{year:04}-{month:02}-{of_month:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_the_calendars() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399_999, "2000-02-28T23:59:59Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (951_868_800_000, "2000-03-01T00:00:00Z"),
            (1_700_000_000_123, "2023-11-14T22:13:20Z"),
            (1_798_761_599_000, "2026-12-31T23:59:59Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(moment(ms), text, "{ms}");
        }
        // However far away.
        moment(u64::MAX);
    }
}
