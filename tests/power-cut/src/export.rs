//! Shows the disk as a file, by FUSE: one directory with one file in it, for a loop device to sit on.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyOpen, ReplyWrite, Request, WriteFlags,
};

use crate::disk::Disk;

/// Name of the file.
pub(crate) const NAME: &str = "disk";
const INODE: INodeNo = INodeNo(2);
const FOREVER: Duration = Duration::from_secs(86_400);

/// The disk, shared between the file system that shows it and those who cut its power.
pub(crate) type Shared = Arc<Mutex<Disk>>;

pub(crate) fn lock(disk: &Shared) -> MutexGuard<'_, Disk> {
    disk.lock().expect("nobody panics holding the disk")
}

struct Export {
    disk: Shared,
    size: u64,
}

/// Mounts it; it stays until the session is dropped.
pub(crate) fn mount(disk: &Shared, size: u64, at: &Path) -> anyhow::Result<BackgroundSession> {
    let export = Export {
        disk: Arc::clone(disk),
        size,
    };
    Ok(fuser::spawn_mount(export, at, &fuser::Config::default())?)
}

impl Export {
    fn attributes(&self, inode: INodeNo) -> FileAttr {
        let is_dir = inode == INodeNo::ROOT;
        FileAttr {
            ino: inode,
            size: if is_dir { 0 } else { self.size },
            blocks: 0,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if is_dir {
                FileType::Directory
            } else {
                FileType::RegularFile
            },
            perm: 0o700,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            flags: 0,
            blksize: 4_096,
        }
    }
}

impl Filesystem for Export {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if parent == INodeNo::ROOT && name == NAME {
            reply.entry(&FOREVER, &self.attributes(INODE), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&FOREVER, &self.attributes(inode));
    }

    fn readdir(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        if offset == 0 {
            let _ = reply.add(INODE, 1, FileType::RegularFile, NAME);
        }
        reply.ok();
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // Nothing between the loop device and the disk.
        reply.opened(FileHandle(1), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let left = self.size.saturating_sub(offset);
        let mut bytes = vec![0; u64::from(size).min(left) as usize];
        if lock(&self.disk).read(offset, &mut bytes) {
            reply.data(&bytes);
        } else {
            reply.error(Errno::EIO);
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        if lock(&self.disk).write(offset, data) {
            reply.written(data.len() as u32);
        } else {
            reply.error(Errno::EIO);
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // Of a descriptor, not of a disk.
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let slow = lock(&self.disk).trouble.slow;
        if !slow.is_zero() {
            #[expect(clippy::disallowed_methods, reason = "this is what a slow disk does")]
            std::thread::sleep(slow);
        }
        lock(&self.disk).flush();
        reply.ok();
    }
}
