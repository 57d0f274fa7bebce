//! Recovery: reads the log at start, tells a torn tail from corruption, and brings what is derived from
//! it up to its end.
//!
//! With a usable state file it reads on from where that leaves off; without one it reads everything and
//! makes all derived data anew.
//!
//! Every group says up to where the log was durable when it was written. Let W be the highest such mark
//! anywhere (those of checkpoint and state file included) and X where the first thing is wrong. X ≥ W:
//! nothing that was acknowledged is lost, this is the torn tail of a crash; it is put aside and cleared.
//! X < W: bytes that were durable are damaged; the store refuses to open and changes nothing.

use std::path::Path;
use std::sync::Arc;

use quern_protocol::{Epoch, LogPosition};

use crate::derived::{Derived, Mark, Reading};
use crate::error::OpenError;
use crate::fs::{self, Fs};
use crate::group::{GROUP_HEADER, GroupHeader, GroupKind, RecordsCrc, Unreadable, verify};
use crate::limits;
use crate::progress::Progress;
use crate::quarantine;
use crate::scan::{Next, Scan};
use crate::segment::{LogId, Segment};

/// A torn tail that was put aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    pub position: LogPosition,
    /// Bytes from there to the last that was not zero.
    pub bytes: u64,
    /// File in the data directory that holds them now.
    pub kept_in: String,
}

/// What reading the log found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) segments: Vec<Segment>,
    /// Where the next group goes.
    pub(crate) end: u64,
    pub(crate) sealed: bool,
    pub(crate) previous_crc: u32,
    pub(crate) last_stored_at: u64,
    /// Highest that a group was written in.
    pub(crate) epoch: Epoch,
    /// Records that were read.
    pub(crate) records: u64,
    pub(crate) torn: Option<TornTail>,
}

/// What recovery works with.
pub(crate) struct Recovery<'a> {
    pub(crate) fs: &'a Arc<dyn Fs>,
    pub(crate) dir: &'a Path,
    pub(crate) log_dir: &'a Path,
    pub(crate) log: LogId,
    /// Known before reading.
    pub(crate) durable: u64,
    pub(crate) clean: bool,
    /// The next life's, for the note that a tail was cut.
    pub(crate) epoch: Epoch,
    pub(crate) derived: &'a mut Derived,
    pub(crate) reading: Reading,
    pub(crate) progress: &'a Progress,
}

/// Where reading a segment stopped.
enum End {
    Sealed,
    /// Nothing valid begins here, for this reason.
    At(String),
}

fn unusable(path: &Path) -> impl Fn(std::io::Error) -> OpenError + '_ {
    move |source| OpenError::Unusable {
        path: path.to_owned(),
        source,
    }
}

