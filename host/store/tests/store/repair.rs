//! A disk that decays, and a repair: what is in no damaged group is there at its old offset, what is
//! lost is stepped over, and nothing that was replaced is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quern_protocol::{Code, QueueId, QueueOffset, RecordKind, RecordView, TopicId};
use quern_store::audit::{Audit, Item, audit};
use quern_store::clock::ManualClock;
use quern_store::fs::Fs;
use quern_store::repair::{Mode, Repair, repair};
use quern_store::sim::SimFs;
use quern_store::{Config, Env, Part, Retention, Stateless, Store};

use crate::{batch, config, env, some_bodies, wait};

const DIR: &str = "/q";
const SIZE: u64 = 64 * 1024;
const QUEUES: u32 = 5;

/// By queue and offset, bodies.
type Messages = BTreeMap<(u32, u64), String>;

fn small() -> Config {
    Config {
        segment_size: Some(SIZE),
        ..config(DIR.as_ref())
    }
}

fn open(fs: &SimFs) -> Result<Store, quern_store::OpenError> {
    Ok(Store::open(small(), env(fs.clone()), Box::new(Stateless))?.0)
}

/// A group with messages: where it lies, and what it has.
struct Group {
    from: u64,
    to: u64,
    messages: Messages,
}

struct Log {
    begins: u64,
    groups: Vec<Group>,
    durable: u64,
}

fn look(fs: &SimFs) -> Result<Audit, quern_store::OpenError> {
    audit(DIR.as_ref(), fs, &mut |_| ControlFlow::Continue(()))
}

