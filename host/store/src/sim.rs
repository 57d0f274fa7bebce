//! A simulated disk, for tests: what is not synced may or may not survive a crash, sector by sector
//! and name by name, as a seed decides; and any call can be made to fail.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::fs::{File, Fs, Lock};

const SECTOR: usize = 512;

/// What goes wrong, and when: the n-th write or sync from now on, counting from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A write fails as a disk does.
    WriteError(u64),
    /// A sync fails, once; what was written before is lost from then on.
    SyncError(u64),
    /// Every new file fails for want of space.
    NoSpace,
    /// After so many more changes nothing reaches the disk: every one fails, until the crash.
    Halt(u64),
}

#[derive(Debug, Default)]
struct Contents {
    now: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

type Shared = Arc<Mutex<Contents>>;

#[derive(Debug, Default)]
struct World {
    files: BTreeMap<PathBuf, Shared>,
    /// Names as they would be after a crash.
    durable_names: BTreeMap<PathBuf, Shared>,
    dirs: BTreeSet<PathBuf>,
    locked: BTreeSet<PathBuf>,
    fault: Option<Fault>,
    writes: u64,
    syncs: u64,
    changes: u64,
    /// A checksum over every change, in order.
    trace: u64,
}

impl World {
    /// Notes a change, and whether it can happen.
    fn change(&mut self, what: &str, path: &Path, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
        digest.update(&self.trace.to_le_bytes());
        digest.update(what.as_bytes());
        digest.update(path.as_os_str().as_encoded_bytes());
        digest.update(&at.to_le_bytes());
        digest.update(bytes);
        self.trace = digest.finalize();
        self.changes += 1;
        match self.fault {
            Some(Fault::Halt(most)) if self.changes > most => {
                Err(io::Error::other("the simulated machine has stopped"))
            }
            _ => Ok(()),
        }
    }
}

/// The simulated file system; clones share it.
#[derive(Debug, Clone, Default)]
pub struct SimFs(Arc<Mutex<World>>);

#[derive(Debug)]
struct SimFile {
    path: PathBuf,
    contents: Shared,
    world: Arc<Mutex<World>>,
}

const POISONED: &str = "no code that can panic runs under the simulation's lock";

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect(POISONED)
}

impl SimFs {
    /// From now on this goes wrong.
    pub fn inject(&self, fault: Option<Fault>) {
        let mut world = lock(&self.0);
        world.fault = fault;
        world.writes = 0;
        world.syncs = 0;
        world.changes = 0;
    }

    /// Tells whether two runs did the same: a checksum over every change so far, of which file, where
    /// and with what bytes, crashes included.
    pub fn trace(&self) -> u64 {
        lock(&self.0).trace
    }

    /// The disk as a crash now could leave it: of what is not synced, each sector and each name
    /// survives or not. The machine it came from goes on, unaware.
    pub fn crash(&self, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let world = lock(&self.0);
        let mut after = World {
            dirs: world.dirs.clone(),
            trace: world.trace ^ seed,
            ..World::default()
        };
        let mut names = world.durable_names.clone();
        for (path, contents) in &world.files {
            let known = names.get(path).is_some_and(|it| Arc::ptr_eq(it, contents));
            if !known && random.bool() {
                names.insert(path.clone(), Arc::clone(contents));
            }
        }
        for (path, contents) in names {
            let contents = lock(&contents);
            let mut image = contents.durable.clone();
            if image.len() < contents.now.len() {
                image.resize(contents.now.len(), 0);
            }
            for sector in &contents.dirty {
                if random.bool() {
                    let from = sector * SECTOR;
                    let to = (from + SECTOR).min(contents.now.len());
                    image[from..to].copy_from_slice(&contents.now[from..to]);
                }
            }
            let survived = Contents {
                now: image.clone(),
                durable: image,
                dirty: BTreeSet::new(),
            };
            let survived = Arc::new(Mutex::new(survived));
            after.files.insert(path.clone(), Arc::clone(&survived));
            after.durable_names.insert(path, survived);
        }
        Self(Arc::new(Mutex::new(after)))
    }

    /// Changes bytes behind everybody's back, as a failing disk would.
    pub fn flip(&self, path: &Path, at: usize, mask: u8) {
        let contents = lock(&self.0).files.get(path).cloned();
        if let Some(contents) = contents {
            let mut contents = lock(&contents);
            if let Some(byte) = contents.now.get_mut(at) {
                *byte ^= mask;
            }
            if let Some(byte) = contents.durable.get_mut(at) {
                *byte ^= mask;
            }
        }
    }
}

fn not_found() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

