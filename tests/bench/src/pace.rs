//! How long a write takes when there is half as much to write as could be, syncs going on all the while: S4.

use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use quern_protocol::block::crc_around;
use quern_protocol::{QueueId, TopicId};
use quern_store::{Acknowledge, Append};

use crate::ours::{self, Opened, quantile_us, verify};
use crate::raw::{self, Files, RECORD, lock};
use crate::{BATCH, FILE};

const SHARE: f64 = 0.9999;

/// Batches that are due, so many a second.
struct Pace {
    began: Instant,
    every: Duration,
    done: u32,
}

impl Pace {
    fn half_of(messages_a_second: f64) -> Self {
        Self {
            began: Instant::now(),
            every: Duration::from_secs_f64(2.0 * BATCH as f64 / messages_a_second.max(1.0)),
            done: 0,
        }
    }

    /// Waits until another one is due.
    fn next(&mut self) {
        let due = self.began + self.every * self.done;
        self.done += 1;
        while let Some(left) = due.checked_duration_since(Instant::now()) {
            std::thread::park_timeout(left);
        }
    }
}

/// Notes when it is woken.
struct Stamp {
    asked: Instant,
    took_ns: AtomicU64,
}

impl Wake for Stamp {
    fn wake(self: Arc<Self>) {
        let took = self.asked.elapsed().as_nanos() as u64;
        let _ = self
            .took_ns
            .compare_exchange(0, took, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// From a batch's submission until it is written, p99.99, µs.
pub(crate) fn ours(dir: &Path, lasting: Duration) -> anyhow::Result<f64> {
    let rate = ours::rate(dir, lasting / 2, 256, BATCH)?;
    let opened = Opened::new(dir)?;
    let sent = ours::batch(BATCH)?;
    let (mut under_way, mut turn) = (Vec::new(), 0);
    let mut pace = Pace::half_of(rate);
    while pace.began.elapsed() < lasting {
        pace.next();
        verify(&sent, BATCH)?;
        let stamp = Arc::new(Stamp {
            asked: Instant::now(),
            took_ns: AtomicU64::new(0),
        });
        let mut pending = opened.store.submit(Append {
            topic: TopicId(1),
            queue: QueueId(turn % 8),
            blocks: sent.clone(),
            count: BATCH as u32,
            acknowledge: Acknowledge::Written,
            ..Append::default()
        });
        turn += 1;
        let waker = Waker::from(Arc::clone(&stamp));
        if let Poll::Ready(outcome) = Pin::new(&mut pending).poll(&mut Context::from_waker(&waker))
        {
            outcome?;
            stamp.wake_by_ref();
        }
        under_way.push((stamp, pending));
    }
    let here = ours::this_thread();
    let mut times = Vec::with_capacity(under_way.len());
    for (stamp, pending) in under_way {
        let took = stamp.took_ns.load(Ordering::Relaxed);
        ours::wait(pending, &here)?;
        let took = match took {
            0 => stamp.asked.elapsed(),
            took => Duration::from_nanos(took),
        };
        times.push(took);
    }
    opened.finish()?;
    Ok(quantile_us(times, SHARE))
}

/// The same for a write of as many bytes with their checksums.
pub(crate) fn raw(dir: &Path, lasting: Duration) -> anyhow::Result<f64> {
    let rate = raw::streaming(dir, lasting / 2)?;
    let files = Files::new(dir);
    let current = Arc::new(Mutex::new(files.next()?));
    let stop = Arc::new(AtomicBool::new(false));
    let syncing = {
        let (current, stop) = (Arc::clone(&current), Arc::clone(&stop));
        std::thread::spawn(move || -> std::io::Result<()> {
            while !stop.load(Ordering::Relaxed) {
                let file = Arc::clone(&lock(&current));
                file.sync_data()?;
            }
            Ok(())
        })
    };
    let mut batch: Vec<u8> = (0..RECORD * BATCH).map(|_| fastrand::u8(..)).collect();
    let (mut file, mut at, mut full, mut times) =
        (Arc::clone(&lock(&current)), 0, Vec::new(), Vec::new());
    let mut pace = Pace::half_of(rate);
    while pace.began.elapsed() < lasting {
        pace.next();
        let asked = Instant::now();
        for message in batch.chunks_mut(RECORD) {
            let crc = crc_around(message, 4..8);
            message[4..8].copy_from_slice(&crc.to_le_bytes());
        }
        if at + batch.len() as u64 > FILE {
            file.sync_data()?;
            full.push(std::mem::replace(&mut file, files.next()?));
            *lock(&current) = Arc::clone(&file);
            at = 0;
        }
        std::os::unix::fs::FileExt::write_all_at(&*file, &batch, at)?;
        at += batch.len() as u64;
        times.push(asked.elapsed());
    }
    stop.store(true, Ordering::Relaxed);
    syncing.join().expect("it does not panic")?;
    Ok(quantile_us(times, SHARE))
}
