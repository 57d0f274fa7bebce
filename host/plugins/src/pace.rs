//! How many messages a filter is asked about at once: what it judges in a moment, so that who asks a heavy one can give
//! way to others between two calls, and no call is begun that uses up its fuel for nothing. A light one is soon asked
//! about as many as there may be, for a call costs something whatever is in it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::limits;

/// See the module.
#[derive(Debug)]
pub(crate) struct Pace {
    at_once: AtomicUsize,
    /// The call before there were more at once: its fuel, and in the lowest 16 bits its messages. 0 = there was none.
    before: AtomicU64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            at_once: AtomicUsize::new(limits::FIRST_MESSAGES),
            before: AtomicU64::new(0),
        }
    }
}

impl Pace {
    pub(crate) fn at_once(&self) -> usize {
        self.at_once.load(Ordering::Relaxed)
    }

    /// A call took so much fuel. The next has twice as many messages only if it will not take too long even where two cost
    /// four times as much as one, or if most of it was for the call and not for its messages.
    pub(crate) fn took(&self, messages: u32, fuel: u64, is_answered: bool) {
        let (messages, now) = (messages as usize, self.at_once());
        let affordable = (messages as u64 * limits::MOMENT / fuel.max(1)) as usize;
        let next = match is_answered {
            // It may have been too much; a message that the guest fails on at once says nothing of the others.
            false if fuel > limits::MOMENT => now.min(messages / 2),
            false => now,
            true if fuel > limits::MOMENT => now.min(affordable),
            true => now.max(self.more(messages as u64, fuel) as usize),
        };
        let next = next.clamp(1, limits::BATCH_MESSAGES);
        if next > now {
            let call = fuel << 16 | messages as u64;
            self.before.store(call, Ordering::Relaxed);
        }
        if next != now {
            self.at_once.store(next, Ordering::Relaxed);
        }
    }

    /// How many may be asked about after a call that did not take too long.
    fn more(&self, messages: u64, fuel: u64) -> u64 {
        if fuel <= limits::MOMENT / 4 {
            return 2 * messages;
        }
        let before = self.before.load(Ordering::Relaxed);
        if before == 0 {
            // As far as it goes if twice as many cost four times as much.
            return (messages * messages * limits::MOMENT / fuel).isqrt();
        }
        let (few, less) = (before & 0xffff, before >> 16);
        let Some(each) = fuel
            .saturating_sub(less)
            .checked_div(messages.saturating_sub(few))
        else {
            return messages;
        };
        // Each further one may cost twice as much as those did.
        let further = 2 * each * messages;
        match further <= fuel && fuel + further <= limits::MOMENT {
            true => 2 * messages,
            false => messages,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks with what a call of so many messages takes, until nothing changes.
    fn settled(fuel: impl Fn(u64) -> u64) -> (usize, u64) {
        let (pace, mut most) = (Pace::default(), 0);
        for _ in 0..100 {
            let messages = pace.at_once() as u64;
            let took = fuel(messages);
            most = most.max(took);
            pace.took(messages as u32, took, true);
        }
        (pace.at_once(), most)
    }

    #[test]
    fn light_ones_are_asked_about_many_and_heavy_ones_for_a_moment() {
        assert_eq!(settled(|n| 3_000 + 300 * n).0, limits::BATCH_MESSAGES);
        assert_eq!(settled(|n| 20_000 * n), (64, 64 * 20_000));
        assert_eq!(settled(|n| 1_000_000 * n).0, 4);
        // Where more messages cost more each, no call is too long.
        let (at_once, most) = settled(|n| 400 * n * n);
        assert_eq!(at_once, 64);
        assert!(most <= limits::MOMENT, "{most}");
        assert_eq!(settled(|_| 10 * limits::MOMENT).0, 1);
        // What a call costs is no reason for few.
        for call in [1_000_000, 3_000_000] {
            let (at_once, most) = settled(|n| call + 500 * n);
            assert_eq!(at_once, limits::BATCH_MESSAGES, "{call}");
            assert!(most <= limits::MOMENT, "{most}");
        }
        let (at_once, most) = settled(|n| 1_000_000 + 400 * n * n);
        assert!((32..=80).contains(&at_once), "{at_once}");
        assert!(most <= limits::MOMENT, "{most}");
    }

    #[test]
    fn one_call_that_was_dear_or_failed_is_got_over() {
        let pace = Pace::default();
        pace.took(1, 2 * limits::MOMENT, true);
        assert_eq!(pace.at_once(), 1);
        for _ in 0..8 {
            pace.took(pace.at_once() as u32, 1_000, true);
        }
        assert_eq!(pace.at_once(), limits::BATCH_MESSAGES);
        pace.took(256, 5_000, false);
        assert_eq!(pace.at_once(), limits::BATCH_MESSAGES);
        pace.took(256, 7_000_000, false);
        assert_eq!(pace.at_once(), 128);
        // A few that come at the end of a queue say nothing about many.
        pace.took(1, 1_000, true);
        assert_eq!(pace.at_once(), 128);
    }
}
