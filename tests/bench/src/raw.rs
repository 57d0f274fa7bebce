//! The disk by itself: files reserved ahead as ours are, written front to back, never twice, and all
//! of them kept until the end, so that no page of memory is used twice either.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use quern_protocol::block::crc_around;

use crate::ours::{median_us, quantile_us};
use crate::{BATCH, BODY, FILE};

/// Body, block header, record header and properties: as long as a record of ours.
const RECORD: usize = BODY + 152;

/// More than is written one message after the other: some 57,000 of them.
const WRITTEN_MIB: u64 = 64;

/// Reserved files, one made ahead by a thread of its own.
struct Files {
    made: Receiver<anyhow::Result<File>>,
}

impl Files {
    fn new(dir: &Path) -> Self {
        let (make, made) = sync_channel(1);
        let dir = dir.to_owned();
        std::thread::spawn(move || {
            let mut turn = 0;
            while make.send(reserve(&dir.join(format!("raw-{turn}")))).is_ok() {
                turn += 1;
            }
        });
        Self { made }
    }

    fn next(&self) -> anyhow::Result<Arc<File>> {
        let file = self.made.recv().context("the thread that makes files")?;
        Ok(Arc::new(file?))
    }
}

/// Without a name from the start, so that nothing is left behind.
fn reserve(path: &PathBuf) -> anyhow::Result<File> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(true);
    let file = file.open(path)?;
    std::fs::remove_file(path)?;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, FILE)?;
    file.sync_all()?;
    Ok(file)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no one panics holding it")
}

/// Batches with a checksum for each message, while another thread syncs without a pause.
pub(crate) struct Streaming {
    files: Files,
    file: Arc<File>,
    at: u64,
    full: Vec<Arc<File>>,
    batch: Vec<u8>,
    /// What is synced.
    current: Arc<Mutex<Arc<File>>>,
    stop: Arc<AtomicBool>,
    syncing: JoinHandle<io::Result<()>>,
}

impl Streaming {
    pub(crate) fn new(dir: &Path) -> anyhow::Result<Self> {
        let files = Files::new(dir);
        let file = files.next()?;
        let current = Arc::new(Mutex::new(Arc::clone(&file)));
        let stop = Arc::new(AtomicBool::new(false));
        let (synced, stopped) = (Arc::clone(&current), Arc::clone(&stop));
        let syncing = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let file = Arc::clone(&lock(&synced));
                file.sync_data()?;
            }
            Ok(())
        });
        Ok(Self {
            files,
            file,
            at: 0,
            full: Vec::new(),
            batch: (0..RECORD * BATCH).map(|_| fastrand::u8(..)).collect(),
            current,
            stop,
            syncing,
        })
    }

    /// Another batch.
    pub(crate) fn write(&mut self) -> anyhow::Result<()> {
        for message in self.batch.chunks_mut(RECORD) {
            let crc = crc_around(message, 4..8);
            if let Some(field) = message.get_mut(4..8) {
                field.copy_from_slice(&crc.to_le_bytes());
            }
        }
        if self.at + self.batch.len() as u64 > FILE {
            self.file.sync_data()?;
            let next = self.files.next()?;
            self.full.push(std::mem::replace(&mut self.file, next));
            *lock(&self.current) = Arc::clone(&self.file);
            self.at = 0;
        }
        self.file.write_all_at(&self.batch, self.at)?;
        self.at += self.batch.len() as u64;
        Ok(())
    }

    /// All of them are on the disk.
    pub(crate) fn end(self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.syncing.join().expect("it does not panic")?;
        self.file.sync_data()?;
        Ok(())
    }
}

/// So many messages a second as can be written, all on disk at the end.
pub(crate) fn streaming(dir: &Path, lasting: Duration) -> anyhow::Result<f64> {
    let mut streaming = Streaming::new(dir)?;
    let (began, mut messages) = (Instant::now(), 0_u64);
    while began.elapsed() < lasting {
        streaming.write()?;
        messages += BATCH as u64;
    }
    streaming.end()?;
    Ok(messages as f64 / began.elapsed().as_secs_f64())
}

