//! What disk and QUIC do by themselves: nothing on top of them can be faster.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use quern_protocol::block::crc_around;
use quern_quic::probe::Probe;
use serde::Serialize;

use crate::failure::Failure;

/// Messages of a raw write and of a raw frame: what batching reaches under load.
const BATCH: usize = 64;
const FILE: u64 = 256 * 1024 * 1024;
const UNPOISONED: &str = "no one panics holding it";

#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Ceilings {
    /// One write and fdatasync, µs: the median, and the slowest but one in a hundred.
    pub(crate) sync_p50_us: f64,
    pub(crate) sync_p99_us: f64,
    /// Writes of 64 messages with checksum, fdatasync running behind them; messages a second.
    pub(crate) append_per_s: f64,
    /// A raw QUIC round trip, µs, the same two.
    pub(crate) round_trip_p50_us: f64,
    pub(crate) round_trip_p99_us: f64,
    /// Raw QUIC, frames of 64 messages, 8 in flight; messages a second.
    pub(crate) quic_per_s: f64,
    /// Raw QUIC, small frames, 128 in flight; frames a second.
    pub(crate) frames_per_s: f64,
}

impl Ceilings {
    pub(crate) async fn measure(
        dir: &Path,
        size: usize,
        lasting: Duration,
    ) -> Result<Self, Failure> {
        // Each takes its share; the whole is about as long as one measurement of ours.
        let share = (lasting / 4).max(Duration::from_millis(200));
        let path = dir.join("ceiling");
        let disk = tokio::task::spawn_blocking(move || disk(&path, size, share));
        let disk = disk
            .await
            .map_err(|error| Failure::new(1, error.to_string()))?;
        let (syncs, append_per_s) = disk?;
        let failed = |error: quern_quic::probe::ProbeError| Failure::new(1, error.to_string());
        let probe = Probe::open().await.map_err(failed)?;
        let trips = percentiles_us(probe.round_trips(size, share).await.map_err(failed)?);
        let frames = probe.rate(size * BATCH, 8, share).await.map_err(failed)?;
        let small = probe.rate(2, 128, share).await.map_err(failed)?;
        Ok(Self {
            sync_p50_us: syncs.0,
            sync_p99_us: syncs.1,
            append_per_s,
            round_trip_p50_us: trips.0,
            round_trip_p99_us: trips.1,
            quic_per_s: frames * BATCH as f64,
            frames_per_s: small,
        })
    }

    pub(crate) fn mean(&self, other: &Self) -> Self {
        let mean = |a: f64, b: f64| f64::midpoint(a, b);
        Self {
            sync_p50_us: mean(self.sync_p50_us, other.sync_p50_us),
            sync_p99_us: mean(self.sync_p99_us, other.sync_p99_us),
            append_per_s: mean(self.append_per_s, other.append_per_s),
            round_trip_p50_us: mean(self.round_trip_p50_us, other.round_trip_p50_us),
            round_trip_p99_us: mean(self.round_trip_p99_us, other.round_trip_p99_us),
            quic_per_s: mean(self.quic_per_s, other.quic_per_s),
            frames_per_s: mean(self.frames_per_s, other.frames_per_s),
        }
    }
}

/// The median, and the slowest but one in a hundred.
type Percentiles = (f64, f64);

fn percentiles_us(mut times: Vec<Duration>) -> Percentiles {
    times.sort_unstable();
    let at = |index: usize| times.get(index).map_or(0.0, |it| it.as_secs_f64() * 1e6);
    (at(times.len() / 2), at(times.len() * 99 / 100))
}

fn disk(path: &Path, size: usize, lasting: Duration) -> std::io::Result<(Percentiles, f64)> {
    let sync = alone(&*reserved(path)?, size, lasting)?;
    Ok((sync, streaming(path, size, lasting)?))
}

/// A file with its space taken, as a segment has; nameless, so that nothing is left behind.
fn reserved(path: &Path) -> std::io::Result<Arc<File>> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(true);
    let file = file.open(path)?;
    std::fs::remove_file(path)?;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, FILE)?;
    file.sync_all()?;
    Ok(Arc::new(file))
}

/// One write and fdatasync after the other.
fn alone(file: &File, size: usize, lasting: Duration) -> std::io::Result<Percentiles> {
    let bytes = vec![7; size];
    let began = Instant::now();
    let mut at = 0;
    let mut times = Vec::new();
    while began.elapsed() < lasting {
        let asked = Instant::now();
        file.write_all_at(&bytes, at)?;
        file.sync_data()?;
        times.push(asked.elapsed());
        at = (at + size as u64) % (FILE - size as u64);
    }
    Ok(percentiles_us(times))
}

/// Batches with a checksum each message, while another thread syncs without a pause. Every byte is
/// new, as in a log: writing over pages that are in memory already is far cheaper.
fn streaming(path: &Path, size: usize, lasting: Duration) -> std::io::Result<f64> {
    let current = Arc::new(Mutex::new(reserved(path)?));
    let stop = Arc::new(AtomicBool::new(false));
    let syncing = {
        let (current, stop) = (Arc::clone(&current), Arc::clone(&stop));
        std::thread::spawn(move || -> std::io::Result<()> {
            while !stop.load(Ordering::Relaxed) {
                let file = Arc::clone(&current.lock().expect(UNPOISONED));
                file.sync_data()?;
            }
            Ok(())
        })
    };
    let began = Instant::now();
    let mut batch = vec![7u8; size * BATCH];
    let mut files = vec![Arc::clone(&current.lock().expect(UNPOISONED))];
    let (mut at, mut messages) = (0, 0u64);
    while began.elapsed() < lasting {
        for message in batch.chunks_mut(size.max(8)) {
            let field = 4..8.min(message.len());
            let crc = crc_around(message, field);
            if let Some(first) = message.first_chunk_mut::<4>() {
                *first = crc.to_le_bytes();
            }
        }
        if at + batch.len() as u64 > FILE {
            let next = reserved(path)?;
            *current.lock().expect(UNPOISONED) = Arc::clone(&next);
            files.push(next);
            at = 0;
        }
        if let Some(file) = files.last() {
            file.write_all_at(&batch, at)?;
        }
        messages += BATCH as u64;
        at += batch.len() as u64;
    }
    stop.store(true, Ordering::Relaxed);
    let synced = syncing.join();
    synced.map_err(|_| std::io::Error::other("the syncing thread panicked"))??;
    for file in &files {
        file.sync_data()?;
    }
    Ok(messages as f64 / began.elapsed().as_secs_f64())
}
