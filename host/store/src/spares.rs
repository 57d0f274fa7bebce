//! Segments made ahead of need, in the background: reserving a file's space takes longer than a
//! group should wait.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use quern_protocol::{Epoch, LogPosition};

use crate::clock::Clock;
use crate::fs::{File, Fs};
use crate::queue::{Queue, Spare};
use crate::segment::{LogId, Segment, SegmentHeader};
use crate::steps::Turn;

/// Where segments are made.
#[derive(Debug, Clone)]
pub(crate) struct Yard {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) dir: PathBuf,
    pub(crate) log: LogId,
    pub(crate) size: u64,
}

const SPARE: &str = "spare";

impl Yard {
    fn make(&self) -> io::Result<Arc<dyn File>> {
        let file = self.fs.create(&self.dir.join(SPARE), self.size)?;
        if cfg!(zoo = "z8") {
            self.use_again(&*file)?;
        }
        Ok(file)
    }

    /// Of the zoo: a file that was a segment before and still holds it all.
    fn use_again(&self, file: &dyn File) -> io::Result<()> {
        let Ok(old) = self.fs.open_to_read(&Segment::path(&self.dir, 0)) else {
            return Ok(());
        };
        let mut bytes = vec![0; self.size as usize];
        let read = old.read_at(&mut bytes, 0)?;
        file.write_at(&bytes[..read], 0)
    }

    /// Makes a file the segment that begins at `base`; durable when this returns.
    pub(crate) fn install(&self, file: &Arc<dyn File>, base: u64) -> io::Result<Segment> {
        file.sync_data()?;
        let (spare, path) = (self.dir.join(SPARE), Segment::path(&self.dir, base));
        self.fs.rename(&spare, &path)?;
        self.fs.sync_dir(&self.dir)?;
        Ok(Segment {
            base,
            size: self.size,
            file: Arc::clone(file),
        })
    }

    /// The first segment of a log.
    pub(crate) fn first(&self, epoch: Epoch) -> io::Result<Segment> {
        let file = self.make()?;
        self.write_header(&file, 0, epoch)?;
        self.install(&file, 0)
    }

    /// Before it is installed.
    pub(crate) fn write_header(
        &self,
        file: &Arc<dyn File>,
        base: u64,
        epoch: Epoch,
    ) -> io::Result<()> {
        let header = SegmentHeader {
            log: self.log,
            base: LogPosition(base),
            size: self.size,
            created_at: self.clock.wall_ms(),
            epoch,
        };
        file.write_at(&header.encode(), 0)
    }
}

/// Makes the next spare.
pub(crate) struct Maker {
    pub(crate) yard: Yard,
    pub(crate) queue: Arc<Queue>,
}

impl Maker {
    pub(crate) fn turn(&mut self) -> Turn {
        {
            let mut state = self.queue.lock();
            if state.appender_done || state.failed.is_some() {
                return Turn::Ended;
            }
            if !matches!(state.spare, Spare::Wanted) {
                return Turn::Waiting(None);
            }
            state.spare = Spare::Making;
        }
        let made = self.yard.make();
        self.queue.lock().spare = Spare::Made(made);
        self.queue.for_appender.notify_one();
        Turn::Moved
    }
}
