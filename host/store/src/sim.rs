//! A simulated disk, for tests. What is not synced may or may not survive a crash, sector by sector
//! and name by name, as a seed decides; failed write-back is told as Linux tells it, once to each
//! descriptor; any call can be made to fail, and what is on the disk can be damaged.
//!
//! The same seed and the same calls give the same disk, byte for byte.

mod file;
mod gate;
mod inode;
mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::ThreadId;

use fastrand::Rng;

use crate::fs::{File, Fs, Lock};
use crate::sim::file::SimFile;
use crate::sim::gate::Gate;
use crate::sim::inode::Inode;
use crate::sim::names::{Ino, Names};

pub use crate::sim::gate::HeldUp;

/// What survives or not, and is damaged, as one.
pub const SECTOR: usize = 512;
/// Bytes of a disk that was not told how many it has.
const CAPACITY: u64 = 1 << 30;

/// What goes wrong, and when: the n-th call of its kind from now on, counting from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A write fails as a disk does, half of it done.
    WriteError(u64),
    /// A sync finds that write-back fails: some of what was written is lost, and the pages that hold
    /// it are taken for clean.
    SyncError(u64),
    /// A read, or a mapping, fails.
    ReadError(u64),
    /// From this creation or write on there is no space, until something else is injected.
    NoSpace(u64),
    /// The same for want of quota.
    NoQuota(u64),
    /// After so many more changes nothing reaches the disk: every one fails, until the crash.
    Halt(u64),
}

/// Calls since the fault was injected.
#[derive(Debug, Default)]
struct Calls {
    writes: u64,
    syncs: u64,
    reads: u64,
    takes: u64,
    changes: u64,
}

#[derive(Debug)]
struct World {
    inodes: BTreeMap<Ino, Inode>,
    names: Names,
    locked: BTreeSet<PathBuf>,
    capacity: u64,
    fault: Option<Fault>,
    calls: Calls,
    /// A checksum over every change, in order.
    trace: u64,
    syncs: Gate,
    reads: Gate,
    /// Since somebody wants to know.
    asked: Option<Vec<Asked>>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            inodes: BTreeMap::new(),
            names: Names::default(),
            locked: BTreeSet::new(),
            capacity: CAPACITY,
            fault: None,
            calls: Calls::default(),
            trace: 0,
            syncs: Gate::default(),
            reads: Gate::default(),
            asked: None,
        }
    }
}

fn count(calls: &mut u64) -> u64 {
    *calls += 1;
    *calls - 1
}

impl World {
    fn note(&mut self, what: Ask, path: &Path, at: u64, len: usize) {
        if let Some(asked) = &mut self.asked {
            let path = path.to_owned();
            asked.push(Asked {
                by: std::thread::current().id(),
                what,
                path,
                at,
                len,
            });
        }
    }

    /// Notes a change, and whether it can happen.
    fn change(&mut self, what: &str, path: &Path, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
        digest.update(&self.trace.to_le_bytes());
        digest.update(what.as_bytes());
        digest.update(path.as_os_str().as_encoded_bytes());
        digest.update(&at.to_le_bytes());
        digest.update(bytes);
        self.trace = digest.finalize();
        match self.fault {
            Some(Fault::Halt(most)) if count(&mut self.calls.changes) >= most => {
                Err(io::Error::other("the simulated machine has stopped"))
            }
            _ => Ok(()),
        }
    }

