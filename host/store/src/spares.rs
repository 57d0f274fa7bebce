//! Files that become segments, made ahead of need and in the background: taking a file's space lasts longer than
//! a group should wait, and when there is none left, it is too late.
//!
//! There is one spare, and two smaller reserves for when there is no space for another: one for what the broker
//! itself has to say, the other only for what lets old segments go. A log that has gone on in a reserve takes
//! nothing of lesser importance until spare and reserves are there again.
//!
//! ```text
//! commitlog/spare      becomes the next segment
//! commitlog/reserve-1  for records of the broker's own
//! commitlog/reserve-2  for snapshots and for records that are carried on
//! ```

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use quern_protocol::{Epoch, LogPosition};

use crate::error::is_full;
use crate::fs::{File, Fs};
use crate::limits;
use crate::queue::Queue;
use crate::segment::{LogId, Segment, SegmentHeader};
use crate::steps::Turn;

/// What a batch is for. The greater, the longer it is taken when space runs out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Claim {
    Users,
    Broker,
    /// It is needed so that old segments can go.
    MakesRoom,
}

/// Files of the reserve, and whom they are for.
const RESERVES: [(&str, Claim); 2] = [
    ("reserve-1", Claim::Broker),
    ("reserve-2", Claim::MakesRoom),
];
const SPARE: &str = "spare";

/// A file that is no segment yet, zeros but for a header.
#[derive(Debug)]
pub(crate) struct Blank {
    file: Arc<dyn File>,
    name: &'static str,
    size: u64,
}

/// The next segment.
#[derive(Debug, Default)]
pub(crate) enum Spare {
    #[default]
    Wanted,
    Making,
    Made(io::Result<Blank>),
    /// On its way to being a segment.
    Taken,
}

/// All that is made ahead.
#[derive(Debug, Default)]
pub(crate) struct Stock {
    pub(crate) spare: Spare,
    reserves: [Option<Blank>; 2],
    /// There was no space for one of the reserves; it is not tried again before somebody asks.
    is_short: bool,
    /// The log is in a reserve, and takes nothing less.
    least: Option<Claim>,
}

/// What to make next.
#[derive(Debug, Clone, Copy)]
enum Task {
    Spare,
    Reserve(usize),
}

impl Stock {
    /// The next segment for a group of so many bytes; `None` when the spare is being made.
    pub(crate) fn take(&mut self, claim: Claim, len: u64) -> Option<io::Result<Blank>> {
        match std::mem::replace(&mut self.spare, Spare::Taken) {
            Spare::Made(Ok(blank)) => {
                self.least = self.least.map(|_| Claim::Broker);
                Some(Ok(blank))
            }
            Spare::Made(Err(error)) if is_full(&error) => {
                Some(self.take_reserve(claim, len).ok_or(error))
            }
            Spare::Made(Err(error)) => Some(Err(error)),
            Spare::Wanted | Spare::Making | Spare::Taken => None,
        }
    }

    fn take_reserve(&mut self, claim: Claim, len: u64) -> Option<Blank> {
        for (reserve, (_, whom_for)) in self.reserves.iter_mut().zip(RESERVES) {
            let fits = reserve.as_ref().is_some_and(|it| len <= it.size);
            if claim >= whom_for && fits {
                self.least = Some(whom_for);
                return reserve.take();
            }
        }
        None
    }

    /// Whether what is there is kept for others.
    pub(crate) fn refuses(&self, claim: Claim) -> bool {
        self.least.is_some_and(|least| claim < least)
    }

    pub(crate) fn is_whole(&self) -> bool {
        matches!(self.spare, Spare::Made(Ok(_))) && self.reserves.iter().all(Option::is_some)
    }

    fn task(&self) -> Option<Task> {
        if matches!(self.spare, Spare::Wanted) {
            return Some(Task::Spare);
        }
        let missing = self.reserves.iter().position(Option::is_none)?;
        // A spare that is wanted soon goes first.
        let may_try = !self.is_short && matches!(self.spare, Spare::Made(_));
        may_try.then_some(Task::Reserve(missing))
    }

