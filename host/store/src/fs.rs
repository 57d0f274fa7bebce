//! The file seam: all the store asks of a file system. Paths are absolute or relative to the
//! working directory; every call blocks. [`crate::sim::SimFs`] is the other implementation, and one
//! suite of tests (`tests/store/contract.rs`) holds both to what is said here.
//!
//! An error of a write or a sync says that what was written may be lost; a descriptor is told of it
//! once and then never again, so a second sync proves nothing. Whoever writes keeps one descriptor
//! open from the first write to the last sync, and syncs through no other: one that was opened later
//! may not be told at all.

use std::any::Any;
use std::fmt::Debug;
use std::fs::{File as StdFile, OpenOptions};
use std::io::{self, IoSliceMut};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::{Advice, FallocateFlags, FlockOperation, StatVfs};
use rustix::io::{Errno, ReadWriteFlags};

use crate::mapping;

/// A file system.
pub trait Fs: Debug + Send + Sync {
    /// A directory, with its parents; the names of those it had to make, and its own, are durable
    /// when this returns.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Names in a directory, sorted; an error of kind `NotFound` when there is none.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// A new file of `len` zero bytes, its space taken. Replaces what was there. When there is no
    /// space, no file is left behind.
    fn create(&self, path: &Path, len: u64) -> io::Result<Arc<dyn File>>;
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// A file that is not written to, on a medium that may not be writable.
    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes names durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes of the whole file system.
    fn capacity(&self, dir: &Path) -> io::Result<u64>;
    /// Bytes of it that this process may still take.
    fn free_space(&self, dir: &Path) -> io::Result<u64>;
    /// Held until dropped; `Err(text)` with what the holder wrote when somebody else holds it.
    fn lock(&self, path: &Path) -> io::Result<Result<Lock, String>>;
    /// The same for somebody who only reads, and writes nothing for it; `None` when there is no such
    /// file, so nobody to keep out.
    fn lock_to_read(&self, path: &Path) -> io::Result<Result<Option<Lock>, String>>;
}

/// Releases a lock when dropped.
pub type Lock = Box<dyn Any + Send + Sync>;

/// An open file.
pub trait File: Debug + Send + Sync {
    fn len(&self) -> io::Result<u64>;
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Bytes read, fewer than asked only at the end.
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize>;
    /// The same for who must not wait for a disk: `WouldBlock` when one would have to be asked, or when the
    /// machine cannot say.
    fn read_now(&self, buffer: &mut [u8], at: u64) -> io::Result<usize>;
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Makes contents durable. After an error nothing is known about what was written before.
    fn sync_data(&self) -> io::Result<()>;
    /// Cuts the file, or makes it longer by zeros whose space is not taken.
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// Makes the next reads come from the disk itself, but for what is not synced.
    fn evict(&self) -> io::Result<()>;
    /// These bytes will be read soon: a hint, which changes nothing.
    fn will_read(&self, at: u64, len: usize);
    /// `len` bytes from `at` on, all of them read already and not copied; they stay when the file is
    /// removed. Only for files that no longer change. `UnexpectedEof` when there are fewer,
    /// `Unsupported` where the machine cannot do it: then read them.
    fn map(&self, at: u64, len: usize) -> io::Result<Bytes>;
}

/// The machine's file system.
#[derive(Debug)]
pub struct RealFs;

#[derive(Debug)]
struct RealFile(StdFile);

