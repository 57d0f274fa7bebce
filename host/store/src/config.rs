//! What an operator decides about storage, and the world it runs in.

use std::path::PathBuf;
use std::sync::Arc;

use crate::clock::{Clock, RealClock};
use crate::fs::{Fs, RealFs};

#[derive(Debug, Clone)]
pub struct Config {
    /// The data directory; made if it is not there.
    pub dir: PathBuf,
    /// Bytes of a log segment, at least 1 MiB; `None` = 1/256 of the file system, 8 to 256 MiB.
    pub segment_size: Option<u64>,
}

impl Config {
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            segment_size: None,
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