    pub(crate) fn has_task(&self) -> bool {
        self.task().is_some()
    }

    /// There may be space again: what could not be made is tried once more.
    pub(crate) fn try_again(&mut self) {
        self.is_short = false;
        if matches!(&self.spare, Spare::Made(Err(error)) if is_full(error)) {
            self.spare = Spare::Wanted;
        }
    }

    fn put(&mut self, task: Task, made: io::Result<Blank>) {
        match task {
            Task::Spare => self.spare = Spare::Made(made),
            Task::Reserve(index) => {
                self.is_short = made.is_err();
                self.reserves[index] = made.ok();
            }
        }
        if self.is_whole() {
            self.least = None;
        }
    }
}

/// Where segments are made.
#[derive(Debug, Clone)]
pub(crate) struct Yard {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) dir: PathBuf,
    pub(crate) log: LogId,
    pub(crate) size: u64,
}

impl Yard {
    fn make(&self, name: &'static str, size: u64) -> io::Result<Blank> {
        let file = self.fs.create(&self.dir.join(name), size)?;
        if cfg!(zoo = "z8") {
            self.use_again(&*file)?;
        }
        Ok(Blank { file, name, size })
    }

    /// A reserve of an earlier life, or a new one. Only a header can have been written to it: groups are written
    /// to segments, and those have their name for good before.
    fn make_reserve(&self, index: usize) -> io::Result<Blank> {
        let (name, _) = RESERVES[index];
        let size = self.reserve_size();
        match self.fs.open(&self.dir.join(name)) {
            Ok(file) if file.len()? == size => Ok(Blank { file, name, size }),
            _ => self.make(name, size),
        }
    }

    fn reserve_size(&self) -> u64 {
        let share = (self.size / limits::RESERVE_SHARE).next_multiple_of(4_096);
        share.clamp(limits::RESERVE_MIN.min(self.size), self.size)
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

    /// Writes what the segment will say of itself.
    pub(crate) fn address(
        &self,
        blank: &Blank,
        (base, created_at): (u64, u64),
        epoch: Epoch,
    ) -> io::Result<SegmentHeader> {
        let header = SegmentHeader {
            log: self.log,
            base: LogPosition(base),
            size: blank.size,
            created_at,
            epoch,
        };
        blank.file.write_at(&header.encode(), 0)?;
        Ok(header)
    }

    /// Makes a file, its header written, the segment it says it is; durable when this returns.
    pub(crate) fn install(&self, blank: &Blank, header: &SegmentHeader) -> io::Result<Segment> {
        blank.file.sync_data()?;
        let path = Segment::path(&self.dir, header.base.0);
        self.fs.rename(&self.dir.join(blank.name), &path)?;
        self.fs.sync_dir(&self.dir)?;
        Ok(Segment::new(header, Arc::clone(&blank.file)))
    }

    /// The first segment of a log.
    pub(crate) fn first(&self, created_at: u64, epoch: Epoch) -> io::Result<Segment> {
        let blank = self.make(SPARE, self.size)?;
        let header = self.address(&blank, (0, created_at), epoch)?;
        self.install(&blank, &header)
    }
}

/// Makes what is missing.
pub(crate) struct Maker {
    pub(crate) yard: Yard,
    pub(crate) queue: Arc<Queue>,
}

impl Maker {
    pub(crate) fn turn(&mut self) -> Turn {
        let task = {
            let mut state = self.queue.lock();
            if state.appender_done || state.failed.is_some() {
                return Turn::Ended;
            }
            let Some(task) = state.stock.task() else {
                return Turn::Waiting(None);
            };
            if let Task::Spare = task {
                state.stock.spare = Spare::Making;
            }
            task
        };
        let made = match task {
            Task::Spare => self.yard.make(SPARE, self.yard.size),
            Task::Reserve(index) => self.yard.make_reserve(index),
        };
        self.queue.lock().stock.put(task, made);
        self.queue.for_appender.notify_one();
        Turn::Moved
    }
}
