//! Lives and deaths of a store by seed: everything that moves is moved by hand, in random order, on a
//! disk that loses, tears and fails; after each crash the store must have what it promised.
//!
//! `QUERN_SEEDS=1000000 cargo test -p quern-store --test store simulation` runs more of them,
//! `QUERN_SEED=N` only that one.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use fastrand::Rng;
use quern_protocol::{QueueId, QueueOffset, RecordKind, RecordView, TopicId};
use quern_store::audit::audit;
use quern_store::clock::ManualClock;
use quern_store::sim::{Fault, SimFs};
use quern_store::{
    AppendError, Appended, Config, Dispatched, Env, Part, Pending, Report, Steps, Store,
};

use crate::batch;

const DIR: &str = "/q";
/// Queues of the one topic; state records are a sequence of their own.
const QUEUES: u32 = 3;
const STATE: u32 = QUEUES;

/// What was asked for and is not answered, or was answered with a failure: it may be there or not.
struct Asked {
    queue: u32,
    bodies: Vec<String>,
    pending: Option<Pending>,
}

/// A store that runs, and what is known about it.
struct Life {
    store: Store,
    report: Report,
    heard: Arc<Mutex<Vec<String>>>,
}

/// The world around the lives of one seed.
struct Simulation {
    seed: u64,
    random: Rng,
    fs: SimFs,
    clock: Arc<ManualClock>,
    /// By queue: what was acknowledged, or has survived a crash.
    known: BTreeMap<u32, Vec<String>>,
    /// By queue: how many messages a consumer has been able to see.
    seen: BTreeMap<u32, u64>,
    asked: Vec<Asked>,
    made: u64,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        fastrand::seed(seed);
        let clock = ManualClock::default();
        clock.jump_to(1_700_000_000_000);
        Self {
            seed,
            random: Rng::with_seed(seed),
            fs: SimFs::default(),
            clock: Arc::new(clock),
            known: BTreeMap::new(),
            seen: BTreeMap::new(),
            asked: Vec::new(),
            made: 0,
        }
    }

    fn open(&self) -> Result<(Life, Steps), String> {
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let listener = Arc::clone(&heard);
        let observer = Box::new(move |event: Dispatched<'_>| {
            if let Dispatched::State { body, .. } = event {
                let body = String::from_utf8(body.to_vec()).unwrap();
                listener.lock().unwrap().push(body);
            }
        });
        let config = Config {
            segment_size: Some(64 * 1024),
            stamp_after: Duration::from_millis(50),
            ..Config::new(DIR)
        };
        let env = Env {
            fs: Arc::new(self.fs.clone()),
            clock: Arc::clone(&self.clock) as _,
        };
        let opened = Store::open_in_steps(&config, env, observer);
        let (store, report, steps) = opened.map_err(|error| error.to_string())?;
        let life = Life {
            store,
            report,
            heard,
        };
        Ok((life, steps))
    }

    /// All of the lives; a checksum of everything that happened.
    fn run(mut self) -> u64 {
        let mut clean = Some(true);
        for _ in 0..self.random.u32(1..4) {
            if self.random.u8(0..4) == 0 {
                self.die_while_opening();
                // It may not have come as far as to note that it has begun.
                clean = None;
            }
            let (life, mut steps) = self.open().unwrap_or_else(|error| self.fail(&error));
            if let Some(clean) = clean {
                assert_eq!(life.report.clean, clean, "{}", self.repeat());
                let torn = life.report.torn.is_some();
                assert!(!(clean && torn), "closed, yet torn; {}", self.repeat());
            }
            self.compare(&life);
            if self.random.bool() {
                steps.sync_apart();
            }
            for _ in 0..self.random.u32(0..150) {
                self.act(&life, &mut steps);
                self.settle(&life);
                self.look(&life);
            }
            clean = Some(self.end(&life, steps));
        }
        let (life, _steps) = self.open().unwrap_or_else(|error| self.fail(&error));
        self.compare(&life);
        self.fs.trace() ^ life.report.end.0
    }

    fn repeat(&self) -> String {
        let seed = self.seed;
        format!("repeat: QUERN_SEED={seed} cargo test -p quern-store --test store simulation")
    }

    fn fail(&self, what: &str) -> ! {
        panic!("{what}\n{}", self.repeat())
    }

    /// Stops the machine somewhere in recovery.
    fn die_while_opening(&mut self) {
        self.fs.inject(Some(Fault::Halt(self.random.u64(0..12))));
        // It may even have come to the end.
        let _ = self.open();
        self.crash();
    }

    fn crash(&mut self) {
        self.fs = self.fs.crash(self.random.u64(..));
    }

    fn act(&mut self, life: &Life, steps: &mut Steps) {
        match self.random.u8(0..24) {
            0..=7 => self.submit(life),
            8..=14 => drop(steps.step(Part::Appender)),
            15..=18 => drop(steps.step(Part::Syncer)),
            19..=20 => drop(steps.step(Part::Maker)),
            21..=22 => self.clock.pass(self.random.u64(1..200)),
            _ => {
                let fault = match self.random.u8(0..20) {
                    0 => Some(Fault::WriteError(self.random.u64(0..4))),
                    1 => Some(Fault::SyncError(self.random.u64(0..4))),
                    2 => Some(Fault::Halt(self.random.u64(0..20))),
                    3..=6 => Some(Fault::NoSpace),
                    _ => None,
                };
                self.fs.inject(fault);
            }
        }
    }

    /// What a consumer can see now must never be taken back.
    fn look(&mut self, life: &Life) {
        for queue in 0..QUEUES {
            let (_, end) = life.store.range(TopicId(1), QueueId(queue));
            self.seen.insert(queue, end.0);
        }
    }

    fn submit(&mut self, life: &Life) {
        let queue = self.random.u32(0..=QUEUES);
        let most = if queue == STATE { 2 } else { 12 };
        let bodies: Vec<String> = (0..self.random.u32(1..most))
            .map(|_| {
                self.made += 1;
                let filler = "x".repeat(self.random.usize(0..1_500));
                format!("{} {filler}", self.made)
            })
            .collect();
        let pending = if queue == STATE {
            let body = bodies.concat().into_bytes();
            life.store.submit_state(RecordKind::Topic, body)
        } else {
            life.store.submit(batch(queue, &bodies))
        };
        self.asked.push(Asked {
            queue,
            bodies,
            pending: Some(pending),
        });
    }

    /// Takes the answers that have come.
    fn settle(&mut self, life: &Life) {
        let mut context = Context::from_waker(Waker::noop());
        for mut asked in std::mem::take(&mut self.asked) {
            let answer = match &mut asked.pending {
                Some(pending) => Pin::new(pending).poll(&mut context),
                None => Poll::Pending,
            };
            match answer {
                Poll::Pending => self.asked.push(asked),
                Poll::Ready(Ok(appended)) => self.acknowledged(life, asked, appended),
                // Certainly not stored.
                Poll::Ready(Err(AppendError::DiskFull)) => {}
                Poll::Ready(Err(_)) => {
                    asked.pending = None;
                    self.asked.push(asked);
                }
            }
        }
    }

    fn acknowledged(&mut self, life: &Life, asked: Asked, appended: Appended) {
        let repeat = self.repeat();
        let Asked { queue, bodies, .. } = asked;
        let known = self.known.entry(queue).or_default();
        if queue != STATE {
            assert_eq!(appended.first.0, known.len() as u64, "{repeat}");
        }
        known.extend(bodies);
        let known = known.clone();
        let visible = if queue == STATE {
            life.heard.lock().unwrap().len()
        } else {
            life.store.range(TopicId(1), QueueId(queue)).1.0 as usize
        };
        assert!(visible >= known.len(), "acknowledged is visible; {repeat}");
        // Acknowledged is durable, whatever happens next.
        if self.random.u8(0..40) == 0 {
            let image = self.fs.crash(self.random.u64(..));
            let found = audit(DIR.as_ref(), &image, &mut |_| ControlFlow::Continue(()));
            let found = found.unwrap_or_else(|error| self.fail(&error.to_string()));
            assert_eq!(found.damage, [], "{repeat}");
            assert!(found.end > appended.position, "{repeat}");
        }
    }

    /// A crash, or a clean end: then true.
    fn end(&mut self, life: &Life, steps: Steps) -> bool {
        if self.random.u8(0..3) > 0 {
            drop(steps);
            self.crash();
            return false;
        }
        self.fs.inject(None);
        let closed = steps.close().is_ok();
        if closed {
            self.settle(life);
            let owed = self.asked.iter().any(|it| it.pending.is_some());
            assert!(!owed, "a closed log owes no answer; {}", self.repeat());
        }
        self.crash();
        closed
    }

    /// What is there is what was promised: everything acknowledged, and of the rest, in its order,
    /// whole batches.
    fn compare(&mut self, life: &Life) {
        let mut asked: BTreeMap<u32, Vec<Vec<String>>> = BTreeMap::new();
        for it in self.asked.drain(..) {
            asked.entry(it.queue).or_default().push(it.bodies);
        }
        for queue in 0..=QUEUES {
            let found = if queue == STATE {
                life.heard.lock().unwrap().clone()
            } else {
                read(&life.store, queue)
            };
            let mut expected = self.known.remove(&queue).unwrap_or_default();
            let mut rest = asked.remove(&queue).unwrap_or_default().into_iter();
            while expected.len() < found.len() {
                match rest.next() {
                    Some(bodies) => expected.extend(bodies),
                    None => self.fail(&format!("queue {queue} has what nobody sent")),
                }
            }
            let seen = self.seen.get(&queue).copied().unwrap_or(0);
            if (found.len() as u64) < seen {
                self.fail(&format!(
                    "queue {queue} was seen up to {seen}, and is shorter now"
                ));
            }
            if found != expected {
                let (have, want) = (found.len(), expected.len());
                self.fail(&format!("queue {queue} is wrong: {have} found, {want} due"));
            }
            self.known.insert(queue, found);
        }
    }
}

