//! Repairs a log offline: what is damaged in its middle is put aside, and its place filled
//! ([`crate::filler`]), so that the node starts and serves all the rest at its old offsets.
//!
//! Nothing is destroyed: every byte that is replaced is in `quarantine/` before. A repair that dies goes
//! on when it is done again. Torn tails are not its business: the next start puts them aside.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use quern_protocol::{Epoch, LogPosition, QueueId, QueueOffset, TopicId};

use crate::audit::{Audit, Damage, Item, audit};
use crate::checkpoint::Checkpoints;
use crate::directory;
use crate::error::OpenError;
use crate::filler::{Filler, GoesOn};
use crate::fs::{self, Fs};
use crate::holes::{Hole, Neighbour, Plan, Seen};
use crate::missing::{self, Heads};
use crate::quarantine;
use crate::segment::{LogId, Segment};
use crate::snapshot::{Contents, StateFile};

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
    /// Of the queues that go on behind it. Others may have lost messages at their end, and in a log whose
    /// beginning retention has taken, any of them the first they had.
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
        return Err(unreparable(dir, &audited, it));
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
        Some(left) => Err(unreparable(dir, &after, left)),
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
fn unreparable(dir: &Path, audited: &Audit, damage: &Damage) -> OpenError {
    OpenError::Corrupt {
        dir: dir.to_owned(),
        file: damage.file.clone(),
        position: damage.from,
        durable: audited.durable,
        why: format!("no repair is known for this: {}", damage.why),
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
                ends_log: hole.ends_log,
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
        let dir = self.dir.join(quarantine::DIR);
        self.fs.create_dir(&dir)?;
        let path = Segment::path(&self.dir.join("commitlog"), hole.segment);
        let source = self.fs.open_to_read(&path)?;
        let name = quarantine::free_name(self.fs, &dir, &format!("{:020}.damaged", hole.from))?;
        let target = self.fs.create(&dir.join(&name), 0)?;
        let mut bytes = vec![0; PIECE];
        for at in (hole.from..hole.to).step_by(PIECE) {
            let len = (hole.to - at).min(PIECE as u64) as usize;
            let read = source.read_at(&mut bytes[..len], at - hole.segment)?;
            target.write_at(&bytes[..read], at - hole.from)?;
        }
        target.sync_data()?;
        self.fs.sync_dir(&dir)?;
        match self.fs.open_to_read(&self.dir.join("state")) {
            Ok(state) => {
                let name = quarantine::free_name(self.fs, &dir, "state")?;
                let bytes = fs::read_all(&*state)?;
                fs::write_whole(self.fs, &dir, &name, &bytes)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(format!("{}/{name}", quarantine::DIR))
    }
}
