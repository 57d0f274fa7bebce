//! What is made of the log and kept beside it: producers' windows, queues on disk, snapshots; read on
//! from a state file, and made anew from the log alone.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use quern_protocol::{
    Code, Message, ProducerBatch, ProducerId, QueueId, QueueOffset, RecordView, TopicId,
};
use quern_store::clock::ManualClock;
use quern_store::fs::Fs;
use quern_store::sim::SimFs;
use quern_store::{
    Acknowledge, Append, Config, Env, Lookup, Part, Report, Retention, Stateless, Steps, Store,
};

use crate::{batch, bodies, some_bodies, wait};

const DIR: &str = "/q";
const SEGMENT: u64 = 256 * 1024;

fn config(keeps: Option<u64>) -> Config {
    Config {
        segment_size: Some(SEGMENT),
        stamp_after: Duration::from_secs(3_600),
        checkpoint_every: SEGMENT,
        retention: Retention {
            age: None,
            bytes: keeps,
            hours: Vec::new(),
        },
        ..Config::new(DIR)
    }
}

fn env(fs: &SimFs) -> Env {
    Env {
        fs: Arc::new(fs.clone()),
        clock: Arc::new(ManualClock::default()),
    }
}

fn open(fs: &SimFs) -> (Store, Report) {
    Store::open(config(None), env(fs), Box::new(Stateless)).unwrap()
}

pub(crate) fn in_steps(fs: &SimFs, keeps: Option<u64>) -> (Store, Report, Steps) {
    Store::open_in_steps(&config(keeps), env(fs), Box::new(Stateless)).unwrap()
}

/// Everything but the commit log is gone.
pub(crate) fn strip(fs: &SimFs) {
    for dir in ["/q", "/q/consumequeue", "/q/index"] {
        for name in fs.list(dir.as_ref()).unwrap_or_default() {
            let _ = fs.remove(&Path::new(dir).join(name));
        }
    }
}

fn sent(id: u64, epoch: u16, sequence: u32, bodies: &[String]) -> Append {
    Append {
        producer: Some(ProducerBatch {
            producer: ProducerId(id),
            epoch,
            sequence,
        }),
        ..batch(0, bodies)
    }
}

#[test]
fn a_batch_sent_twice_is_stored_once_whatever_happened_between() {
    let fs = SimFs::default();
    let (store, _) = open(&fs);
    let mut stored = Vec::new();
    for n in 0..7 {
        let bodies = some_bodies(n * 3, 3);
        stored.push(wait(store.submit(sent(9, 0, n as u32, &bodies))).unwrap());
    }
    let all = some_bodies(0, 21);
    let code = |store: &Store, epoch, sequence| {
        let error = wait(store.submit(sent(9, epoch, sequence, &all[..1]))).unwrap_err();
        error.code()
    };
    let check = |store: &Store, how: &str| {
        for (n, stored) in stored.iter().enumerate().skip(2) {
            let again = sent(9, 0, n as u32, &some_bodies(n * 3, 3));
            assert_eq!(wait(store.submit(again)).unwrap(), *stored, "{how}: {n}");
        }
        assert_eq!(code(store, 0, 1), Code::OUT_OF_SEQUENCE, "{how}");
        assert_eq!(code(store, 0, 8), Code::OUT_OF_SEQUENCE, "{how}");
        let stranger = store.submit(sent(8, 0, 3, &all[..1]));
        assert_eq!(
            wait(stranger).unwrap_err().code(),
            Code::UNKNOWN_PRODUCER,
            "{how}"
        );
        assert_eq!(bodies(store, 0), all, "{how}");
        let (topic, queue) = (TopicId(1), QueueId(0));
        let at = store.stored_at(topic, queue, stored[2].first);
        assert_eq!(at, Ok(Some(stored[2].stored_at)), "{how}");
    };
    check(&store, "live");
    drop(store);
    let (store, report) = open(&fs.crash(3));
    assert!(!report.clean);
    check(&store, "after a crash");
    drop(store);
    open(&fs).0.close().unwrap();
    let (store, report) = open(&fs);
    assert!(report.clean && !report.rebuilt && report.records < 21);
    check(&store, "from a state file");
    store.close().unwrap();
    drop(store);
    strip(&fs);
    let (store, report) = open(&fs);
    assert!(report.rebuilt);
    check(&store, "from the log alone");
    wait(store.submit(sent(9, 1, 0, &all[..1]))).unwrap();
    assert_eq!(code(&store, 0, 7), Code::FENCED);
}

