//! Measures the storage engine, without network, beside what the same disk does when it is written
//! to by hand: `cargo run --profile dist -p quern-bench -- --dir DIR`.
//!
//! Ours and raw alternate, and what is printed is the median of the ratios of all rounds: figures
//! drift with the machine, ratios within one run far less.

mod compare;
mod ours;
mod pace;
mod queues;
mod raw;
mod restart;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;

use crate::compare::{COMPARISONS, Comparison, compare};

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
    /// MiB of the log that is killed and started again, and caught up on.
    #[arg(long, default_value_t = 2048)]
    log_mib: u64,
    /// Fills a log until it is killed; what the bench starts itself for.
    #[arg(long, hide = true)]
    fill: bool,
}

/// Body bytes of a message.
const BODY: usize = 1024;
/// Messages of a batch where batches are sent.
const BATCH: usize = 64;
/// Segments of ours, and files of the raw writers.
const FILE: u64 = 256 * 1024 * 1024;

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if options.fill {
        return restart::fill(&options.dir);
    }
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
        "{:<64} {:>16} {:>16} {:>22} {:>9}",
        "OURS : RAW", "OURS", "RAW", "RATIO [MIN..MAX]", "GOAL"
    );
    let wanted = |name: &str| name.starts_with(&options.only);
    let needs_log = |it: &Comparison| it.name.starts_with('R');
    let place = (options.dir.as_path(), options.rounds);
    let (cold, hot): (Vec<_>, Vec<_>) = COMPARISONS
        .iter()
        .filter(|it| wanted(it.name))
        .partition(|it| needs_log(it));
    for comparison in hot {
        println!("{}", compare(comparison, place, lasting)?);
    }
    if wanted("S5") {
        queues::idle(&options.dir)?.iter().for_each(tell);
    }
    if wanted("S6") || !cold.is_empty() {
        tell(&restart::killed(&options.dir, options.log_mib)?);
        for comparison in cold {
            println!("{}", compare(comparison, place, lasting)?);
        }
        restart::clear(&options.dir)?;
    }
    if wanted("S7") {
        let written = ours::written_per_byte(&options.dir)?;
        let figure = format!("{written:.3}");
        tell(&("S7  log bytes written per byte of body", figure, "<= 1.20"));
    }
    std::fs::remove_dir(&options.dir).context("the directory is not empty, and is left")
}

/// A figure that has no other side.
fn tell((name, figure, goal): &(&str, String, &str)) {
    println!("{name:<64} {figure:>16} {:>16} {:>22} {goal:>9}", "", "");
}
