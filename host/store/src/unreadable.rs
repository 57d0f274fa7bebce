//! What the disk does not give, and has to stay. It is tried again for a while; then it is lost, or one bad sector
//! would keep the log from ever letting anything go.

use std::collections::HashMap;
use std::ops::Range;

use quern_protocol::LogPosition;

use crate::error::ReadError;
use crate::limits;

/// Messages, by where they are.
#[derive(Debug, Default)]
pub(crate) struct Unreadable(HashMap<LogPosition, Tries>);

#[derive(Debug, Clone, Copy)]
struct Tries {
    /// By the log's clock, ms.
    since: u64,
    count: u32,
}

impl Tries {
    fn were_enough(self, now: u64) -> bool {
        let age = now.saturating_sub(self.since);
        self.count > limits::UNREADABLE_TRIES && age > limits::UNREADABLE_MS
    }
}

impl Unreadable {
    /// The disk did not give one, which is `what` to whoever reads the log. True: it is given up.
    pub(crate) fn miss(
        &mut self,
        position: LogPosition,
        now: u64,
        (what, error): (&str, &ReadError),
    ) -> bool {
        let new = Tries {
            since: now,
            count: 0,
        };
        let tries = self.0.entry(position).or_insert(new);
        tries.count = tries.count.saturating_add(1);
        let is_lost = tries.were_enough(now);
        if is_lost {
            tracing::error!(code = "Q-4002", %error, "{what} is given up: its segment is put into quarantine");
        } else if tries.count == 1 {
            tracing::warn!(code = "Q-4002", %error, "its segment stays for now: {what} is in it");
        }
        is_lost
    }

    /// The disk has given it.
    pub(crate) fn found(&mut self, position: LogPosition) {
        self.0.remove(&position);
    }

    /// Whether something in this range of the log is given up.
    pub(crate) fn is_given_up_in(&self, range: Range<u64>, now: u64) -> bool {
        let mut there = self.0.iter();
        there.any(|(position, tries)| range.contains(&position.0) && tries.were_enough(now))
    }

    /// The log begins here.
    pub(crate) fn forget_before(&mut self, head: u64) {
        self.0.retain(|position, _| position.0 >= head);
    }
}