/// Median µs of one write and fdatasync after the other.
pub(crate) fn alone(dir: &Path, lasting: Duration) -> anyhow::Result<f64> {
    let file = Files::new(dir).next()?;
    Ok(median_us(writes(&file, lasting)?))
}

/// p99 of the same where all has been written to before, µs.
pub(crate) fn alone_p99(dir: &Path, lasting: Duration) -> anyhow::Result<f64> {
    let file = Files::new(dir).next()?;
    for mib in 0..WRITTEN_MIB {
        file.write_all_at(&vec![0; 1 << 20], mib << 20)?;
    }
    file.sync_all()?;
    Ok(quantile_us(writes(&file, lasting)?, 0.99))
}

fn writes(file: &File, lasting: Duration) -> anyhow::Result<Vec<Duration>> {
    let bytes = vec![7; RECORD];
    let mut times = Vec::new();
    let began = Instant::now();
    while began.elapsed() < lasting {
        let asked = Instant::now();
        file.write_all_at(&bytes, (times.len() * RECORD) as u64)?;
        file.sync_data()?;
        times.push(asked.elapsed());
    }
    Ok(times)
}

/// What 16 threads share: who syncs, how far it is written, how far it is durable.
struct Shared {
    tail: Mutex<Tail>,
    synced: Condvar,
}

struct Tail {
    file: Arc<File>,
    full: Vec<Arc<File>>,
    at: u64,
    written: u64,
    durable: u64,
    syncing: bool,
}

/// The usual group commit: write under a lock, and whoever finds no sync running does one for all.
/// Each of 16 threads writes so many messages, then waits until they are durable.
pub(crate) fn locked(dir: &Path, lasting: Duration, per_wait: usize) -> anyhow::Result<f64> {
    let files = Mutex::new(Files::new(dir));
    let file = lock(&files).next()?;
    let shared = Shared {
        tail: Mutex::new(Tail {
            file,
            full: Vec::new(),
            at: 0,
            written: 0,
            durable: 0,
            syncing: false,
        }),
        synced: Condvar::new(),
    };
    let began = Instant::now();
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let (shared, files) = (&shared, &files);
        let work = move || -> anyhow::Result<()> {
            let mut message = vec![7; RECORD];
            while began.elapsed() < lasting {
                let mut mine = 0;
                for _ in 0..per_wait {
                    let crc = crc_around(&message, 4..8);
                    message[4..8].copy_from_slice(&crc.to_le_bytes());
                    mine = write(shared, files, &message)?;
                }
                commit(shared, mine)?;
            }
            Ok(())
        };
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            thread.join().expect("it does not panic")?;
        }
        Ok(())
    })?;
    let tail = lock(&shared.tail);
    Ok(tail.durable as f64 / began.elapsed().as_secs_f64())
}

fn write(shared: &Shared, files: &Mutex<Files>, message: &[u8]) -> anyhow::Result<u64> {
    let mut tail = lock(&shared.tail);
    if tail.at + message.len() as u64 > FILE {
        while tail.syncing {
            tail = shared.synced.wait(tail).expect("no one panics holding it");
        }
        tail.file.sync_data()?;
        tail.durable = tail.written;
        shared.synced.notify_all();
        let next = lock(files).next()?;
        let full = std::mem::replace(&mut tail.file, next);
        tail.full.push(full);
        tail.at = 0;
    }
    tail.file.write_all_at(message, tail.at)?;
    tail.at += message.len() as u64;
    tail.written += 1;
    Ok(tail.written)
}

fn commit(shared: &Shared, mine: u64) -> anyhow::Result<()> {
    let mut tail = lock(&shared.tail);
    while tail.durable < mine {
        if tail.syncing {
            tail = shared.synced.wait(tail).expect("no one panics holding it");
            continue;
        }
        tail.syncing = true;
        let (file, upto) = (Arc::clone(&tail.file), tail.written);
        drop(tail);
        let synced = file.sync_data();
        tail = lock(&shared.tail);
        tail.syncing = false;
        shared.synced.notify_all();
        synced?;
        tail.durable = tail.durable.max(upto);
    }
    Ok(())
}
