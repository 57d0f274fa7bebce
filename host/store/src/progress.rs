//! How far a start has come with reading the log. Whoever wants to know looks at it when it likes: the
//! store waits for nobody.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of the log, read and to be read.
#[derive(Debug, Default)]
pub struct Progress {
    read: AtomicU64,
    of: AtomicU64,
}

impl Progress {
    /// Bytes that have been read, and how many there are to read, as far as can be told: both 0 before it
    /// begins.
    pub fn figures(&self) -> (u64, u64) {
        let read = self.read.load(Ordering::Relaxed);
        (read, self.of.load(Ordering::Relaxed).max(read))
    }

    pub(crate) fn begin(&self, of: u64) {
        self.of.store(of, Ordering::Relaxed);
    }

    pub(crate) fn reached(&self, read: u64) {
        self.read.store(read, Ordering::Relaxed);
    }
}
