//! Lives and deaths of a store by seed: everything that moves is moved by hand, in random order, on a
//! disk that loses, tears, fails, fills and decays; after each end the store must have what it
//! promised.
//!
//! `QUERN_SEEDS=1000000 cargo test -p quern-store --test store simulation` runs more of them,
//! `QUERN_SEED=N` only that one.

mod damage;
mod life;
mod promises;
mod waiting;
mod world;

use std::collections::BTreeMap;

use crate::simulation::world::Simulation;

/// What some life must have met, or the lives are too tame to prove anything.
const STATES: &[&str] = &[
    "closed clean",
    "crashed",
    "killed, the machine went on",
    "died while opening",
    "opened on several segments",
    "crashed right behind a roll",
    "torn tail cut",
    "log failed",
    "failed write-back told, and not to us first",
    "disk full",
    "disk full, and room again",
    "disk full, and the broker's own records taken",
    "read error told",
    "damage met by a reader",
    "damage refused as corruption",
    "damage to what was not known to be durable",
    "damage without consequence",
    "opened with its beginning gone",
    "read on from a state file",
    "made anew from the log alone",
    "fired",
    "recalled",
    "committed",
    "rolled back",
    "decided before",
    "a decision failed for want of reading",
    "a decision failed for want of space",
    "a decision was lost with the power",
    "a decision nobody heard of holds",
    "one that waits outlived its segment",
];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn simulated_lives_keep_every_promise() {
    if let Some(seed) = number("QUERN_SEED") {
        eprintln!("{:?}", Simulation::new(seed).run().1);
        return;
    }
    let seeds = number("QUERN_SEEDS").unwrap_or(5_000);
    let lives = |half: u64| {
        let mut all = BTreeMap::new();
        for seed in (half..seeds).step_by(2) {
            for (state, times) in Simulation::new(seed).run().1 {
                *all.entry(state).or_insert(0) += times;
            }
        }
        all
    };
    let reached = std::thread::scope(|scope| {
        let other = scope.spawn(|| lives(1));
        let mut reached: BTreeMap<&str, u64> = lives(0);
        for (state, times) in other.join().unwrap() {
            *reached.entry(state).or_insert(0) += times;
        }
        reached
    });
    for state in STATES {
        let times = reached.get(state).copied().unwrap_or(0);
        eprintln!("{times:>8}  {state}");
        assert!(times > 0 || seeds < 5_000, "no life of {seeds}: {state}");
    }
    let unknown = reached.keys().find(|state| !STATES.contains(state));
    assert_eq!(unknown, None, "a state nobody asks for");
}

#[test]
fn the_same_seed_is_the_same_life() {
    let trace = |seed| Simulation::new(seed).run().0;
    let first: Vec<u64> = (0..50).map(trace).collect();
    let again: Vec<u64> = (0..50).map(trace).collect();
    assert_eq!(first, again);
    let mut different = first;
    different.sort_unstable();
    different.dedup();
    assert!(different.len() > 45, "seeds differ in what they do");
}
