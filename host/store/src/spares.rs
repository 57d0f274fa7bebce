//! Segments made ahead of need, in the background: reserving a file's space takes longer than a
//! group should wait.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use quern_protocol::{Epoch, LogPosition};

use crate::fs::{File, Fs};
use crate::queue::{Queue, Spare};
use crate::segment::{LogId, Segment, SegmentHeader};
use crate::steps::Turn;

/// Where segments are made.
#[derive(Debug, Clone)]
pub(crate) struct Yard {
    pub(crate) fs: Arc<dyn Fs>,
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

    /// What a segment says of itself.
    pub(crate) fn header(&self, base: u64, created_at: u64, epoch: Epoch) -> SegmentHeader {
        SegmentHeader {
            log: self.log,
            base: LogPosition(base),
            size: self.size,
            created_at,
            epoch,
        }
    }

    /// Makes a file, its header written, the segment it says it is; durable when this returns.
    pub(crate) fn install(
        &self,
        file: &Arc<dyn File>,
        header: &SegmentHeader,
    ) -> io::Result<Segment> {
        file.sync_data()?;
        let (spare, path) = (
            self.dir.join(SPARE),
            Segment::path(&self.dir, header.base.0),
        );
        self.fs.rename(&spare, &path)?;
        self.fs.sync_dir(&self.dir)?;
        Ok(Segment::new(header, Arc::clone(file)))
    }

    /// The first segment of a log.
    pub(crate) fn first(&self, created_at: u64, epoch: Epoch) -> io::Result<Segment> {
        let file = self.make()?;
        let header = self.header(0, created_at, epoch);
        file.write_at(&header.encode(), 0)?;
        self.install(&file, &header)
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
