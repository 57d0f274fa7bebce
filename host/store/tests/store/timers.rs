//! Messages for later: in no queue before their time, in it once afterwards, whatever happens between,
//! and never let go while they wait.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use quern_protocol::block::Pairs;
use quern_protocol::{QueueId, QueueOffset, RecordView, TopicId};
use quern_store::clock::ManualClock;
use quern_store::fs::Fs;
use quern_store::sim::SimFs;
use quern_store::{AppendOne, Config, Env, Part, Pending, Retention, Stateless, Steps, Store};

use crate::{batch, block, some_bodies, wait};

const SEGMENT: u64 = 256 * 1024;

fn config(keeps: Option<u64>) -> Config {
    Config {
        segment_size: Some(SEGMENT),
        checkpoint_every: SEGMENT,
        retention: Retention {
            age: None,
            bytes: keeps,
            hours: Vec::new(),
        },
        ..Config::new("/q")
    }
}

fn env(fs: &SimFs) -> Env {
    Env {
        fs: Arc::new(fs.clone()),
        clock: Arc::new(ManualClock::default()),
    }
}

fn open(fs: &SimFs) -> Store {
    let opened = Store::open(config(None), env(fs), Box::new(Stateless));
    opened.unwrap().0
}

/// Everything but the commit log is gone.
fn strip(fs: &SimFs) {
    for dir in ["/q", "/q/consumequeue", "/q/index"] {
        for name in fs.list(dir.as_ref()).unwrap_or_default() {
            let _ = fs.remove(&Path::new(dir).join(name));
        }
    }
}

fn later(body: &str, due_at: u64) -> AppendOne {
    AppendOne {
        topic: TopicId(1),
        queue: QueueId(0),
        block: block(body),
        attempts: 3,
        notes: Bytes::from(Pairs::encode([("REASON", body)])),
        due_at: Some(due_at),
    }
}

/// Body and attempts of what is in the queue.
fn queued(store: &Store) -> Vec<(String, u16)> {
    let (topic, queue) = (TopicId(1), QueueId(0));
    let entries = store.entries(topic, queue, QueueOffset(0), usize::MAX);
    let read = |entry: &quern_store::Entry| {
        let record = store.record(entry).unwrap();
        let view = RecordView::parse(&record).unwrap();
        let body = String::from_utf8_lossy(view.block.body()).into_owned();
        assert_eq!(
            view.notes.iter().collect::<Vec<_>>(),
            [("REASON", &body[..])]
        );
        (body, view.header.attempts)
    };
    entries.unwrap().iter().map(read).collect()
}

fn due(store: &Store, now: u64) -> Vec<u64> {
    let due = store.due_timers(now, 100);
    due.iter().map(|it| it.due_at).collect()
}

#[test]
fn a_timer_fires_once_whatever_happened_between() {
    let fs = SimFs::default();
    let store = open(&fs);
    for (body, due_at) in [("c", 30), ("a", 10), ("b", 20)] {
        wait(store.submit_one(later(body, due_at))).unwrap();
    }
    assert!(queued(&store).is_empty(), "before their time");
    assert!(due(&store, 9).is_empty());
    assert_eq!(due(&store, 20), [10, 20]);
    let first = store.due_timers(20, 1)[0];
    wait(store.fire(&first).unwrap()).unwrap();
    let check = |store: &Store, how: &str| {
        assert_eq!(queued(store), [("a".to_owned(), 3)], "{how}");
        assert_eq!(due(store, 99), [20, 30], "{how}");
    };
    check(&store, "live");
    drop(store);
    check(&open(&fs.crash(3)), "after a crash");
    open(&fs).close().unwrap();
    let store = open(&fs);
    check(&store, "from a state file");
    store.close().unwrap();
    drop(store);
    strip(&fs);
    let store = open(&fs);
    check(&store, "from the log alone");
    store.retain_topics(|topic| topic != TopicId(1));
    assert_eq!(store.timers(), 0, "of a topic that is gone");
}

/// Lets everything happen that can, and sees that all went well.
fn settle(pending: Pending, steps: &mut Steps) {
    while [Part::Appender, Part::Syncer, Part::Maker]
        .iter()
        .any(|it| steps.step(*it))
    {}
    steps.step(Part::Keeper);
    wait(pending).unwrap();
}

#[test]
fn the_log_keeps_the_record_of_what_still_waits() {
    let fs = SimFs::default();
    let opened = Store::open_in_steps(&config(Some(SEGMENT)), env(&fs), Box::new(Stateless));
    let (store, _, mut steps) = opened.unwrap();
    let fill = |store: &Store, steps: &mut Steps| {
        for n in 0..60 {
            settle(store.submit(batch(1, &some_bodies(n * 10, 10))), steps);
        }
    };
    let segments = || fs.list("/q/commitlog".as_ref()).unwrap();
    settle(store.submit_one(later("a", 10)), &mut steps);
    let first = segments()[0].clone();
    fill(&store, &mut steps);
    assert!(segments().contains(&first), "a message waits in it");
    assert!(segments().len() > 2, "{:?}", segments());
    let timer = store.due_timers(10, 1)[0];
    settle(store.fire(&timer).unwrap(), &mut steps);
    fill(&store, &mut steps);
    assert!(!segments().contains(&first), "it has become another");
    assert_eq!(store.timers(), 0);
}
