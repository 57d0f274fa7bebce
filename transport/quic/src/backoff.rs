//! How long to wait before connecting again: the policy alone, without a clock or randomness.

use std::time::Duration;

/// The first wait is at most this.
const FIRST: Duration = Duration::from_millis(50);
/// No wait is longer.
const LONGEST: Duration = Duration::from_secs(5);
/// A connection that lasted this long counts as good again.
const HEALTHY: Duration = Duration::from_secs(30);

/// First try at once, then full jitter under a bound that doubles from 50 ms to 5 s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backoff {
    tries: u32,
}

impl Backoff {
    pub fn new() -> Self {
        Self::default()
    }

    /// How long to wait before the next try; `random` is drawn evenly from 0 to 1.
    pub fn next(&mut self, random: f64) -> Duration {
        let Some(doublings) = self.tries.checked_sub(1) else {
            self.tries = 1;
            return Duration::ZERO;
        };
        let bound = FIRST.saturating_mul(1 << doublings.min(10)).min(LONGEST);
        self.tries = self.tries.saturating_add(1);
        bound.mul_f64(random.clamp(0.0, 1.0))
    }

    /// Tells how long the last connection was good.
    pub fn healthy(&mut self, lasted: Duration) {
        if lasted >= HEALTHY {
            self.tries = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_under_jitter_and_start_over_after_health() {
        let mut backoff = Backoff::new();
        let bounds: Vec<u128> = (0..10).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(
            bounds,
            [0, 50, 100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]
        );
        assert_eq!(backoff.next(0.5), Duration::from_millis(2_500));
        assert_eq!(backoff.next(0.0), Duration::ZERO);

        backoff.healthy(Duration::from_secs(29));
        assert_eq!(backoff.next(1.0), LONGEST);
        backoff.healthy(Duration::from_secs(30));
        assert_eq!(backoff.next(1.0), Duration::ZERO);
        assert_eq!(backoff.next(1.0), FIRST);
    }

    #[test]
    fn it_never_overflows() {
        let mut backoff = Backoff { tries: u32::MAX };
        assert_eq!(backoff.next(1.0), LONGEST);
        assert_eq!(backoff.next(7.0), LONGEST);
    }
}