impl Recovery<'_> {
    /// Reads from a mark on, or from the beginning.
    pub(crate) fn run(
        mut self,
        segments: Vec<Segment>,
        from: Option<Mark>,
    ) -> Result<Found, OpenError> {
        let mut found = Found {
            segments,
            ..Found::default()
        };
        let start = from.map_or(0, |mark| mark.position);
        let segments = found.segments.clone();
        let mut follows = from.map(|mark| mark.previous_crc);
        if from.is_none() && segments.first().is_some_and(|first| first.base == 0) {
            follows = Some(0);
        }
        let begin = start.max(segments.first().map_or(0, |first| first.base));
        // It may end before the last segment does, but not before what is known to be durable.
        let end = segments.last().map_or(0, |last| match self.durable {
            durable if durable > last.first() => durable,
            _ => last.end(),
        });
        self.progress.begin(end.saturating_sub(begin));
        for (index, segment) in segments.iter().enumerate() {
            if segment.end() <= start {
                continue;
            }
            let is_last = index + 1 == segments.len();
            if is_last && !self.clean {
                // What the page cache holds proves nothing about the disk.
                let flushed = segment.file.sync_data().and_then(|()| segment.file.evict());
                flushed.map_err(unusable(self.log_dir))?;
            }
            found.end = start.max(segment.first());
            if is_last {
                self.derived.enter(segment.base, found.end);
            }
            found.sealed = false;
            let end = self.read(segment, &mut found, (&begin, &mut follows))?;
            match end {
                End::Sealed => found.sealed = true,
                End::At(why) if is_last => self.judge_tail(segment, &mut found, why)?,
                End::At(why) => {
                    let durable = segments.get(index + 1).map_or(0, |next| next.base);
                    return Err(corrupt(self.dir, segment, found.end, durable, why));
                }
            }
        }
        if found.end < self.durable && !cfg!(zoo = "z5") {
            return Err(match found.segments.last() {
                Some(last) => corrupt(
                    self.dir,
                    last,
                    found.end,
                    self.durable,
                    "the log is cut short".into(),
                ),
                None => OpenError::Hole {
                    missing: LogPosition(0),
                },
            });
        }
        let later = |kind| OpenError::Later {
            dir: self.dir.to_owned(),
            position: LogPosition(found.end),
            what: format!("a snapshot has a state record of kind {kind}"),
        };
        self.derived.all_read(self.reading).map_err(later)?;
        Ok(found)
    }

    /// Reads group after group until the seal or the first thing that is none. `follows` is the checksum
    /// of the group before, where that is known.
    fn read(
        &mut self,
        segment: &Segment,
        found: &mut Found,
        (from, follows): (&u64, &mut Option<u32>),
    ) -> Result<End, OpenError> {
        let mut scan = Scan::new(segment, self.log);
        loop {
            let next = scan.group(found.end, *follows);
            let (header, crc, group) = match next.map_err(|error| self.io(segment, error))? {
                Next::Group { header, crc, bytes } => (header, crc, bytes),
                Next::Nothing(why) => return self.stop(found.end, why),
            };
            let records = match verify(&group, &header) {
                Ok(records) => records,
                Err(why) => return self.stop(found.end, why),
            };
            if let Some(why) = self.derived.misplaced(&records, &self.reading) {
                return Ok(End::At(why));
            }
            self.derived
                .read_again(&header, header.previous_crc, &records, &mut self.reading);
            found.records += records.len() as u64;
            *follows = Some(crc);
            found.previous_crc = crc;
            found.last_stored_at = header.stored_at;
            found.epoch = found.epoch.max(header.epoch);
            found.end += u64::from(header.len);
            self.progress.reached(found.end.saturating_sub(*from));
            self.durable = self.durable.max(header.durable_upto.0);
            if header.kind == GroupKind::Seal {
                return Ok(End::Sealed);
            }
        }
    }

    fn stop(&self, position: u64, why: Unreadable) -> Result<End, OpenError> {
        match why {
            Unreadable::Damaged(why) => Ok(End::At(why)),
            Unreadable::Later(what) => Err(OpenError::Later {
                dir: self.dir.to_owned(),
                position: LogPosition(position),
                what,
            }),
        }
    }

    fn io(&self, segment: &Segment, source: std::io::Error) -> OpenError {
        OpenError::Unusable {
            path: Segment::path(self.log_dir, segment.base),
            source,
        }
    }

    /// Damage at the end of the last segment: a torn tail, corruption, or just the end.
    fn judge_tail(
        &mut self,
        segment: &Segment,
        found: &mut Found,
        why: String,
    ) -> Result<(), OpenError> {
        let position = found.end;
        let tail = self.tail_bytes(segment, position)?;
        // Groups behind the damage tell how far the log was durable when they were written.
        for at in (0..tail.len().saturating_sub(GROUP_HEADER)).step_by(8) {
            let here = position + at as u64;
            if let Ok((header, _)) = GroupHeader::decode(&tail[at..], here, &self.log) {
                self.durable = self.durable.max(header.durable_upto.0);
            }
        }
        if position < self.durable && !cfg!(zoo = "z5") {
            return Err(corrupt(self.dir, segment, position, self.durable, why));
        }
        let Some(last) = tail.iter().rposition(|byte| *byte != 0) else {
            return Ok(());
        };
        found.torn = Some(self.put_aside(segment, found, &tail[..=last])?);
        Ok(())
    }

    fn tail_bytes(&self, segment: &Segment, position: u64) -> Result<Vec<u8>, OpenError> {
        let len = (segment.end() - position).min(limits::TAIL_SCAN) as usize;
        let mut tail = vec![0; len];
        let read = segment.file.read_at(&mut tail, position - segment.base);
        let read = read.map_err(|error| self.io(segment, error))?;
        tail.truncate(read);
        Ok(tail)
    }

    /// Archives a torn tail, then clears it, so that it can never be taken for something newer, and
    /// notes in the log that this was done.
    fn put_aside(
        &self,
        segment: &Segment,
        found: &mut Found,
        torn: &[u8],
    ) -> Result<TornTail, OpenError> {
        let position = found.end;
        let aside = self.dir.join(quarantine::DIR);
        let name = format!("{position:020}.tail");
        let at = position - segment.base;
        let keep = || {
            self.fs.create_dir(&aside)?;
            fs::write_whole(&**self.fs, &aside, &name, torn)?;
            if cfg!(zoo = "z9") {
                return Ok(());
            }
            segment.file.write_at(&vec![0; torn.len()], at)?;
            segment.file.sync_data()
        };
        keep().map_err(unusable(&aside))?;
        self.note_cut(segment, found).map_err(unusable(&aside))?;
        Ok(TornTail {
            position: LogPosition(position),
            bytes: torn.len() as u64,
            kept_in: format!("{}/{name}", quarantine::DIR),
        })
    }

    fn note_cut(&self, segment: &Segment, found: &mut Found) -> std::io::Result<()> {
        let len = GROUP_HEADER as u64;
        // A segment keeps room for its seal.
        if cfg!(zoo = "z9") || found.end + 2 * len > segment.end() {
            return Ok(());
        }
        let (header, crc) = GroupHeader {
            len: GROUP_HEADER as u32,
            previous_crc: found.previous_crc,
            position: LogPosition(found.end),
            durable_upto: LogPosition(found.end),
            stored_at: found.last_stored_at,
            epoch: self.epoch.max(Epoch(found.epoch.0 + 1)),
            records: 0,
            records_crc: RecordsCrc::new().finish(),
            kind: GroupKind::Truncation,
        }
        .encode(&self.log);
        segment.file.write_at(&header, found.end - segment.base)?;
        segment.file.sync_data()?;
        found.end += len;
        found.previous_crc = crc;
        Ok(())
    }
}

fn corrupt(dir: &Path, segment: &Segment, position: u64, durable: u64, why: String) -> OpenError {
    OpenError::Corrupt {
        dir: dir.to_owned(),
        file: Segment::file_name(segment.base),
        position: LogPosition(position),
        durable: LogPosition(durable),
        why,
    }
}
