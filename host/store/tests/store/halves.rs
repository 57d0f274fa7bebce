//! Messages of transactions: in no queue before their outcome is known, and then as it says, once.

use std::sync::Arc;

use bytes::Bytes;
use quern_protocol::block::Pairs;
use quern_protocol::{LogPosition, ProducerBatch, ProducerId, QueueId, QueueOffset, TopicId};
use quern_store::clock::ManualClock;
use quern_store::fs::Fs;
use quern_store::sim::SimFs;
use quern_store::{Append, Config, Env, Retention, Stateless, Store};

use crate::timers::strip;
use crate::{batch, bodies, some_bodies, wait};

fn open(fs: &SimFs) -> Store {
    let config = Config {
        segment_size: Some(128 * 1024),
        checkpoint_every: 128 * 1024,
        retention: Retention {
            age: None,
            bytes: Some(128 * 1024),
            hours: Vec::new(),
        },
        ..Config::new("/q")
    };
    let env = Env {
        fs: Arc::new(fs.clone()),
        clock: Arc::new(ManualClock::default()),
    };
    Store::open(config, env, Box::new(Stateless)).unwrap().0
}

fn half(store: &Store, sequence: u32, body: &str) -> LogPosition {
    let append = Append {
        producer: Some(ProducerBatch {
            producer: ProducerId(7),
            epoch: 0,
            sequence,
        }),
        ..batch(1, &[body.to_owned()])
    };
    let notes = Bytes::from(Pairs::encode([("PGROUP", "pay")]));
    wait(store.submit_half(append, notes)).unwrap().position
}

fn undecided(store: &Store) -> Vec<LogPosition> {
    let all = store.undecided(Some(TopicId(1)), (0, LogPosition(0)), 99);
    all.iter().map(|it| it.position).collect()
}

#[test]
fn each_half_has_one_outcome_whatever_happens_between() {
    let fs = SimFs::default();
    let store = open(&fs);
    let [a, b, c] = [(0, "a"), (1, "b"), (2, "c")].map(|(n, body)| half(&store, n, body));
    assert_eq!(half(&store, 1, "b"), b, "sent again");
    assert_eq!(undecided(&store), [a, b, c]);
    let end = |store: &Store| store.range(TopicId(1), QueueId(1)).1;
    assert_eq!(end(&store), QueueOffset(0), "in no queue");
    let found = store.half(a).unwrap().unwrap();
    assert_eq!(found.notes, Pairs::encode([("PGROUP", "pay")]));

    let committed = store.commit_half(a, |it| it.notes = Bytes::new());
    let committed = committed.unwrap().unwrap();
    assert!(store.roll_back_half(a).is_none(), "it is being committed");
    wait(committed).unwrap();
    let rolled_back = store.roll_back_half(b).unwrap();
    assert!(store.commit_half(b, |_| ()).unwrap().is_none());
    wait(rolled_back).unwrap();
    let check = |store: &Store, how: &str| {
        assert_eq!(undecided(store), [c], "{how}");
        assert_eq!(end(store), QueueOffset(1), "{how}");
        for over in [a, b] {
            assert!(store.commit_half(over, |_| ()).unwrap().is_none(), "{how}");
            assert!(store.roll_back_half(over).is_none(), "{how}");
        }
    };
    check(&store, "live");
    drop(store);
    check(&open(&fs.crash(3)), "after a crash");
    let store = open(&fs);
    store.close().unwrap();
    drop(store);
    check(&open(&fs), "from a state file");
    strip(&fs);
    let store = open(&fs);
    check(&store, "from the log alone");
    assert_eq!(bodies(&store, 1), ["a"]);
    store.remove_topic(TopicId(1));
    assert_eq!(store.halves(), 0, "of a topic that is gone");
}

#[test]
fn an_old_half_outlives_its_segment() {
    let fs = SimFs::default();
    let store = open(&fs);
    let position = half(&store, 0, "a");
    let first = || {
        let mut segments = fs.list("/q/commitlog".as_ref()).unwrap();
        segments.sort();
        segments[0].clone()
    };
    let begin = first();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    for n in 0.. {
        wait(store.submit(batch(2, &some_bodies(n * 10, 10)))).unwrap();
        if first() != begin {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "its segment stays");
    }
    assert_eq!(undecided(&store), [position]);
    drop(store);
    strip(&fs);
    let store = open(&fs);
    assert_eq!(undecided(&store), [position], "from the log alone");
    wait(store.commit_half(position, |_| ()).unwrap().unwrap()).unwrap();
    assert_eq!(bodies(&store, 1), ["a"]);
    drop(store);
    assert!(undecided(&open(&fs.crash(9))).is_empty());
}
