//! Compacted topics at their bounds, and on disks that do not give all of it: what cannot be kept as it should be
//! costs itself, and not what is beside it.

use std::path::Path;
use std::sync::Arc;

use quern_protocol::{LogPosition, QueueId, QueueOffset, TopicId};
use quern_store::clock::ManualClock;
use quern_store::fs::Fs as _;
use quern_store::sim::{SECTOR, SimFs};
use quern_store::{AppendOne, Part};

use crate::compaction::{COMPACTED, HOUR, Habits, KEPT, Life, SEGMENT, head};
use crate::{block, wait};

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

/// What has to stay is more than the log may have: it is not lost, and the log grows to twice as much, no more.
#[test]
fn a_log_that_is_too_small_for_its_keys_grows() {
    let habits = Habits {
        by_size: true,
        tombstones: 0,
    };
    let (fs, clock) = world();
    let mut life = Life::begin(&fs, &clock, habits);
    let keys = 400;
    for n in 0..keys {
        drop(life.submit(COMPACTED, 0, Some(&format!("k{n}")), &"x".repeat(1_000)));
        life.settle();
    }
    let mut sizes = Vec::new();
    for _ in 0..12 {
        life.fill(200);
        life.let_go(&clock);
        life.let_go(&clock);
        assert_eq!(life.read(0).len(), keys);
        let names = fs.list(Path::new("/q/commitlog")).unwrap();
        sizes.push(names.iter().filter(|it| it.ends_with(".seg")).count());
    }
    // 400 of 1.1 KB each are seven segments.
    let most = sizes.iter().skip(4).max();
    assert!(most.is_some_and(|it| (8..=19).contains(it)), "{sizes:?}");
}

fn file_of(position: u64) -> String {
    format!("/q/commitlog/{:020}.seg", position / SEGMENT * SEGMENT)
}

/// The disk does not give the sector that a record begins in, as long as nobody writes there.
fn spoil(fs: &SimFs, position: u64) {
    let sector = (position % SEGMENT) as usize / SECTOR;
    fs.make_unreadable(file_of(position).as_ref(), sector);
}

fn offsets(life: &Life, topic: TopicId) -> Vec<u64> {
    let entries = life.store.entries(topic, QueueId(0), QueueOffset(0), 99);
    entries.unwrap().iter().map(|it| it.offset.0).collect()
}

/// Until what was written is no longer in memory.
fn again(fs: &SimFs, clock: &Arc<ManualClock>, life: Life) -> Life {
    drop(life);
    Life::begin(fs, clock, BY_AGE)
}

/// A newer message that cannot be read may be of any key with its hash: those stay, and nothing else does. Where the index
/// of its segment is lost, too, and cannot be made anew, nothing is known of that segment.
#[test]
fn what_cannot_be_compared_stays_and_all_else_goes() {
    for (has_index, there) in [(true, &[0, 2, 3][..]), (false, &[0, 1, 2, 3])] {
        let (fs, clock) = world();
        let mut life = Life::begin(&fs, &clock, BY_AGE);
        let mut positions = Vec::new();
        for round in 0..2 {
            for key in ["a", "b"] {
                drop(life.submit(COMPACTED, 0, Some(key), "x"));
                life.settle();
                positions.push(life.read(0).last().unwrap().position);
                // Its neighbours are not its concern.
                life.fill(3);
            }
            life.fill(100);
            clock.pass((1 - round) * HOUR * 9 / 10);
        }
        if has_index {
            clock.pass(11_000);
            life.steps.step(Part::Keeper);
        }
        let mut life = again(&fs, &clock, life);
        let newer = positions[2];
        spoil(&fs, newer);
        clock.pass(HOUR / 5);
        life.let_go(&clock);
        assert!((SEGMENT..newer).contains(&head(&fs)), "{}", head(&fs));
        assert_eq!(offsets(&life, COMPACTED), there, "has index: {has_index}");
    }
}

/// It is tried for an hour and more, and what can be read goes with the log meanwhile and afterwards. What is given up
/// is put aside with its segment, for whoever can read it.
#[test]
fn what_the_disk_does_not_give_is_given_up_after_a_while() {
    for topic in [COMPACTED, KEPT] {
        let (fs, clock) = world();
        let mut life = Life::begin(&fs, &clock, BY_AGE);
        for key in ["a", "b", "c"] {
            drop(life.submit(topic, 0, Some(key), "x"));
            life.fill(2);
        }
        let entries = life.store.entries(topic, QueueId(0), QueueOffset(0), 99);
        let lost = entries.unwrap()[1].position.0;
        life.fill(200);
        let mut life = again(&fs, &clock, life);
        spoil(&fs, lost);
        clock.pass(2 * HOUR);
        life.fill(80);
        life.let_go(&clock);
        life.let_go(&clock);
        assert_eq!(head(&fs), 0, "not yet");
        assert_eq!(offsets(&life, topic), [0, 1, 2]);
        for _ in 0..5 {
            life.let_go(&clock);
        }
        assert!(head(&fs) > lost, "the log goes on");
        assert_eq!(offsets(&life, topic), [0, 2]);
        let aside = fs.list(Path::new("/q/quarantine")).unwrap();
        assert_eq!(aside, ["00000000000000000000.seg"]);
    }
}

#[test]
fn what_waits_and_the_disk_does_not_give_is_given_up_too() {
    let (fs, clock) = world();
    let mut life = Life::begin(&fs, &clock, BY_AGE);
    let mut positions = Vec::new();
    for body in ["a", "b", "c"] {
        let pending = life.store.submit_one(AppendOne {
            topic: KEPT,
            block: block(body),
            due_at: Some(u64::MAX),
            ..AppendOne::default()
        });
        life.settle();
        positions.push(wait(pending).unwrap().position);
        life.fill(2);
    }
    life.fill(200);
    let mut life = again(&fs, &clock, life);
    spoil(&fs, positions[1].0);
    let waiting = |life: &Life| -> Vec<_> {
        let all = life.store.waiting(KEPT, (0, LogPosition(0)), 9);
        all.iter().map(|it| it.position).collect()
    };
    clock.pass(2 * HOUR);
    life.fill(80);
    life.let_go(&clock);
    life.let_go(&clock);
    assert_eq!(head(&fs), 0, "not yet");
    assert_eq!(waiting(&life), positions);
    for _ in 0..5 {
        life.let_go(&clock);
    }
    assert!(head(&fs) > positions[1].0, "the log goes on");
    assert_eq!(waiting(&life), [positions[0], positions[2]]);
    for position in waiting(&life) {
        assert!(life.store.waiting_message(position).unwrap().is_some());
    }
    let aside = fs.list(Path::new("/q/quarantine")).unwrap();
    assert_eq!(aside, ["00000000000000000000.seg"]);
}
