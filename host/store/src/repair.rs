//! Repairs a log offline: what is damaged in its middle is put aside, and its place filled
//! ([`crate::filler`]), so that the node starts and serves all the rest at its old offsets.
//!
//! Nothing is destroyed: every byte that is replaced is in `quarantine/` before. A repair that dies goes
//! on when it is done again. Torn tails are not its business: the next start puts them aside.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use quern_protocol::{
    Epoch, LogPosition, QueueId, QueueOffset, RecordHeader, RecordKind, RecordView, TopicId,
};

use crate::audit::{Audit, Item, audit};
use crate::checkpoint::Checkpoints;
use crate::consume_queue::Key;
use crate::directory;
use crate::error::OpenError;
use crate::filler::{self, Filler, GoesOn};
use crate::fs::{self, Fs};
use crate::missing::{self, Heads};
use crate::segment::{LogId, SEGMENT_HEADER, Segment};
use crate::snapshot::{self, Assembly, Contents, StateFile};

const QUARANTINE: &str = "quarantine";
const PIECE: usize = 1024 * 1024;

/// Messages of a queue that are lost: from an offset up to another, not included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LostMessages {
    pub topic: TopicId,
    pub queue: QueueId,
    pub from: QueueOffset,
    pub to: QueueOffset,
}

/// A damaged range of the log, and what the good ones around it tell of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// File of the segment.
    pub file: String,
    pub from: LogPosition,
    pub to: LogPosition,
    /// Stored between these, ms of the log's clock; 0 = not known.
    pub stored: (u64, u64),
    /// Of the queues that go on behind it. Others may have lost messages at their end.
    pub messages: Vec<LostMessages>,
    /// Where its bytes are, in the data directory; `None` as long as nothing is done.
    pub kept_in: Option<String>,
}

/// What is damaged, or was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repair {
    /// Segments whose header is damaged, and those that are not there.
    pub segments: Vec<String>,
    /// Complete only once no segment lacks its header.
    pub lost: Vec<Lost>,
}

/// What a repair does to a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Nothing.
    DryRun,
    /// What there is to do.
    Apply,
}