impl Fs for SimFs {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut world = lock(&self.0);
        world.change("mkdir", path, 0, &[])?;
        world.dirs.insert(path.to_owned());
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let world = lock(&self.0);
        if !world.dirs.contains(dir) {
            return Err(not_found());
        }
        let names = world.files.keys().chain(world.dirs.iter());
        let inside = names.filter(|path| path.parent() == Some(dir));
        let mut names: Vec<String> = inside
            .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .collect();
        names.sort();
        Ok(names)
    }

    fn create(&self, path: &Path, len: u64) -> io::Result<Arc<dyn File>> {
        let mut world = lock(&self.0);
        if world.fault == Some(Fault::NoSpace) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        world.change("create", path, len, &[])?;
        let contents = Arc::new(Mutex::new(Contents {
            now: vec![0; len as usize],
            ..Contents::default()
        }));
        world.files.insert(path.to_owned(), Arc::clone(&contents));
        Ok(Arc::new(SimFile {
            path: path.to_owned(),
            contents,
            world: Arc::clone(&self.0),
        }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let contents = lock(&self.0).files.get(path).cloned();
        Ok(Arc::new(SimFile {
            path: path.to_owned(),
            contents: contents.ok_or_else(not_found)?,
            world: Arc::clone(&self.0),
        }))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = lock(&self.0);
        world.change("rename", to, 0, from.as_os_str().as_encoded_bytes())?;
        let contents = world.files.remove(from).ok_or_else(not_found)?;
        world.files.insert(to.to_owned(), contents);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = lock(&self.0);
        world.change("remove", path, 0, &[])?;
        world.files.remove(path).map(drop).ok_or_else(not_found)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut world = lock(&self.0);
        world.change("sync directory", dir, 0, &[])?;
        let World {
            files,
            durable_names,
            ..
        } = &mut *world;
        durable_names.retain(|path, _| path.parent() != Some(dir));
        let here = files.iter().filter(|(path, _)| path.parent() == Some(dir));
        durable_names.extend(here.map(|(path, contents)| (path.clone(), Arc::clone(contents))));
        Ok(())
    }

    fn capacity(&self, _dir: &Path) -> io::Result<u64> {
        Ok(1 << 30)
    }

    fn lock(&self, path: &Path) -> io::Result<Result<Lock, String>> {
        let mut world = lock(&self.0);
        if !world.locked.insert(path.to_owned()) {
            return Ok(Err("simulated".to_owned()));
        }
        Ok(Ok(Box::new(Held {
            path: path.to_owned(),
            world: Arc::clone(&self.0),
        })))
    }

    fn lock_to_read(&self, path: &Path) -> io::Result<Result<Option<Lock>, String>> {
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

impl File for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.contents).now.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let contents = lock(&self.contents);
        let from = (at as usize).min(contents.now.len());
        let to = (from + buffer.len()).min(contents.now.len());
        buffer[..to - from].copy_from_slice(&contents.now[from..to]);
        Ok(to - from)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let failing = {
            let mut world = lock(&self.world);
            world.change("write", &self.path, at, bytes)?;
            world.writes += 1;
            world.fault == Some(Fault::WriteError(world.writes - 1))
        };
        let mut contents = lock(&self.contents);
        let from = at as usize;
        // A write that fails has got half way.
        let done = if failing {
            bytes.len() / 2
        } else {
            bytes.len()
        };
        if contents.now.len() < from + done {
            contents.now.resize(from + done, 0);
        }
        contents.now[from..from + done].copy_from_slice(&bytes[..done]);
        contents
            .dirty
            .extend(from / SECTOR..(from + done).div_ceil(SECTOR));
        if failing {
            Err(io::Error::other("simulated write error"))
        } else {
            Ok(())
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        let failing = {
            let mut world = lock(&self.world);
            world.change("sync", &self.path, 0, &[])?;
            world.syncs += 1;
            world.fault == Some(Fault::SyncError(world.syncs - 1))
        };
        let mut contents = lock(&self.contents);
        let dirty = std::mem::take(&mut contents.dirty);
        if failing {
            // As Linux does it: told once, then forgotten, pages clean and never written.
            return Err(io::Error::other("simulated sync error"));
        }
        let Contents { now, durable, .. } = &mut *contents;
        durable.resize(now.len(), 0);
        for sector in dirty {
            let from = sector * SECTOR;
            let to = (from + SECTOR).min(now.len());
            durable[from..to].copy_from_slice(&now[from..to]);
        }
        Ok(())
    }

    fn evict(&self) -> io::Result<()> {
        Ok(())
    }
}
