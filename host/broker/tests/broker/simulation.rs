//! Lives of a broker by seed: it is asked for messages for later, transactions and pops, in any order and by many at
//! once; the clock, the log and every request under way are moved by hand, requests are lost, repeated and come
//! late, and the power goes at any step. Reference models say what each answer may be.
//!
//! `QUERN_SEEDS=100000 cargo test -p quern-broker --test broker simulation` runs more of them,
//! `QUERN_SEED=N` only that one.

mod popping;
mod waiting;
mod world;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use quern_plugins::Runtime;

use crate::simulation::world::World;
pub(crate) use crate::simulation::world::frame;

/// What some life must have met, or the lives are too tame to prove anything.
const STATES: &[&str] = &[
    "crashed",
    "killed, the machine went on",
    "closed clean",
    "opened from the log alone",
    "the asker went away",
    "delivered when due",
    "taken back",
    "too late to take back",
    "committed",
    "rolled back",
    "parked",
    "ended again as before",
    "ended otherwise, too late",
    "asked how it ended",
    "a producer was asked",
    "given",
    "given again",
    "given once more",
    "acknowledged",
    "acknowledged after its time",
    "acknowledged too late",
    "hidden for longer",
    "reset",
    "a dead letter",
];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn plugins() -> &'static Runtime {
    static PLUGINS: OnceLock<Runtime> = OnceLock::new();
    PLUGINS.get_or_init(|| Runtime::new(&quern_plugins::Config::default()).unwrap())
}

#[test]
fn simulated_brokers_keep_every_promise() {
    if let Some(seed) = number("QUERN_SEED") {
        eprintln!("{:?}", World::new(seed, plugins()).run().1);
        return;
    }
    let seeds = number("QUERN_SEEDS").unwrap_or(400);
    let lives = |half: u64| {
        let mut all = BTreeMap::new();
        for seed in (half..seeds).step_by(2) {
            for (state, times) in World::new(seed, plugins()).run().1 {
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
        assert!(times > 0 || seeds < 400, "no life of {seeds}: {state}");
    }
    let unknown = reached.keys().find(|state| !STATES.contains(state));
    assert_eq!(unknown, None, "a state nobody asks for");
}

#[test]
fn the_same_seed_is_the_same_life() {
    let trace = |seed| World::new(seed, plugins()).run().0;
    let first: Vec<u64> = (0..20).map(trace).collect();
    let again: Vec<u64> = (0..20).map(trace).collect();
    assert_eq!(first, again);
}
