//! The checkpoint: two slots of 4 KiB, written in turn, so that one is always whole. Little-endian.
//!
//! ```text
//! slot, 4,096 B; crc of 0..8 and 12..4,096
//!  0 u8[8] "QUERNCKP"   8 u32 crc   12 u32 epoch   16 u64 sequence
//! 24 u64 durable, the log was durable at least up to here
//! 32 u8 clean, the log was closed and ends exactly there   33 zeros
//! 40 u64 head, the log begins there                        48 zeros
//! ```

use std::io;
use std::path::Path;
use std::sync::Arc;

use quern_protocol::block::crc_around;
use quern_protocol::{Epoch, LogPosition};

use crate::fs::{File, Fs};

const SLOT: usize = 4_096;
const MAGIC: &[u8; 8] = b"QUERNCKP";
const NAME: &str = "checkpoint";

/// What is known about the log without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Checkpoint {
    pub(crate) epoch: Epoch,
    pub(crate) durable: LogPosition,
    pub(crate) clean: bool,
    pub(crate) head: LogPosition,
}

impl Checkpoint {
    /// Whether there was one: no epoch is 0.
    pub(crate) fn is_known(&self) -> bool {
        self.epoch.0 > 0
    }
}

/// The open file.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    file: Arc<dyn File>,
    sequence: u64,
}

impl Checkpoints {
    /// The last checkpoint written whole; `None` when there is none.
    pub(crate) fn open(fs: &dyn Fs, dir: &Path) -> io::Result<(Self, Option<Checkpoint>)> {
        let path = dir.join(NAME);
        let file = match fs.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = fs.create(&path, 2 * SLOT as u64)?;
                fs.sync_dir(dir)?;
                file
            }
            Err(error) => return Err(error),
        };
        let best = best_slot(&*file)?;
        let sequence = best.map_or(0, |(sequence, _)| sequence);
        Ok((Self { file, sequence }, best.map(|(_, it)| it)))
    }

    /// The same without making anything.
    pub(crate) fn read(fs: &dyn Fs, dir: &Path) -> io::Result<Option<Checkpoint>> {
        match fs.open_to_read(&dir.join(NAME)) {
            Ok(file) => Ok(best_slot(&*file)?.map(|(_, it)| it)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Both slots, one after the other: should one decay, the other says the same. An older one could
    /// say that the log is closed.
    pub(crate) fn write_both(&mut self, checkpoint: &Checkpoint) -> io::Result<()> {
        self.write(checkpoint)?;
        self.write(checkpoint)
    }

    /// Durable when this returns; the other slot is untouched.
    pub(crate) fn write(&mut self, checkpoint: &Checkpoint) -> io::Result<()> {
        let sequence = self.sequence + 1;
        let slot = sequence % 2;
        let bytes = encode(sequence, checkpoint);
        self.file.write_at(&bytes, slot * SLOT as u64)?;
        self.file.sync_data()?;
        self.sequence = sequence;
        Ok(())
    }
}

fn best_slot(file: &dyn File) -> io::Result<Option<(u64, Checkpoint)>> {
    let mut best: Option<(u64, Checkpoint)> = None;
    for slot in 0..2 {
        let mut bytes = [0; SLOT];
        let read = file.read_at(&mut bytes, slot * SLOT as u64)?;
        if let Some(found) = decode(&bytes[..read])
            && best.is_none_or(|(sequence, _)| found.0 > sequence)
        {
            best = Some(found);
        }
    }
    Ok(best)
}

fn encode(sequence: u64, checkpoint: &Checkpoint) -> Vec<u8> {
    let mut out = vec![0; SLOT];
    out[0..8].copy_from_slice(MAGIC);
    out[12..16].copy_from_slice(&checkpoint.epoch.0.to_le_bytes());
    out[16..24].copy_from_slice(&sequence.to_le_bytes());
    out[24..32].copy_from_slice(&checkpoint.durable.0.to_le_bytes());
    out[32] = u8::from(checkpoint.clean);
    out[40..48].copy_from_slice(&checkpoint.head.0.to_le_bytes());
    let crc = crc_around(&out, 8..12);
    out[8..12].copy_from_slice(&crc.to_le_bytes());
    out
}

fn decode(bytes: &[u8]) -> Option<(u64, Checkpoint)> {
    let number = |at: usize| -> Option<u64> {
        Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
    };
    if bytes.len() != SLOT || &bytes[0..8] != MAGIC {
        return None;
    }
    let crc_and_epoch = number(8)?;
    if crc_and_epoch as u32 != crc_around(bytes, 8..12) {
        return None;
    }
    let checkpoint = Checkpoint {
        epoch: Epoch((crc_and_epoch >> 32) as u32),
        durable: LogPosition(number(24)?),
        clean: bytes[32] == 1,
        head: LogPosition(number(40)?),
    };
    Some((number(16)?, checkpoint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::RealFs;

    #[test]
    fn the_newest_whole_slot_wins() {
        let dir = tempfile::tempdir().unwrap();
        let (mut file, none) = Checkpoints::open(&RealFs, dir.path()).unwrap();
        assert_eq!(none, None);
        let at = |epoch| Checkpoint {
            epoch: Epoch(epoch),
            durable: LogPosition(u64::from(epoch) * 100),
            clean: epoch == 3,
            head: LogPosition(u64::from(epoch)),
        };
        for epoch in 1..=3 {
            file.write(&at(epoch)).unwrap();
        }
        let last = || Checkpoints::open(&RealFs, dir.path()).unwrap().1;
        assert_eq!(last(), Some(at(3)));
        // Sequence 3 went to slot 1: tear it.
        let path = dir.path().join(NAME);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[SLOT + 40] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(last(), Some(at(2)));
    }
}
