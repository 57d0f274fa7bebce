//! What the disk and QUIC do by themselves, measured before every turn. When they change during a run,
//! so may have everything else.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use quern_quic::probe::Probe;
use serde::Serialize;

use crate::stats::Spread;
use crate::tls;
use crate::work::{BODY, VARIETY};

/// Bytes of the file that is written to.
const FILE: u64 = 64 * 1024 * 1024;
/// Messages of a large frame and of a large write.
const BATCH: usize = 64;

#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Ceilings {
    /// Median of one append of a message and its fdatasync, the space taken before, µs.
    pub(crate) sync_p50_us: f64,
    /// Median of one append of 64 messages and its fdatasync, µs.
    pub(crate) sync_batch_p50_us: f64,
    /// Median of a raw QUIC round trip, µs.
    pub(crate) quic_p50_us: f64,
    /// Raw QUIC, frames of 64 messages, 8 in flight: messages a second.
    pub(crate) quic_per_s: f64,
    /// Raw TLS over TCP, as much in flight: messages a second.
    pub(crate) tls_per_s: f64,
    /// What a filter looks at, copied and compared natively: messages a second.
    pub(crate) copies_per_s: f64,
}

impl Ceilings {
    pub(crate) fn measure(dir: &Path, each: Duration) -> Result<Self> {
        let body = BODY as usize;
        let sync_p50_us = syncs(dir, body, each).context("measuring the disk")?;
        let sync_batch_p50_us = syncs(dir, body * BATCH, each).context("measuring the disk")?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (trips, frames) = runtime.block_on(async {
            let probe = Probe::open()
                .await
                .context("opening a raw QUIC connection")?;
            let trips = probe.round_trips(body, each).await?;
            let frames = probe.rate(body * BATCH, 8, each).await?;
            Ok::<_, anyhow::Error>((trips, frames))
        })?;
        let tls = tls::rate(body * BATCH, 8, each).context("measuring TLS over TCP")?;
        Ok(Self {
            sync_p50_us,
            sync_batch_p50_us,
            quic_p50_us: median_us(&trips),
            quic_per_s: frames * BATCH as f64,
            tls_per_s: tls * BATCH as f64,
            copies_per_s: copies(each),
        })
    }

    /// The figures, named, of all turns of a run.
    pub(crate) fn spreads(all: &[Self]) -> Vec<(&'static str, Spread)> {
        type Figure = fn(&Ceilings) -> f64;
        let figures: [(&'static str, Figure); 6] = [
            ("append 1 KiB + fdatasync, p50 µs", |it| it.sync_p50_us),
            ("append 64 KiB + fdatasync, p50 µs", |it| {
                it.sync_batch_p50_us
            }),
            ("raw QUIC round trip, p50 µs", |it| it.quic_p50_us),
            ("raw QUIC, frames of 64 messages, msg/s", |it| it.quic_per_s),
            ("raw TLS over TCP, frames of 64 messages, msg/s", |it| {
                it.tls_per_s
            }),
            ("properties copied and compared natively, msg/s", |it| {
                it.copies_per_s
            }),
        ];
        let spread =
            |(name, of): (&'static str, Figure)| Some((name, Spread::of(all.iter().map(of))?));
        figures.into_iter().filter_map(spread).collect()
    }
}

fn median_us(times: &[Duration]) -> f64 {
    let times = times.iter().map(|it| it.as_secs_f64() * 1e6);
    Spread::of(times).map_or(f64::NAN, |it| it.median)
}

/// The least that any filter by a property has to do, whatever it is written in: it finds the value in the
/// properties of a message, copies it to where it is judged, and compares it.
fn copies(lasting: Duration) -> f64 {
    let messages: Vec<Vec<u8>> = (0..VARIETY)
        .map(|i| format!("a\u{1}{i}\u{2}UNIQ_KEY\u{1}7F000001{i:024}\u{2}").into_bytes())
        .collect();
    let mut judged = Vec::with_capacity(64 * messages.len());
    let (began, mut count, mut accepted) = (Instant::now(), 0_u64, 0_u64);
    while began.elapsed() < lasting {
        judged.clear();
        for message in std::hint::black_box(&messages) {
            let from = judged.len();
            let value = message.split(|byte| *byte == 2).next().unwrap_or_default();
            judged.extend_from_slice(value.get(2..).unwrap_or_default());
            accepted += u64::from(&judged[from..] == b"7");
        }
        count += messages.len() as u64;
    }
    std::hint::black_box(accepted);
    count as f64 / began.elapsed().as_secs_f64()
}

/// One append and fdatasync after the other.
fn syncs(dir: &Path, size: usize, lasting: Duration) -> std::io::Result<f64> {
    let path = dir.join("ceiling");
    let file = File::create(&path)?;
    std::fs::remove_file(&path)?;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, FILE)?;
    file.sync_all()?;
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
    Ok(median_us(&times))
}
