//! Many records at a time: in every mode, on every disk, the same as one by one; and what cannot be read
//! costs its neighbours nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use quern_protocol::{Code, QueueId, QueueOffset, TopicId};
use quern_store::clock::ManualClock;
use quern_store::fs::{Fs, RealFs};
use quern_store::sim::{Ask, Asked, SimFs};
use quern_store::{Config, Entry, Env, ReadMode, Stateless, Store};

use crate::{batch, config, env, wait};

const MODES: [ReadMode; 2] = [ReadMode::Pread, ReadMode::Mmap];
const QUEUES: u32 = 3;

/// Some messages side by side, some far apart, small and large, in several segments.
fn fill(dir: &Path, env: Env) {
    let (store, _) = Store::open(config(dir), env, Box::new(Stateless)).unwrap();
    for n in 0..120 {
        let len = [10, 300, 2_000, 90_000][n % 4];
        let bodies: Vec<_> = (0..1 + n % 9)
            .map(|m| format!("{n} {m} {}", "x".repeat(len)))
            .collect();
        let queue = (n as u32 / 7) % QUEUES;
        wait(store.submit(batch(queue, &bodies))).unwrap();
    }
    store.close().unwrap();
}

/// Nothing of what was written before is in memory.
fn reopen(dir: &Path, env: Env, read_mode: ReadMode) -> Store {
    let config = Config {
        read_mode,
        ..config(dir)
    };
    Store::open(config, env, Box::new(Stateless)).unwrap().0
}

fn entries(store: &Store, queue: u32) -> Vec<Entry> {
    let (topic, queue) = (TopicId(1), QueueId(queue));
    store
        .entries(topic, queue, QueueOffset(0), usize::MAX)
        .unwrap()
}

#[test]
fn many_at_a_time_are_what_they_are_one_by_one() {
    let root = tempfile::tempdir().unwrap();
    let sim = SimFs::default();
    let disks: [(&Path, &dyn Fn() -> Env); 2] = [
        (&root.path().join("q"), &|| env(RealFs)),
        ("/q".as_ref(), &|| env(sim.clone())),
    ];
    for (dir, env) in disks {
        fill(dir, env());
        for mode in MODES {
            let store = reopen(dir, env(), mode);
            for queue in 0..QUEUES {
                let entries = entries(&store, queue);
                assert!(entries.len() > 100);
                let one_by_one: Vec<Bytes> =
                    entries.iter().map(|it| store.record(it).unwrap()).collect();
                for from in [0, 1, 50, entries.len()] {
                    let records = store.records(&entries[from..]).unwrap();
                    assert!(records == one_by_one[from..], "{mode:?} {dir:?} {from}");
                }
                // They have been read just now; a disk that cannot tell lets nobody read without waiting.
                if let Some(now) = store.records_now(&entries) {
                    assert!(now == one_by_one, "{mode:?} {dir:?}");
                }
                // A filter leaves some out.
                let odd: Vec<_> = entries.iter().skip(1).step_by(2).copied().collect();
                let records = store.records(&odd).unwrap();
                assert!(records.iter().eq(one_by_one.iter().skip(1).step_by(2)));
            }
            // With what was written since, which is in memory.
            wait(store.submit(batch(0, &["new".to_owned()]))).unwrap();
            let entries = entries(&store, 0);
            assert_eq!(store.records(&entries).unwrap().len(), entries.len());
            store.close().unwrap();
        }
    }
}

#[test]
fn what_cannot_be_read_is_told_where_it_stands_and_costs_nothing_else() {
    type Damage = fn(&SimFs, &Path, usize);
    let damages: [(Damage, Code); 2] = [
        (
            |fs, file, at| fs.make_unreadable(file, at / quern_store::sim::SECTOR),
            Code::STORAGE_FAILED,
        ),
        (|fs, file, at| fs.flip(file, at, 4), Code::DATA_CORRUPT),
    ];
    for ((damage, code), mode) in damages.into_iter().flat_map(|it| MODES.map(|m| (it, m))) {
        let fs = SimFs::default();
        fill("/q".as_ref(), env(fs.clone()));
        let store = reopen("/q".as_ref(), env(fs.clone()), mode);
        let entries = entries(&store, 0);
        let whole = store.records(&entries).unwrap();
        assert!(store.records_now(&entries).as_ref() == Some(&whole));
        // In the middle of a run of large ones: far from all others' sectors.
        let bad = (20..entries.len())
            .find(|index| {
                entries[index - 1..index + 2]
                    .iter()
                    .all(|it| it.size > 90_000)
            })
            .unwrap();
        let at = entries[bad].position.0 as usize + 40_000;
        let segments = fs.list("/q/commitlog".as_ref()).unwrap();
        let bases = segments.iter().filter_map(|it| it.strip_suffix(".seg"));
        let base = bases.map(|it| it.parse::<usize>().unwrap());
        let base = base.filter(|base| *base <= at).max().unwrap();
        let file = format!("/q/commitlog/{base:020}.seg");
        damage(&fs, file.as_ref(), at - base);

        let before = store.records(&entries).unwrap();
        assert!(
            before == whole[..bad],
            "{code:?} {mode:?}: {}",
            before.len()
        );
        assert!(store.records_now(&entries[..bad]) == Some(before));
        assert!(store.records_now(&entries).is_none(), "{code:?} {mode:?}");
        let error = store.records(&entries[bad..]).unwrap_err();
        assert_eq!(error.code(), code, "{mode:?}: {error}");
        let behind = store.records(&entries[bad + 1..]).unwrap();
        assert!(behind == whole[bad + 1..], "{code:?} {mode:?}");
    }
}

