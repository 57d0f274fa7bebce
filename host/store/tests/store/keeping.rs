//! Topics that keep their messages longer than the log keeps its segments, whatever happens between.

use std::path::Path;
use std::sync::Arc;

use quern_protocol::{Message, QueueId, QueueOffset, RecordView, TopicId};
use quern_store::clock::ManualClock;
use quern_store::fs::Fs as _;
use quern_store::sim::{Fault, SimFs};
use quern_store::{
    Append, Config, Dispatched, Env, Keep, KeptTopics, Lookup, Observer, Part, Retention,
    StateRecord, Steps, Store,
};

use crate::timers::strip;
use crate::wait;

const SEGMENT: u64 = 64 * 1024;
const HOUR: u64 = 60 * 60 * 1000;
const KEPT: TopicId = TopicId(1);
const OTHER: TopicId = TopicId(2);
const QUEUE: QueueId = QueueId(0);
const KEPT_FOR: u64 = 100 * HOUR;

/// There is a topic that keeps its messages.
struct Keeps;

impl Observer for Keeps {
    fn dispatched(&mut self, _: Dispatched<'_>) {}

    fn snapshot(&mut self) -> Vec<StateRecord> {
        Vec::new()
    }

    fn kept_topics(&self) -> KeptTopics {
        KeptTopics::from([(KEPT, Keep::For(KEPT_FOR))])
    }
}

struct Life {
    store: Store,
    steps: Steps,
}

impl Life {
    fn begin(fs: &SimFs, clock: &Arc<ManualClock>) -> Self {
        let config = Config {
            segment_size: Some(SEGMENT),
            checkpoint_every: SEGMENT,
            retention: Retention {
                age: Some(std::time::Duration::from_millis(HOUR)),
                bytes: None,
                hours: Vec::new(),
            },
            ..Config::new("/q")
        };
        let env = Env {
            fs: Arc::new(fs.clone()),
            clock: Arc::clone(clock) as _,
        };
        let (store, _, steps) = Store::open_in_steps(&config, env, Box::new(Keeps)).unwrap();
        Self { store, steps }
    }

    fn settle(&mut self) {
        while [Part::Appender, Part::Syncer, Part::Maker]
            .iter()
            .any(|it| self.steps.step(*it))
        {}
    }

    fn append(&mut self, topic: TopicId, n: usize) -> u64 {
        let body = format!("{n} {}", "x".repeat(n * 37 % 900));
        let message = Message::new("t", body).key(&format!("k{n}")).tag("TagA");
        let pending = self.store.submit(Append {
            topic,
            queue: QUEUE,
            blocks: message.encode(&format!("id{n}"), 0).unwrap(),
            count: 1,
            ..Append::default()
        });
        self.settle();
        wait(pending).unwrap().stored_at
    }

    /// Time passes, and whatever it makes old enough goes.
    fn age(&mut self, clock: &ManualClock, ms: u64) {
        clock.pass(ms);
        for n in 0..200 {
            self.append(OTHER, n);
        }
        for _ in 0..40 {
            clock.pass(11_000);
            self.steps.step(Part::Keeper);
            self.settle();
        }
    }

    /// Offset, number and time of what is in the queue of those that are kept.
    fn kept(&self) -> Vec<(u64, usize, u64)> {
        let (min, max) = self.store.range(KEPT, QUEUE);
        let entries = self.store.entries(KEPT, QUEUE, min, usize::MAX).unwrap();
        assert!(entries.iter().all(|it| it.offset < max));
        let first = entries.first().map_or(max, |it| it.offset);
        assert_eq!(first, min, "the first there is");
        let records = self.store.records(&entries).unwrap();
        let read = |record: &bytes::Bytes| {
            let view = RecordView::parse(record).unwrap();
            let body = std::str::from_utf8(view.block.stored_body()).unwrap();
            let number = body.split(' ').next().unwrap();
            let header = view.header;
            (
                header.queue_offset.0,
                number.parse().unwrap(),
                header.stored_at,
            )
        };
        records.iter().map(read).collect()
    }

