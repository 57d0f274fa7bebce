//! A disk that decays: bits flip, sectors go stale, are written elsewhere or cannot be read. The
//! store says so, or has the very data it had; it never serves anything else.

use std::ops::ControlFlow;
use std::path::PathBuf;

use quern_protocol::{Code, LogPosition};
use quern_store::audit::audit;
use quern_store::fs::Fs;
use quern_store::sim::{Fault, SECTOR, SimFs};

use super::life::{DIR, Life, QUEUES, ROOM, SEGMENT, STATE, Stored};
use super::world::Simulation;

/// Something that happens to the disk.
#[derive(Debug, Clone, Copy)]
enum Decay {
    Flip,
    Stale,
    Misdirected,
    Unreadable,
}

/// All that is not made anew from something else.
fn evidence(disk: &SimFs) -> Vec<(PathBuf, Vec<u8>)> {
    let log = PathBuf::from(DIR).join("commitlog");
    let segments = disk.list(&log).unwrap_or_default().into_iter();
    let others = ["FORMAT", "checkpoint"].map(|name| PathBuf::from(DIR).join(name));
    let read = |path: PathBuf| {
        let file = disk.open(&path).ok()?;
        let mut bytes = vec![0; file.len().unwrap_or(0) as usize];
        // What cannot be read stays zero, before and after.
        for (sector, part) in bytes.chunks_mut(SECTOR).enumerate() {
            let _ = file.read_at(part, (sector * SECTOR) as u64);
        }
        Some((path, bytes))
    };
    let segments = segments.map(|name| log.join(name));
    segments.chain(others).filter_map(read).collect()
}

/// What an intact log holds.
struct Truth {
    contents: Vec<Vec<Stored>>,
    /// By queue, the offset of the first.
    firsts: Vec<usize>,
    /// Below here the log itself says that it was durable.
    durable: LogPosition,
    /// Where it ends.
    end: LogPosition,
}

impl Simulation {
    /// Damages a copy of the disk, and opens it.
    pub(super) fn survive_damage(&mut self, closed: bool) {
        // As the next power cut would leave it, whatever the machine does now.
        let disk = self.fs.crash(self.random.u64(..));
        disk.resize(ROOM);
        let truth = self.truth(&disk.crash(0));
        let damaged = disk.crash(0);
        let (path, decay, sector) = self.decay(&damaged, &truth);
        let before = evidence(&damaged);
        match Life::begin(&damaged, &self.clock, &self.habits) {
            Err(error) => {
                let code = error.code();
                let refused = match decay {
                    Decay::Unreadable => code == Code::DIRECTORY_UNUSABLE,
                    _ => code == Code::DATA_CORRUPT || code == Code::FORMAT_UNKNOWN,
                };
                if !refused {
                    self.fail(&format!("{decay:?} of {}: {error}", path.display()));
                }
                if evidence(&damaged) != before {
                    self.fail("refused, yet something was changed");
                }
                if code == Code::DATA_CORRUPT {
                    self.reach("damage refused as corruption");
                }
            }
            Ok((life, _steps)) => {
                // A misdirected write hits two sectors: both slots of the checkpoint, even.
                let twofold = matches!(decay, Decay::Misdirected);
                if life.report.clean && !closed && !twofold {
                    self.fail(&format!(
                        "{decay:?} of {}: taken for closed",
                        path.display()
                    ));
                }
                // The end of a group, and the header of the next, which alone knew it to be durable.
                let one_for_two = truth.durable.0 % SEGMENT / SECTOR as u64 == sector as u64;
                let may_be_more = one_for_two || matches!(decay, Decay::Misdirected);
                let whole = self.is_true(&life, &truth, decay, may_be_more);
                self.reach(if whole {
                    "damage without consequence"
                } else {
                    "damage to what was not known to be durable"
                });
            }
        }
    }

    fn truth(&self, disk: &SimFs) -> Truth {
        let audited = audit(DIR.as_ref(), disk, &mut |_| ControlFlow::Continue(()));
        let durable = audited.map_or(LogPosition(0), |found| found.durable);
        let opened = Life::begin(disk, &self.clock, &self.habits);
        let (life, _steps) = opened.unwrap_or_else(|error| self.fail(&error.to_string()));
        Truth {
            contents: (0..=STATE).map(|queue| life.contents(queue)).collect(),
            firsts: (0..=STATE).map(|queue| life.first(queue)).collect(),
            durable,
            end: life.report.end,
        }
    }

