//! Recovery: reads the whole log at start, tells a torn tail from corruption, and rebuilds what is
//! derived from it.
//!
//! Every group says up to where the log was durable when it was written. Let W be the highest such
//! mark anywhere (the checkpoint's included) and X where the first thing is wrong. X ≥ W: nothing
//! that was acknowledged is lost, this is the torn tail of a crash; it is put aside and cleared.
//! X < W: bytes that were durable are damaged; the store refuses to open and changes nothing.

use std::path::Path;
use std::sync::Arc;

use quern_protocol::{LogPosition, RecordKind, Tag};

use crate::Observer;
use crate::consume_queue::{ConsumeQueues, Entry};
use crate::dispatch::Dispatched;
use crate::error::OpenError;
use crate::fs::{self, Fs};
use crate::group::{GROUP_HEADER, GroupHeader, GroupKind, Scanned, verify};
use crate::limits;
use crate::scan::{Next, Scan};
use crate::segment::{LogId, SEGMENT_HEADER, Segment};

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
    pub(crate) records: u64,
    pub(crate) torn: Option<TornTail>,
}

/// What recovery works with.
pub(crate) struct Recovery<'a> {
    pub(crate) fs: &'a Arc<dyn Fs>,
    pub(crate) dir: &'a Path,
    pub(crate) log_dir: &'a Path,
    pub(crate) log: LogId,
    /// From the checkpoint.
    pub(crate) durable: u64,
    pub(crate) clean: bool,
    pub(crate) queues: &'a ConsumeQueues,
    pub(crate) observer: &'a mut Observer,
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
    pub(crate) fn run(mut self) -> Result<Found, OpenError> {
        let mut found = Found {
            segments: Segment::open_all(&**self.fs, self.log_dir, self.log, self.durable)?,
            ..Found::default()
        };
        let segments = found.segments.clone();
        for (index, segment) in segments.iter().enumerate() {
            let is_last = index + 1 == segments.len();
            if is_last && !self.clean {
                // What the page cache holds proves nothing about the disk.
                let flushed = segment.file.sync_data().and_then(|()| segment.file.evict());
                flushed.map_err(unusable(self.log_dir))?;
            }
            found.end = segment.base + SEGMENT_HEADER;
            found.sealed = false;
            let end = self.read(segment, &mut found)?;
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
        Ok(found)
    }

    /// Reads group after group until the seal or the first thing that is none.
    fn read(&mut self, segment: &Segment, found: &mut Found) -> Result<End, OpenError> {
        let mut scan = Scan::new(segment, self.log);
        loop {
            let next = scan.group(found.end, Some(found.previous_crc));
            let (header, crc, group) = match next.map_err(|error| self.io(segment, error))? {
                Next::Group { header, crc, bytes } => (header, crc, bytes),
                Next::Nothing(why) => return Ok(End::At(why)),
            };
            let records = match verify(&group, &header) {
                Ok(records) => records,
                Err(why) => return Ok(End::At(why)),
            };
            if let Some(why) = self.misplaced(&records) {
                return Ok(End::At(why));
            }
            self.apply(&records);
            found.records += records.len() as u64;
            found.previous_crc = crc;
            found.last_stored_at = header.stored_at;
            found.end += u64::from(header.len);
            self.durable = self.durable.max(header.durable_upto.0);
            if header.kind == GroupKind::Seal {
                return Ok(End::Sealed);
            }
        }
    }

    fn io(&self, segment: &Segment, source: std::io::Error) -> OpenError {
        OpenError::Unusable {
            path: Segment::path(self.log_dir, segment.base),
            source,
        }
    }

    /// Queue offsets have no gaps, so a record out of its order is damage like any other.
    fn misplaced(&self, records: &[Scanned<'_>]) -> Option<String> {
        let mut next = std::collections::HashMap::new();
        for Scanned { header, .. } in records {
            if header.kind != RecordKind::Message {
                continue;
            }
            let key = (header.topic, header.queue);
            let next = next.entry(key).or_insert_with(|| self.queues.end(key).0);
            if header.queue_offset.0 != *next {
                return Some(format!(
                    "a record has queue offset {}, the next is {next}",
                    header.queue_offset
                ));
            }
            *next += 1;
        }
        None
    }

    fn apply(&mut self, records: &[Scanned<'_>]) {
        for Scanned { header, block } in records {
            let event = if header.kind == RecordKind::Message {
                let entry = Entry {
                    offset: header.queue_offset,
                    position: header.position,
                    size: header.len,
                    tag_code: Tag::code(block.tag()),
                };
                let key = (header.topic, header.queue);
                Dispatched::Message {
                    topic: header.topic,
                    queue: header.queue,
                    next: self.queues.append(key, std::iter::once(entry)),
                }
            } else {
                Dispatched::State {
                    kind: header.kind,
                    position: header.position,
                    body: block.body(),
                }
            };
            (self.observer)(event);
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
        found.torn = Some(self.put_aside(segment, position, &tail[..=last])?);
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

    /// Archives a torn tail, then clears it, so that it can never be taken for something newer.
    fn put_aside(
        &self,
        segment: &Segment,
        position: u64,
        torn: &[u8],
    ) -> Result<TornTail, OpenError> {
        let quarantine = self.dir.join("quarantine");
        let name = format!("{position:020}.tail");
        let keep = || {
            self.fs.create_dir(&quarantine)?;
            fs::write_whole(&**self.fs, &quarantine, &name, torn)?;
            if cfg!(zoo = "z9") {
                return Ok(());
            }
            let zeros = vec![0; torn.len()];
            segment.file.write_at(&zeros, position - segment.base)?;
            segment.file.sync_data()
        };
        keep().map_err(unusable(&quarantine))?;
        Ok(TornTail {
            position: LogPosition(position),
            bytes: torn.len() as u64,
            kept_in: format!("quarantine/{name}"),
        })
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