/// Repairs the log of a data directory that no process has open, or says what there is to repair. Hands
/// out what is good in it meanwhile. Blocks.
pub fn repair(
    dir: &Path,
    fs: &Arc<dyn Fs>,
    mode: Mode,
    visit: &mut dyn FnMut(Item<'_>),
) -> Result<Repair, OpenError> {
    let unusable = |source| OpenError::Unusable {
        path: dir.to_owned(),
        source,
    };
    let log = directory::look(&**fs, dir)?.1;
    let checkpoint = Checkpoints::read(&**fs, dir).map_err(unusable)?;
    let head = checkpoint.filter(|it| it.is_known()).map(|it| it.head.0);
    let log_dir = dir.join("commitlog");
    let heads = Heads::find(&**fs, &log_dir, log, head).map_err(unusable)?;
    let segments = heads.names();
    if mode == Mode::Apply && !segments.is_empty() {
        let _lock = directory::look_alone(&**fs, dir)?;
        missing::make(&**fs, dir, &heads).map_err(unusable)?;
    } else if !segments.is_empty() {
        // What is in them is seen when they have headers.
        let lost = Vec::new();
        return Ok(Repair { segments, lost });
    }
    let mut state = state_file(&**fs, dir, &log).map_err(unusable)?;
    if let Some((_, contents)) = &state {
        for it in &contents.state {
            visit(Item::Recalled {
                kind: it.kind,
                body: &it.body,
            });
        }
    }
    let mut seen = Seen::default();
    let audited = audit(dir, &**fs, &mut |item| {
        seen.item(&item);
        visit(item);
        ControlFlow::Continue(())
    })?;
    seen.end(&audited);
    if let Some((file, contents)) = &state {
        seen.recalled(file.as_of, contents);
    }
    let plan = seen.plan();
    if let (true, Some(it)) = (plan.holes.is_empty(), audited.damage.first()) {
        return Err(unreparable(dir, &audited, it.from.0));
    }
    let mut lost: Vec<Lost> = plan
        .holes
        .iter()
        .map(|(hole, lost)| hole.lost(lost))
        .collect();
    if mode == Mode::DryRun || lost.is_empty() {
        return Ok(Repair { segments, lost });
    }
    let _lock = directory::look_alone(&**fs, dir)?;
    let work = Work {
        fs: &**fs,
        dir,
        log,
    };
    let first_crc = work.fill(&plan, &mut lost).map_err(unusable)?;
    if let Some((file, _)) = &mut state {
        seen.correct(file, first_crc.unwrap_or(seen.first_crc));
        file.write(&**fs, dir, &log).map_err(unusable)?;
    }
    drop(_lock);
    let after = audit(dir, &**fs, &mut |_| ControlFlow::Continue(()))?;
    match after.damage.first() {
        Some(left) => Err(unreparable(dir, &after, left.from.0)),
        None => Ok(Repair { segments, lost }),
    }
}

/// The file `state`, and what it says.
fn state_file(fs: &dyn Fs, dir: &Path, log: &LogId) -> io::Result<Option<(StateFile, Contents)>> {
    let file = StateFile::read(fs, dir, log)?;
    Ok(file.and_then(|file| {
        let contents = Contents::new(file.items.clone()).ok()?;
        Some((file, contents))
    }))
}

/// Damage that is no hole: whole records that do not follow each other.
fn unreparable(dir: &Path, audited: &Audit, position: u64) -> OpenError {
    let damage = audited.damage.iter().find(|it| it.from.0 == position);
    let (file, why) = damage.map_or_else(Default::default, |it| (it.file.clone(), it.why.clone()));
    OpenError::Corrupt {
        dir: dir.to_owned(),
        file,
        position: LogPosition(position),
        durable: audited.durable,
        why: format!("no repair is known for this: {why}"),
    }
}

/// A range without good groups.
#[derive(Debug, Clone)]
struct Hole {
    segment: u64,
    from: u64,
    to: u64,
    seals: bool,
    before: Neighbour,
    /// A good group lies right before it.
    follows_good: bool,
    /// What the group behind it names.
    wanted: Option<u32>,
    stored_to: u64,
}

/// The last good group.
#[derive(Debug, Clone, Copy, Default)]
struct Neighbour {
    crc: u32,
    epoch: Epoch,
    stored_at: u64,
}

impl Hole {
    fn lost(&self, jumps: &[Jump]) -> Lost {
        let messages = jumps.iter().map(|jump| LostMessages {
            topic: jump.key.0,
            queue: jump.key.1,
            from: QueueOffset(jump.from),
            to: QueueOffset(jump.to),
        });
        Lost {
            file: Segment::file_name(self.segment),
            from: LogPosition(self.from),
            to: LogPosition(self.to),
            stored: (self.before.stored_at, self.stored_to),
            messages: messages.collect(),
            kept_in: None,
        }
    }
}

/// Messages that are missing between two positions.
#[derive(Debug, Clone, Copy)]
struct Jump {
    key: Key,
    after: u64,
    before: u64,
    from: u64,
    to: u64,
}

struct Plan {
    holes: Vec<(Hole, Vec<Jump>)>,
}

/// What is known of a queue while its messages go by.
#[derive(Debug, Clone, Copy)]
struct Known {
    first: u64,
    next: u64,
    position: u64,
}

/// The good parts of a log, as they go by, and what is missing between them.
#[derive(Debug, Default)]
struct Seen {
    segment: u64,
    size: u64,
    /// Where the log begins, once a segment has been seen.
    head: Option<u64>,
    at: u64,
    sealed: bool,
    last: Neighbour,
    /// The last thing was a hole.
    in_hole: bool,
    holes: Vec<Hole>,
    queues: BTreeMap<Key, Known>,
    jumps: Vec<Jump>,
    /// What the first group names as the one before it.
    first_crc: u32,
    has_group: bool,
    assembly: Assembly,
}

impl Seen {
    fn item(&mut self, item: &Item<'_>) {
        match item {
            Item::Segment { base, size, .. } => {
                if self.head.is_none() {
                    self.head = Some(base.0);
                    self.sealed = true;
                }
                self.close(self.segment + self.size, true);
                (self.segment, self.size) = (base.0, *size);
                (self.at, self.sealed) = (base.0 + SEGMENT_HEADER, false);
            }
            Item::Group {
                position,
                bytes,
                stored_at,
                kind,
                chain,
                ..
            } => {
                self.close(position.0, false);
                if let Some(hole) = self.holes.last_mut().filter(|_| self.in_hole) {
                    hole.wanted = Some(chain.previous_crc);
                    hole.stored_to = *stored_at;
                }
                if !self.has_group && !self.in_hole {
                    self.first_crc = chain.previous_crc;
                }
                self.has_group = true;
                self.in_hole = false;
                self.last = Neighbour {
                    crc: chain.crc,
                    epoch: chain.epoch,
                    stored_at: *stored_at,
                };
                self.at = position.0 + u64::from(*bytes);
                self.sealed = *kind == "seal";
            }
            Item::Record { header, bytes } => {
                self.record(header);
                if header.kind == RecordKind::Snapshot {
                    self.snapshot(bytes);
                }
            }
            Item::Recalled { .. } => {}
        }
    }

    /// What lies before `to` was no good group.
    fn close(&mut self, to: u64, seals: bool) {
        if self.sealed || to <= self.at {
            return;
        }
        self.holes.push(Hole {
            segment: self.segment,
            from: self.at,
            to,
            seals,
            before: self.last,
            follows_good: !self.in_hole,
            wanted: None,
            stored_to: 0,
        });
        self.in_hole = true;
        self.sealed = seals;
    }

    /// The log ends: before what was durable, perhaps.
    fn end(&mut self, audited: &Audit) {
        let durable = audited.durable.0;
        // Behind it there is only what the next start puts aside.
        self.holes.retain(|hole| hole.from < durable);
        if self.sealed || self.at >= durable {
            return;
        }
        let here = audited.damage.iter().find(|it| it.from.0 == self.at);
        let to = here.map_or(durable, |it| it.to.0.max(durable));
        let len = (to - self.at).next_multiple_of(8);
        // Nothing has to follow, so it may be longer.
        let len = match filler::room(self.at, self.at + len, false) {
            0 => len.next_multiple_of(64),
            _ => len,
        };
        self.close((self.at + len).min(self.segment + self.size), false);
    }

    fn record(&mut self, header: &RecordHeader) {
        let key = (header.topic, header.queue);
        let (offset, position) = (header.queue_offset.0, header.position.0);
        let known = self.queues.get(&key).copied();
        let next = match header.kind {
            RecordKind::Message if !header.extensions.carried => offset + 1,
            // An earlier repair.
            RecordKind::Quarantine if header.topic.0 > 0 => offset,
            _ => return,
        };
        // Where the log's beginning is gone, so may be the queue's.
        let expected = known.map_or(0, |it| it.next);
        let is_known = known.is_some() || self.head == Some(0);
        let is_told = header.kind == RecordKind::Quarantine;
        if is_known && !is_told && offset > expected {
            self.jumps.push(Jump {
                key,
                after: known.map_or(0, |it| it.position),
                before: position,
                from: expected,
                to: offset,
            });
        }
        let first = known.map_or(offset, |it| it.first);
        let next = next.max(expected);
        let known = Known {
            first,
            next,
            position,
        };
        self.queues.insert(key, known);
    }

    fn snapshot(&mut self, record: &[u8]) {
        let body = RecordView::trusted(record).map(|view| view.block.stored_body());
        let complete = body.ok().and_then(|body| self.assembly.add(body));
        if let Some((as_of, items)) = complete
            && let Ok(contents) = Contents::new(items)
        {
            self.recalled(as_of, &contents);
        }
    }

    /// What a snapshot or the state file says of where queues ended.
    fn recalled(&mut self, as_of: u64, contents: &Contents) {
        let mut queues: Vec<_> = contents.queues.iter().collect();
        queues.sort_unstable();
        for (key, (min, end)) in queues {
            let known = match self.queues.get(key) {
                Some(known) => *known,
                // Retention may have taken them.
                None if self.head != Some(0) => continue,
                None => Known {
                    first: *end,
                    next: *min,
                    position: 0,
                },
            };
            if known.next < *end {
                self.jumps.push(Jump {
                    key: *key,
                    after: known.position,
                    before: as_of,
                    from: known.next,
                    to: *end,
                });
                let known = Known {
                    next: *end,
                    ..known
                };
                self.queues.insert(*key, known);
            }
        }
    }

    /// Which hole says what of which queue: of those between the messages that are there, the first that
    /// has room. Those come first whose messages go on first.
    fn plan(&self) -> Plan {
        let mut jumps = self.jumps.clone();
        jumps.sort_by_key(|jump| (jump.before, jump.key));
        let mut holes = Vec::new();
        for hole in &self.holes {
            let mut room = filler::room(hole.from, hole.to, hole.seals);
            let (mut here, mut later) = (Vec::new(), Vec::new());
            for jump in jumps {
                if room > 0 && jump.after < hole.from && hole.from < jump.before {
                    here.push(jump);
                    room -= 1;
                } else {
                    later.push(jump);
                }
            }
            jumps = later;
            holes.push((hole.clone(), here));
        }
        Plan { holes }
    }

    /// The state stays true; its queues are made anew, without what is lost.
    fn correct(&self, file: &mut StateFile, first_crc: u32) {
        let mut queues: HashMap<Key, (u64, u64)> = HashMap::new();
        for item in &file.items {
            if let snapshot::Item::Queue(topic, queue, _, end) = item {
                queues.insert((*topic, *queue), (*end, *end));
            }
        }
        for (key, known) in &self.queues {
            let end = queues.get(key).map_or(known.next, |(_, end)| *end);
            queues.insert(*key, (known.first, end));
        }
        file.items
            .retain(|item| !matches!(item, snapshot::Item::Queue(..)));
        let mut queues: Vec<_> = queues.into_iter().collect();
        queues.sort_unstable();
        let queue = |((topic, queue), (min, end))| snapshot::Item::Queue(topic, queue, min, end);
        file.items.extend(queues.into_iter().map(queue));
        let head = self.head.unwrap_or(0);
        file.head = head;
        file.replay_from = head + SEGMENT_HEADER;
        file.previous_crc = first_crc;
        file.queue_log_end = 0;
    }
}

struct Work<'a> {
    fs: &'a dyn Fs,
    dir: &'a Path,
    log: LogId,
}

