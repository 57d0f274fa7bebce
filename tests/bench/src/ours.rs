//! The store, driven as a broker drives it: blocks are verified, then submitted in batches, a fixed
//! number of them unanswered.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use anyhow::bail;
use bytes::Bytes;
use quern_protocol::block::blocks;
use quern_protocol::{Message, QueueId, TopicId};
use quern_store::{Append, Config, Env, Pending, Stateless, Store};

use crate::{BATCH, BODY, FILE};

/// A store in a directory of its own, which goes with it.
pub(crate) struct Opened {
    pub(crate) store: Store,
    dir: PathBuf,
}

impl Opened {
    pub(crate) fn new(dir: &Path) -> anyhow::Result<Self> {
        let dir = dir.join("store");
        let config = Config {
            segment_size: Some(FILE),
            ..Config::new(&dir)
        };
        let (store, _) = Store::open(config, Env::real(), Box::new(Stateless))?;
        Ok(Self { store, dir })
    }

    fn submit(&self, blocks: &Bytes, count: usize, turn: u32) -> anyhow::Result<Pending> {
        submit(&self.store, blocks, count, turn)
    }

    pub(crate) fn finish(self) -> anyhow::Result<()> {
        self.store.close()?;
        drop(self.store);
        Ok(std::fs::remove_dir_all(&self.dir)?)
    }
}

pub(crate) fn submit(
    store: &Store,
    blocks: &Bytes,
    count: usize,
    turn: u32,
) -> anyhow::Result<Pending> {
    verify(blocks, count)?;
    Ok(store.submit(Append {
        topic: TopicId(1),
        queue: QueueId(turn % 8),
        blocks: blocks.clone(),
        count: u32::try_from(count)?,
        ..Append::default()
    }))
}

/// As a broker does with what a client sent.
pub(crate) fn verify(sent: &[u8], count: usize) -> anyhow::Result<()> {
    let mut good = 0;
    for block in blocks(sent) {
        block?;
        good += 1;
    }
    if good != count {
        bail!("{good} good blocks of {count}");
    }
    Ok(())
}

pub(crate) fn batch(count: usize) -> anyhow::Result<Bytes> {
    let mut bytes = Vec::new();
    for index in 0..count {
        let body: Vec<u8> = (0..BODY).map(|_| fastrand::u8(..)).collect();
        let message = Message::new("bench", body)
            .tag("bench")
            .key("order-12345678");
        bytes.extend_from_slice(&message.encode(&format!("{index:026}"), 0)?);
    }
    Ok(bytes.into())
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits on this thread.
pub(crate) fn wait(pending: Pending, waker: &Waker) -> anyhow::Result<()> {
    let mut pending: Pin<&mut Pending> = pin!(pending);
    loop {
        match pending.as_mut().poll(&mut Context::from_waker(waker)) {
            Poll::Ready(outcome) => return Ok(outcome.map(drop)?),
            Poll::Pending => std::thread::park(),
        }
    }
}

pub(crate) fn this_thread() -> Waker {
    Waker::from(Arc::new(Unpark(std::thread::current())))
}

/// Messages a second, durable, with so many batches unanswered.
pub(crate) fn rate(
    dir: &Path,
    lasting: Duration,
    in_flight: usize,
    per_batch: usize,
) -> anyhow::Result<f64> {
    let opened = Opened::new(dir)?;
    let sent = batch(per_batch)?;
    let waker = this_thread();
    let mut under_way = VecDeque::new();
    let mut answered = 0;
    let mut turn = 0;
    let began = Instant::now();
    while began.elapsed() < lasting {
        while under_way.len() < in_flight {
            under_way.push_back(opened.submit(&sent, per_batch, turn)?);
            turn += 1;
        }
        if let Some(oldest) = under_way.pop_front() {
            wait(oldest, &waker)?;
            answered += per_batch;
        }
        // What was synced with it is answered, too.
        while let Some(mut next) = under_way.pop_front() {
            match Pin::new(&mut next).poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(outcome) => {
                    outcome?;
                    answered += per_batch;
                }
                Poll::Pending => {
                    under_way.push_front(next);
                    break;
                }
            }
        }
    }
    let rate = answered as f64 / began.elapsed().as_secs_f64();
    for pending in under_way {
        wait(pending, &waker)?;
    }
    opened.finish()?;
    Ok(rate)
}

/// Median µs of one message after the other.
pub(crate) fn alone(dir: &Path, lasting: Duration) -> anyhow::Result<f64> {
    let opened = Opened::new(dir)?;
    let sent = batch(1)?;
    let waker = this_thread();
    let mut times = Vec::new();
    let began = Instant::now();
    while began.elapsed() < lasting {
        let asked = Instant::now();
        wait(opened.submit(&sent, 1, 0)?, &waker)?;
        times.push(asked.elapsed());
    }
    opened.finish()?;
    Ok(median_us(times))
}

/// Log bytes per body byte, in batches of 64.
pub(crate) fn written_per_byte(dir: &Path) -> anyhow::Result<f64> {
    const ROUNDS: usize = 100;
    let opened = Opened::new(dir)?;
    let sent = batch(BATCH)?;
    let waker = this_thread();
    let from = opened.store.durable().0;
    for turn in 0..ROUNDS {
        wait(opened.submit(&sent, BATCH, turn as u32)?, &waker)?;
    }
    let written = opened.store.durable().0 - from;
    opened.finish()?;
    Ok(written as f64 / (ROUNDS * BATCH * BODY) as f64)
}

pub(crate) fn median_us(times: Vec<Duration>) -> f64 {
    quantile_us(times, 0.5)
}

/// µs that so large a share of them stays within.
pub(crate) fn quantile_us(mut times: Vec<Duration>, share: f64) -> f64 {
    times.sort_unstable();
    let at = (times.len() as f64 * share) as usize;
    let time = times.get(at.min(times.len().saturating_sub(1)));
    time.map_or(0.0, |time| time.as_secs_f64() * 1e6)
}
