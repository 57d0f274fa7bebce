//! The store at its boundary: append, read, roll, close, reopen, refuse. Data-driven, on the real
//! and on the simulated file system; crashes by seed.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod audit;
mod compaction;
mod compaction_limits;
mod contract;
mod derived;
mod exercise;
mod failures;
mod gathering;
mod halves;
mod keeping;
mod last_offset;
mod panics;
mod reads;
mod repair;
mod search;
mod simulation;
mod space;
mod timers;
mod zeroed;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use bytes::Bytes;
use quern_protocol::{Code, Message, QueueId, QueueOffset, RecordKind, RecordView, TopicId};
use quern_store::clock::RealClock;
use quern_store::fs::{Fs, RealFs};
use quern_store::sim::{Fault, SimFs};
use quern_store::{
    Append, AppendError, Appended, Config, Dispatched, Env, Observer, OpenError, Pending, Progress,
    Report, StateRecord, Stateless, Store,
};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for an append on this thread.
fn wait(
    pending: impl Future<Output = Result<Appended, AppendError>>,
) -> Result<Appended, AppendError> {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut pending = pin!(pending);
    loop {
        match pending.as_mut().poll(&mut context) {
            Poll::Ready(outcome) => return outcome,
            Poll::Pending => std::thread::park(),
        }
    }
}

fn env(fs: impl Fs + 'static) -> Env {
    Env {
        fs: Arc::new(fs),
        clock: Arc::new(RealClock::default()),
    }
}

fn config(dir: &Path) -> Config {
    Config {
        segment_size: Some(1 << 20),
        // Silence in a test means nothing.
        stamp_after: Duration::from_secs(3_600),
        ..Config::new(dir)
    }
}

fn open(dir: &Path, env: Env) -> Result<(Store, Report), OpenError> {
    Store::open(config(dir), env, Box::new(Stateless))
}

/// Remembers every state record.
#[derive(Debug, Clone, Default)]
struct Heard(Arc<Mutex<Vec<StateRecord>>>);

impl Heard {
    fn all(&self) -> Vec<StateRecord> {
        self.0.lock().unwrap().clone()
    }
}

impl Observer for Heard {
    fn dispatched(&mut self, event: Dispatched<'_>) {
        if let Dispatched::State { kind, body, .. } = event {
            let body = body.to_vec();
            self.0.lock().unwrap().push(StateRecord { kind, body });
        }
    }

    fn snapshot(&mut self) -> Vec<StateRecord> {
        self.all()
    }
}

fn block(body: &str) -> Bytes {
    let message = Message::new("t", body.to_owned()).tag("TagA");
    message.encode("id", 0).unwrap()
}

fn batch(queue: u32, bodies: &[String]) -> Append {
    let blocks: Vec<u8> = bodies.iter().flat_map(|body| block(body)).collect();
    Append {
        topic: TopicId(1),
        queue: QueueId(queue),
        blocks: blocks.into(),
        count: bodies.len() as u32,
        ..Append::default()
    }
}

fn bodies(store: &Store, queue: u32) -> Vec<String> {
    let (min, max) = store.range(TopicId(1), QueueId(queue));
    let entries = store
        .entries(TopicId(1), QueueId(queue), min, usize::MAX)
        .unwrap();
    assert_eq!(entries.len() as u64, max.0 - min.0);
    let read = |(index, entry): (usize, &quern_store::Entry)| {
        assert_eq!(entry.offset, QueueOffset(index as u64));
        assert_eq!(entry.tag_code, 2_598_919);
        let record = store.record(entry).unwrap();
        let view = RecordView::parse(&record).unwrap();
        assert_eq!(view.header.queue_offset, entry.offset);
        String::from_utf8(view.block.stored_body().to_vec()).unwrap()
    };
    entries.iter().enumerate().map(read).collect()
}

fn some_bodies(from: usize, count: usize) -> Vec<String> {
    (from..from + count)
        .map(|n| format!("{n} {}", "x".repeat(n * 37 % 3_000)))
        .collect()
}