/// One producer's batches, sent behind, in and ahead of their turn, with crashes between.
fn any_order(seed: u64) {
    let mut chance = fastrand::Rng::with_seed(seed);
    let mut fs = SimFs::default();
    let (mut store, _) = open(&fs);
    let mut stored = Vec::new();
    for _ in 0..150 {
        if chance.u8(..30) == 0 {
            drop(store);
            fs = fs.crash(seed);
            store = open(&fs).0;
        }
        let next = stored.len();
        let sequence = next.saturating_sub(7) + chance.usize(..10);
        let body = sequence.to_string();
        let outcome = wait(store.submit(sent(1, 0, sequence as u32, &[body])));
        let what = format!("seed {seed}: {sequence} when {next} is next");
        match outcome {
            Ok(appended) if sequence == next => stored.push(appended),
            Ok(appended) => assert_eq!(Some(&appended), stored.get(sequence), "{what}"),
            Err(error) => {
                let known = next.saturating_sub(5)..=next;
                assert!(!known.contains(&sequence), "{what}: {error}");
                let code = match next {
                    0 => Code::UNKNOWN_PRODUCER,
                    _ => Code::OUT_OF_SEQUENCE,
                };
                assert_eq!(error.code(), code, "{what}");
            }
        }
    }
    let all: Vec<_> = (0..stored.len()).map(|n| n.to_string()).collect();
    assert_eq!(bodies(&store, 0), all, "seed {seed}");
}

#[test]
fn batches_doubled_and_out_of_order_are_stored_once_and_in_order() {
    (0..20).for_each(any_order);
}

#[test]
fn the_same_batch_twice_under_way_is_acknowledged_with_the_first() {
    let fs = SimFs::default();
    let (store, _, mut steps) = in_steps(&fs, None);
    steps.sync_apart();
    let bodies = some_bodies(0, 2);
    let mut pending = [0, 1].map(|_| Box::pin(store.submit(sent(1, 0, 0, &bodies))));
    let mut context = Context::from_waker(Waker::noop());
    while steps.step(Part::Appender) {}
    for pending in &mut pending {
        assert!(
            pending.as_mut().poll(&mut context).is_pending(),
            "nothing is durable yet"
        );
    }
    while steps.step(Part::Syncer) || steps.step(Part::Appender) {}
    let answers = pending.map(|mut it| match it.as_mut().poll(&mut context) {
        Poll::Ready(answer) => answer.unwrap(),
        Poll::Pending => panic!("both are durable"),
    });
    assert_eq!(answers[0], answers[1]);
    assert_eq!(store.range(TopicId(1), QueueId(0)).1, QueueOffset(2));
}

#[test]
fn what_may_be_lost_is_acknowledged_once_written_and_seen_once_durable() {
    let fs = SimFs::default();
    let (store, _, mut steps) = in_steps(&fs, None);
    steps.sync_apart();
    let append = |acknowledge| Append {
        acknowledge,
        ..batch(0, &some_bodies(0, 1))
    };
    let mut fast = pin!(store.submit(append(Acknowledge::Written)));
    let mut safe = pin!(store.submit(append(Acknowledge::Durable)));
    let mut context = Context::from_waker(Waker::noop());
    assert!(fast.as_mut().poll(&mut context).is_pending());
    while steps.step(Part::Appender) {}
    let Poll::Ready(Ok(written)) = fast.as_mut().poll(&mut context) else {
        panic!("it is written");
    };
    assert!(safe.as_mut().poll(&mut context).is_pending());
    assert_eq!(safe.written().map(|it| it.first), Some(QueueOffset(1)));
    assert_eq!(
        store.range(TopicId(1), QueueId(0)).1,
        QueueOffset(0),
        "not visible"
    );
    while steps.step(Part::Syncer) || steps.step(Part::Appender) {}
    assert!(safe.as_mut().poll(&mut context).is_ready());
    assert_eq!(store.range(TopicId(1), QueueId(0)).1, QueueOffset(2));
    assert_eq!(written.first, QueueOffset(0));
}

/// Many queues, more messages than a block holds, segments that go: after each kind of start the same.
#[test]
fn queues_on_disk_are_as_they_were_after_every_kind_of_start() {
    let fs = SimFs::default();
    let (store, _, mut steps) = in_steps(&fs, Some(4 * SEGMENT));
    let mut sent = 0;
    for round in 0..40 {
        for queue in 0..20 {
            // One queue gets most, and one is silent after a while.
            let count = match queue {
                0 => 60,
                1 if round > 5 => continue,
                _ => 2,
            };
            drop(store.submit(batch(queue, &some_bodies(sent, count))));
            sent += count;
        }
        while steps.step(Part::Appender) || steps.step(Part::Syncer) || steps.step(Part::Maker) {}
        steps.step(Part::Keeper);
    }
    let what = |store: &Store| -> Vec<_> {
        let range = |queue| store.range(TopicId(1), QueueId(queue));
        (0..20)
            .map(|queue| (range(queue), bodies_from(store, queue)))
            .collect()
    };
    let expected = what(&store);
    assert!(
        expected[0].0.0 > QueueOffset(200),
        "old segments went: {:?}",
        expected[0].0
    );
    assert!(
        expected[1].1.is_empty() && expected[1].0.1 > QueueOffset(0),
        "and all of a queue"
    );
    let image = fs.crash(1);
    let (crashed, report, _steps) = in_steps(&image, Some(4 * SEGMENT));
    assert!(
        !report.rebuilt && what(&crashed) == expected,
        "after a crash"
    );
    steps.close().unwrap();
    drop(store);
    let (store, report, steps) = in_steps(&fs, Some(4 * SEGMENT));
    assert!(
        report.clean && what(&store) == expected,
        "after a clean end"
    );
    steps.close().unwrap();
    drop(store);
    strip(&fs);
    let (store, report, _steps) = in_steps(&fs, Some(4 * SEGMENT));
    assert!(
        report.rebuilt && what(&store) == expected,
        "from the log alone"
    );
}