impl Work<'_> {
    /// Puts aside and fills. Returns what the first group names as the one before it, if that has become
    /// another.
    fn fill(&self, plan: &Plan, lost: &mut [Lost]) -> io::Result<Option<u32>> {
        let mut last = Neighbour::default();
        let mut first_crc = None;
        for ((hole, jumps), lost) in plan.holes.iter().zip(lost) {
            if hole.follows_good {
                last = hole.before;
            }
            if hole.before.epoch == Epoch(0) {
                // The very first groups are lost.
                first_crc = first_crc.or(Some(last.crc));
            }
            lost.kept_in = Some(self.keep(hole)?);
            let filler = Filler {
                log: self.log,
                from: hole.from,
                to: hole.to,
                seals: hole.seals,
                previous_crc: last.crc,
                wanted: hole.wanted,
                epoch: last.epoch.max(Epoch(1)),
                stored_at: last.stored_at,
                queues: jumps
                    .iter()
                    .map(|jump| GoesOn {
                        key: jump.key,
                        next: jump.to,
                    })
                    .collect(),
            };
            let path = Segment::path(&self.dir.join("commitlog"), hole.segment);
            let file = self.fs.open(&path)?;
            let (crc, end) =
                filler.write(&mut |at, bytes| file.write_at(bytes, at - hole.segment))?;
            last.crc = crc;
            let zeros = vec![0; PIECE];
            let used = hole.to.min(hole.segment + file.len()?);
            for at in (end..used).step_by(PIECE) {
                let len = (used - at).min(PIECE as u64) as usize;
                file.write_at(&zeros[..len], at - hole.segment)?;
            }
            file.sync_data()?;
            // Made anew when somebody asks.
            let index = format!("index/{:020}.idx", hole.segment);
            match self.fs.remove(&self.dir.join(index)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(first_crc)
    }

    /// Copies what is about to be replaced, and the file `state` beside it.
    fn keep(&self, hole: &Hole) -> io::Result<String> {
        let quarantine = self.dir.join(QUARANTINE);
        self.fs.create_dir(&quarantine)?;
        let path = Segment::path(&self.dir.join("commitlog"), hole.segment);
        let source = self.fs.open_to_read(&path)?;
        let name = free_name(self.fs, &quarantine, &format!("{:020}.damaged", hole.from))?;
        let target = self.fs.create(&quarantine.join(&name), 0)?;
        let mut bytes = vec![0; PIECE];
        for at in (hole.from..hole.to).step_by(PIECE) {
            let len = (hole.to - at).min(PIECE as u64) as usize;
            let read = source.read_at(&mut bytes[..len], at - hole.segment)?;
            target.write_at(&bytes[..read], at - hole.from)?;
        }
        target.sync_data()?;
        self.fs.sync_dir(&quarantine)?;
        match self.fs.open_to_read(&self.dir.join("state")) {
            Ok(state) => {
                let name = free_name(self.fs, &quarantine, "state")?;
                let bytes = fs::read_all(&*state)?;
                fs::write_whole(self.fs, &quarantine, &name, &bytes)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(format!("{QUARANTINE}/{name}"))
    }
}

/// A name that nothing has yet in a directory.
pub(crate) fn free_name(fs: &dyn Fs, dir: &Path, name: &str) -> io::Result<String> {
    let taken = fs.list(dir)?;
    let mut numbered = (2..).map(|number| format!("{name}.{number}"));
    let mut free = name.to_owned();
    while taken.contains(&free) {
        free = numbered.next().unwrap_or_default();
    }
    Ok(free)
}