#[test]
fn what_was_appended_is_read_back_live_and_after_every_kind_of_end() {
    type World = (&'static str, Box<dyn Fn() -> Env>, PathBuf);
    let file_systems: [World; 2] = {
        let dir = tempfile::tempdir().unwrap().keep();
        let sim = SimFs::default();
        [
            ("real", Box::new(|| env(RealFs)), dir),
            ("simulated", Box::new(move || env(sim.clone())), "/q".into()),
        ]
    };
    for (name, env, dir) in &file_systems {
        let mut expected = vec![Vec::new(); 3];
        // The second end is no close at all, the third comes after segments have rolled.
        for (round, close) in [true, false, true, true].into_iter().enumerate() {
            let (store, report) = open(dir, env()).unwrap();
            assert_eq!(report.clean, round != 2, "{name} {round}");
            for (queue, expected) in expected.iter_mut().enumerate() {
                assert_eq!(bodies(&store, queue as u32), *expected, "{name} {round}");
                let more = some_bodies(expected.len(), 200);
                for chunk in more.chunks(queue * 7 + 1) {
                    let appended = wait(store.submit(batch(queue as u32, chunk))).unwrap();
                    assert_eq!(appended.first.0, expected.len() as u64);
                    expected.extend_from_slice(chunk);
                    // Acknowledged is visible.
                    let (_, max) = store.range(TopicId(1), QueueId(queue as u32));
                    assert_eq!(max.0, expected.len() as u64);
                }
            }
            if close {
                store.close().unwrap();
                let refused = wait(store.submit(batch(0, &some_bodies(0, 1))));
                assert_eq!(refused, Err(AppendError::Closed));
            }
        }
        let (store, report) = open(dir, env()).unwrap();
        assert!(report.segments > 2, "{name}: {report:?}");
        for (queue, expected) in expected.iter().enumerate() {
            assert_eq!(bodies(&store, queue as u32), *expected, "{name}");
        }
    }
    std::fs::remove_dir_all(&file_systems[0].2).unwrap();
}

#[test]
fn state_records_are_told_in_order_live_and_at_start() {
    let fs = SimFs::default();
    let heard = Heard::default();
    let observe = || Box::new(heard.clone());
    let said = |n: u8| StateRecord {
        kind: RecordKind::Topic,
        body: vec![n; 3],
    };
    let said: Vec<_> = (0..10).map(said).collect();
    let (store, _) = Store::open(config("/q".as_ref()), env(fs.clone()), observe()).unwrap();
    for StateRecord { kind, body } in &said {
        wait(store.submit_state(*kind, body)).unwrap();
    }
    assert_eq!(heard.all(), said);
    drop(store);
    heard.0.lock().unwrap().clear();
    let (_store, _) = Store::open(config("/q".as_ref()), env(fs), observe()).unwrap();
    assert_eq!(heard.all(), said);
}

#[test]
fn a_time_finds_its_offset() {
    let (store, _) = open("/q".as_ref(), env(SimFs::default())).unwrap();
    let mut times = Vec::new();
    for n in 0..50 {
        times.push(
            wait(store.submit(batch(0, &some_bodies(n, 1))))
                .unwrap()
                .stored_at,
        );
        std::thread::yield_now();
    }
    let at = |time| store.offset_at(TopicId(1), QueueId(0), time).unwrap().0;
    assert_eq!(at(0), 0);
    assert_eq!(at(u64::MAX), 50);
    for time in &times {
        let first = times.iter().position(|it| it >= time).unwrap() as u64;
        assert_eq!(at(*time), first);
    }
}

/// Acknowledged messages survive every crash, in order, once; what was not acknowledged is there as
/// whole batches or not at all.
#[test]
fn two_hundred_crashes_lose_nothing_that_was_acknowledged() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut fs = SimFs::default();
        let mut acknowledged: HashMap<u32, Vec<String>> = HashMap::new();
        for life in 0..3 {
            let (store, report) = open("/q".as_ref(), env(fs.clone()))
                .unwrap_or_else(|error| panic!("seed {seed} life {life}: {error}"));
            for queue in 0..3 {
                let expected = acknowledged.entry(queue).or_default();
                let found = bodies(&store, queue);
                assert!(
                    found.starts_with(expected),
                    "seed {seed} life {life} queue {queue}: {} of {} ({report:?})",
                    found.len(),
                    expected.len()
                );
                *expected = found;
            }
            let mut under_way = Vec::new();
            for n in 0..random.usize(1..60) {
                let queue = random.u32(0..3);
                let count = random.usize(1..20);
                let bodies = some_bodies(n * 20 + seed as usize, count);
                under_way.push((queue, bodies.clone(), store.submit(batch(queue, &bodies))));
                if random.u8(0..4) == 0 {
                    settle(&mut under_way, &mut acknowledged);
                }
            }
            let keep = random.usize(0..=under_way.len());
            let mut rest = under_way.split_off(keep);
            settle(&mut under_way, &mut acknowledged);
            let crashed = fs.crash(random.u64(..));
            // Anything may have happened to these meanwhile.
            rest.clear();
            drop(store);
            fs = crashed;
        }
    }
}

type UnderWay = Vec<(u32, Vec<String>, Pending)>;

