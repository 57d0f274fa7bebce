//! Compacted topics against a model, by seed: whatever is sent, rolled, let go and lost with the power, the newest
//! message of each key is there, at its offset, and what is gone stays so.
//!
//! `QUERN_SEEDS=100000 cargo test -p quern-store --test store compaction` runs more of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use quern_protocol::{Message, QueueId, QueueOffset, RecordView, TopicId};
use quern_store::clock::ManualClock;
use quern_store::fs::Fs as _;
use quern_store::sim::{Fault, SimFs};
use quern_store::{
    Append, Config, Dispatched, Env, Keep, KeptTopics, Lookup, Observer, Part, Pending, Retention,
    StateRecord, Steps, Store,
};

use crate::timers::strip;

pub(crate) const SEGMENT: u64 = 64 * 1024;
pub(crate) const HOUR: u64 = 60 * 60 * 1000;
pub(crate) const COMPACTED: TopicId = TopicId(1);
pub(crate) const OTHER: TopicId = TopicId(2);
/// This one keeps all messages for long.
pub(crate) const KEPT: TopicId = TopicId(3);
const QUEUES: u32 = 2;
/// As a rare message has them, too: two words are a key of their own, and share a hash with the first.
const KEYS: [&str; 9] = ["a", "a b", "b", "c", "d", "e", "f", "g", "rare"];

/// There is a compacted topic.
struct Compacts {
    tombstones: u64,
}

impl Observer for Compacts {
    fn dispatched(&mut self, _: Dispatched<'_>) {}

    fn snapshot(&mut self) -> Vec<StateRecord> {
        Vec::new()
    }

    fn kept_topics(&self) -> KeptTopics {
        let tombstones = self.tombstones;
        let newest = Keep::Newest { tombstones };
        KeptTopics::from([(COMPACTED, newest), (KEPT, Keep::For(10_000 * HOUR))])
    }
}

/// How the log of a seed is kept.
#[derive(Clone, Copy)]
pub(crate) struct Habits {
    /// It goes by its size, not by its age.
    pub(crate) by_size: bool,
    pub(crate) tombstones: u64,
}

pub(crate) struct Life {
    pub(crate) store: Store,
    pub(crate) steps: Steps,
}

impl Life {
    pub(crate) fn begin(fs: &SimFs, clock: &Arc<ManualClock>, habits: Habits) -> Self {
        Self::keeping_at_most(usize::MAX, fs, clock, habits)
    }

    /// Of no more messages there are copies.
    pub(crate) fn keeping_at_most(
        most_kept: usize,
        fs: &SimFs,
        clock: &Arc<ManualClock>,
        habits: Habits,
    ) -> Self {
        let config = Config {
            most_kept,
            segment_size: Some(SEGMENT),
            checkpoint_every: SEGMENT,
            retention: Retention {
                age: (!habits.by_size).then_some(Duration::from_millis(HOUR)),
                bytes: habits.by_size.then_some(4 * SEGMENT),
                hours: Vec::new(),
            },
            ..Config::new("/q")
        };
        let env = Env {
            fs: Arc::new(fs.clone()),
            clock: Arc::clone(clock) as _,
        };
        let observer = Compacts {
            tombstones: habits.tombstones,
        };
        let (store, _, steps) = Store::open_in_steps(&config, env, Box::new(observer)).unwrap();
        Self { store, steps }
    }

    pub(crate) fn settle(&mut self) {
        while [Part::Appender, Part::Syncer, Part::Maker]
            .iter()
            .any(|it| self.steps.step(*it))
        {}
    }

    pub(crate) fn submit(
        &self,
        topic: TopicId,
        queue: u32,
        key: Option<&str>,
        body: &str,
    ) -> Pending {
        let message = Message::new("t", body.to_owned());
        let message = match key {
            Some(key) => message.key(key),
            None => message,
        };
        self.store.submit(Append {
            topic,
            queue: QueueId(queue),
            blocks: message.encode("id", 0).unwrap(),
            count: 1,
            ..Append::default()
        })
    }

    /// What others send, so that segments fill.
    pub(crate) fn fill(&mut self, count: usize) {
        for _ in 0..count {
            drop(self.submit(OTHER, 0, Some("a"), &"x".repeat(900)));
            self.settle();
        }
    }

