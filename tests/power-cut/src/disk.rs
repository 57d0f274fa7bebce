//! A disk with a write cache, in memory: what was written, what was flushed, and what a power cut
//! would leave. It can fail writes and reads of certain contents, and be slow to flush.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;

const SECTOR: u64 = 512;
const BLOCK: u64 = 4_096;

type Block = [u8; BLOCK as usize];

/// Bytes of a disk, blocks of zeros left out; copies share.
#[derive(Debug, Clone, Default)]
pub(crate) struct Image(BTreeMap<u64, Arc<Block>>);

impl Image {
    fn read(&self, at: u64, out: &mut [u8]) {
        out.fill(0);
        for (block, from, to) in pieces(at, out.len()) {
            if let Some(bytes) = self.0.get(&block) {
                let start = (block * BLOCK + from as u64 - at) as usize;
                out[start..start + to - from].copy_from_slice(&bytes[from..to]);
            }
        }
    }

    fn write(&mut self, at: u64, bytes: &[u8]) {
        for (block, from, to) in pieces(at, bytes.len()) {
            let start = (block * BLOCK + from as u64 - at) as usize;
            let zeros = || Arc::new([0; BLOCK as usize]);
            let block = self.0.entry(block).or_insert_with(zeros);
            Arc::make_mut(block)[from..to].copy_from_slice(&bytes[start..start + to - from]);
        }
    }

    /// As a sparse file of so many bytes.
    pub(crate) fn save(&self, path: &Path, size: u64) -> io::Result<()> {
        let file = File::create(path)?;
        file.set_len(size)?;
        for (block, bytes) in &self.0 {
            file.write_all_at(&bytes[..], block * BLOCK)?;
        }
        Ok(())
    }
}

/// The blocks of a range, and where it lies in each.
fn pieces(at: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let end = at + len as u64;
    (at / BLOCK..end.div_ceil(BLOCK)).map(move |block| {
        let base = block * BLOCK;
        let from = at.max(base) - base;
        let to = end.min(base + BLOCK) - base;
        (block, from as usize, to as usize)
    })
}

/// What is wrong with the disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trouble {
    /// Writes that contain this fail.
    pub(crate) no_write_of: Option<Vec<u8>>,
    /// Reads that contain this fail.
    pub(crate) no_read_of: Option<Vec<u8>>,
    /// A flush takes this much longer.
    pub(crate) slow: Duration,
}

fn contains(bytes: &[u8], what: Option<&Vec<u8>>) -> bool {
    what.is_some_and(|what| bytes.windows(what.len()).any(|window| window == what))
}

#[derive(Debug, Default)]
pub(crate) struct Disk {
    now: Image,
    flushed: Image,
    /// Sectors written and not flushed.
    dirty: BTreeSet<u64>,
    pub(crate) trouble: Trouble,
    /// How many writes and reads have failed.
    pub(crate) failures: u64,
    pub(crate) flushes: u64,
}

impl Disk {
    /// False: the disk fails it.
    pub(crate) fn read(&mut self, at: u64, out: &mut [u8]) -> bool {
        self.now.read(at, out);
        let failed = contains(out, self.trouble.no_read_of.as_ref());
        self.failures += u64::from(failed);
        !failed
    }

    /// False: the disk fails it, and has none of it.
    pub(crate) fn write(&mut self, at: u64, bytes: &[u8]) -> bool {
        if contains(bytes, self.trouble.no_write_of.as_ref()) {
            self.failures += 1;
            return false;
        }
        self.now.write(at, bytes);
        let end = at + bytes.len() as u64;
        self.dirty.extend(at / SECTOR..end.div_ceil(SECTOR));
        true
    }

    pub(crate) fn flush(&mut self) {
        for sector in std::mem::take(&mut self.dirty) {
            let block = sector * SECTOR / BLOCK;
            if let Some(bytes) = self.now.0.get(&block) {
                self.flushed.0.insert(block, Arc::clone(bytes));
            }
        }
        self.flushes += 1;
    }

    /// What a power cut now leaves: all that was flushed, and of the rest none, all, or any part.
    pub(crate) fn cut(&self, random: &mut Rng) -> Image {
        let mut image = self.flushed.clone();
        let share = match random.u8(0..4) {
            0 => 0.0,
            1 => 1.0,
            _ => random.f64(),
        };
        let mut sector = [0; SECTOR as usize];
        for index in &self.dirty {
            if random.f64() < share {
                self.now.read(index * SECTOR, &mut sector);
                image.write(index * SECTOR, &sector);
            }
        }
        image
    }
}
