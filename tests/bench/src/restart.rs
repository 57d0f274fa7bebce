//! A log that is killed and started again (S6), and read from its beginning when nothing of it is in memory.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use quern_protocol::{QueueId, QueueOffset, TopicId};
use quern_store::{Config, Env, Retention, Stateless, Store};

use crate::ours::{self, quantile_us, submit, this_thread, wait};
use crate::raw;
use crate::{BATCH, FILE};

const TOPIC: TopicId = TopicId(1);
/// Entries that a reader asks for at once.
const AT_ONCE: usize = 1_024;

fn place(dir: &Path) -> PathBuf {
    dir.join("log")
}

fn config(dir: &Path) -> Config {
    Config {
        segment_size: Some(FILE),
        retention: Retention {
            age: None,
            ..Retention::default()
        },
        ..Config::new(dir)
    }
}

fn open(dir: &Path) -> anyhow::Result<Store> {
    Ok(Store::open(config(&place(dir)), Env::real(), Box::new(Stateless))?.0)
}

/// Appends without end, and says after each mebibyte how far the log is durable.
pub(crate) fn fill(dir: &Path) -> anyhow::Result<()> {
    let store = open(dir)?;
    let sent = ours::batch(BATCH)?;
    let here = this_thread();
    let (mut under_way, mut said) = (VecDeque::new(), 0);
    for turn in 0.. {
        under_way.push_back(submit(&store, &sent, BATCH, turn)?);
        if under_way.len() < 64 {
            continue;
        }
        wait(under_way.pop_front().context("there is one")?, &here)?;
        let mib = store.durable().0 >> 20;
        if mib > said {
            println!("{mib}");
            said = mib;
        }
    }
    Ok(())
}

/// Kills a process that fills a log, and starts it here, with nothing of it in memory.
pub(crate) fn killed(dir: &Path, mib: u64) -> anyhow::Result<(&'static str, String, &'static str)> {
    let mut filling = Command::new(std::env::current_exe()?)
        .args(["--fill", "--dir"])
        .arg(dir)
        .stdout(Stdio::piped())
        .spawn()?;
    let said = BufReader::new(filling.stdout.take().context("it is piped")?);
    let mut durable = 0;
    for line in said.lines() {
        durable = line?.parse()?;
        if durable >= mib {
            break;
        }
    }
    filling.kill()?;
    filling.wait()?;
    ensure!(durable >= mib, "it died at {durable} MiB");
    evict(dir)?;
    let began = Instant::now();
    let store = open(dir)?;
    let opened = began.elapsed();
    let sent = ours::batch(1)?;
    wait(submit(&store, &sent, 1, 0)?, &this_thread())?;
    let acknowledged = began.elapsed();
    ensure!(store.durable().0 >> 20 >= durable, "acknowledged, and lost");
    for queue in 0..8 {
        let (_, end) = store.range(TOPIC, QueueId(queue));
        let last = store.entries(TOPIC, QueueId(queue), QueueOffset(end.0 - 1), 1)?;
        ensure!(store.records(&last)?.len() == 1, "the end of queue {queue}");
    }
    let all = began.elapsed();
    store.close()?;
    let [opened, acknowledged, all] = [opened, acknowledged, all].map(|it| it.as_secs_f64());
    println!(
        "    killed at {durable} MiB: open after {opened:.2} s, acknowledged {acknowledged:.2} s, all queues read {all:.2} s"
    );
    Ok((
        "S6  from a kill -9 to the first acknowledgement",
        format!("{acknowledged:.2} s"),
        "< 1 s",
    ))
}

fn segments(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(place(dir).join("commitlog"))?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<Vec<_>>>()?;
    paths.retain(|it| it.extension().is_some_and(|it| it == "seg"));
    paths.sort();
    Ok(paths)
}

/// Nothing of the log is in memory afterwards.
fn evict(dir: &Path) -> anyhow::Result<()> {
    for path in segments(dir)? {
        File::open(path)?.sync_all()?;
    }
    forget(dir)
}

/// The same but for what is not on the disk yet. Syncs nothing, for somebody may be measured who does.
fn forget(dir: &Path) -> anyhow::Result<()> {
    for path in segments(dir)? {
        rustix::fs::fadvise(File::open(path)?, 0, None, rustix::fs::Advice::DontNeed)?;
    }
    Ok(())
}

