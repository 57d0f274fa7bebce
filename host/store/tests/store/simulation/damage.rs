//! A disk that decays: bits flip, sectors go stale, are written elsewhere or cannot be read. The
//! store says so, or has the very data it had; it never serves anything else.

use std::ops::ControlFlow;
use std::path::PathBuf;

use quern_protocol::{Code, LogPosition};
use quern_store::audit::audit;
use quern_store::fs::Fs;
use quern_store::sim::{Fault, SECTOR, SimFs};

use super::world::{DIR, Life, QUEUES, ROOM, STATE, Simulation, Stored};

/// Something that happens to the disk.
#[derive(Debug, Clone, Copy)]
enum Decay {
    Flip,
    Stale,
    Misdirected,
    Unreadable,
}

/// What an intact log holds.
struct Truth {
    contents: Vec<Vec<Stored>>,
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
        let (path, decay) = self.decay(&damaged, &truth);
        let before = damaged.digest();
        match Life::begin(&damaged, &self.clock) {
            Err(error) => {
                let code = error.code();
                let refused = match decay {
                    Decay::Unreadable => code == Code::DIRECTORY_UNUSABLE,
                    _ => code == Code::DATA_CORRUPT || code == Code::FORMAT_UNKNOWN,
                };
                if !refused {
                    self.fail(&format!("{decay:?} of {}: {error}", path.display()));
                }
                if damaged.digest() != before {
                    self.fail("refused, yet something was changed");
                }
                if code == Code::DATA_CORRUPT {
                    self.reach("damage refused as corruption");
                }
            }
            Ok((life, _steps)) => {
                if life.report.clean && !closed {
                    self.fail(&format!(
                        "{decay:?} of {}: taken for closed",
                        path.display()
                    ));
                }
                let whole = self.is_true(&life, &truth, decay);
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
        let opened = Life::begin(disk, &self.clock);
        let (life, _steps) = opened.unwrap_or_else(|error| self.fail(&error.to_string()));
        Truth {
            contents: (0..=STATE).map(|queue| life.contents(queue)).collect(),
            durable,
            end: life.report.end,
        }
    }

    fn decay(&mut self, disk: &SimFs, truth: &Truth) -> (PathBuf, Decay) {
        let path: PathBuf = match self.random.u8(0..8) {
            0 => PathBuf::from(DIR).join("checkpoint"),
            1 => PathBuf::from(DIR).join("FORMAT"),
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
        (path, decay)
    }

    /// Whether all of it is there. What is there is in its place, and unchanged; what is not, was
    /// behind all that the log knew to be durable.
    fn is_true(&self, life: &Life, truth: &Truth, decay: Decay) -> bool {
        let mut whole = true;
        for (queue, truth_of) in truth.contents.iter().enumerate() {
            let found = life.contents(queue as u32);
            if !truth_of.starts_with(&found) {
                self.fail(&format!(
                    "{decay:?}: queue {queue} has what was never there"
                ));
            }
            let Some((lost, _)) = truth_of.get(found.len()) else {
                continue;
            };
            whole = false;
            // Two sectors are wrong then: what was lost, and what knew of it.
            let may_be_more = matches!(decay, Decay::Misdirected);
            if *lost < truth.durable && !may_be_more {
                let (lost, durable) = (lost.0, truth.durable.0);
                self.fail(&format!(
                    "{decay:?}: {lost} is lost, and {durable} was durable"
                ));
            }
        }
        whole
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