fn log(fs: &SimFs) -> Log {
    let mut groups: Vec<Group> = Vec::new();
    let found = audit(DIR.as_ref(), fs, &mut |item| {
        match item {
            Item::Group {
                position, bytes, ..
            } => groups.push(Group {
                from: position.0,
                to: position.0 + u64::from(bytes),
                messages: Messages::new(),
            }),
            Item::Record { header, bytes } if header.kind == RecordKind::Message => {
                let view = RecordView::parse(bytes).unwrap();
                let body = String::from_utf8(view.block.stored_body().to_vec()).unwrap();
                let key = (header.queue.0, header.queue_offset.0);
                groups.last_mut().unwrap().messages.insert(key, body);
            }
            _ => {}
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(found.damage, []);
    Log {
        begins: base(&segments(fs)[0]),
        groups,
        durable: found.durable.0,
    }
}

fn filled(random: &mut fastrand::Rng) -> SimFs {
    let fs = SimFs::default();
    let lives = random.usize(1..4);
    for life in 0..lives {
        let store = open(&fs).unwrap();
        for _ in 0..random.usize(1..30) {
            let bodies = some_bodies(random.usize(0..200), random.usize(1..4));
            let queue = random.u32(0..QUEUES);
            wait(store.submit(batch(queue, &bodies))).unwrap();
        }
        if life + 1 < lives || random.bool() {
            store.close().unwrap();
        }
    }
    if random.bool() {
        let _ = fs.remove("/q/state".as_ref());
        fs.sync_dir(DIR.as_ref()).unwrap();
    }
    fs
}

fn segments(fs: &SimFs) -> Vec<PathBuf> {
    let dir = Path::new(DIR).join("commitlog");
    let names = fs.list(&dir).unwrap().into_iter();
    let names = names.filter(|name| name.ends_with(".seg"));
    names.map(|name| dir.join(name)).collect()
}

fn base(segment: &Path) -> u64 {
    let name = segment.file_stem().unwrap().to_str().unwrap();
    name.parse().unwrap()
}

fn evidence(fs: &SimFs) -> Vec<Vec<u8>> {
    let quarantine = Path::new(DIR).join("quarantine");
    let kept = fs.list(&quarantine).unwrap_or_default().into_iter();
    let kept = kept.map(|name| quarantine.join(name));
    let mut files = segments(fs);
    files.extend(kept);
    let read = |path: &PathBuf| {
        let file = fs.open(path).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_at(&mut bytes, 0).unwrap();
        bytes
    };
    files.iter().map(read).collect()
}

/// Its oldest segments go, as by retention; what is left of them is a snapshot.
fn trim(fs: &SimFs) {
    let clock = Arc::new(ManualClock::default());
    clock.pass(1_000);
    let config = Config {
        retention: Retention {
            age: None,
            bytes: Some(2 * SIZE),
            hours: Vec::new(),
        },
        ..small()
    };
    let env = Env {
        fs: Arc::new(fs.clone()),
        clock: Arc::clone(&clock) as Arc<_>,
    };
    let (_store, _, mut steps) = Store::open_in_steps(&config, env, Box::new(Stateless)).unwrap();
    for _ in 0..6 {
        clock.pass(11_000);
        let parts = [Part::Maker, Part::Appender, Part::Syncer, Part::Keeper];
        while parts.map(|part| steps.step(part)).contains(&true) {}
    }
    steps.close().unwrap();
}

/// Damages up to four places; their bytes' positions.
fn decay(fs: &SimFs, random: &mut fastrand::Rng, end: u64) -> Vec<(u64, u64)> {
    let mut damaged = Vec::new();
    for _ in 0..random.usize(1..5) {
        let all = segments(fs);
        let begin = base(&all[0]);
        let at = random.u64(begin..end);
        let from = at % SIZE;
        let path = &Path::new(DIR).join(format!("commitlog/{:020}.seg", at - from));
        if !all.contains(path) {
            continue;
        }
        match random.u8(0..9) {
            0..4 => {
                fs.flip(path, from as usize, 1 << random.u8(0..8));
                damaged.push((at, at + 1));
            }
            4..7 => {
                let len = random.u64(1..6_000).min(SIZE - from);
                let garbage: Vec<u8> = (0..len).map(|_| random.u8(..)).collect();
                let file = fs.open(path).unwrap();
                file.write_at(&garbage, from).unwrap();
                file.sync_data().unwrap();
                damaged.push((at, at + len));
            }
            // It is not there at all; of the last one nobody could know.
            7 => {
                if all.last() != Some(path) {
                    fs.remove(path).unwrap();
                    fs.sync_dir(&Path::new(DIR).join("commitlog")).unwrap();
                    damaged.push((at - from, at - from + SIZE));
                }
            }
            // All of it is zeros, and the header too.
            _ => {
                let file = fs.open(path).unwrap();
                file.write_at(&[0; SIZE as usize], 0).unwrap();
                file.sync_data().unwrap();
                damaged.push((at - from, at - from + SIZE));
            }
        }
    }
    damaged
}

fn mend(fs: &SimFs, mode: Mode) -> Result<Repair, quern_store::OpenError> {
    let fs: Arc<dyn Fs> = Arc::new(fs.clone());
    repair(DIR.as_ref(), &fs, mode, &mut |_| {})
}

fn messages(store: &Store) -> Messages {
    let mut all = Messages::new();
    for queue in 0..QUEUES {
        let at = (TopicId(1), QueueId(queue));
        let mut next = QueueOffset(0);
        // As consumers do, a few at a time.
        loop {
            let entries = store.entries(at.0, at.1, next, 3).unwrap();
            let Some(last) = entries.last() else { break };
            next = last.offset.plus(1);
            for entry in &entries {
                let record = store.record(entry).unwrap();
                let view = RecordView::parse(&record).unwrap();
                assert_eq!(view.header.queue_offset, entry.offset);
                let body = String::from_utf8(view.block.stored_body().to_vec()).unwrap();
                all.insert((queue, entry.offset.0), body);
            }
        }
        assert_eq!(
            next.max(store.range(at.0, at.1).1),
            store.range(at.0, at.1).1
        );
    }
    all
}

/// What all the lives came to.
#[derive(Debug, Default)]
struct Met {
    refused: usize,
    ranges: usize,
    headers: usize,
    messages: usize,
    trimmed: usize,
    missing: usize,
}

#[test]
fn what_is_in_no_damaged_group_is_there_after_a_repair() {
    let mut met = Met::default();
    for seed in 0..400u64 {
        let mut random = fastrand::Rng::with_seed(seed);
        let fs = filled(&mut random);
        if random.u8(0..3) == 0 {
            trim(&fs);
            met.trimmed += usize::from(base(&segments(&fs)[0]) > 0);
        }
        let truth = log(&fs);
        let count = segments(&fs).len();
        let damaged = decay(&fs, &mut random, truth.groups.last().unwrap().to);
        met.missing += usize::from(segments(&fs).len() < count);
        let done = mended(&fs, seed, &mut met);
        // What a power cut leaves of it is as good.
        let fs = fs.crash(seed);
        let mended = evidence(&fs);
        assert_eq!(
            mend(&fs, Mode::Apply).unwrap(),
            Repair::default(),
            "seed {seed}"
        );
        assert!(
            mended == evidence(&fs),
            "seed {seed}: nothing is left to do"
        );
        let store = open(&fs).unwrap_or_else(|error| panic!("seed {seed}: {error}, {done:?}"));
        let found = messages(&store);
        let hit = |group: &&Group| {
            damaged
                .iter()
                .any(|it| it.0 < group.to && group.from < it.1)
        };
        let good = truth
            .groups
            .iter()
            .filter(|it| it.from < truth.durable && !hit(it));
        for key in good.flat_map(|it| it.messages.keys()) {
            assert!(
                found.contains_key(key),
                "seed {seed} {damaged:?}: {key:?} is lost"
            );
        }
        met.messages += is_told(&truth, &done, &found, seed);
        goes_on(&fs, store, found, seed);
    }
    eprintln!("{met:?}");
    assert!(met.refused > 100 && met.ranges > 200 && met.headers > 20 && met.messages > 200);
    assert!(met.trimmed > 20 && met.missing > 20);
}

/// Repairs what a start refuses, and only that; a dry run says the same.
fn mended(fs: &SimFs, seed: u64, met: &mut Met) -> Repair {
    let before = evidence(fs);
    let planned = mend(fs, Mode::DryRun).unwrap();
    assert!(
        before == evidence(fs),
        "seed {seed}: a dry run changes nothing"
    );
    let needs = look(fs).map_or(true, |found| !found.damage.is_empty());
    assert_eq!(
        needs,
        planned != Repair::default(),
        "seed {seed} {planned:?}"
    );
    if needs {
        let copy = fs.crash(seed);
        let _ = copy.remove("/q/state".as_ref());
        let error = open(&copy).unwrap_err();
        assert_eq!(error.code(), Code::DATA_CORRUPT, "seed {seed}");
        met.refused += 1;
    }
    let done = mend(fs, Mode::Apply).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    met.headers += done.segments.len();
    met.ranges += done.lost.len();
    if planned.segments.is_empty() {
        assert_eq!(planned.lost.len(), done.lost.len(), "seed {seed}");
    }
    done
}

/// What is said to be lost is, and all of it that others stand behind; the rest is as it was.
fn is_told(truth: &Log, done: &Repair, found: &Messages, seed: u64) -> usize {
    let groups = truth.groups.iter();
    let all: Messages = groups.flat_map(|it| it.messages.clone()).collect();
    for (key, body) in found {
        assert_eq!(all.get(key), Some(body), "seed {seed} {key:?}");
    }
    let lost = done.lost.iter().flat_map(|it| &it.messages);
    let said: BTreeSet<_> = lost
        .flat_map(|it| (it.from.0..it.to.0).map(|offset| (it.queue.0, offset)))
        .collect();
    for key in &said {
        let is_lost = all.contains_key(key) && !found.contains_key(key);
        assert!(is_lost, "seed {seed} {key:?}");
    }
    for key in all.keys().filter(|key| !found.contains_key(key)) {
        let behind = found.range(*key..(key.0 + 1, 0)).next();
        // Where the log's beginning is gone, nobody knows where its queues began.
        let is_beginning = truth.begins > 0 && found.range((key.0, 0)..*key).next().is_none();
        let is_said = behind.is_none() || is_beginning || said.contains(key);
        assert!(is_said, "seed {seed}: {key:?} is lost, and not said");
    }
    said.len()
}

/// The log takes more, and is the same whether the next start reads all of it or not.
fn goes_on(fs: &SimFs, store: Store, mut found: Messages, seed: u64) {
    for queue in 0..QUEUES {
        let stored = wait(store.submit(batch(queue, &["more".to_owned()]))).unwrap();
        let before = found.insert((queue, stored.first.0), "more".to_owned());
        assert_eq!(before, None, "seed {seed}");
    }
    assert_eq!(messages(&store), found, "seed {seed}");
    store.close().unwrap();
    drop(store);
    for anew in [false, true] {
        if anew {
            fs.remove("/q/state".as_ref()).unwrap();
        }
        let store = open(fs).unwrap_or_else(|error| panic!("seed {seed} {anew}: {error}"));
        assert_eq!(messages(&store), found, "seed {seed} {anew}");
        store.close().unwrap();
    }
}