/// Reads queue after queue from its beginning until it is told to stop, or has read all; bytes of records.
fn read(store: &Store, is_over: impl Fn() -> bool) -> anyhow::Result<u64> {
    let (mut bytes, mut next) = (0, [QueueOffset(0); 8]);
    for queue in (0..8).cycle() {
        if is_over() {
            break;
        }
        let from = &mut next[queue as usize];
        let entries = store.entries(TOPIC, QueueId(queue), *from, AT_ONCE)?;
        let records = store.records(&entries)?;
        if records.is_empty() {
            break;
        }
        bytes += records.iter().map(|it| it.len() as u64).sum::<u64>();
        *from = QueueOffset(from.0 + records.len() as u64);
    }
    Ok(bytes)
}

/// MB a second of a consumer that reads from the beginning.
pub(crate) fn catch_up(dir: &Path, lasting: Duration) -> anyhow::Result<f64> {
    let store = open(dir)?;
    evict(dir)?;
    let began = Instant::now();
    let bytes = read(&store, || began.elapsed() >= lasting)?;
    let rate = bytes as f64 / 1e6 / began.elapsed().as_secs_f64();
    store.close()?;
    Ok(rate)
}

/// MB a second of reads of a mebibyte, one after the other.
pub(crate) fn pread(dir: &Path, lasting: Duration) -> anyhow::Result<f64> {
    evict(dir)?;
    let mut buffer = vec![0; 1 << 20];
    let (mut bytes, began) = (0, Instant::now());
    'all: for path in segments(dir)? {
        let (file, mut at) = (File::open(path)?, 0);
        loop {
            if began.elapsed() >= lasting {
                break 'all;
            }
            match file.read_at(&mut buffer, at)? {
                0 => break,
                read => at += read as u64,
            }
            bytes += 1u64 << 20;
        }
    }
    Ok(bytes as f64 / 1e6 / began.elapsed().as_secs_f64())
}

fn send(store: &Store, lasting: Duration) -> anyhow::Result<f64> {
    let sent = ours::batch(1)?;
    let here = this_thread();
    let (mut times, began) = (Vec::new(), Instant::now());
    while began.elapsed() < lasting {
        let asked = Instant::now();
        wait(submit(store, &sent, 1, 0)?, &here)?;
        times.push(asked.elapsed());
    }
    Ok(quantile_us(times, 0.99))
}

/// p99 of one message after the other, µs.
pub(crate) fn sends(dir: &Path, lasting: Duration) -> anyhow::Result<f64> {
    let store = open(dir)?;
    let p99 = send(&store, lasting)?;
    store.close()?;
    Ok(p99)
}

/// The same while somebody reads from the beginning.
pub(crate) fn sends_beside_a_reader(dir: &Path, lasting: Duration) -> anyhow::Result<f64> {
    let store = open(dir)?;
    evict(dir)?;
    let stop = AtomicBool::new(false);
    let p99 = std::thread::scope(|scope| {
        let (store, is_over) = (&store, || stop.load(Ordering::Relaxed));
        let reader = scope.spawn(move || -> anyhow::Result<()> {
            while !is_over() {
                forget(dir)?;
                read(store, is_over)?;
            }
            Ok(())
        });
        let p99 = send(store, lasting);
        stop.store(true, Ordering::Relaxed);
        reader.join().expect("it does not panic").and(p99)
    })?;
    store.close()?;
    Ok(p99)
}

/// p99 of a write and its sync after the other by hand, while the log is read by hand, µs.
pub(crate) fn writes_beside_reads(dir: &Path, lasting: Duration) -> anyhow::Result<f64> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let is_over = || stop.load(Ordering::Relaxed);
        let reader = scope.spawn(move || -> anyhow::Result<()> {
            while !is_over() {
                forget(dir)?;
                read_pieces(dir, is_over)?;
            }
            Ok(())
        });
        let p99 = raw::alone_p99(dir, lasting);
        stop.store(true, Ordering::Relaxed);
        reader.join().expect("it does not panic").and(p99)
    })
}

/// Reads as short as ours are beside writes, and nothing ahead.
fn read_pieces(dir: &Path, is_over: impl Fn() -> bool) -> anyhow::Result<()> {
    let mut buffer = vec![0; 128 * 1024];
    for path in segments(dir)? {
        let file = File::open(path)?;
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random)?;
        let mut at = 0;
        while !is_over() {
            match file.read_at(&mut buffer, at)? {
                0 => break,
                read => at += read as u64,
            }
        }
    }
    Ok(())
}

/// Removes the log.
pub(crate) fn clear(dir: &Path) -> anyhow::Result<()> {
    Ok(std::fs::remove_dir_all(place(dir))?)
}
