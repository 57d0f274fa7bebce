//! Two ways to the same answer, timed in turn.

use std::fmt;

/// Rounds of one way and then the other.
const ROUNDS: usize = 41;
/// Processor time of one round of one way, ns.
const ROUND: u64 = 4_000_000;

/// What one comparison brought.
pub(crate) struct Line {
    what: String,
    native_ns: f64,
    component_ns: f64,
    ratio: f64,
    goal: &'static str,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<52} {:>9.1} {:>9.1}   ×{:<6.2} {}",
            self.what, self.native_ns, self.component_ns, self.ratio, self.goal
        )
    }
}

pub(crate) fn heading() -> String {
    format!(
        "{:<52} {:>9} {:>9}   {:<7} goal",
        "per item, ns", "native", "component", "ratio"
    )
}

fn now() -> u64 {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    spent.tv_sec as u64 * 1_000_000_000 + spent.tv_nsec as u64
}

/// Time of one call, ns, over a whole round.
fn round(act: &mut dyn FnMut()) -> f64 {
    let began = now();
    let mut calls = 0u32;
    loop {
        for _ in 0..4 {
            act();
        }
        calls += 4;
        let spent = now() - began;
        if spent >= ROUND {
            return spent as f64 / f64::from(calls);
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Each call of either way decides about so many items.
pub(crate) fn compare(
    what: impl Into<String>,
    items: usize,
    goal: &'static str,
    native: &mut dyn FnMut(),
    component: &mut dyn FnMut(),
) -> Line {
    let mut rounds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        rounds.push((round(native), round(component)));
    }
    let items = items as f64;
    Line {
        what: what.into(),
        native_ns: median(rounds.iter().map(|it| it.0).collect()) / items,
        component_ns: median(rounds.iter().map(|it| it.1).collect()) / items,
        ratio: median(rounds.iter().map(|it| it.1 / it.0).collect()),
        goal,
    }
}
