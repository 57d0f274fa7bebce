//! How far a start is with reading its log: a bar on a terminal, a line now and then in the log elsewhere.

use std::convert::Infallible;
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};
use quern_node::Progress;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// A start that is faster has nothing to tell.
const PATIENCE: Duration = Duration::from_millis(500);
const REDRAW: Duration = Duration::from_millis(100);
const LINE: Duration = Duration::from_secs(5);
const BAR: &str = "  reading the log {wide_bar} {bytes} of {total_bytes}, {msg} s left";

/// Tells until it is dropped.
pub(crate) async fn tell(progress: Arc<Progress>) -> Infallible {
    let began = Instant::now();
    let is_terminal = std::io::stderr().is_terminal();
    let (first, every) = match is_terminal {
        true => (PATIENCE, REDRAW),
        false => (LINE, LINE),
    };
    let mut ticks = interval_at(began + first, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut bar = None;
    loop {
        ticks.tick().await;
        let (read, of) = progress.figures();
        if of == 0 {
            continue;
        }
        let left = left(began.elapsed(), read, of);
        if is_terminal {
            let bar = bar.get_or_insert_with(|| new_bar(read, of));
            bar.set_message(left.as_secs().to_string());
            bar.set_length(of);
            bar.set_position(read);
        } else {
            tracing::info!(read, of, left_s = left.as_secs(), "the log is being read");
        }
    }
}

fn new_bar(read: u64, of: u64) -> ProgressBar {
    let bar = ProgressBar::new(of)
        .with_finish(ProgressFinish::AndClear)
        .with_position(read);
    match ProgressStyle::with_template(BAR) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// At the pace so far.
fn left(passed: Duration, read: u64, of: u64) -> Duration {
    let parts = of.saturating_sub(read) as f64 / read.max(1) as f64;
    Duration::try_from_secs_f64(passed.as_secs_f64() * parts).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_at_the_pace_so_far() {
        let second = Duration::from_secs(1);
        assert_eq!(left(second, 100, 400), 3 * second);
        assert_eq!(left(second, 400, 400), Duration::ZERO);
        assert!(left(second, 0, u64::MAX) > 1_000_000 * second);
        assert!(ProgressStyle::with_template(BAR).is_ok());
    }
}