fn settle(under_way: &mut UnderWay, acknowledged: &mut HashMap<u32, Vec<String>>) {
    for (queue, bodies, pending) in under_way.drain(..) {
        let appended = wait(pending).unwrap();
        let queue = acknowledged.entry(queue).or_default();
        assert_eq!(appended.first.0, queue.len() as u64);
        queue.extend(bodies);
    }
}

/// The file of the first segment, and where its first group begins.
const SEGMENT: &str = "/q/commitlog/00000000000000000000.seg";
const FIRST_GROUP: usize = 4_096;

fn filled() -> SimFs {
    let fs = SimFs::default();
    let (store, _) = open("/q".as_ref(), env(fs.clone())).unwrap();
    for n in 0..20 {
        wait(store.submit(batch(0, &some_bodies(n, 2)))).unwrap();
    }
    store.close().unwrap();
    fs
}

#[test]
fn damage_below_what_was_durable_is_corruption_and_changes_nothing() {
    let mut at = FIRST_GROUP;
    let mut tried = 0;
    while at < FIRST_GROUP + 20_000 {
        let fs = filled();
        fs.flip(SEGMENT.as_ref(), at, 0x10);
        // Or what is behind the last checkpoint would not be read again.
        fs.remove("/q/state".as_ref()).unwrap();
        let before = fs.open(SEGMENT.as_ref()).unwrap();
        let mut bytes = vec![0; 1 << 20];
        before.read_at(&mut bytes, 0).unwrap();
        let error = open("/q".as_ref(), env(fs.clone())).unwrap_err();
        assert_eq!(error.code(), Code::DATA_CORRUPT, "byte {at}: {error}");
        assert!(error.to_string().contains("00000000000000000000.seg"));
        let mut after = vec![0; 1 << 20];
        before.read_at(&mut after, 0).unwrap();
        assert!(bytes == after, "refused, so untouched");
        at += 977;
        tried += 1;
    }
    assert!(tried > 15);
}

#[test]
fn a_torn_tail_is_put_aside_and_told() {
    let fs = SimFs::default();
    let (store, _) = open("/q".as_ref(), env(fs.clone())).unwrap();
    let kept = some_bodies(0, 5);
    wait(store.submit(batch(0, &kept))).unwrap();
    wait(store.submit(batch(0, &some_bodies(5, 5)))).unwrap();
    drop(store);
    // The last group was acknowledged, so this is more than a crash can do; but nothing in the log
    // says so yet, and a group that was written and not acknowledged looks the same.
    let end = open("/q".as_ref(), env(fs.crash(1))).unwrap().1.end.0 as usize;
    fs.flip(SEGMENT.as_ref(), end - 100, 1);
    let (store, report) = open("/q".as_ref(), env(fs.clone())).unwrap();
    let torn = report.torn.expect("the tail is torn");
    assert_eq!(bodies(&store, 0), kept);
    let kept_in = Path::new("/q").join(&torn.kept_in);
    assert_eq!(fs.open(&kept_in).unwrap().len().unwrap(), torn.bytes);
    // The log goes on where the tail was cut.
    wait(store.submit(batch(0, &some_bodies(50, 1)))).unwrap();
    drop(store);
    let (store, report) = open("/q".as_ref(), env(fs)).unwrap();
    assert_eq!(report.torn, None);
    assert_eq!(bodies(&store, 0).len(), 6);
}

#[test]
fn errors_of_the_disk_are_told_and_nothing_acknowledged_is_lost() {
    for (fault, code) in [
        (Fault::WriteError(0), Code::STORAGE_FAILED),
        (Fault::SyncError(0), Code::STORAGE_FAILED),
    ] {
        let fs = SimFs::default();
        let (store, _) = open("/q".as_ref(), env(fs.clone())).unwrap();
        wait(store.submit(batch(0, &some_bodies(0, 3)))).unwrap();
        fs.inject(Some(fault));
        let error = wait(store.submit(batch(0, &some_bodies(3, 3)))).unwrap_err();
        assert_eq!(error.code(), code, "{fault:?}");
        // Poisoned: no second try on a disk that lied once.
        let error = wait(store.submit(batch(0, &some_bodies(3, 3)))).unwrap_err();
        assert_eq!(error.code(), code, "{fault:?}");
        assert!(store.close().is_err());
        assert_eq!(bodies(&store, 0).len(), 3);
        fs.inject(None);
        let (store, _) = open("/q".as_ref(), env(fs.crash(7))).unwrap();
        assert!(bodies(&store, 0).len() >= 3);
    }
}

