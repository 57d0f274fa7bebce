//! Whether somebody writes to the log just now.
//!
//! A disk does what it is given in about the order it comes, so a sync waits for all reads before it. Who reads a
//! log from its beginning asks for megabytes at once, and the kernel for more ahead of that. So while the log is
//! written to, a thread that reads many records asks for little at once, and nothing is read ahead: `crate::stretch`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Clock;
use crate::limits;

#[derive(Debug)]
pub(crate) struct Traffic {
    clock: Arc<dyn Clock>,
    /// Until then the log counts as written to, by the steady clock, ms.
    until: AtomicU64,
}

impl Traffic {
    pub(crate) fn new(clock: &Arc<dyn Clock>) -> Self {
        Self {
            clock: Arc::clone(clock),
            until: AtomicU64::new(0),
        }
    }

    /// A sync begins, and nobody knows how long it takes.
    pub(crate) fn sync_begins(&self) {
        self.until.store(u64::MAX, Ordering::Relaxed);
    }

    pub(crate) fn sync_ended(&self) {
        let until = self.clock.steady_ms() + limits::WRITTEN_TO;
        self.until.store(until, Ordering::Relaxed);
    }

    pub(crate) fn is_there(&self) -> bool {
        self.clock.steady_ms() < self.until.load(Ordering::Relaxed)
    }
}
