//! Messages for later: in no queue before their time, in it once afterwards, whatever happens between,
//! and kept while they wait.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use quern_protocol::block::Pairs;
use quern_protocol::{
    LogPosition, ProducerBatch, ProducerId, QueueId, QueueOffset, RecordView, TopicId,
};
use quern_store::clock::ManualClock;
use quern_store::fs::Fs;
use quern_store::sim::SimFs;
use quern_store::{
    Append, AppendError, AppendOne, Config, Due, Env, Part, Pending, Retention, Stateless, Steps,
    Store, Waiting,
};

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
pub(crate) fn strip(fs: &SimFs) {
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
        let body = String::from_utf8_lossy(view.block.stored_body()).into_owned();
        assert_eq!(
            view.notes.iter().collect::<Vec<_>>(),
            [("REASON", &body[..])]
        );
        (body, view.header.attempts)
    };
    entries.unwrap().iter().map(read).collect()
}

fn fire(store: &Store, timer: &Waiting) -> Pending {
    let fired = store.fire(timer.position, |_| ()).unwrap();
    fired.expect("nothing else is under way for it")
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
    wait(fire(&store, &first)).unwrap();
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

/// Lets everything happen that can.
fn settle(steps: &mut Steps) {
    let parts = [Part::Appender, Part::Syncer, Part::Maker];
    while parts.iter().any(|it| steps.step(*it)) {}
    steps.step(Part::Keeper);
}

/// Adds so many bytes that old segments are too many.
fn fill(store: &Store, steps: &mut Steps) {
    for n in 0..60 {
        let pending = store.submit(batch(2, &some_bodies(n * 10, 10)));
        settle(steps);
        wait(pending).unwrap();
    }
}

fn in_steps(fs: &SimFs) -> (Store, Steps) {
    let opened = Store::open_in_steps(&config(Some(SEGMENT)), env(fs), Box::new(Stateless));
    let (store, _, steps) = opened.unwrap();
    (store, steps)
}

#[test]
fn what_still_waits_moves_on_when_its_segment_goes() {
    let fs = SimFs::default();
    let (store, mut steps) = in_steps(&fs);
    let segments = || fs.list("/q/commitlog".as_ref()).unwrap();
    let mut positions = Vec::new();
    for (body, due_at) in [("a", 10), ("b", 20), ("c", 30)] {
        let pending = store.submit_one(later(body, due_at));
        settle(&mut steps);
        positions.push(wait(pending).unwrap().position);
    }
    // One more is decided while the log is still short.
    let cancelled = store.cancel_timer(positions[1]).unwrap();
    settle(&mut steps);
    wait(cancelled).unwrap();
    let first = segments()[0].clone();
    for round in 0..3 {
        fill(&store, &mut steps);
        assert!(!segments().contains(&first), "round {round}");
        let waiting = store.waiting(TopicId(1), (0, LogPosition(0)), 9);
        let known: Vec<_> = waiting.iter().map(|it| (it.due_at, it.position)).collect();
        assert_eq!(known, [(10, positions[0]), (30, positions[2])], "{round}");
    }
    let timer = store.due_timers(10, 9)[0];
    let fired = fire(&store, &timer);
    settle(&mut steps);
    wait(fired).unwrap();
    drop((store, steps));
    strip(&fs);
    let (store, mut steps) = in_steps(&fs);
    assert_eq!(queued(&store), [("a".to_owned(), 3)], "from the log alone");
    assert_eq!(due(&store, 99), [30]);
    fill(&store, &mut steps);
    let message = store.waiting_message(positions[2]).unwrap().unwrap();
    assert_eq!((message.attempts, message.due_at), (3, Some(30)));
}

#[test]
fn one_decision_at_a_time_and_none_twice() {
    let fs = SimFs::default();
    let (store, mut steps) = in_steps(&fs);
    let pending = store.submit_one(later("a", 10));
    settle(&mut steps);
    let position = wait(pending).unwrap().position;
    let timer = store.due_timers(10, 1)[0];
    let fired = fire(&store, &timer);
    assert!(due(&store, 99).is_empty(), "it is on its way");
    assert!(store.fire(timer.position, |_| ()).unwrap().is_none());
    assert!(store.cancel_timer(position).is_none(), "too late");
    settle(&mut steps);
    wait(fired).unwrap();
    assert!(store.cancel_timer(position).is_none(), "it was delivered");
    assert_eq!(store.timers(), 0);
    let pending = store.submit_one(later("b", 20));
    settle(&mut steps);
    let position = wait(pending).unwrap().position;
    let cancelled = store.cancel_timer(position).unwrap();
    let timer = Waiting { position, ..timer };
    assert!(store.fire(timer.position, |_| ()).unwrap().is_none());
    settle(&mut steps);
    wait(cancelled).unwrap();
    let check = |store: &Store, how: &str| {
        assert_eq!(queued(store), [("a".to_owned(), 3)], "{how}");
        assert_eq!(store.timers(), 0, "{how}");
    };
    check(&store, "live");
    drop((store, steps));
    check(&open(&fs.crash(5)), "after a crash");
    strip(&fs);
    check(&open(&fs), "from the log alone");
}

#[test]
fn batches_wait_from_when_they_are_stored_and_are_stored_once() {
    let fs = SimFs::default();
    let store = open(&fs);
    let numbered = |sequence| Append {
        producer: Some(ProducerBatch {
            producer: ProducerId(7),
            epoch: 0,
            sequence,
        }),
        ..batch(1, &some_bodies(0, 3))
    };
    let first = wait(store.submit_later(numbered(0), Due::In(500))).unwrap();
    let again = wait(store.submit_later(numbered(0), Due::In(500))).unwrap();
    assert_eq!(first, again);
    wait(store.submit(numbered(1))).unwrap();
    let check = |store: &Store, how: &str| {
        let waiting = store.waiting(TopicId(1), (0, LogPosition(0)), 9);
        let due: Vec<_> = waiting.iter().map(|it| it.due_at).collect();
        assert_eq!(due, [first.stored_at + 500; 3], "{how}");
        assert_eq!(waiting[0].position, first.position, "{how}");
        let mut positions = waiting.iter().map(|it| it.position);
        let sizes = waiting.iter().map(|it| u64::from(it.size));
        let mut expected = first.position.0;
        for size in sizes {
            assert_eq!(positions.next(), Some(LogPosition(expected)), "{how}");
            expected += size;
        }
        let range = store.range(TopicId(1), QueueId(1));
        assert_eq!(range, (QueueOffset(0), QueueOffset(3)), "{how}");
        let again = wait(store.submit_later(numbered(0), Due::In(500))).unwrap();
        assert_eq!(again, first, "{how}");
    };
    check(&store, "live");
    drop(store);
    check(&open(&fs.crash(3)), "after a crash");
    strip(&fs);
    check(&open(&fs), "from the log alone");
}

#[test]
fn more_than_may_wait_are_refused() {
    let fs = SimFs::default();
    let config = Config {
        most_waiting: 2,
        ..config(None)
    };
    let (store, _) = Store::open(config, env(&fs), Box::new(Stateless)).unwrap();
    wait(store.submit_one(later("a", 10))).unwrap();
    let two = store.submit_later(batch(1, &some_bodies(0, 2)), Due::At(20));
    assert!(matches!(wait(two), Err(AppendError::TooManyWait(1))));
    wait(store.submit_one(later("b", 20))).unwrap();
    let third = wait(store.submit_one(later("c", 30)));
    assert!(matches!(third, Err(AppendError::TooManyWait(2))));
    wait(fire(&store, &store.due_timers(10, 1)[0])).unwrap();
    wait(store.submit_one(later("c", 30))).unwrap();
}
