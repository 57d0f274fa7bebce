//! Both sides of a figure in turn, and the median of the ratios: figures drift with the machine, ratios within one
//! run far less.

use std::path::Path;
use std::time::Duration;

use crate::{BATCH, ours, pace, queues, raw, restart};

/// One comparison: what it is called, what is wanted, and how to measure both sides.
pub(crate) struct Comparison {
    pub(crate) name: &'static str,
    unit: &'static str,
    goal: &'static str,
    ours: fn(&Path, Duration) -> anyhow::Result<f64>,
    raw: fn(&Path, Duration) -> anyhow::Result<f64>,
}

pub(crate) const COMPARISONS: [Comparison; 9] = [
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
    Comparison {
        name: "S4  p99.99 of a write at half load : pwrite at half load",
        unit: "µs",
        goal: "< 5000 µs",
        ours: pace::ours,
        raw: pace::raw,
    },
    Comparison {
        name: "S5  dispatch to 100,000 queues : blocks in a file, no locks",
        unit: "entries/s",
        goal: ">= 0.50",
        ours: queues::dispatch,
        raw: queues::probe,
    },
    Comparison {
        name: "RD  catching up on a cold log : pread of 1 MiB",
        unit: "MB/s",
        goal: ">= 0.80",
        ours: restart::catch_up,
        raw: restart::pread,
    },
    Comparison {
        name: "RS  p99 of sends while one catches up : while none does",
        unit: "µs",
        goal: "<= 1.20",
        ours: restart::sends_beside_a_reader,
        raw: restart::sends,
    },
    Comparison {
        name: "RW  p99 of pwrite + fdatasync beside pread of 128 KiB : alone",
        unit: "µs",
        goal: "as it is",
        ours: restart::writes_beside_reads,
        raw: raw::alone_p99,
    },
];

pub(crate) fn compare(
    it: &Comparison,
    (dir, times): (&Path, usize),
    lasting: Duration,
) -> anyhow::Result<String> {
    let mut rounds = Vec::new();
    for round in 0..times.max(1) {
        // Whoever comes second finds the disk as the first left it: take turns.
        let (ours, raw) = if round % 2 == 0 {
            let ours = (it.ours)(dir, lasting)?;
            (ours, (it.raw)(dir, lasting)?)
        } else {
            let raw = (it.raw)(dir, lasting)?;
            ((it.ours)(dir, lasting)?, raw)
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
        "{:<64} {:>16} {:>16} {:>22} {:>9}",
        it.name,
        format!("{ours:.0} {}", it.unit),
        format!("{raw:.0} {}", it.unit),
        format!("{ratio:.2} [{min:.2}..{max:.2}]"),
        it.goal
    ))
}
