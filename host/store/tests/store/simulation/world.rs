//! The world around a store: what is asked of it, and what goes wrong meanwhile.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fastrand::Rng;
use quern_protocol::{Code, QueueId, RecordKind, TopicId};
use quern_store::clock::{Clock, ManualClock};
use quern_store::fs::Fs;
use quern_store::sim::{Fault, SimFs};
use quern_store::{Part, Pending, Report, Steps};

use super::life::{Habits, LOG, Life, QUEUES, ROOM, SEGMENT, STATE};
use super::waiting::Waiters;
use crate::batch;

/// What was asked for and is not answered, or was answered with a failure: it may be there or not.
pub(super) struct Asked {
    pub(super) queue: u32,
    pub(super) bodies: Vec<String>,
    pub(super) pending: Option<Pending>,
}

/// ms since 1970, when the first life begins.
const BEGIN: u64 = 1_700_000_000_000;
/// The wall clock is so wrong at times, ms.
const WRONG: u64 = 60 * 60 * 1000;

/// The world around the lives of one seed.
pub(super) struct Simulation {
    seed: u64,
    pub(super) random: Rng,
    pub(super) fs: SimFs,
    pub(super) clock: Arc<ManualClock>,
    /// By queue: what was acknowledged, or has survived a crash.
    pub(super) known: BTreeMap<u32, Vec<String>>,
    /// By queue: how many messages a consumer has been able to see.
    pub(super) seen: BTreeMap<u32, u64>,
    pub(super) asked: Vec<Asked>,
    /// Timers, and messages of transactions.
    pub(super) waiters: Waiters,
    made: u64,
    pub(super) habits: Habits,
    /// A disk that decays, too.
    decays: bool,
    /// The disk was full in this life.
    pub(super) full: bool,
    /// The log takes no more writes in this life.
    pub(super) failed: bool,
    /// So part of a group that did not fit may be behind the end.
    cut_short: bool,
    reached: BTreeMap<&'static str, u64>,
}

impl Simulation {
    pub(super) fn new(seed: u64) -> Self {
        fastrand::seed(seed);
        let clock = ManualClock::default();
        clock.jump_to(BEGIN);
        let mut random = Rng::with_seed(seed);
        Self {
            seed,
            decays: random.bool(),
            habits: Habits {
                checkpoint_every: random.u64(1..5) * SEGMENT / 2,
                keeps: random.bool().then_some(3 * SEGMENT),
            },
            random,
            fs: SimFs::default(),
            clock: Arc::new(clock),
            known: BTreeMap::new(),
            seen: BTreeMap::new(),
            asked: Vec::new(),
            waiters: Waiters::default(),
            made: 0,
            full: false,
            failed: false,
            cut_short: false,
            reached: BTreeMap::new(),
        }
    }

    pub(super) fn reach(&mut self, state: &'static str) {
        *self.reached.entry(state).or_insert(0) += 1;
    }

    /// All of the lives: a checksum of everything that happened, and what states were met.
    pub(super) fn run(mut self) -> (u64, BTreeMap<&'static str, u64>) {
        let mut clean = Some(true);
        for _ in 0..self.random.u32(1..4) {
            if self.random.u8(0..4) == 0 {
                self.die_while_opening();
                // It may not have come as far as to note that it has begun.
                clean = None;
            }
            let (life, mut steps) = self.open();
            if let Some(clean) = clean {
                assert_eq!(life.report.clean, clean, "{}", self.repeat());
            }
            self.note(&life, clean == Some(true));
            self.compare(&life);
            if self.random.bool() {
                steps.sync_apart();
            }
            if self.random.bool() {
                steps.expect_syncs_to_take(self.random.u64(0..20_000));
            }
            self.full = false;
            self.failed = false;
            self.cut_short = false;
            self.begin_waiting(&life);
            for _ in 0..self.random.u32(0..150) {
                self.act(&life, &mut steps);
                self.settle(&life);
                self.look(&life);
                self.look_at_due(&life);
            }
            let closed = self.end(&life, steps);
            clean = Some(closed);
            drop(life);
            if self.decays {
                self.survive_damage(closed);
            }
        }
        let (life, _steps) = self.open();
        self.compare(&life);
        (self.fs.trace() ^ life.report.end.0, self.reached)
    }

    pub(super) fn repeat(&self) -> String {
        let seed = self.seed;
        format!("repeat: QUERN_SEED={seed} cargo test -p quern-store --test store simulation")
    }

    pub(super) fn fail(&self, what: &str) -> ! {
        panic!("{what}\n{}", self.repeat())
    }

    fn open(&mut self) -> (Life, Steps) {
        self.fs.inject(None);
        self.fs.resize(ROOM);
        let begin = || Life::begin(&self.fs, &self.clock, &self.habits);
        let opened = match begin() {
            // What the kernel had not told anybody yet; it tells once.
            Err(error) if error.code() == Code::DIRECTORY_UNUSABLE => begin(),
            other => other,
        };
        opened.unwrap_or_else(|error| self.fail(&error.to_string()))
    }

    fn note(&mut self, life: &Life, clean: bool) {
        let torn = life.report.torn.is_some();
        if clean && torn && !self.cut_short {
            self.fail("closed, yet torn");
        }
        let Report {
            segments,
            end,
            rebuilt,
            ..
        } = life.report;
        if life.first(0) > 0 {
            self.reach("opened with its beginning gone");
        }
        if segments > 1 && !rebuilt {
            self.reach("read on from a state file");
        }
        if torn {
            self.reach("torn tail cut");
        }
        if segments > 1 {
            self.reach("opened on several segments");
            if !clean && end.0 % SEGMENT == 4_096 {
                self.reach("crashed right behind a roll");
            }
        }
    }