    fn found(&self, n: usize) -> usize {
        let key = format!("k{n}");
        self.store.find(KEPT, Lookup::Key(&key), 9).unwrap().len()
    }
}

fn segments(fs: &SimFs) -> Vec<String> {
    let mut names = fs.list(Path::new("/q/commitlog")).unwrap();
    names.retain(|it| it.ends_with(".seg"));
    names
}

#[test]
fn what_a_topic_keeps_outlives_its_segments_and_then_goes() {
    let (fs, clock) = (SimFs::default(), Arc::new(ManualClock::default()));
    let mut life = Life::begin(&fs, &clock);
    let mut expected = Vec::new();
    for n in 0..90 {
        clock.pass(1_000);
        expected.push((n as u64, n, life.append(KEPT, n)));
        life.append(OTHER, n);
    }
    for round in 0..3 {
        let before = segments(&fs);
        life.age(&clock, 2 * HOUR);
        let after = segments(&fs);
        let left = before.iter().filter(|it| after.contains(it)).count();
        assert!(left <= 1, "round {round}: {before:?} {after:?}");
        assert_eq!(life.kept(), expected, "live, round {round}");
        // A stop, a crash, and nothing left but the log.
        drop(life);
        let disk = if round == 1 { fs.crash(7) } else { fs.clone() };
        if round == 2 {
            strip(&disk);
        }
        life = Life::begin(&disk, &clock);
        assert_eq!(life.kept(), expected, "after a start, round {round}");
        assert_eq!([life.found(0), life.found(45), life.found(89)], [1, 1, 1]);
        assert_eq!(life.store.range(KEPT, QUEUE).1, QueueOffset(90));
        if round == 1 {
            // The disk that crashed is another one.
            drop(life);
            life = Life::begin(&fs, &clock);
        }
    }
    // Where it goes on, and what is asked for by time.
    let stored_at = life.append(KEPT, 90);
    expected.push((90, 90, stored_at));
    assert_eq!(life.kept(), expected);
    let at = |ms| life.store.offset_at(KEPT, QUEUE, ms).unwrap();
    assert_eq!(at(expected[50].2).0, first_at(&expected, expected[50].2));
    assert_eq!(at(stored_at), QueueOffset(90));
    // What is not served can be served again.
    life.store.serve_from(KEPT, QUEUE, QueueOffset(40));
    assert_eq!(life.kept(), expected[40..]);
    assert_eq!([life.found(39), life.found(40)], [0, 1]);
    life.store.serve_from(KEPT, QUEUE, QueueOffset(0));
    assert_eq!(life.kept(), expected);
    // Too old for the topic as well.
    life.age(&clock, KEPT_FOR);
    life.age(&clock, KEPT_FOR);
    assert_eq!(life.kept(), []);
    assert_eq!(
        life.store.range(KEPT, QUEUE),
        (QueueOffset(91), QueueOffset(91))
    );
    assert_eq!(life.found(45), 0);
}

fn first_at(expected: &[(u64, usize, u64)], ms: u64) -> u64 {
    let found = expected.iter().find(|(.., stored_at)| *stored_at >= ms);
    found.unwrap().0
}

/// The power goes at any step, also of a start; each message is there once, at its offset.
#[test]
fn no_crash_between_copy_and_deletion_loses_or_doubles_a_message() {
    let mut carried = 0;
    for seed in 0..60 {
        let mut random = fastrand::Rng::with_seed(seed);
        let clock = Arc::new(ManualClock::default());
        let mut fs = SimFs::default();
        let mut expected = Vec::new();
        for life_number in 0..4 {
            if random.u8(0..3) == 0 {
                strip(&fs);
            }
            let mut life = Life::begin(&fs, &clock);
            assert_eq!(life.kept(), expected, "seed {seed} life {life_number}");
            let first = segments(&fs).first().cloned();
            for _ in 0..random.usize(10..40) {
                let n = expected.len();
                expected.push((n as u64, n, life.append(KEPT, n)));
                life.append(OTHER, n);
            }
            clock.pass(2 * HOUR);
            for n in 0..random.usize(60..200) {
                life.append(OTHER, n);
            }
            for _ in 0..random.usize(0..120) {
                clock.pass(6_000);
                let parts = [Part::Keeper, Part::Appender, Part::Syncer, Part::Maker];
                let part = random.usize(0..4);
                let fault = Fault::ReadError(random.u64(0..40));
                // Whoever writes would stop for it.
                fs.inject(Some(fault).filter(|_| part == 0 && random.bool()));
                life.steps.step(parts[part]);
                fs.inject(None);
            }
            assert_eq!(life.kept(), expected, "seed {seed} life {life_number} live");
            carried += usize::from(segments(&fs).first().cloned() != first);
            let crashed = fs.crash(random.u64(..));
            drop(life);
            fs = crashed;
        }
    }
    assert!(carried > 60, "segments went in only {carried} lives");
}