fn read(store: &Store, queue: u32) -> Vec<String> {
    let entries = store.entries(TopicId(1), QueueId(queue), QueueOffset(0), usize::MAX);
    let body = |(index, entry): (usize, &quern_store::Entry)| {
        assert_eq!(entry.offset.0, index as u64, "offsets have no gaps");
        let record = store.record(entry).unwrap();
        let view = RecordView::parse(&record).unwrap();
        String::from_utf8(view.block.body().to_vec()).unwrap()
    };
    entries.iter().enumerate().map(body).collect()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn simulated_lives_keep_every_promise() {
    if let Some(seed) = number("QUERN_SEED") {
        Simulation::new(seed).run();
        return;
    }
    let seeds = number("QUERN_SEEDS").unwrap_or(5_000);
    std::thread::scope(|scope| {
        for half in 0..2 {
            scope.spawn(move || {
                for seed in (half..seeds).step_by(2) {
                    Simulation::new(seed).run();
                }
            });
        }
    });
}

#[test]
fn the_same_seed_is_the_same_life() {
    let trace = |seed| Simulation::new(seed).run();
    let first: Vec<u64> = (0..50).map(trace).collect();
    let again: Vec<u64> = (0..50).map(trace).collect();
    assert_eq!(first, again);
    let mut different = first;
    different.sort_unstable();
    different.dedup();
    assert!(different.len() > 45, "seeds differ in what they do");
}
