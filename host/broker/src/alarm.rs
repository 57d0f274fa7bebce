//! How what the broker does by itself waits: until the earliest moment at which there can be something to do, which
//! whoever makes it an earlier one says, and for as long as it takes while there is nothing. So a broker on which
//! nothing waits wakes up for nothing.
//!
//! One that sleeps until a moment of the log's clock looks at that clock now and then, for the machine's may be set,
//! or have gone on while the machine slept: what is due by then is not to wait for how long it was away before.

use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::{Broker, limits};

/// Wakes one chore.
#[derive(Debug)]
pub(crate) struct Alarm {
    /// Whatever is due before is worth waking up for, ms.
    until: AtomicU64,
    bell: Notify,
}

impl Default for Alarm {
    fn default() -> Self {
        Self {
            until: AtomicU64::new(u64::MAX),
            bell: Notify::new(),
        }
    }
}

/// The alarms of a broker's chores.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    /// Messages for later; the log's clock.
    pub(crate) timers: Alarm,
    /// Transactions that are open; the log's clock.
    pub(crate) checks: Alarm,
    /// Topics that keep their messages as they say; the log's clock.
    pub(crate) retention: Alarm,
    /// Topics that are deleted; the log's clock.
    pub(crate) deletion: Alarm,
    /// Members of groups; the steady clock.
    pub(crate) members: Alarm,
}

impl Alarms {
    /// The broker is gone.
    pub(crate) fn ring_all(&self) {
        let Self {
            timers,
            checks,
            retention,
            deletion,
            members,
        } = self;
        [timers, checks, retention, deletion, members]
            .into_iter()
            .for_each(Alarm::ring);
    }
}

/// When a chore has something to do again, as it was seen when it was done last; ms, `None` = when the alarm rings.
pub(crate) type Next = Option<u64>;

impl Alarm {
    /// The chore looks for what there is to do. What comes from now on it may miss, and rings.
    pub(crate) fn awake(&self) {
        self.until.store(u64::MAX, Ordering::SeqCst);
    }

    /// There will be something to do at a moment. Called after it can be seen.
    pub(crate) fn due(&self, at: u64) {
        if at < self.until.load(Ordering::SeqCst) {
            self.ring();
        }
    }

    /// There may be something to do.
    pub(crate) fn ring(&self) {
        self.bell.notify_one();
    }

    /// Sleeps until then, or until it rings. False: the broker is gone.
    pub(crate) async fn sleep(&self, broker: &Weak<Broker>, by: By, next: Next) -> bool {
        self.until.store(next.unwrap_or(u64::MAX), Ordering::SeqCst);
        loop {
            let Some(now) = broker.upgrade().map(|it| by.now(&it)) else {
                return false;
            };
            let Some(at) = next else {
                self.bell.notified().await;
                return broker.strong_count() > 0;
            };
            if at <= now {
                return true;
            }
            let rest = Duration::from_millis(at - now).min(by.look());
            let rung = tokio::time::timeout(rest, self.bell.notified()).await;
            if rung.is_ok() {
                return broker.strong_count() > 0;
            }
        }
    }
}

/// The clock that says when something is due.
#[derive(Debug, Clone, Copy)]
pub(crate) enum By {
    Log,
    /// Nobody sets it.
    Steady,
}

impl By {
    fn now(self, broker: &Broker) -> u64 {
        match self {
            Self::Log => broker.store.now_ms(),
            Self::Steady => broker.store.steady_ms(),
        }
    }

    /// It is looked at this often.
    fn look(self) -> Duration {
        match self {
            Self::Log => limits::CLOCK_LOOK,
            Self::Steady => Duration::MAX,
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.alarms.ring_all();
    }
}