#[test]
fn a_full_disk_refuses_and_recovers_by_itself() {
    let fs = SimFs::default();
    let (store, _) = open("/q".as_ref(), env(fs.clone())).unwrap();
    let big = |n: usize| vec![format!("{n}{}", "y".repeat(400_000))];
    let mut stored = 0;
    wait(store.submit(batch(0, &big(stored)))).unwrap();
    stored += 1;
    fs.inject(Some(Fault::NoSpace(0)));
    let mut refused = false;
    for _ in 0..8 {
        match wait(store.submit(batch(0, &big(stored)))) {
            Ok(appended) => {
                assert_eq!(appended.first.0, stored as u64);
                stored += 1;
            }
            Err(error) => {
                assert_eq!(error.code(), Code::DISK_FULL);
                refused = true;
            }
        }
    }
    assert!(refused);
    fs.inject(None);
    // The spare that could not be made is on order again: soon there is room.
    let again = (0..100).any(|_| {
        std::thread::yield_now();
        wait(store.submit(batch(0, &big(stored)))).is_ok()
    });
    assert!(again);
    assert_eq!(bodies(&store, 0).len(), stored + 1);
}

#[test]
fn directories_that_cannot_be_used_are_refused_with_their_reason() {
    let root = tempfile::tempdir().unwrap();
    let make = |name: &str, files: &[(&str, &str)]| {
        let dir = root.path().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        for (file, text) in files {
            std::fs::write(dir.join(file), text).unwrap();
        }
        dir
    };
    let file = root.path().join("file");
    std::fs::write(&file, "").unwrap();
    let cases = [
        (
            make("foreign", &[("letter.txt", "dear")]),
            Code::DIRECTORY_FOREIGN,
        ),
        (
            make("newer", &[("FORMAT", "quern store format 1\nlog 00\n")]),
            Code::FORMAT_UNKNOWN,
        ),
        (
            make("mangled", &[("FORMAT", "hello")]),
            Code::FORMAT_UNKNOWN,
        ),
        (file.join("below"), Code::DIRECTORY_UNUSABLE),
    ];
    for (dir, code) in cases {
        let error = open(&dir, env(RealFs)).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
    }
    let dir = root.path().join("twice");
    let (_store, _) = open(&dir, env(RealFs)).unwrap();
    let error = open(&dir, env(RealFs)).unwrap_err();
    assert_eq!(error.code(), Code::DIRECTORY_LOCKED);
    assert!(
        error.to_string().contains(&std::process::id().to_string()),
        "{error}"
    );
}

#[test]
fn a_missing_segment_is_a_hole_not_an_end() {
    let fs = SimFs::default();
    let (store, _) = open("/q".as_ref(), env(fs.clone())).unwrap();
    for n in 0..40 {
        wait(store.submit(batch(0, &vec!["z".repeat(100_000); n % 3 + 1]))).unwrap();
    }
    store.close().unwrap();
    let names: Vec<_> = fs
        .list("/q/commitlog".as_ref())
        .unwrap()
        .into_iter()
        .filter(|name| name.ends_with(".seg"))
        .collect();
    assert!(names.len() > 3);
    for name in &names {
        let broken = fs.crash(0);
        broken
            .remove(&Path::new("/q/commitlog").join(name))
            .unwrap();
        let error = open("/q".as_ref(), env(broken)).unwrap_err();
        assert_eq!(error.code(), Code::DATA_CORRUPT, "{name}: {error}");
    }
}

#[test]
fn a_start_says_how_much_it_has_read_and_of_how_much() {
    let dir = Path::new("/q");
    let fs = SimFs::default();
    let opened = |progress: &Arc<Progress>| {
        let config = Config {
            segment_size: Some(64 * 1024),
            progress: Arc::clone(progress),
            ..config(dir)
        };
        let opened = Store::open(config, env(fs.clone()), Box::new(Stateless));
        opened.unwrap()
    };
    let progress = Arc::default();
    let (store, _) = opened(&progress);
    assert_eq!(progress.figures(), (0, 0));
    for n in 0..100 {
        wait(store.submit(batch(0, &some_bodies(n, 3)))).unwrap();
    }
    store.close().unwrap();
    drop(store);
    // All of it, which the checkpoint says how long it is.
    fs.remove("/q/state".as_ref()).unwrap();
    let progress = Arc::default();
    let (store, report) = opened(&progress);
    assert!(report.segments > 2);
    assert_eq!(progress.figures(), (report.end.0, report.end.0));
    store.close().unwrap();
    drop(store);
    // Only the end of it.
    let progress = Arc::default();
    let (_, report) = opened(&progress);
    let (read, of) = progress.figures();
    assert!(read == of && 0 < of && of < report.end.0, "{read} of {of}");
}
