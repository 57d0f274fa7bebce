//! Write-back that fails: who is told, how often, and what is on the disk then. Measured on Linux
//! 6.18 with ext4 and XFS, which agree; the simulated disk does the same.

use std::path::Path;

use quern_store::fs::{File, Fs};

/// A file system whose disk fails on command.
pub(crate) trait Rig {
    fn fs(&self) -> &dyn Fs;
    fn dir(&self) -> &Path;
    /// What a sync writes back from now on does not reach the disk.
    fn next_write_back_fails(&self);
    fn heal(&self);
    /// The kernel writes the file back by itself, and the disk fails it.
    fn write_back(&self, name: &str);
    /// The kernel drops the inode of a file nobody has open.
    fn forget(&self, name: &str);
}

pub(crate) fn contents(file: &dyn File) -> Vec<u8> {
    let mut bytes = vec![0; file.len().unwrap() as usize + 1];
    let read = file.read_at(&mut bytes, 0).unwrap();
    assert_eq!(read, bytes.len() - 1);
    bytes.truncate(read);
    bytes
}

/// A sector is written with a letter of its own, so one look tells what is there.
const LEN: usize = 4_096;

fn letter(file: &dyn File) -> u8 {
    contents(file)[0]
}

/// What the disk has, whatever the cache says.
fn on_disk(file: &dyn File) -> u8 {
    file.evict().unwrap();
    letter(file)
}

pub(crate) fn check(rig: &dyn Rig) {
    // Of a write of many sectors some may get through: until one is seen that did not.
    for attempt in 0.. {
        assert!(attempt < 64, "a disk that fails loses something");
        let name = |row: &str| format!("{row}-{attempt}");
        let lost = a_sync_that_fails_is_told_once(rig, &name("sync"))
            & a_background_failure_is_told_each_descriptor_once(rig, &name("background"))
            & who_comes_after_the_telling_hears_nothing(rig, &name("later"))
            & what_nobody_has_open_is_forgotten(rig, &name("forgotten"));
        if lost {
            return;
        }
    }
}

fn with_an_a(rig: &dyn Rig, name: &str) -> std::sync::Arc<dyn File> {
    let file = rig.fs().create(&rig.dir().join(name), LEN as u64).unwrap();
    file.write_at(&[b'A'; LEN], 0).unwrap();
    file.sync_data().unwrap();
    rig.fs().sync_dir(rig.dir()).unwrap();
    file
}

/// EIO, OK, OK; the disk has A, and the cache says B until it is dropped.
fn a_sync_that_fails_is_told_once(rig: &dyn Rig, name: &str) -> bool {
    let file = with_an_a(rig, name);
    file.write_at(&[b'B'; LEN], 0).unwrap();
    rig.next_write_back_fails();
    file.sync_data().unwrap_err();
    rig.heal();
    file.sync_data().unwrap();
    file.sync_data().unwrap();
    assert_eq!(letter(&*file), b'B');
    on_disk(&*file) == b'A'
}

/// The writer is told once, and so is one that came later, as long as nobody had been told.
fn a_background_failure_is_told_each_descriptor_once(rig: &dyn Rig, name: &str) -> bool {
    let writer = with_an_a(rig, name);
    writer.write_at(&[b'B'; LEN], 0).unwrap();
    rig.write_back(name);
    let later = rig.fs().open(&rig.dir().join(name)).unwrap();
    later.sync_data().unwrap_err();
    later.sync_data().unwrap();
    writer.sync_data().unwrap_err();
    writer.sync_data().unwrap();
    on_disk(&*writer) == b'A'
}

/// One is told; who opens the file then hears nothing, while the writer still does.
fn who_comes_after_the_telling_hears_nothing(rig: &dyn Rig, name: &str) -> bool {
    let path = rig.dir().join(name);
    let writer = with_an_a(rig, name);
    writer.write_at(&[b'B'; LEN], 0).unwrap();
    rig.write_back(name);
    let first = rig.fs().open(&path).unwrap();
    first.sync_data().unwrap_err();
    let second = rig.fs().open(&path).unwrap();
    second.sync_data().unwrap();
    writer.sync_data().unwrap_err();
    on_disk(&*writer) == b'A'
}

/// Nobody had it open, the kernel let go of it: all is well, and the data is not there.
fn what_nobody_has_open_is_forgotten(rig: &dyn Rig, name: &str) -> bool {
    let path = rig.dir().join(name);
    let writer = with_an_a(rig, name);
    writer.write_at(&[b'B'; LEN], 0).unwrap();
    drop(writer);
    rig.write_back(name);
    rig.forget(name);
    let file = rig.fs().open(&path).unwrap();
    file.sync_data().unwrap();
    on_disk(&*file) == b'A'
}
