//! Measures the storage engine, without network, beside what the same disk does when it is written
//! to by hand: `cargo run --release -p quern-bench -- --dir DIR`.
//!
//! Ours and raw alternate, and what is printed is the median of the ratios of all rounds: figures
//! drift with the machine, ratios within one run far less.

mod ours;
mod raw;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;

/// The allocator a broker runs with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The storage engine held against the disk it runs on.
#[derive(Debug, Parser)]
struct Options {
    /// A directory on the disk to measure; what is written there is removed.
    #[arg(long, default_value = "quern-bench")]
    dir: PathBuf,
    /// Rounds of each comparison.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 1.5)]
    duration: f64,
    /// Only comparisons whose name begins like this: S1, S3.
    #[arg(long, default_value = "")]
    only: String,
}

/// Body bytes of a message.
const BODY: usize = 1024;
/// Messages of a batch where batches are sent.
const BATCH: usize = 64;
/// Segments of ours, and files of the raw writers.
const FILE: u64 = 256 * 1024 * 1024;

/// One comparison: what it is called, what is wanted, and how to measure both sides.
struct Comparison {
    name: &'static str,
    unit: &'static str,
    goal: &'static str,
    ours: fn(&Path, Duration) -> anyhow::Result<f64>,
    raw: fn(&Path, Duration) -> anyhow::Result<f64>,
}

const COMPARISONS: [Comparison; 4] = [
    Comparison {
        name: "S1  many in flight : pwrite of 64 with checksums, sync behind",
        unit: "msg/s",
        goal: ">= 0.80",
        ours: |dir, lasting| ours::rate(dir, lasting, 256, BATCH),
        raw: raw::streaming,
    },
    Comparison {
        name: "S2  one in flight, p50 : pwrite + fdatasync",
        unit: "µs",
        goal: "<= 1.15",
        ours: ours::alone,
        raw: raw::alone,
    },
    Comparison {
        name: "S3a 16 in flight : 16 threads, a lock and a shared sync",
        unit: "msg/s",
        goal: ">= 1.00",
        ours: |dir, lasting| ours::rate(dir, lasting, 16, 1),
        raw: |dir, lasting| raw::locked(dir, lasting, 1),
    },
    Comparison {
        name: "S3b 16 x 64 in flight : the same, 64 messages each",
        unit: "msg/s",
        goal: ">= 3.00",
        ours: |dir, lasting| ours::rate(dir, lasting, 16, BATCH),
        raw: |dir, lasting| raw::locked(dir, lasting, BATCH),
    },
];

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let lasting = Duration::try_from_secs_f64(options.duration).context("--duration")?;
    std::fs::create_dir_all(&options.dir)
        .with_context(|| format!("--dir {}", options.dir.display()))?;
    println!(
        "{BODY} B bodies, {} rounds of {} s each side, in {}\n",
        options.rounds,
        options.duration,
        options.dir.display()
    );
    println!(
        "{:<64} {:>12} {:>12} {:>22} {:>8}",
        "OURS : RAW", "OURS", "RAW", "RATIO [MIN..MAX]", "GOAL"
    );
    let wanted = |it: &&Comparison| it.name.starts_with(&options.only);
    for comparison in COMPARISONS.iter().filter(wanted) {
        println!("{}", compare(comparison, &options, lasting)?);
    }
    let written = ours::written_per_byte(&options.dir)?;
    println!(
        "{:<64} {written:>12.3} {:>12} {:>22} {:>8}",
        "S7  log bytes written per byte of body", "", "", "<= 1.20"
    );
    std::fs::remove_dir(&options.dir).context("the directory is not empty, and is left")
}

fn compare(it: &Comparison, options: &Options, lasting: Duration) -> anyhow::Result<String> {
    let mut rounds = Vec::new();
    for round in 0..options.rounds.max(1) {
        // Whoever comes second finds the disk as the first left it: take turns.
        let (ours, raw) = if round % 2 == 0 {
            let ours = (it.ours)(&options.dir, lasting)?;
            (ours, (it.raw)(&options.dir, lasting)?)
        } else {
            let raw = (it.raw)(&options.dir, lasting)?;
            ((it.ours)(&options.dir, lasting)?, raw)
        };
        rounds.push((ours, raw));
    }
    let median = |figure: fn(&(f64, f64)) -> f64| {
        let mut figures: Vec<f64> = rounds.iter().map(figure).collect();
        figures.sort_unstable_by(f64::total_cmp);
        let at = |index: usize| figures.get(index).copied().unwrap_or(0.0);
        (at(figures.len() / 2), at(0), at(figures.len() - 1))
    };
    let (ours, ..) = median(|(ours, _)| *ours);
    let (raw, ..) = median(|(_, raw)| *raw);
    let (ratio, min, max) = median(|(ours, raw)| ours / raw);
    Ok(format!(
        "{:<64} {:>12} {:>12} {:>22} {:>8}",
        it.name,
        format!("{ours:.0} {}", it.unit),
        format!("{raw:.0} {}", it.unit),
        format!("{ratio:.2} [{min:.2}..{max:.2}]"),
        it.goal
    ))
}
