//! A descriptor of a simulated file.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;

use super::inode::Heard;
use super::names::Ino;
use super::{Ask, Fault, World, count, lock};
use crate::fs::File;

#[derive(Debug)]
pub(super) struct SimFile {
    path: PathBuf,
    ino: Ino,
    world: Arc<Mutex<World>>,
    heard: Mutex<Heard>,
    writable: bool,
}

impl SimFile {
    pub(super) fn new(
        path: &Path,
        ino: Ino,
        world: Arc<Mutex<World>>,
        heard: Heard,
        writable: bool,
    ) -> Self {
        Self {
            path: path.to_owned(),
            ino,
            world,
            heard: Mutex::new(heard),
            writable,
        }
    }

    /// The world, once reads come back.
    fn read_world(&self) -> MutexGuard<'_, World> {
        let reads = lock(&self.world).reads.clone();
        reads.pass();
        lock(&self.world)
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.writable {
            return Ok(());
        }
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut world = lock(&self.world);
        world.inode_mut(self.ino).close();
        world.sweep();
    }
}

impl File for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.world).inode_mut(self.ino).len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let mut world = self.read_world();
        world.note(Ask::Read, &self.path, at, buffer.len());
        world.read()?;
        world.inode_mut(self.ino).read(at as usize, buffer)
    }

    fn read_now(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let mut world = lock(&self.world);
        if world.reads.is_shut() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        world.read()?;
        world.inode_mut(self.ino).read_now(at as usize, buffer)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut world = lock(&self.world);
        world.note(Ask::Write, &self.path, at, bytes.len());
        world.change("write", &self.path, at, bytes)?;
        let call = count(&mut world.calls.writes);
        let end = at as usize + bytes.len();
        let more = end.saturating_sub(world.inode_mut(self.ino).len());
        let outcome = match world.fault {
            Some(Fault::WriteError(it)) if it == call => {
                Err(io::Error::other("simulated write error"))
            }
            _ => world.take(more as u64),
        };
        // A write that fails has got half way.
        let done = match outcome {
            Ok(()) => bytes.len(),
            Err(_) => bytes.len() / 2,
        };
        world.inode_mut(self.ino).write(at as usize, &bytes[..done]);
        outcome
    }

    fn sync_data(&self) -> io::Result<()> {
        let gate = lock(&self.world).syncs.clone();
        gate.pass();
        let mut world = lock(&self.world);
        world.change("sync", &self.path, 0, &[])?;
        let failing = world.sync_fails();
        let mut random = world.chance();
        let inode = world.inode_mut(self.ino);
        inode.write_back(failing.then_some(&mut random));
        if inode.tell(&mut lock(&self.heard)) {
            return Err(io::Error::other("simulated write-back error"));
        }
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut world = lock(&self.world);
        world.change("truncate", &self.path, len, &[])?;
        world.inode_mut(self.ino).truncate(len as usize);
        Ok(())
    }

    fn evict(&self) -> io::Result<()> {
        lock(&self.world).inode_mut(self.ino).evict();
        Ok(())
    }

    fn will_read(&self, at: u64, len: usize) {
        lock(&self.world).note(Ask::Told, &self.path, at, len);
    }

    fn map(&self, at: u64, len: usize) -> io::Result<Bytes> {
        let mut world = self.read_world();
        world.note(Ask::Map, &self.path, at, len);
        world.read()?;
        let inode = world.inode_mut(self.ino);
        let end = (at as usize).checked_add(len);
        if end.is_none_or(|end| end > inode.len()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut window = vec![0; len];
        inode.read(at as usize, &mut window)?;
        Ok(window.into())
    }
}
