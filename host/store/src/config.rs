//! What an operator decides about storage, and the world it runs in.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, RealClock};
use crate::fs::{Fs, RealFs};
use crate::limits;
use crate::progress::Progress;
use crate::retention::Retention;

#[derive(Debug, Clone)]
pub struct Config {
    /// The data directory; made if it is not there.
    pub dir: PathBuf,
    /// Bytes of a log segment, at least 64 KiB; `None` = 1/256 of the file system, 8 to 256 MiB.
    pub segment_size: Option<u64>,
    /// After so much silence the log notes that all of it is durable, so that damage to its end is
    /// told from a torn tail. Default: 50 ms.
    pub stamp_after: Duration,
    /// After so many bytes of log it is noted what they come to: about twice as many are read again after
    /// a crash. Default: 256 MiB.
    pub checkpoint_every: u64,
    pub retention: Retention,
    pub read_mode: ReadMode,
    /// Messages that may wait for their time, and as many for the outcome of their transaction; more are
    /// refused. Each takes about 100 bytes of memory.
    /// Default: 2,000,000.
    pub most_waiting: usize,
    /// Messages that may be kept behind their segments; with more, old segments stay. Each takes about 40 bytes of memory.
    /// Default: 2,000,000.
    pub most_kept: usize,
    /// Says while the store opens how far it is.
    pub progress: Arc<Progress>,
}

/// How runs of messages are read from segments that no longer change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadMode {
    /// They are copied into memory of our own; a sector that cannot be read is an error.
    #[default]
    Pread,
    /// They are mapped, and read in before anybody touches them. Should the kernel take such a page away
    /// again and then be unable to read it, the process ends (SIGBUS).
    Mmap,
}

impl Config {
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            segment_size: None,
            stamp_after: Duration::from_millis(50),
            checkpoint_every: limits::CHECKPOINT,
            retention: Retention::default(),
            read_mode: ReadMode::default(),
            most_waiting: limits::WAITING,
            most_kept: limits::KEPT,
            progress: Arc::default(),
        }
    }
}

/// Files and clocks: the machine's, or simulated ones.
#[derive(Debug, Clone)]
pub struct Env {
    pub fs: Arc<dyn Fs>,
    pub clock: Arc<dyn Clock>,
}

impl Env {
    pub fn real() -> Self {
        Self {
            fs: Arc::new(RealFs),
            clock: Arc::new(RealClock::default()),
        }
    }
}
