//! Looks at a log offline: reads and verifies everything in it, tells what is there, changes nothing.
//!
//! Unlike recovery, which stops at the first damage, this goes on behind it, so that a person sees
//! all of it.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;

use bytes::Bytes;
use quern_protocol::{Epoch, LogPosition, QueueId, RecordHeader, RecordKind, TopicId};

use crate::checkpoint::Checkpoints;
use crate::directory;
use crate::error::OpenError;
use crate::fs::Fs;
use crate::group::{GROUP_HEADER, GroupHeader, GroupKind, Unreadable, verify};
use crate::scan::{Next, Scan};
use crate::segment::{LogId, SEGMENT_HEADER, Segment};
use crate::snapshot::{self, StateFile};

/// Something in the log, in its order.
#[derive(Debug)]
pub enum Item<'a> {
    Segment {
        file: String,
        base: LogPosition,
        size: u64,
    },
    Group {
        position: LogPosition,
        bytes: u32,
        records: u32,
        stored_at: u64,
        durable_upto: LogPosition,
        /// "data", "stamp" or "seal".
        kind: &'static str,
        chain: Chain,
    },
    /// What a snapshot says of the state, in place of older records.
    Recalled { kind: RecordKind, body: &'a [u8] },
    /// `bytes` is the whole record, verified.
    Record {
        header: RecordHeader,
        bytes: &'a [u8],
    },
}

/// How a group hangs together with the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    pub crc: u32,
    pub previous_crc: u32,
    pub epoch: Epoch,
}

/// Bytes that are not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// File of the segment.
    pub file: String,
    pub from: LogPosition,
    /// Where what is good goes on, or the segment ends.
    pub to: LogPosition,
    pub why: String,
}

/// What a log is, all in all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audit {
    pub segments: usize,
    pub groups: u64,
    pub records: u64,
    pub messages: u64,
    /// Where the last good group ends.
    pub end: LogPosition,
    /// The log was durable at least up to here.
    pub durable: LogPosition,
    /// It was closed; the next start has nothing to doubt.
    pub clean: bool,
    /// In what was durable: the node will not start.
    pub damage: Vec<Damage>,
    /// Behind what was durable, as a crash leaves it: the next start puts it aside.
    pub torn: Option<Damage>,
}

/// Reads the log of a data directory that no process has open. Once `visit` breaks off, what is
/// returned is about what it has seen. Blocks.
pub fn audit(
    dir: &Path,
    fs: &dyn Fs,
    visit: &mut dyn FnMut(Item<'_>) -> ControlFlow<()>,
) -> Result<Audit, OpenError> {
    let unusable = |source| OpenError::Unusable {
        path: dir.to_owned(),
        source,
    };
    let (_lock, log) = directory::look(fs, dir)?;
    let checkpoint = Checkpoints::read(fs, dir).map_err(unusable)?;
    let checkpoint = checkpoint.unwrap_or_default();
    let log_dir = dir.join("commitlog");
    let segments = Segment::open_all(fs, &log_dir, log, &checkpoint)?;
    // A state file that a start goes by is true of what was durable.
    let head = segments.first().map_or(0, |first| first.base);
    let state = StateFile::read(fs, dir, &log).map_err(unusable)?;
    let state = state.filter(|file| file.replay_from >= head);
    let known = LogPosition(state.map_or(0, |file| file.as_of));
    // And no segment is begun before the one before it is sealed, and the seal is durable.
    let last = LogPosition(segments.last().map_or(0, |last| last.base));
    let known = known.max(last);
    let is_whole = segments.first().is_none_or(|first| first.base == 0);
    let mut reader = Reader {
        visit,
        stopped: false,
        log,
        found: Audit {
            segments: segments.len(),
            durable: checkpoint.durable.max(known),
            clean: checkpoint.clean,
            ..Audit::default()
        },
        previous_crc: is_whole.then_some(0),
        later: None,
        next_offsets: HashMap::new(),
    };
    for (index, segment) in segments.iter().enumerate() {
        let is_last = index + 1 == segments.len();
        reader.read(segment, is_last).map_err(unusable)?;
        if let Some((position, what)) = reader.later {
            return Err(OpenError::Later {
                dir: dir.to_owned(),
                position,
                what,
            });
        }
        if reader.stopped {
            return Ok(reader.found);
        }
    }
    let mut found = reader.found;
    if found.end < found.durable && found.damage.is_empty() {
        found.damage.push(Damage {
            file: Segment::file_name(segments.last().map_or(0, |last| last.base)),
            from: found.end,
            to: found.durable,
            why: "the log is cut short".to_owned(),
        });
    }
    // As recovery judges: whatever was durable ends before the first damage, and the rest was never
    // acknowledged.
    let torn = found.damage.iter().position(|it| it.from >= found.durable);
    if let Some(first) = torn {
        let mut tail = found.damage.split_off(first).into_iter();
        let end = found.end;
        found.torn = tail.next().map(|first| Damage {
            to: tail.map(|it| it.to).fold(first.to, Ord::max).max(end),
            ..first
        });
        found.end = found.torn.as_ref().map_or(end, |torn| torn.from);
    }
    Ok(found)
}

struct Reader<'a> {
    visit: &'a mut dyn FnMut(Item<'_>) -> ControlFlow<()>,
    /// The visitor has seen enough.
    stopped: bool,
    log: LogId,
    found: Audit,
    /// Something of a later format.
    later: Option<(LogPosition, String)>,
    /// `None` right behind damage: what came before is not known.
    previous_crc: Option<u32>,
    next_offsets: HashMap<(TopicId, QueueId), u64>,
}

