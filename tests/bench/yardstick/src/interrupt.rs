//! Ctrl-C, or a terminal that closes: noticed wherever the yardstick waits, so that all it started is stopped and what was
//! measured is kept.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

static ASKED: AtomicBool = AtomicBool::new(false);

/// How often whoever waits looks up.
pub(crate) const GLANCE: Duration = Duration::from_millis(100);

/// From now on SIGINT, SIGTERM and SIGHUP are noticed instead of ending the process.
pub(crate) fn watch() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting what listens for signals")?;
    let (mut interrupt, mut terminate, mut hang_up) = {
        let _entered = runtime.enter();
        (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        )
    };
    std::thread::spawn(move || {
        runtime.block_on(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hang_up.recv() => {}
            }
            ASKED.store(true, Ordering::Relaxed);
            // The terminal may be gone, and nothing depends on it.
            let _ = writeln!(std::io::stderr(), "stopping all that was started …");
        });
    });
    Ok(())
}

pub(crate) fn is_asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}

/// An error once somebody has asked to stop.
pub(crate) fn check() -> Result<()> {
    if is_asked() {
        bail!("interrupted");
    }
    Ok(())
}

/// Waits, unless interrupted.
pub(crate) fn pause(time: Duration) -> Result<()> {
    let over = Instant::now() + time;
    loop {
        check()?;
        let left = over.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::park_timeout(left.min(GLANCE));
    }
}