    /// Stops the machine somewhere in recovery, or has it read in vain.
    fn die_while_opening(&mut self) {
        let fault = if self.random.bool() {
            Fault::Halt(self.random.u64(0..12))
        } else {
            Fault::ReadError(self.random.u64(0..12))
        };
        self.fs.inject(Some(fault));
        // It may even have come to the end.
        if Life::begin(&self.fs, &self.clock, &self.habits).is_err() {
            self.reach("died while opening");
        }
        self.crash();
    }

    fn crash(&mut self) {
        self.fs = self.fs.crash(self.random.u64(..));
    }

    fn act(&mut self, life: &Life, steps: &mut Steps) {
        match self.random.u8(0..37) {
            0..=7 => self.submit(life),
            8..=14 => drop(steps.step(Part::Appender)),
            15..=18 => drop(steps.step(Part::Syncer)),
            19..=20 => drop(steps.step(Part::Maker)),
            21..=22 => self.clock.pass(self.random.u64(1..200)),
            23 => self.kernel_writes_back(),
            24 => self.read_in_doubt(life),
            25..=26 => drop(steps.step(Part::Keeper)),
            27 => self.inject(),
            28 => self.advance_the_clock(),
            _ => self.act_on_waiting(life, steps),
        }
    }

    /// Somebody does, and not always to the right time.
    fn advance_the_clock(&mut self) {
        let right = BEGIN + self.steady();
        let wrong = [right, right - WRONG, right + WRONG];
        self.clock.jump_to(wrong[self.random.usize(0..3)]);
    }

    pub(super) fn steady(&self) -> u64 {
        self.clock.steady_ms()
    }

    fn inject(&mut self) {
        let n = self.random.u64(0..4);
        let fault = match self.random.u8(0..24) {
            0 => Some(Fault::WriteError(n)),
            1 => Some(Fault::SyncError(n)),
            2 => Some(Fault::Halt(self.random.u64(0..20))),
            3..=5 => Some(Fault::NoSpace(n)),
            6 => Some(Fault::NoQuota(n)),
            // Room for what is there and little more.
            7..=9 => {
                self.fs.resize(self.random.u64(1..8) * SEGMENT);
                None
            }
            _ => {
                self.fs.resize(ROOM);
                None
            }
        };
        self.cut_short |= matches!(fault, Some(Fault::NoSpace(_) | Fault::NoQuota(_)));
        self.fs.inject(fault);
    }

    pub(super) fn a_segment(&mut self) -> PathBuf {
        let names = self.fs.list(LOG.as_ref()).unwrap();
        let segments: Vec<_> = names.iter().filter(|it| it.ends_with(".seg")).collect();
        // The one written to is of more interest than the others.
        let name = match self.random.bool() {
            true => segments.last(),
            false => segments.get(self.random.usize(0..segments.len().max(1))),
        };
        Path::new(LOG).join(name.map_or("", |name| name))
    }

    /// On its own account, and not always with success; somebody else may be the first to be told.
    fn kernel_writes_back(&mut self) {
        let path = self.a_segment();
        let fails = self.random.u8(0..12) == 0;
        self.fs.write_back(&path, fails);
        if fails
            && self.random.bool()
            && let Ok(file) = self.fs.open(&path)
            && file.sync_data().is_err()
        {
            self.reach("failed write-back told, and not to us first");
        }
    }

    /// What a consumer can see now must never be taken back.
    fn look(&mut self, life: &Life) {
        for queue in 0..QUEUES {
            let (_, end) = life.store.range(TopicId(1), QueueId(queue));
            self.seen.insert(queue, end.0);
        }
    }

    /// Fewer than so many, each like no other.
    pub(super) fn bodies(&mut self, most: u32) -> Vec<String> {
        let many = self.random.u32(1..most);
        let body = |_| {
            self.made += 1;
            // Its own all through: halves of two never make a whole one.
            format!("{} ", self.made).repeat(self.random.usize(1..400))
        };
        (0..many).map(body).collect()
    }

    pub(super) fn submit(&mut self, life: &Life) {
        let queue = self.random.u32(0..=QUEUES);
        let bodies = self.bodies(if queue == STATE { 2 } else { 12 });
        let pending = if queue == STATE {
            let body = bodies.concat().into_bytes();
            life.store.submit_state(RecordKind::Topic, &body)
        } else {
            life.store.submit(batch(queue, &bodies))
        };
        self.asked.push(Asked {
            queue,
            bodies,
            pending: Some(pending),
        });
    }

    /// A crash, or the end of the process only, or a clean end: then true.
    fn end(&mut self, life: &Life, steps: Steps) -> bool {
        match self.random.u8(0..6) {
            0..=1 => {}
            2 => {
                drop(steps);
                self.reach("killed, the machine went on");
                return false;
            }
            _ => {
                drop(steps);
                self.crash();
                self.reach("crashed");
                return false;
            }
        }
        self.fs.inject(None);
        let closed = steps.close().is_ok();
        self.settle(life);
        if closed {
            let owed = self.asked.iter().any(|it| it.pending.is_some());
            assert!(!owed, "a closed log owes no answer; {}", self.repeat());
            self.nothing_is_stuck(life);
            self.reach("closed clean");
        }
        self.crash();
        closed
    }
}