    /// Whether a call that wants so many more bytes gets them.
    fn take(&mut self, more: u64) -> io::Result<()> {
        let call = count(&mut self.calls.takes);
        match self.fault {
            Some(Fault::NoSpace(from)) if call >= from => Err(io::ErrorKind::StorageFull.into()),
            Some(Fault::NoQuota(from)) if call >= from => Err(io::ErrorKind::QuotaExceeded.into()),
            _ if more > self.free() => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    fn free(&self) -> u64 {
        let Self { inodes, names, .. } = self;
        let used = inodes
            .iter()
            .filter(|(ino, inode)| inode.is_open() || names.shows(**ino));
        let used: usize = used.map(|(_, inode)| inode.len()).sum();
        self.capacity.saturating_sub(used as u64)
    }

    /// Whether a read gets through.
    fn read(&mut self) -> io::Result<()> {
        let call = count(&mut self.calls.reads);
        if self.fault == Some(Fault::ReadError(call)) {
            return Err(io::Error::other("simulated read error"));
        }
        Ok(())
    }

    fn sync_fails(&mut self) -> bool {
        let call = count(&mut self.calls.syncs);
        self.fault == Some(Fault::SyncError(call))
    }

    /// Chance, as far as this disk goes.
    fn chance(&self) -> Rng {
        Rng::with_seed(self.trace)
    }

    fn inode(&self, path: &Path) -> io::Result<Ino> {
        self.names.get(path).ok_or_else(not_found)
    }

    fn inode_mut(&mut self, ino: Ino) -> &mut Inode {
        self.inodes.entry(ino).or_default()
    }

    /// A new inode under a name.
    fn make(&mut self, path: &Path, len: usize) -> Ino {
        let ino = Ino(self.inodes.keys().next_back().map_or(0, |last| last.0 + 1));
        self.inodes.insert(ino, Inode::zeroed(len));
        self.names.link(path, ino);
        ino
    }

    /// Gives up what has neither a name nor a descriptor.
    fn sweep(&mut self) {
        let Self { inodes, names, .. } = self;
        inodes.retain(|ino, inode| inode.is_open() || names.holds(*ino));
    }
}

/// What a program can want of bytes in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    Read,
    Map,
    /// It is told of a read that will come.
    Told,
    Write,
}

/// One call for bytes in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub by: ThreadId,
    pub what: Ask,
    /// As it was when it was opened.
    pub path: PathBuf,
    pub at: u64,
    pub len: usize,
}

/// The simulated file system; clones share it.
#[derive(Debug, Clone, Default)]
pub struct SimFs(Arc<Mutex<World>>);

const POISONED: &str = "no code that can panic runs under the simulation's lock";

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect(POISONED)
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

/// What a test does to a disk.
impl SimFs {
    /// From now on this goes wrong, and nothing else.
    pub fn inject(&self, fault: Option<Fault>) {
        let mut world = lock(&self.0);
        world.fault = fault;
        world.calls = Calls::default();
    }

    /// What has been asked of files since this was asked last. Nothing is noted before the first time.
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.0).asked.replace(Vec::new()).unwrap_or_default()
    }

    /// From now on no read comes back, until what is returned is dropped.
    pub fn hold_reads(&self) -> HeldUp {
        lock(&self.0).reads.shut()
    }

    /// From now on the disk has so many bytes.
    pub fn resize(&self, capacity: u64) {
        lock(&self.0).capacity = capacity;
    }

    /// From now on no sync of a file comes back, until what is returned is dropped.
    pub fn hold_syncs(&self) -> HeldUp {
        lock(&self.0).syncs.shut()
    }

    /// Tells whether two runs did the same: a checksum over every change so far, of which file, where
    /// and with what bytes, crashes included.
    pub fn trace(&self) -> u64 {
        lock(&self.0).trace
    }

    /// Tells whether two disks are the same: a checksum over names and what programs read.
    pub fn digest(&self) -> u64 {
        let world = lock(&self.0);
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
        for (path, ino) in world.names.iter() {
            digest.update(path.as_os_str().as_encoded_bytes());
            digest.update(world.inodes.get(&ino).map_or(&[], |inode| inode.cached()));
        }
        digest.finalize()
    }

    /// The disk as a crash now could leave it: of what is not synced, each sector, each length and
    /// each change of a name survives or not. The machine it came from goes on, unaware.
    pub fn crash(&self, seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let world = lock(&self.0);
        let names = world.names.crash(&mut random);
        let survives = |ino: &Ino| names.holds(*ino);
        let inodes = world.inodes.iter().filter(|(ino, _)| survives(ino));
        let inodes = inodes
            .map(|(ino, inode)| (*ino, inode.crash(&mut random)))
            .collect();
        Self(Arc::new(Mutex::new(World {
            inodes,
            names,
            capacity: world.capacity,
            trace: world.trace ^ seed,
            ..World::default()
        })))
    }

    /// The kernel writes a file back by itself, or fails to. Nobody is told before the next sync.
    pub fn write_back(&self, path: &Path, fails: bool) {
        let mut world = lock(&self.0);
        let what = if fails {
            "write back, failing"
        } else {
            "write back"
        };
        // A machine that has stopped writes nothing back.
        if world.change(what, path, 0, &[]).is_err() {
            return;
        }
        let mut random = world.chance();
        if let Ok(ino) = world.inode(path) {
            world
                .inode_mut(ino)
                .write_back(fails.then_some(&mut random));
        }
    }

    /// The kernel forgets a file that nobody has open: what it had cached, and that write-back failed.
    pub fn forget(&self, path: &Path) {
        let mut world = lock(&self.0);
        if let Ok(ino) = world.inode(path) {
            world.inode_mut(ino).forget();
        }
    }

    /// Changes bits behind everybody's back, as a failing disk would.
    pub fn flip(&self, path: &Path, at: usize, mask: u8) {
        self.damage(path, |inode| inode.flip(at, mask));
    }

    /// A write of one sector has gone to another; where it belonged is what was there before.
    pub fn misdirect(&self, path: &Path, from: usize, to: usize) {
        self.damage(path, |inode| inode.misdirect(from, to));
    }

    /// The last write of a sector was never done.
    pub fn make_stale(&self, path: &Path, sector: usize) {
        self.damage(path, |inode| inode.make_stale(sector));
    }

    /// A sector cannot be read until it is written again.
    pub fn make_unreadable(&self, path: &Path, sector: usize) {
        self.damage(path, |inode| inode.make_unreadable(sector));
    }

    fn damage(&self, path: &Path, damage: impl FnOnce(&mut Inode)) {
        let mut world = lock(&self.0);
        if let Ok(ino) = world.inode(path) {
            damage(world.inode_mut(ino));
        }
    }

    fn file(&self, world: &mut World, path: &Path, ino: Ino, writable: bool) -> Arc<dyn File> {
        let since = world.inode_mut(ino).open();
        Arc::new(SimFile::new(
            path,
            ino,
            Arc::clone(&self.0),
            since,
            writable,
        ))
    }
}