    fn decay(&mut self, disk: &SimFs, truth: &Truth) -> (PathBuf, Decay, usize) {
        let path: PathBuf = match self.random.u8(0..10) {
            0 => PathBuf::from(DIR).join("checkpoint"),
            1 => PathBuf::from(DIR).join("FORMAT"),
            2 => PathBuf::from(DIR).join("state"),
            3 => PathBuf::from(DIR).join("consumequeue/00000000.blk"),
            _ => self.a_segment(),
        };
        let len = disk.open(&path).map_or(0, |file| file.len().unwrap());
        // Where something is written.
        let used = match path.extension() {
            Some(_) if len > 0 => {
                let used = truth.end.0 % len;
                let full = self.random.bool() || used == 0;
                if full { len } else { used }
            }
            _ => len,
        };
        let at = self.random.u64(0..used.max(1)) as usize;
        let sector = at / SECTOR;
        let decay = match self.random.u8(0..8) {
            0..=3 => Decay::Flip,
            4..=5 => Decay::Stale,
            6 => Decay::Misdirected,
            _ => Decay::Unreadable,
        };
        match decay {
            Decay::Flip => disk.flip(&path, at, 1 << self.random.u8(0..8)),
            Decay::Stale => disk.make_stale(&path, sector),
            Decay::Misdirected => {
                let to = self.random.usize(0..(len as usize).div_ceil(SECTOR).max(1));
                disk.misdirect(&path, sector, to);
            }
            Decay::Unreadable => disk.make_unreadable(&path, sector),
        }
        (path, decay, sector)
    }

    /// Whether all of it is there; `may_be_more`: what was lost, and what knew of it, may both be wrong. What is there is in its place, and unchanged; what is not, was
    /// behind all that the log knew to be durable.
    fn is_true(&mut self, life: &Life, truth: &Truth, decay: Decay, may_be_more: bool) -> bool {
        let mut whole = true;
        for (queue, truth_of) in truth.contents.iter().enumerate() {
            // Segments that were about to go may still be there.
            let early = truth.firsts[queue].saturating_sub(life.first(queue as u32));
            let found = self.contents_in_doubt(life, queue as u32, early, truth_of);
            if !truth_of.starts_with(&found) {
                self.fail(&format!(
                    "{decay:?}: queue {queue} has what was never there"
                ));
            }
            let Some((lost, _)) = truth_of.get(found.len()) else {
                continue;
            };
            whole = false;
            if *lost < truth.durable && !may_be_more {
                let (lost, durable) = (lost.0, truth.durable.0);
                self.fail(&format!(
                    "{decay:?}: {lost} is lost, and {durable} was durable"
                ));
            }
        }
        whole
    }

    /// What there is; of messages that cannot be read the truth, since nothing else was said of them.
    fn contents_in_doubt(
        &mut self,
        life: &Life,
        queue: u32,
        skip: usize,
        truth: &[Stored],
    ) -> Vec<Stored> {
        if queue == STATE {
            return life.contents(queue);
        }
        let mut found = Vec::new();
        for entry in life.entries(queue).into_iter().skip(skip) {
            match life.body(&entry) {
                Ok(body) => found.push((entry.position, body)),
                Err(_) => {
                    self.reach("damage met by a reader");
                    found.extend(truth.get(found.len()).cloned());
                }
            }
        }
        found
    }

    /// Reads while something is wrong with the disk: the message, or an error.
    pub(super) fn read_in_doubt(&mut self, life: &Life) {
        let queue = self.random.u32(0..QUEUES);
        let path = self.a_segment();
        let at = self.random.usize(4_096..64 * 1024);
        let mask = 1 << self.random.u8(0..8);
        let fails = self.random.bool();
        if fails {
            self.fs.inject(Some(Fault::ReadError(0)));
        } else {
            self.fs.flip(&path, at, mask);
        }
        let known = self.known.get(&queue).cloned().unwrap_or_default();
        let known = known.into_iter().skip(life.first(queue));
        for (entry, body) in life.entries(queue).iter().zip(known) {
            match life.body(entry) {
                Ok(found) if found == body => {}
                Ok(_) => self.fail("a reader got what was never there"),
                Err(Code::DATA_CORRUPT) => self.reach("damage met by a reader"),
                Err(Code::STORAGE_FAILED) => self.reach("read error told"),
                Err(code) => self.fail(&format!("a reader got {code:?}")),
            }
        }
        if fails {
            self.fs.inject(None);
        } else {
            self.fs.flip(&path, at, mask);
        }
    }
}
