//! Many queues: how fast entries are shared out to them, and what idle ones cost. S5.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use quern_protocol::{Message, QueueId, TopicId};
use quern_store::gauge::Dispatching;
use quern_store::{Append, Config, Env, Stateless, Store};

use crate::ours::{this_thread, wait};

const QUEUES: u32 = 100_000;
const IDLE: u32 = 1_000_000;
/// Entries that one batch brings to a queue.
const RUN: u64 = 4;
const ENTRY: usize = 20;
/// Entries of a block, and its bytes in the file.
const BLOCK: usize = 203;
const BLOCK_LEN: usize = 4096;

/// Entries a second that our consume queues take, from batches of four.
pub(crate) fn dispatch(dir: &Path, lasting: Duration) -> anyhow::Result<f64> {
    let dir = dir.join("queues");
    let queues = Dispatching::new(&dir)?;
    let mut ends = vec![0u64; QUEUES as usize];
    let (mut entries, mut position) = (0u64, 4096);
    let began = Instant::now();
    while began.elapsed() < lasting {
        for _ in 0..1_000 {
            let queue = fastrand::u32(..QUEUES);
            let end = &mut ends[queue as usize];
            queues.append((TopicId(1), QueueId(queue)), *end, position, RUN);
            *end += RUN;
            position += RUN * 1_200;
            entries += RUN;
        }
    }
    let rate = entries as f64 / began.elapsed().as_secs_f64();
    drop(queues);
    std::fs::remove_dir_all(dir)?;
    Ok(rate)
}

/// The same done with nothing but arrays: entries of each queue until they fill a block, blocks one after the
/// other in a file, a mebibyte at a time. Nobody could read them meanwhile.
pub(crate) fn probe(dir: &Path, lasting: Duration) -> anyhow::Result<f64> {
    let path = dir.join("probe");
    let file = File::create(&path)?;
    let mut hot: Vec<Vec<[u8; ENTRY]>> = (0..QUEUES).map(|_| Vec::new()).collect();
    let mut chunk = Vec::with_capacity(1 << 20);
    let (mut entries, mut position, mut at) = (0u64, 4096u64, 0);
    let began = Instant::now();
    while began.elapsed() < lasting {
        for _ in 0..1_000 {
            let queue = &mut hot[fastrand::usize(..QUEUES as usize)];
            for _ in 0..RUN {
                let mut entry = [0; ENTRY];
                entry[..8].copy_from_slice(&position.to_le_bytes());
                entry[8..12].copy_from_slice(&1_200u32.to_le_bytes());
                queue.push(entry);
                position += 1_200;
            }
            entries += RUN;
            if queue.len() >= BLOCK {
                let from = chunk.len();
                queue
                    .drain(..BLOCK)
                    .for_each(|it| chunk.extend_from_slice(&it));
                chunk.resize(from + BLOCK_LEN, 0);
            }
            if chunk.len() >= 1 << 20 {
                file.write_all_at(&chunk, at)?;
                at += chunk.len() as u64;
                chunk.clear();
            }
        }
    }
    let rate = entries as f64 / began.elapsed().as_secs_f64();
    std::fs::remove_file(path)?;
    Ok(rate)
}

type Figure = (&'static str, String, &'static str);

/// What a store keeps in memory for each of a million queues that has a message, and how many files it has open.
pub(crate) fn idle(dir: &Path) -> anyhow::Result<[Figure; 2]> {
    let dir = dir.join("idle");
    let (store, _) = Store::open(Config::new(&dir), Env::real(), Box::new(Stateless))?;
    let body = |len: usize| -> anyhow::Result<Bytes> {
        Ok(Message::new("idle", vec![b'x'; len]).encode("", 0)?)
    };
    let here = this_thread();
    let mut under_way = VecDeque::new();
    let mut send = |queue: u32, blocks: &Bytes, most: usize| -> anyhow::Result<()> {
        under_way.push_back(store.submit(Append {
            topic: TopicId(1),
            queue: QueueId(queue),
            blocks: blocks.clone(),
            count: 1,
            ..Append::default()
        }));
        while under_way.len() > most {
            wait(under_way.pop_front().context("there is one")?, &here)?;
        }
        Ok(())
    };
    // The newest part of the log is in memory, whatever is in it: it shall be full before, of the same.
    let small = body(16)?;
    for _ in 0..IDLE {
        send(0, &small, 4_000)?;
    }
    send(0, &small, 0)?;
    let before = resident()?;
    for queue in 1..=IDLE {
        send(queue, &small, 4_000)?;
    }
    send(0, &small, 0)?;
    let each = resident()?.saturating_sub(before) as f64 / f64::from(IDLE);
    let files = std::fs::read_dir("/proc/self/fd")?.count();
    store.close()?;
    std::fs::remove_dir_all(dir)?;
    Ok([
        (
            "S5  memory of each of a million idle queues",
            format!("{each:.0} B"),
            "<= 600 B",
        ),
        (
            "S5  open files with a million queues",
            files.to_string(),
            "<= 200",
        ),
    ])
}

/// Bytes of this process that are no file's.
fn resident() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|it| it.strip_prefix("RssAnon:"));
    let kib = line.and_then(|it| it.trim().strip_suffix(" kB"));
    let kib: u64 = kib.context("RssAnon of /proc/self/status")?.parse()?;
    Ok(kib * 1024)
}