/// A sync that comes behind megabytes of reads waits for all of them.
#[test]
fn while_the_log_is_written_to_the_disk_is_asked_for_little_at_once() {
    let fs = SimFs::default();
    let clock = Arc::new(ManualClock::default());
    let env = || Env {
        fs: Arc::new(fs.clone()),
        clock: Arc::clone(&clock) as Arc<_>,
    };
    fill("/q".as_ref(), env());
    let store = reopen("/q".as_ref(), env(), ReadMode::Mmap);
    let all = entries(&store, 0);
    let few: Vec<_> = all.iter().step_by(7).copied().collect();
    // The store reads and writes for itself, too, now and then.
    let here = std::thread::current().id();
    let asked = |entries: &[Entry]| {
        fs.asked();
        let records = store.records(entries).unwrap();
        let asked = fs.asked().into_iter().filter(|it| it.by == here);
        (records, asked.collect::<Vec<_>>())
    };
    let at_rest = |ms| {
        clock.pass(ms);
        let (records, asked) = asked(&all);
        let mapped = |it: &Asked| it.what == Ask::Map && it.len > 500_000;
        asked.iter().any(mapped).then_some(records)
    };
    let whole = (0..100).find_map(|_| at_rest(1_000)).unwrap();
    let held = fs.hold_syncs();
    let sent = store.submit(batch(0, &["new".to_owned()]));
    let has_begun = |_| {
        std::thread::yield_now();
        asked(&all).1.iter().all(|it| it.what != Ask::Map)
    };
    assert!((0..100_000).any(has_begun));
    // A sync takes as long as it takes.
    clock.pass(5_000);
    assert_eq!(most_at_once(&asked(&all).1).0, 128 * 1024);
    drop(held);
    wait(sent).unwrap();
    assert!(at_rest(99).is_none(), "it may go on in a moment");
    let (beside, at_once) = asked(&all);
    assert!(beside == whole);
    assert_eq!(most_at_once(&at_once).0, 128 * 1024);
    // What lies apart is asked for together all the same, or a slow disk would give one record after the other.
    let (apart, at_once) = asked(&few);
    assert!(apart.iter().eq(whole.iter().step_by(7)));
    let (bytes, reads) = most_at_once(&at_once);
    assert!(bytes <= 128 * 1024 && reads > 3, "{bytes} in {reads}");
    assert!((0..100).any(|_| at_rest(1_000).is_some_and(|it| it == whole)));
}

/// The most bytes, and the most reads, that the disk had been told of and nobody had read yet. Nothing is read that it was
/// not told of.
fn most_at_once(asked: &[Asked]) -> (usize, usize) {
    let mut told = BTreeMap::new();
    let mut most = (0, 0);
    for it in asked {
        let place = (it.path.clone(), it.at);
        match it.what {
            Ask::Told => drop(told.insert(place, it.len)),
            Ask::Read => assert_eq!(told.remove(&place), Some(it.len), "{it:?}"),
            Ask::Map | Ask::Write => panic!("{it:?}"),
        }
        most = (most.0.max(told.values().sum()), most.1.max(told.len()));
    }
    assert!(told.is_empty() && !asked.is_empty());
    most
}

#[test]
fn who_must_not_wait_gets_what_is_in_memory_only() {
    let fs = SimFs::default();
    fill("/q".as_ref(), env(fs.clone()));
    let store = reopen("/q".as_ref(), env(fs.clone()), ReadMode::Pread);
    let old = &entries(&store, 0)[..10];
    let log = Path::new("/q/commitlog");
    let evict = || {
        for segment in fs.list(log).unwrap() {
            fs.open(&log.join(segment)).unwrap().evict().unwrap();
        }
    };
    // The store reads for itself, too, now and then.
    let is_away = |_| {
        evict();
        store.records_now(old).is_none()
    };
    assert!((0..1_000).any(is_away));
    let read = store.records(old).unwrap();
    assert!(store.records_now(old) == Some(read));
    wait(store.submit(batch(0, &["new".to_owned()]))).unwrap();
    let new = entries(&store, 0).pop().unwrap();
    assert!(store.records_now(&[new]).is_some(), "it never left memory");
}