/// Bodies of all messages with a key or an id, newest first.
fn found(store: &Store, lookup: Lookup<'_>) -> Vec<String> {
    let records = store.find(TopicId(1), lookup, usize::MAX).unwrap();
    let body = |record: &Bytes| {
        let view = RecordView::parse(record).unwrap();
        String::from_utf8(view.block.stored_body().to_vec()).unwrap()
    };
    records.iter().map(body).collect()
}

#[test]
fn messages_are_found_by_key_and_id_in_every_segment_and_after_every_kind_of_start() {
    let fs = SimFs::default();
    let (store, _, mut steps) = in_steps(&fs, None);
    let block = |n: usize| {
        let body = format!("{n} ").repeat(300);
        let message = Message::new("t", body)
            .key(&format!("n{n}"))
            .key(&format!("by{}", n % 100));
        message.encode(&format!("id{n}"), 0).unwrap()
    };
    for n in 0..1_000 {
        drop(store.submit(Append {
            topic: TopicId(1 + u32::from(n == 999)),
            queue: QueueId(n as u32 % 3),
            blocks: block(n),
            count: 1,
            ..Append::default()
        }));
        while steps.step(Part::Appender) || steps.step(Part::Syncer) || steps.step(Part::Maker) {}
        if n == 600 {
            steps.step(Part::Keeper);
        }
    }
    let check = |store: &Store, how: &str| {
        for n in [0, 1, 500, 998] {
            let one = vec![format!("{n} ").repeat(300)];
            assert_eq!(found(store, Lookup::Key(&format!("n{n}"))), one, "{how}");
            assert_eq!(
                found(store, Lookup::UniqueId(&format!("id{n}"))),
                one,
                "{how}"
            );
        }
        let all: Vec<_> = (0..10)
            .rev()
            .map(|n| format!("{} ", n * 100 + 7).repeat(300))
            .collect();
        assert_eq!(found(store, Lookup::Key("by7")), all, "{how}");
        let some = store.find(TopicId(1), Lookup::Key("by7"), 3).unwrap();
        assert_eq!(some.len(), 3, "{how}");
        for nothing in [
            Lookup::Key("id5"),
            Lookup::UniqueId("n5"),
            Lookup::Key("n999"),
        ] {
            assert!(found(store, nothing).is_empty(), "{how}: {nothing:?}");
        }
    };
    check(&store, "live");
    let image = fs.crash(1);
    check(&in_steps(&image, None).0, "after a crash");
    steps.close().unwrap();
    drop(store);
    let files = fs.list("/q/index".as_ref()).unwrap();
    assert!(files.len() > 1, "{files:?}");
    fs.flip(&Path::new("/q/index").join(&files[0]), 100, 1);
    check(&in_steps(&fs, None).0, "with a damaged file");
    strip(&fs);
    check(&in_steps(&fs, None).0, "from the log alone");
}

#[test]
fn the_scrub_finds_what_a_disk_has_lost() {
    let fs = SimFs::default();
    let (store, _, mut steps) = in_steps(&fs, None);
    for n in 0..60 {
        drop(store.submit(batch(0, &some_bodies(n * 10, 10))));
        while steps.step(Part::Appender) || steps.step(Part::Syncer) || steps.step(Part::Maker) {}
    }
    let clock = |steps: &mut Steps, store: &Store| {
        // Every roll asks for a look.
        for n in 0..60 {
            drop(store.submit(batch(1, &some_bodies(n * 10, 10))));
            while steps.step(Part::Appender) || steps.step(Part::Syncer) || steps.step(Part::Maker)
            {
            }
            steps.step(Part::Keeper);
        }
    };
    clock(&mut steps, &store);
    assert_eq!(store.damage(), []);
    // What it cannot read keeps it from nothing behind that.
    fs.make_unreadable("/q/commitlog/00000000000000000000.seg".as_ref(), 100);
    fs.flip("/q/commitlog/00000000000000262144.seg".as_ref(), 70_000, 8);
    clock(&mut steps, &store);
    let mut damage = store.damage();
    damage.sort_by_key(|it| it.from);
    assert_eq!(damage.len(), 2, "{damage:?}");
    assert!((damage[0].from.0..damage[0].to.0).contains(&51_200));
    let range = damage[1].from.0..damage[1].to.0;
    assert!(range.contains(&(262_144 + 70_000)) && range.end - range.start < 64 * 1024);
}

fn bodies_from(store: &Store, queue: u32) -> Vec<QueueOffset> {
    let (min, max) = store.range(TopicId(1), QueueId(queue));
    let entries = store
        .entries(TopicId(1), QueueId(queue), min, usize::MAX)
        .unwrap();
    assert_eq!(entries.len() as u64, max.0 - min.0);
    let offset = |entry: &quern_store::Entry| {
        store.record(entry).unwrap();
        entry.offset
    };
    entries.iter().map(offset).collect()
}