impl Reader<'_> {
    fn tell(&mut self, item: Item<'_>) {
        if !self.stopped {
            self.stopped = (self.visit)(item).is_break();
        }
    }

    fn read(&mut self, segment: &Segment, is_last: bool) -> std::io::Result<()> {
        self.tell(Item::Segment {
            file: Segment::file_name(segment.base),
            base: LogPosition(segment.base),
            size: segment.size,
        });
        let mut scan = Scan::new(segment, self.log);
        let mut position = segment.base + SEGMENT_HEADER;
        self.found.end = LogPosition(position);
        loop {
            let good = match scan.group(position, self.previous_crc)? {
                Next::Group { header, crc, bytes } => self
                    .group(segment, (&header, crc), &bytes)
                    .map(|()| (header, crc)),
                Next::Nothing(why) => Err(why),
            };
            let good = match good {
                Ok(good) => Ok(good),
                Err(Unreadable::Damaged(why)) => Err(why),
                Err(Unreadable::Later(what)) => {
                    self.later = Some((LogPosition(position), what));
                    return Ok(());
                }
            };
            match good {
                Ok((header, crc)) => {
                    self.previous_crc = Some(crc);
                    position += u64::from(header.len);
                    self.found.end = LogPosition(position);
                    if header.kind == GroupKind::Seal || self.stopped {
                        return Ok(());
                    }
                }
                Err(why) => {
                    let resumed = scan.resume(position)?;
                    let to = match resumed {
                        Some(to) => to,
                        None if is_last => scan.used_up_to(position)?,
                        None => segment.end(),
                    };
                    if to > position {
                        self.damaged(segment, position, to, why);
                    }
                    match resumed {
                        Some(to) => position = to,
                        None => return Ok(()),
                    }
                }
            }
        }
    }

    fn damaged(&mut self, segment: &Segment, from: u64, to: u64, why: String) {
        self.previous_crc = None;
        // Some of each queue may be missing here.
        self.next_offsets.clear();
        self.found.damage.push(Damage {
            file: Segment::file_name(segment.base),
            from: LogPosition(from),
            to: LogPosition(to),
            why,
        });
    }

    fn group(
        &mut self,
        segment: &Segment,
        (header, crc): (&GroupHeader, u32),
        group: &Bytes,
    ) -> Result<(), Unreadable> {
        self.found.durable = self.found.durable.max(header.durable_upto);
        let records = verify(group, header)?;
        self.found.groups += 1;
        self.tell(Item::Group {
            position: header.position,
            bytes: header.len,
            records: header.records,
            stored_at: header.stored_at,
            durable_upto: header.durable_upto,
            kind: header.kind.name(),
            chain: Chain {
                crc,
                previous_crc: header.previous_crc,
                epoch: header.epoch,
            },
        });
        let mut at = GROUP_HEADER;
        for record in records {
            let header = record.header;
            self.found.records += 1;
            if header.kind == RecordKind::Message {
                self.found.messages += 1;
                if !header.extensions.carried {
                    self.in_order(segment, &header);
                }
            }
            if header.kind == RecordKind::Quarantine && header.topic.0 > 0 {
                // A repair has put the messages before it aside.
                let key = (header.topic, header.queue);
                self.next_offsets.insert(key, header.queue_offset.0);
            }
            if header.kind == RecordKind::Snapshot {
                for (kind, body) in snapshot::state_of(record.block.stored_body()) {
                    self.tell(Item::Recalled { kind, body: &body });
                }
            }
            let end = at + header.len as usize;
            self.tell(Item::Record {
                header,
                bytes: &group[at..end],
            });
            at = end;
        }
        Ok(())
    }

    fn in_order(&mut self, segment: &Segment, header: &RecordHeader) {
        let key = (header.topic, header.queue);
        let offset = header.queue_offset.0;
        if let Some(next) = self.next_offsets.insert(key, offset.saturating_add(1))
            && next != offset
        {
            self.found.damage.push(Damage {
                file: Segment::file_name(segment.base),
                from: header.position,
                to: LogPosition(header.position.0 + u64::from(header.len)),
                why: format!("a record has queue offset {offset}, the next is {next}"),
            });
        }
    }
}
