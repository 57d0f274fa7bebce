//! A simulated inode: what programs read, what the disk has, and what the kernel remembers of
//! write-back that failed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;

use fastrand::Rng;

use super::SECTOR;

/// How far a descriptor has heard of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Heard(u32);

/// The kernel's `errseq_t`: failures are counted, and told once to each descriptor that was open
/// before, or is the first to ask.
#[derive(Debug, Clone, Copy, Default)]
struct Failures {
    count: u32,
    told: bool,
}

impl Failures {
    fn note(&mut self) {
        if self.count == 0 || self.told {
            self.count += 1;
            self.told = false;
        }
    }

    /// Where a new descriptor begins: what nobody has been told yet, it will be told.
    fn sample(self) -> Heard {
        Heard(if self.told { self.count } else { 0 })
    }

    fn tell(&mut self, heard: &mut Heard) -> bool {
        if heard.0 == self.count {
            return false;
        }
        heard.0 = self.count;
        self.told = true;
        true
    }
}

#[derive(Debug, Default)]
pub(super) struct Inode {
    cached: Vec<u8>,
    disk: Vec<u8>,
    /// Sectors that are to be written back.
    dirty: BTreeSet<usize>,
    /// The shortest it has been since its length was last written back.
    cut: Option<usize>,
    /// What sectors held before the last write-back.
    earlier: BTreeMap<usize, Vec<u8>>,
    unreadable: BTreeSet<usize>,
    /// Nothing of it was read since it was evicted.
    is_away: bool,
    failures: Failures,
    descriptors: u32,
}

fn sectors(bytes: Range<usize>) -> Range<usize> {
    bytes.start / SECTOR..bytes.end.div_ceil(SECTOR)
}

fn range(sector: usize, len: usize) -> Range<usize> {
    let from = (sector * SECTOR).min(len);
    from..(from + SECTOR).min(len)
}

fn copy(sector: usize, from: &[u8], to: &mut [u8]) {
    let range = range(sector, from.len().min(to.len()));
    to[range.clone()].copy_from_slice(&from[range]);
}

impl Inode {
    pub(super) fn zeroed(len: usize) -> Self {
        Self {
            cached: vec![0; len],
            ..Self::default()
        }
    }

    pub(super) fn len(&self) -> usize {
        self.cached.len()
    }

    pub(super) fn cached(&self) -> &[u8] {
        &self.cached
    }

    pub(super) fn is_open(&self) -> bool {
        self.descriptors > 0
    }

    pub(super) fn open(&mut self) -> Heard {
        self.descriptors += 1;
        self.failures.sample()
    }

    pub(super) fn close(&mut self) {
        self.descriptors -= 1;
    }

    /// As it may be found after a crash.
    pub(super) fn crash(&self, random: &mut Rng) -> Self {
        let mut image = self.disk.clone();
        if self.length_is_new() && random.bool() {
            image.truncate(self.cut.unwrap_or(usize::MAX));
            image.resize(self.cached.len(), 0);
        }
        for sector in &self.dirty {
            if random.bool() {
                copy(*sector, &self.cached, &mut image);
            }
        }
        Self {
            cached: image.clone(),
            disk: image,
            earlier: self.earlier.clone(),
            unreadable: self.unreadable.clone(),
            ..Self::default()
        }
    }

    fn length_is_new(&self) -> bool {
        self.cut.is_some() || self.cached.len() != self.disk.len()
    }

    /// The same as [`Self::read`], without waiting for the disk.
    pub(super) fn read_now(&mut self, at: usize, buffer: &mut [u8]) -> io::Result<usize> {
        match self.is_away {
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => self.read(at, buffer),
        }
    }

    /// Bytes read, fewer than asked only at the end.
    pub(super) fn read(&mut self, at: usize, buffer: &mut [u8]) -> io::Result<usize> {
        self.is_away = false;
        let from = at.min(self.cached.len());
        let to = from.saturating_add(buffer.len()).min(self.cached.len());
        if self.unreadable.range(sectors(from..to)).next().is_some() {
            return Err(io::Error::other("simulated unreadable sector"));
        }
        buffer[..to - from].copy_from_slice(&self.cached[from..to]);
        Ok(to - from)
    }

    pub(super) fn write(&mut self, at: usize, bytes: &[u8]) {
        let to = at + bytes.len();
        if self.cached.len() < to {
            self.cached.resize(to, 0);
        }
        self.cached[at..to].copy_from_slice(bytes);
        for sector in sectors(at..to) {
            self.dirty.insert(sector);
            self.unreadable.remove(&sector);
        }
    }

    pub(super) fn truncate(&mut self, len: usize) {
        let cut = self.cut.unwrap_or(self.disk.len()).min(len);
        if cut < self.disk.len() {
            self.cut = Some(cut);
        }
        self.cached.resize(len, 0);
        self.dirty.retain(|sector| sector * SECTOR < len);
    }

    /// Everything reaches the disk; or write-back fails, each sector gets there by chance, and all are
    /// taken for clean.
    pub(super) fn write_back(&mut self, failing: Option<&mut Rng>) {
        let dirty = std::mem::take(&mut self.dirty);
        let Some(random) = failing else {
            self.write_length();
            dirty
                .into_iter()
                .for_each(|sector| self.write_sector(sector));
            return;
        };
        self.failures.note();
        for sector in dirty {
            if random.bool() {
                self.write_sector(sector);
            }
        }
    }

    fn write_length(&mut self) {
        self.disk.truncate(self.cut.take().unwrap_or(usize::MAX));
        self.disk.resize(self.cached.len(), 0);
    }

    fn write_sector(&mut self, sector: usize) {
        let here = range(sector, self.disk.len());
        let before = self.disk[here.clone()].to_vec();
        copy(sector, &self.cached, &mut self.disk);
        if self.disk[here] != before[..] {
            self.earlier.insert(sector, before);
        }
    }

    /// Whether this descriptor has to be told that write-back has failed.
    pub(super) fn tell(&mut self, heard: &mut Heard) -> bool {
        self.failures.tell(heard)
    }

    /// Reads come from the disk again, but for what is still to be written.
    pub(super) fn evict(&mut self) {
        self.is_away = true;
        for sector in sectors(0..self.cached.len()) {
            if !self.dirty.contains(&sector) {
                let here = range(sector, self.len());
                self.cached[here].fill(0);
                copy(sector, &self.disk, &mut self.cached);
            }
        }
    }

    pub(super) fn forget(&mut self) {
        if self.descriptors == 0 {
            self.write_back(None);
            self.evict();
            self.failures = Failures::default();
        }
    }

    pub(super) fn flip(&mut self, at: usize, mask: u8) {
        for image in [&mut self.cached, &mut self.disk] {
            if let Some(byte) = image.get_mut(at) {
                *byte ^= mask;
            }
        }
    }

    pub(super) fn misdirect(&mut self, from: usize, to: usize) {
        let moved = self.disk[range(from, self.disk.len())].to_vec();
        self.put(to, &moved);
        self.make_stale(from);
    }

    pub(super) fn make_stale(&mut self, sector: usize) {
        if let Some(before) = self.earlier.get(&sector).cloned() {
            self.put(sector, &before);
        }
    }

    fn put(&mut self, sector: usize, bytes: &[u8]) {
        for image in [&mut self.cached, &mut self.disk] {
            let here = range(sector, image.len());
            let len = here.len().min(bytes.len());
            image[here.start..here.start + len].copy_from_slice(&bytes[..len]);
        }
    }

    pub(super) fn make_unreadable(&mut self, sector: usize) {
        self.unreadable.insert(sector);
    }
}
