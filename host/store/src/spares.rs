//! Segments made ahead of need, in the background: reserving a file's space takes longer than a
//! group should wait.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, mpsc};
use std::thread;

use quern_protocol::{Epoch, LogPosition};

use crate::clock::Clock;
use crate::fs::{File, Fs};
use crate::segment::{LogId, Segment, SegmentHeader};

/// Where segments are made.
#[derive(Debug, Clone)]
pub(crate) struct Yard {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) dir: PathBuf,
    pub(crate) log: LogId,
    pub(crate) size: u64,
}

type Made = io::Result<Arc<dyn File>>;

const SPARE: &str = "spare";

impl Yard {
    fn make(&self) -> Made {
        self.fs.create(&self.dir.join(SPARE), self.size)
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

    fn write_header(&self, file: &Arc<dyn File>, base: u64, epoch: Epoch) -> io::Result<()> {
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

/// One spare, and the thread that makes the next.
pub(crate) struct Spares {
    yard: Yard,
    wanted: SyncSender<()>,
    made: Receiver<Made>,
}

impl Spares {
    /// The thread ends when this is dropped.
    pub(crate) fn start(yard: Yard) -> io::Result<(Self, thread::JoinHandle<()>)> {
        let (wanted, wants) = sync_channel(1);
        let (make, made): (mpsc::SyncSender<Made>, _) = sync_channel(1);
        let maker = yard.clone();
        let thread = thread::Builder::new()
            .name("quern-spares".to_owned())
            .spawn(move || {
                while let Ok(()) = wants.recv() {
                    if make.send(maker.make()).is_err() {
                        return;
                    }
                }
            })?;
        let spares = Self { yard, wanted, made };
        spares.want();
        Ok((spares, thread))
    }

    fn want(&self) {
        // A thread that has died is noticed when its spare is taken.
        let _ = self.wanted.try_send(());
    }

    /// The spare with the header of the segment that begins at `base`. After an error the next one
    /// is on order again.
    pub(crate) fn take(&self, base: u64, epoch: Epoch) -> io::Result<Arc<dyn File>> {
        let made = self.made.recv();
        let made = made.map_err(|_| io::Error::other("the thread that makes segments is gone"))?;
        let file = made.inspect_err(|_| self.want())?;
        self.yard
            .write_header(&file, base, epoch)
            .inspect_err(|_| self.want())?;
        Ok(file)
    }

    /// Makes what was taken a segment, and orders the next.
    pub(crate) fn install(&self, file: Arc<dyn File>, base: u64) -> io::Result<Segment> {
        let segment = self.yard.install(&file, base)?;
        self.want();
        Ok(segment)
    }
}
