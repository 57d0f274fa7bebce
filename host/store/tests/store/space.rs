//! What is made ahead for when space runs out: users are refused first, then the broker's own records; what makes
//! room is taken to the last, and with room again all goes on.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use quern_protocol::{QueueId, RecordKind, TopicId};
use quern_store::clock::ManualClock;
use quern_store::fs::Fs;
use quern_store::sim::{Fault, SimFs};
use quern_store::{
    AppendError, Appended, Config, Env, Part, Pending, Report, Retention, Stateless, Steps, Store,
};

use crate::{batch, bodies, some_bodies};

const SEGMENT: u64 = 256 * 1024;
const LOG: &str = "/q/commitlog";

struct World {
    fs: SimFs,
    clock: Arc<ManualClock>,
    store: Store,
    steps: Steps,
    report: Report,
}

impl World {
    fn open(fs: &SimFs, keeps: Option<u64>) -> Self {
        let clock = Arc::new(ManualClock::default());
        let config = Config {
            segment_size: Some(SEGMENT),
            retention: Retention {
                age: None,
                bytes: keeps,
                hours: Vec::new(),
            },
            ..Config::new("/q")
        };
        let env = Env {
            fs: Arc::new(fs.clone()),
            clock: Arc::clone(&clock) as Arc<_>,
        };
        let (store, report, steps) =
            Store::open_in_steps(&config, env, Box::new(Stateless)).unwrap();
        let mut world = Self {
            fs: fs.clone(),
            clock,
            store,
            steps,
            report,
        };
        world.run();
        world
    }

    /// Until nothing moves.
    fn run(&mut self) {
        while [Part::Maker, Part::Appender, Part::Syncer, Part::Keeper]
            .map(|part| self.steps.step(part))
            .contains(&true)
        {}
    }

    /// Long enough for the keeper to look.
    fn pass(&mut self) {
        self.clock.pass(11_000);
        self.run();
    }

    fn names(&self) -> Vec<String> {
        self.fs.list(LOG.as_ref()).unwrap()
    }

    fn has(&self, name: &str) -> bool {
        self.names().iter().any(|it| it == name)
    }

    /// No byte is left.
    fn fill_the_disk(&self) {
        let sizes = |dir: &str| -> u64 {
            let names = self.fs.list(dir.as_ref()).unwrap_or_default();
            let len = |name: &String| {
                let file = self.fs.open_to_read(&Path::new(dir).join(name));
                file.map_or(0, |file| file.len().unwrap())
            };
            names.iter().map(len).sum()
        };
        let dirs = ["/q", LOG, "/q/consumequeue", "/q/index"];
        self.fs.resize(dirs.map(sizes).iter().sum());
        assert_eq!(self.fs.free_space("/q".as_ref()).unwrap(), 0);
    }

    fn answer(&mut self, mut pending: Pending) -> Result<Appended, AppendError> {
        self.run();
        let mut context = Context::from_waker(Waker::noop());
        match Pin::new(&mut pending).poll(&mut context) {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => panic!("nothing moves, and it is not answered"),
        }
    }

    fn send(&mut self, n: usize) -> Result<Appended, AppendError> {
        let bodies = [format!("{n} {}", "x".repeat(20_000))];
        let pending = self.store.submit(batch(0, &bodies));
        self.answer(pending)
    }

    fn note(&mut self, bytes: usize) -> Result<Appended, AppendError> {
        let pending = self.store.submit_state(RecordKind::Topic, &vec![7; bytes]);
        self.answer(pending)
    }

    /// Sends until messages are refused; how many were not.
    fn send_all(&mut self) -> usize {
        for n in 0..1_000 {
            match self.send(n) {
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(error, AppendError::DiskFull);
                    return n;
                }
            }
        }
        panic!("a full disk takes a thousand messages")
    }
}

#[test]
fn spare_and_reserves_are_there_before_they_are_needed_and_outlive_a_crash() {
    let fs = SimFs::default();
    let world = World::open(&fs, None);
    let first = format!("{:020}.seg", 0);
    assert_eq!(world.names(), [&first, "reserve-1", "reserve-2", "spare"]);
    drop(world);
    // Names survive, since the segment's name was made durable in the same directory, or they do not.
    for seed in 0..20 {
        let world = World::open(&fs.crash(seed), None);
        assert_eq!(world.names(), [&first, "reserve-1", "reserve-2", "spare"]);
        assert!(!world.report.clean);
    }
}

#[test]
fn a_full_disk_is_met_by_users_first_and_by_the_broker_later() {
    let fs = SimFs::default();
    let mut world = World::open(&fs, None);
    world.fill_the_disk();
    let sent = world.send_all();
    assert!(sent > 10, "the segment and its spare were there: {sent}");
    assert!(world.has("reserve-1") && world.has("reserve-2"));

    // The broker's own go on where there is no room for users, who are refused without being taken.
    let mut noted = 0;
    while !world.has("spare") && world.has("reserve-1") {
        world.note(30_000).unwrap();
        noted += 1;
    }
    let mut refused = world.store.submit(batch(0, &some_bodies(0, 1)));
    let outcome = Pin::new(&mut refused).poll(&mut Context::from_waker(Waker::noop()));
    assert_eq!(outcome, Poll::Ready(Err(AppendError::DiskFull)));
    loop {
        match world.note(30_000) {
            Ok(_) => noted += 1,
            Err(error) => break assert_eq!(error, AppendError::DiskFull),
        }
    }
    assert!(noted > 4, "{noted}");
    assert!(world.has("reserve-2"), "it is kept for what makes room");

    // Some room is not enough: first all that is kept for others is there again.
    world.fs.resize(1 << 30);
    world.fs.inject(Some(Fault::NoSpace(1)));
    world.pass();
    assert_eq!(world.send(0), Err(AppendError::DiskFull));
    world.fs.inject(None);
    world.pass();
    assert!(world.has("spare") && world.has("reserve-1") && world.has("reserve-2"));
    world.send(sent).unwrap();
    assert_eq!(bodies(&world.store, 0).len(), sent + 1);

    let end = world.store.durable();
    drop(world);
    let world = World::open(&fs.crash(1), None);
    assert_eq!(bodies(&world.store, 0).len(), sent + 1);
    assert!(world.report.end >= end);
}

#[test]
fn what_makes_room_is_taken_on_a_disk_without_any() {
    let fs = SimFs::default();
    // More is kept than there is room for, until less is wanted.
    let mut world = World::open(&fs, None);
    for n in 0..60 {
        world.send(n).unwrap();
    }
    world.steps.close().unwrap();
    // Whoever has a file open keeps its space.
    drop(world.store);
    let mut world = World::open(&fs, Some(2 * SEGMENT));
    world.fill_the_disk();
    // A snapshot goes into what is kept for it, then old segments go, and what was made of them is made again.
    let head = |world: &World| world.store.range(TopicId(1), QueueId(0)).0;
    assert_eq!(head(&world).0, 0);
    for _ in 0..10 {
        world.pass();
    }
    assert!(head(&world).0 > 0, "nothing went: {:?}", world.names());
    for n in 60..100 {
        world.send(n).unwrap();
        world.pass();
    }
}