    /// Whatever is old enough, or too much, goes.
    pub(crate) fn let_go(&mut self, clock: &ManualClock) {
        for _ in 0..60 {
            clock.pass(11_000);
            self.steps.step(Part::Keeper);
            self.settle();
        }
    }

    pub(crate) fn read(&self, queue: u32) -> Vec<Read> {
        let queue = QueueId(queue);
        let (min, max) = self.store.range(COMPACTED, queue);
        let entries = self
            .store
            .entries(COMPACTED, queue, QueueOffset(0), usize::MAX);
        let entries = entries.unwrap();
        let first = entries.first().map_or(max, |it| it.offset);
        assert_eq!(first, min, "the first there is");
        let records = self.store.records(&entries).unwrap();
        assert_eq!(records.len(), entries.len(), "all of it can be read");
        let read = |(entry, record): (&quern_store::Entry, &bytes::Bytes)| {
            let view = RecordView::parse(record).unwrap();
            assert_eq!(view.header.queue_offset, entry.offset);
            Read {
                offset: entry.offset.0,
                position: entry.position.0,
                key: view.block.keys().to_owned(),
                body: String::from_utf8(view.block.stored_body().to_vec()).unwrap(),
                stored_at: view.header.stored_at,
            }
        };
        entries.iter().zip(&records).map(read).collect()
    }
}

/// A message as a reader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) offset: u64,
    pub(crate) position: u64,
    pub(crate) key: String,
    pub(crate) body: String,
    pub(crate) stored_at: u64,
}

/// A message as it was sent.
#[derive(Debug)]
struct Sent {
    key: String,
    body: String,
    /// Position and time, once it is known to be there.
    stored: Option<(u64, u64)>,
    pending: Option<Pending>,
}

pub(crate) fn head(fs: &SimFs) -> u64 {
    let names = fs.list(Path::new("/q/commitlog")).unwrap();
    let bases = names.iter().filter_map(|it| it.strip_suffix(".seg"));
    bases.map(|it| it.parse::<u64>().unwrap()).min().unwrap()
}

/// All that was sent in the lives of one seed.
#[derive(Default)]
struct Model {
    queues: BTreeMap<u32, Vec<Sent>>,
    /// By queue, what was there once and is not.
    gone: BTreeMap<u32, BTreeSet<u64>>,
    met: BTreeMap<&'static str, u64>,
}

impl Model {
    fn meet(&mut self, what: &'static str, count: usize) {
        *self.met.entry(what).or_default() += count as u64;
    }

    fn send(&mut self, life: &Life, random: &mut fastrand::Rng) {
        let queue = random.u32(0..QUEUES);
        let sent = self.queues.entry(queue).or_default();
        // Some far more often than others.
        let among = random.usize(1..9);
        let key = match random.u8(0..100) {
            0..=3 => "",
            4 => "rare",
            _ => KEYS[random.usize(0..among)],
        };
        let body = match random.u8(0..5) {
            0 => String::new(),
            _ => format!("{} ", sent.len()).repeat(random.usize(1..100)),
        };
        let pending = life.submit(
            COMPACTED,
            queue,
            Some(key).filter(|it| !it.is_empty()),
            &body,
        );
        sent.push(Sent {
            key: key.to_owned(),
            body,
            stored: None,
            pending: Some(pending),
        });
    }

    /// Hears what was acknowledged.
    fn hear(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        for sent in self.queues.values_mut() {
            for (offset, it) in sent.iter_mut().enumerate() {
                let Some(pending) = &mut it.pending else {
                    continue;
                };
                if let Poll::Ready(outcome) = Pin::new(pending).poll(&mut context) {
                    let appended = outcome.unwrap();
                    assert_eq!(appended.first.0, offset as u64);
                    it.stored = Some((appended.position.0, appended.stored_at));
                    it.pending = None;
                }
            }
        }
    }

