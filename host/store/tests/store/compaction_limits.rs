//! Compacted topics at their bounds, and on disks that do not give all of it: what cannot be kept as it should be
//! costs itself, and not what is beside it.

use std::sync::Arc;

use quern_store::clock::ManualClock;
use quern_store::sim::SimFs;

use crate::compaction::{COMPACTED, HOUR, Habits, Life, head};

const BY_AGE: Habits = Habits {
    by_size: false,
    tombstones: 0,
};

/// A disk and a clock for a life.
fn world() -> (SimFs, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::default());
    clock.jump_to(1_700_000_000_000);
    (SimFs::default(), clock)
}

fn send(life: &mut Life, keys: std::ops::Range<usize>) {
    for n in keys {
        drop(life.submit(COMPACTED, 0, Some(&format!("k{n}")), &"x".repeat(500)));
        life.settle();
    }
}

/// Whatever is there is too old for the log.
fn age(life: &mut Life, clock: &ManualClock) {
    life.fill(80);
    clock.pass(2 * HOUR);
    life.fill(80);
    life.let_go(clock);
}

#[test]
fn as_many_as_may_be_kept_are_copied_again_and_again_and_more_keep_the_log_whole() {
    let (fs, clock) = world();
    let mut life = Life::keeping_at_most(310, &fs, &clock, BY_AGE);
    send(&mut life, 0..300);
    let mut begins = vec![head(&fs)];
    for round in 0..6 {
        age(&mut life, &clock);
        assert_eq!(life.read(0).len(), 300, "round {round}");
        begins.push(head(&fs));
    }
    assert!(begins.is_sorted_by(|a, b| a < b), "{begins:?}");

    // That is more than may be.
    send(&mut life, 300..320);
    for _ in 0..4 {
        age(&mut life, &clock);
    }
    let stays = head(&fs);
    age(&mut life, &clock);
    assert_eq!(head(&fs), stays, "nothing goes");
    assert_eq!(life.read(0).len(), 320);
    // Once there are no more, it goes on.
    drop(life);
    let mut life = Life::keeping_at_most(320, &fs, &clock, BY_AGE);
    age(&mut life, &clock);
    assert!(head(&fs) > stays);
    assert_eq!(life.read(0).len(), 320);
}