impl Fs for RealFs {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let parent = match path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
            None => return Ok(()),
        };
        if path.is_dir() {
            // Whoever made it may have died before this. Its parent may be none of our business.
            let _ = self.sync_dir(parent);
            return Ok(());
        }
        self.create_dir(parent)?;
        match std::fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            // Somebody else was faster; a file in its place is found by who uses it.
            _ => self.sync_dir(parent),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = std::fs::read_dir(dir)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    fn create(&self, path: &Path, len: u64) -> io::Result<Arc<dyn File>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)?;
        if len > 0
            && let Err(error) = reserve(&file, len)
        {
            let _ = std::fs::remove_file(path);
            return Err(error);
        }
        Ok(Arc::new(RealFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(RealFile(StdFile::open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        StdFile::open(dir)?.sync_all()
    }

    fn capacity(&self, dir: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(stat.f_blocks.saturating_mul(stat.f_frsize))
    }

    fn free_space(&self, dir: &Path) -> io::Result<u64> {
        Ok(free(&rustix::fs::statvfs(dir)?))
    }

    fn lock(&self, path: &Path) -> io::Result<Result<Lock, String>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                let pid = std::process::id().to_string();
                file.set_len(0)?;
                file.write_all_at(pid.as_bytes(), 0)?;
                Ok(Ok(Box::new(file)))
            }
            Err(Errno::WOULDBLOCK) => Ok(Err(Self::holder(path))),
            Err(error) => Err(error.into()),
        }
    }

    fn lock_to_read(&self, path: &Path) -> io::Result<Result<Option<Lock>, String>> {
        let file = match StdFile::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ok(None)),
            Err(error) => return Err(error),
        };
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(Ok(Some(Box::new(file)))),
            Err(Errno::WOULDBLOCK) => Ok(Err(Self::holder(path))),
            Err(error) => Err(error.into()),
        }
    }
}

fn free(stat: &StatVfs) -> u64 {
    stat.f_bavail.saturating_mul(stat.f_frsize)
}

/// Takes the space of a new file.
fn reserve(file: &StdFile, len: u64) -> io::Result<()> {
    // An attempt that must fail would first take from everybody all the space there is.
    if len > free(&rustix::fs::fstatvfs(file)?) {
        return Err(io::ErrorKind::StorageFull.into());
    }
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len) {
        // A file system that cannot reserve still works, one ENOSPC later.
        Err(Errno::OPNOTSUPP) => file.set_len(len),
        reserved => Ok(reserved?),
    }
}

impl RealFs {
    fn holder(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap_or_default()
    }
}

impl File for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        read_all_of(buffer, at, |part, at| self.0.read_at(part, at))
    }

    fn read_now(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        read_all_of(buffer, at, |part, at| {
            let part = &mut [IoSliceMut::new(part)];
            match rustix::io::preadv2(&self.0, part, at, ReadWriteFlags::NOWAIT) {
                // A file system that cannot tell.
                Err(Errno::OPNOTSUPP) => Err(io::ErrorKind::WouldBlock.into()),
                read => Ok(read?),
            }
        })
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, at)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn evict(&self) -> io::Result<()> {
        rustix::fs::fadvise(&self.0, 0, None, Advice::DontNeed)?;
        Ok(())
    }

    fn will_read(&self, at: u64, len: usize) {
        // To the kernel, no length is all the rest of the file.
        if let Some(len) = NonZeroU64::new(len as u64) {
            // Who cannot take a hint reads later.
            let _ = rustix::fs::fadvise(&self.0, at, Some(len), Advice::WillNeed);
        }
    }

    fn map(&self, at: u64, len: usize) -> io::Result<Bytes> {
        mapping::map(&self.0, at, len)
    }
}

/// As many calls as it takes.
fn read_all_of(
    buffer: &mut [u8],
    at: u64,
    mut read: impl FnMut(&mut [u8], u64) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match read(&mut buffer[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Reads a small file whole.
pub(crate) fn read_all(file: &dyn File) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; file.len()? as usize];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Writes a small file so that it is there whole or not at all.
pub(crate) fn write_whole(fs: &dyn Fs, dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary: PathBuf = dir.join(format!("{name}.new"));
    let file = fs.create(&temporary, 0)?;
    file.write_at(bytes, 0)?;
    file.sync_data()?;
    fs.rename(&temporary, &dir.join(name))?;
    fs.sync_dir(dir)
}