    /// The power was gone: what nobody heard of may be there or not.
    fn recall(&mut self, life: &Life) {
        for (queue, sent) in &mut self.queues {
            let (_, end) = life.store.range(COMPACTED, QueueId(*queue));
            let end = end.0 as usize;
            assert!(sent[end..].iter().all(|it| it.stored.is_none()), "lost");
            sent.truncate(end);
            for read in life.read(*queue) {
                let it = &mut sent[read.offset as usize];
                it.stored.get_or_insert((read.position, read.stored_at));
                it.pending = None;
            }
        }
    }

    fn compare(&mut self, life: &Life, fs: &SimFs, habits: Habits) {
        let (head, now) = (head(fs), life.store.now_ms());
        let queues: Vec<u32> = self.queues.keys().copied().collect();
        for queue in queues {
            let read = life.read(queue);
            let sent = &self.queues[&queue];
            for it in &read {
                let sent = &sent[it.offset as usize];
                assert_eq!((&it.key, &it.body), (&sent.key, &sent.body), "{it:?}");
                assert!(
                    sent.stored.is_none_or(|(_, at)| at == it.stored_at),
                    "{it:?}"
                );
            }
            let offsets: Vec<u64> = read.iter().map(|it| it.offset).collect();
            assert!(offsets.is_sorted_by(|a, b| a < b), "in order and once");
            let there: BTreeSet<u64> = offsets.into_iter().collect();
            let mut newest: BTreeMap<&str, u64> = BTreeMap::new();
            let mut oldest: BTreeMap<&str, u64> = BTreeMap::new();
            let mut missing = BTreeSet::new();
            for (it, offset) in sent.iter().zip(0..) {
                newest.insert(&it.key, offset);
                if there.contains(&offset) {
                    oldest.entry(&it.key).or_insert(offset);
                } else if let Some((position, _)) = it.stored {
                    assert!(position < head, "{offset} is not old enough to be gone");
                    missing.insert(offset);
                }
            }
            let mut tombstones = 0;
            for (key, offset) in newest.into_iter().filter(|(key, _)| !key.is_empty()) {
                let it = &sent[offset as usize];
                let Some((_, stored_at)) = it.stored.filter(|_| !there.contains(&offset)) else {
                    continue;
                };
                let is_over = it.body.is_empty() && now - stored_at > habits.tombstones;
                assert!(is_over, "the newest of {key:?}, {offset}, is gone");
                assert_eq!(oldest.get(key), None, "{key:?} is back");
                tombstones += 1;
            }
            let gone = self.gone.entry(queue).or_default();
            let back: Vec<_> = gone.difference(&missing).collect();
            assert_eq!(back, [] as [&u64; 0], "what was gone is back");
            gone.extend(&missing);
            for from in [0, 1, sent.len() as u64 / 2, sent.len() as u64] {
                let counted = life
                    .store
                    .count(COMPACTED, QueueId(queue), QueueOffset(from));
                let expected = read.iter().filter(|it| it.offset >= from).count() as u64;
                let unheard = sent.iter().filter(|it| it.stored.is_none()).count() as u64;
                assert!(counted.abs_diff(expected) <= unheard, "from {from}");
            }
            let kept = read.iter().filter(|it| {
                let stored = sent[it.offset as usize].stored;
                stored.is_some_and(|(position, _)| position < head)
            });
            let kept = kept.count();
            let missing = missing.len();
            self.meet("kept behind its segment", kept);
            self.meet("gone", missing);
            self.meet("a key let go", tombstones);
        }
    }

    /// What a log says from which all is deleted that is made of it.
    fn compare_anew(&mut self, life: &Life, fs: &SimFs, clock: &Arc<ManualClock>, habits: Habits) {
        let alone = fs.crash(7);
        strip(&alone);
        let anew = Life::begin(&alone, clock, habits);
        for queue in self.queues.keys() {
            assert_eq!(anew.read(*queue), life.read(*queue), "queue {queue}");
            let range = |life: &Life| life.store.range(COMPACTED, QueueId(*queue));
            assert_eq!(range(&anew), range(life), "queue {queue}");
        }
        self.meet("made anew", 1);
    }

