//! Counters of one broker, since it started. Read by `Status` and `WaitFigures`.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::wait_figures::Waits;

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) messages_in: Counter,
    pub(crate) messages_out: Counter,
    /// Queue entries the tag-hash pre-check spared the filters.
    pub(crate) messages_skipped: Counter,
    /// Replies that came, or would have been fetched, after the request's time.
    pub(crate) replies_late: Counter,
    pub(crate) waits: Waits,
}
