//! How long a write takes when there is half as much to write as could be, syncs going on all the while: S4.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use quern_protocol::{QueueId, TopicId};
use quern_store::{Acknowledge, Append};

use crate::BATCH;
use crate::ours::{self, Opened, quantile_us, verify};
use crate::raw::{self, Streaming};

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
    let mut streaming = Streaming::new(dir)?;
    let mut times = Vec::new();
    let mut pace = Pace::half_of(rate);
    while pace.began.elapsed() < lasting {
        pace.next();
        let asked = Instant::now();
        streaming.write()?;
        times.push(asked.elapsed());
    }
    streaming.end()?;
    Ok(quantile_us(times, SHARE))
}