    fn live(
        &mut self,
        life: &mut Life,
        fs: &SimFs,
        clock: &ManualClock,
        random: &mut fastrand::Rng,
    ) {
        for _ in 0..random.usize(20..250) {
            match random.u8(0..24) {
                0..=7 => self.send(life, random),
                8..=9 => {
                    drop(life.submit(OTHER, 0, Some("a"), &"x".repeat(random.usize(0..3_000))))
                }
                10..=14 => drop(life.steps.step(Part::Appender)),
                15..=18 => drop(life.steps.step(Part::Syncer)),
                19..=20 => drop(life.steps.step(Part::Maker)),
                21..=22 => {
                    clock.pass(6_000);
                    let fault = Fault::ReadError(random.u64(0..40));
                    fs.inject(Some(fault).filter(|_| random.u8(0..3) == 0));
                    life.steps.step(Part::Keeper);
                    fs.inject(None);
                }
                _ => clock.pass(random.u64(0..HOUR / 2)),
            }
            self.hear();
        }
    }
}

/// The lives of one seed.
fn lives(seed: u64) -> BTreeMap<&'static str, u64> {
    let mut random = fastrand::Rng::with_seed(seed);
    let habits = Habits {
        by_size: random.bool(),
        tombstones: [0, 60_000, 3 * HOUR, 1_000 * HOUR][random.usize(0..4)],
    };
    let clock = Arc::new(ManualClock::default());
    clock.jump_to(1_700_000_000_000);
    let (mut fs, mut model) = (SimFs::default(), Model::default());
    for _ in 0..random.usize(1..5) {
        if random.u8(0..3) == 0 {
            strip(&fs);
        }
        let mut life = Life::begin(&fs, &clock, habits);
        if random.bool() {
            life.steps.sync_apart();
        }
        model.recall(&life);
        model.compare(&life, &fs, habits);
        for _ in 0..random.usize(1..4) {
            model.live(&mut life, &fs, &clock, &mut random);
            model.compare(&life, &fs, habits);
        }
        if random.bool() {
            life.settle();
            model.hear();
            clock.pass(2 * HOUR);
            life.fill(random.usize(0..200));
            for _ in 0..random.usize(0..6) {
                life.let_go(&clock);
                model.live(&mut life, &fs, &clock, &mut random);
            }
            life.settle();
            model.hear();
            model.compare(&life, &fs, habits);
            model.compare_anew(&life, &fs, &clock, habits);
        }
        let crashed = fs.crash(random.u64(..));
        drop(life);
        fs = crashed;
    }
    model.met
}

#[test]
fn the_newest_of_each_key_is_there_whatever_happens() {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|it| it.parse::<u64>().ok())
    };
    let mut met: BTreeMap<&str, u64> = BTreeMap::new();
    let seeds = match number("QUERN_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("QUERN_SEEDS").unwrap_or(300),
    };
    // With fewer, some may never come.
    let are_many = seeds.end - seeds.start >= 300;
    for seed in seeds {
        let lived = std::panic::catch_unwind(|| lives(seed));
        let lived = lived.unwrap_or_else(|_| panic!("repeat: QUERN_SEED={seed}"));
        for (what, count) in lived {
            *met.entry(what).or_default() += count;
        }
    }
    eprintln!("{met:?}");
    for what in [
        "kept behind its segment",
        "gone",
        "a key let go",
        "made anew",
    ] {
        assert!(
            !are_many || met.get(what).is_some_and(|it| *it > 20),
            "{what}: {met:?}"
        );
    }
}