impl Fs for SimFs {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut world = lock(&self.0);
        world.change("mkdir", path, 0, &[])?;
        world.names.create_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        lock(&self.0).names.list(dir)
    }

    fn create(&self, path: &Path, len: u64) -> io::Result<Arc<dyn File>> {
        let mut world = lock(&self.0);
        world.names.check_parent(path)?;
        world.take(len)?;
        world.change("create", path, len, &[])?;
        let ino = world.make(path, len as usize);
        let file = self.file(&mut world, path, ino, true);
        world.sweep();
        Ok(file)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut world = lock(&self.0);
        let ino = world.inode(path)?;
        Ok(self.file(&mut world, path, ino, true))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut world = lock(&self.0);
        let ino = world.inode(path)?;
        Ok(self.file(&mut world, path, ino, false))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = lock(&self.0);
        world.names.check_parent(to)?;
        world.inode(from)?;
        world.change("rename", to, 0, from.as_os_str().as_encoded_bytes())?;
        world.names.rename(from, to);
        world.sweep();
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = lock(&self.0);
        world.inode(path)?;
        world.change("remove", path, 0, &[])?;
        world.names.unlink(path);
        world.sweep();
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut world = lock(&self.0);
        world.change("sync directory", dir, 0, &[])?;
        if world.sync_fails() {
            return Err(io::Error::other("simulated sync error"));
        }
        world.names.sync(dir);
        world.sweep();
        Ok(())
    }

    fn capacity(&self, _dir: &Path) -> io::Result<u64> {
        Ok(lock(&self.0).capacity)
    }

    fn free_space(&self, _dir: &Path) -> io::Result<u64> {
        Ok(lock(&self.0).free())
    }

    fn lock(&self, path: &Path) -> io::Result<Result<Lock, String>> {
        let mut world = lock(&self.0);
        world.names.check_parent(path)?;
        if !world.locked.insert(path.to_owned()) {
            return Ok(Err("simulated".to_owned()));
        }
        if world.inode(path).is_err() {
            world.make(path, 0);
        }
        Ok(Ok(Box::new(Held {
            path: path.to_owned(),
            world: Arc::clone(&self.0),
        })))
    }

    fn lock_to_read(&self, path: &Path) -> io::Result<Result<Option<Lock>, String>> {
        if lock(&self.0).inode(path).is_err() {
            return Ok(Ok(None));
        }
        Ok(self.lock(path)?.map(Some))
    }
}

struct Held {
    path: PathBuf,
    world: Arc<Mutex<World>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        lock(&self.world).locked.remove(&self.path);
    }
}
