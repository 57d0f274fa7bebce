//! How many messages a filter is asked about at once: what it judges in a moment, so that who asks a heavy one can give
//! way to others between two calls, and no call is begun that uses up its fuel for nothing. A light one is soon asked
//! about as many as there may be, for a call costs something whatever is in it.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::limits;

/// See the module.
#[derive(Debug)]
pub(crate) struct Pace(AtomicUsize);

impl Default for Pace {
    fn default() -> Self {
        Self(AtomicUsize::new(limits::FIRST_MESSAGES))
    }
}

impl Pace {
    pub(crate) fn at_once(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// A call took so much fuel. The next has twice as many messages only if it will not take too long even where two cost
    /// four times as much as one.
    pub(crate) fn took(&self, messages: u32, fuel: u64, is_answered: bool) {
        let (messages, now) = (messages as usize, self.at_once());
        let affordable = (messages as u64 * limits::MOMENT / fuel.max(1)) as usize;
        let next = match is_answered {
            // It may have been too much; a message that the guest fails on at once says nothing of the others.
            false if fuel > limits::MOMENT => now.min(messages / 2),
            false => now,
            true if fuel > limits::MOMENT => now.min(affordable),
            true if fuel <= limits::MOMENT / 4 => now.max(2 * messages),
            true => now,
        };
        let next = next.clamp(1, limits::BATCH_MESSAGES);
        if next != now {
            self.0.store(next, Ordering::Relaxed);
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