/// By age and by size alike: what is old and has a newer one goes, within the next time that the log is gone through.
#[test]
fn what_has_a_newer_message_goes_and_tombstones_after_their_time() {
    for by_size in [false, true] {
        let habits = Habits {
            by_size,
            tombstones: 24 * HOUR,
        };
        let (fs, clock) = (SimFs::default(), Arc::new(ManualClock::default()));
        clock.jump_to(1_700_000_000_000);
        let mut life = Life::begin(&fs, &clock, habits);
        let send = |life: &mut Life, key, body: &str| {
            drop(life.submit(COMPACTED, 0, key, body));
            life.settle();
        };
        for round in 0..50 {
            for key in KEYS {
                send(&mut life, Some(key), &format!("{key} {round}"));
            }
            send(&mut life, None, "without a key");
            life.fill(2);
        }
        drop(life.submit(KEPT, 0, None, "kept for long"));
        send(&mut life, Some("c"), "");
        let pass = |life: &mut Life, hours: u64| {
            // What is of the same segment is not old enough before it is.
            life.fill(80);
            clock.pass(hours * HOUR);
            life.fill(320);
            life.let_go(&clock);
        };
        let newest = |life: &Life| -> Vec<(u64, String)> {
            let read = life.read(0).into_iter();
            read.map(|it| (it.offset, it.body)).collect()
        };
        let of_last_round = |skip: Option<usize>| -> Vec<(u64, String)> {
            let keys = KEYS.iter().enumerate().filter(|(n, _)| Some(*n) != skip);
            let all = keys.map(|(n, key)| (490 + n as u64, format!("{key} 49")));
            all.collect()
        };
        pass(&mut life, 2);
        let mut expected = of_last_round(Some(3));
        expected.push((500, String::new()));
        assert_eq!(newest(&life), expected, "by size: {by_size}");
        let count = life.store.count(COMPACTED, QueueId(0), QueueOffset(0));
        assert_eq!(count, expected.len() as u64);
        let found = life.store.find(COMPACTED, Lookup::Key("a"), 99).unwrap();
        assert_eq!(found.len(), 2, "of a and of a b");

        // Whoever has not read for a day may not hear any more that the key is gone.
        pass(&mut life, 25);
        pass(&mut life, 25);
        assert_eq!(newest(&life), of_last_round(Some(3)), "by size: {by_size}");
        for _ in 0..5 {
            pass(&mut life, 100);
        }
        assert_eq!(newest(&life), of_last_round(Some(3)), "for ever");
        // For how long is for the age alone: what is too much goes.
        let kept = life.store.count(KEPT, QueueId(0), QueueOffset(0));
        assert_eq!(kept, u64::from(!by_size));
        assert_eq!(life.store.range(COMPACTED, QueueId(0)).1, QueueOffset(501));
        // A caught-up reader sees all there is.
        send(&mut life, Some("a"), "a 50");
        send(&mut life, Some("a"), "a 51");
        let read = newest(&life);
        let bodies: Vec<_> = read.iter().map(|(_, body)| &body[..]).collect();
        assert_eq!(bodies[bodies.len() - 2..], ["a 50", "a 51"]);
        assert_eq!(bodies[0], "a 49");
        pass(&mut life, 2);
        assert_eq!(newest(&life)[0].1, "a b 49");
    }
}

/// A tombstone that comes while a copy is under way of what it takes the place of is in the segment before that copy.
/// It stays for as long as the copy does, though its time is over, or the key would be back.
#[test]
fn a_tombstone_outlives_every_copy_of_what_it_takes_the_place_of() {
    let habits = Habits {
        by_size: false,
        tombstones: 0,
    };
    let (fs, clock) = (SimFs::default(), Arc::new(ManualClock::default()));
    clock.jump_to(1_700_000_000_000);
    let mut life = Life::begin(&fs, &clock, habits);
    life.steps.sync_apart();
    let large = "v".repeat(20_000);
    drop(life.submit(COMPACTED, 0, Some("k"), &large));
    life.fill(100);
    clock.pass(2 * HOUR);
    while life.store.durable().0 % SEGMENT < SEGMENT - 10_000 {
        life.fill(1);
    }
    // Written, but not durable when it is decided that the message is copied.
    drop(life.submit(COMPACTED, 0, Some("k"), ""));
    life.steps.step(Part::Appender);
    life.steps.step(Part::Keeper);
    life.let_go(&clock);
    let read = life.read(0);
    let segment_of = |it: &Read| it.position / SEGMENT;
    assert_eq!(read.len(), 2);
    assert_eq!(
        segment_of(&read[0]),
        segment_of(&read[1]) + 1,
        "the copy is behind it"
    );

    clock.pass(2 * HOUR);
    life.fill(100);
    life.let_go(&clock);
    let bodies: Vec<_> = life.read(0).into_iter().map(|it| it.body).collect();
    assert_eq!(bodies, [large, String::new()]);
    for _ in 0..2 {
        clock.pass(2 * HOUR);
        life.fill(100);
        life.let_go(&clock);
    }
    assert_eq!(life.read(0), []);
    assert_eq!(life.store.range(COMPACTED, QueueId(0)).0, QueueOffset(2));
}
