//! The world around a store: what is asked of it, what goes wrong meanwhile, and what it owes.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use quern_protocol::{Code, LogPosition, QueueId, RecordKind, RecordView, TopicId};
use quern_store::audit::audit;
use quern_store::clock::ManualClock;
use quern_store::fs::Fs;
use quern_store::sim::{Fault, SimFs};
use quern_store::{
    AppendError, Appended, Config, Dispatched, Entry, Env, Observer, OpenError, Part, Pending,
    Report, Retention, StateRecord, Steps, Store,
};

use crate::batch;

pub(super) const DIR: &str = "/q";
const LOG: &str = "/q/commitlog";
pub(super) const SEGMENT: u64 = 64 * 1024;
/// Bytes of a disk that is large enough.
pub(super) const ROOM: u64 = 1 << 30;
/// Queues of the one topic; state records are a sequence of their own.
pub(super) const QUEUES: u32 = 3;
pub(super) const STATE: u32 = QUEUES;

/// What was asked for and is not answered, or was answered with a failure: it may be there or not.
struct Asked {
    queue: u32,
    bodies: Vec<String>,
    pending: Option<Pending>,
}

/// A message or state record, and where the log has it.
pub(super) type Stored = (LogPosition, String);

/// Remembers the state records of a log. Its snapshot says of each where it was.
struct Listener(Arc<Mutex<Vec<Stored>>>);

impl Observer for Listener {
    fn dispatched(&mut self, event: Dispatched<'_>) {
        let Dispatched::State {
            kind,
            mut position,
            body,
        } = event
        else {
            return;
        };
        let mut body = String::from_utf8(body.to_vec()).unwrap();
        if kind == RecordKind::Group {
            let (at, said) = body.split_once('|').unwrap();
            position = LogPosition(at.parse().unwrap());
            body = said.to_owned();
        }
        self.0.lock().unwrap().push((position, body));
    }

    fn snapshot(&mut self) -> Vec<StateRecord> {
        let say = |(position, body): &Stored| StateRecord {
            kind: RecordKind::Group,
            body: format!("{position}|{body}").into_bytes(),
        };
        self.0.lock().unwrap().iter().map(say).collect()
    }
}

/// A store that runs, and what is known about it.
pub(super) struct Life {
    pub(super) store: Store,
    pub(super) report: Report,
    pub(super) heard: Arc<Mutex<Vec<Stored>>>,
}

impl Life {
    pub(super) fn begin(
        fs: &SimFs,
        clock: &Arc<ManualClock>,
        habits: &Habits,
    ) -> Result<(Self, Steps), OpenError> {
        let heard: Arc<Mutex<Vec<Stored>>> = Arc::default();
        let observer = Box::new(Listener(Arc::clone(&heard)));
        let config = Config {
            segment_size: Some(SEGMENT),
            stamp_after: Duration::from_millis(50),
            checkpoint_every: habits.checkpoint_every,
            retention: Retention {
                age: None,
                bytes: habits.keeps,
                hours: Vec::new(),
            },
            ..Config::new(DIR)
        };
        let env = Env {
            fs: Arc::new(fs.clone()),
            clock: Arc::clone(clock) as _,
        };
        let (store, report, steps) = Store::open_in_steps(&config, env, observer)?;
        let life = Self {
            store,
            report,
            heard,
        };
        Ok((life, steps))
    }

    pub(super) fn entries(&self, queue: u32) -> Vec<Entry> {
        let (min, max) = self.store.range(TopicId(1), QueueId(queue));
        let entries = self
            .store
            .entries(TopicId(1), QueueId(queue), min, usize::MAX)
            .unwrap();
        let offsets = entries.iter().map(|entry| entry.offset.0);
        assert!(offsets.eq(min.0..max.0), "offsets have no gaps");
        entries
    }

    /// The first that is still there.
    pub(super) fn first(&self, queue: u32) -> usize {
        match queue {
            STATE => 0,
            _ => self.store.range(TopicId(1), QueueId(queue)).0.0 as usize,
        }
    }

    pub(super) fn body(&self, entry: &Entry) -> Result<String, Code> {
        let record = self.store.record(entry).map_err(|error| error.code())?;
        Ok(body(&record))
    }

    /// All there is, of a queue or of state.
    pub(super) fn contents(&self, queue: u32) -> Vec<Stored> {
        if queue == STATE {
            return self.heard.lock().unwrap().clone();
        }
        let entries = self.entries(queue);
        let records = self.store.records(&entries).unwrap();
        assert_eq!(records.len(), entries.len(), "all of it can be read");
        let stored = |(entry, record): (&Entry, Bytes)| (entry.position, body(&record));
        entries.iter().zip(records).map(stored).collect()
    }
}

fn body(record: &[u8]) -> String {
    let view = RecordView::parse(record).unwrap();
    String::from_utf8(view.block.stored_body().to_vec()).unwrap()
}

/// What the stores of one seed do their own way.
pub(super) struct Habits {
    checkpoint_every: u64,
    /// Bytes of log that are kept; all when `None`.
    keeps: Option<u64>,
}

/// The world around the lives of one seed.
pub(super) struct Simulation {
    seed: u64,
    pub(super) random: Rng,
    pub(super) fs: SimFs,
    pub(super) clock: Arc<ManualClock>,
    /// By queue: what was acknowledged, or has survived a crash.
    pub(super) known: BTreeMap<u32, Vec<String>>,
    /// By queue: how many messages a consumer has been able to see.
    seen: BTreeMap<u32, u64>,
    asked: Vec<Asked>,
    made: u64,
    pub(super) habits: Habits,
    /// A disk that decays, too.
    decays: bool,
    /// The disk was full in this life.
    full: bool,
    /// So part of a group that did not fit may be behind the end.
    cut_short: bool,
    reached: BTreeMap<&'static str, u64>,
}

impl Simulation {
    pub(super) fn new(seed: u64) -> Self {
        fastrand::seed(seed);
        let clock = ManualClock::default();
        clock.jump_to(1_700_000_000_000);
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
            made: 0,
            full: false,
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
            self.full = false;
            self.cut_short = false;
            for _ in 0..self.random.u32(0..150) {
                self.act(&life, &mut steps);
                self.settle(&life);
                self.look(&life);
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
        match self.random.u8(0..28) {
            0..=7 => self.submit(life),
            8..=14 => drop(steps.step(Part::Appender)),
            15..=18 => drop(steps.step(Part::Syncer)),
            19..=20 => drop(steps.step(Part::Maker)),
            21..=22 => self.clock.pass(self.random.u64(1..200)),
            23 => self.kernel_writes_back(),
            24 => self.read_in_doubt(life),
            25..=26 => drop(steps.step(Part::Keeper)),
            _ => self.inject(),
        }
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

    fn submit(&mut self, life: &Life) {
        let queue = self.random.u32(0..=QUEUES);
        let most = if queue == STATE { 2 } else { 12 };
        let bodies: Vec<String> = (0..self.random.u32(1..most))
            .map(|_| {
                self.made += 1;
                // Its own all through: halves of two never make a whole one.
                format!("{} ", self.made).repeat(self.random.usize(1..400))
            })
            .collect();
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
                Poll::Ready(Err(AppendError::DiskFull)) => {
                    self.full = true;
                    self.reach("disk full");
                }
                Poll::Ready(Err(error)) => {
                    if matches!(error, AppendError::Failed(_)) {
                        self.reach("log failed");
                    }
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
        let known = known.len();
        let visible = if queue == STATE {
            life.heard.lock().unwrap().len()
        } else {
            life.store.range(TopicId(1), QueueId(queue)).1.0 as usize
        };
        assert!(visible >= known, "acknowledged is visible; {repeat}");
        if self.full {
            self.reach("disk full, and room again");
        }
        // Acknowledged is durable, whatever happens next.
        if self.random.u8(0..40) == 0 {
            let image = self.fs.crash(self.random.u64(..));
            let found = audit(DIR.as_ref(), &image, &mut |_| ControlFlow::Continue(()));
            let found = found.unwrap_or_else(|error| self.fail(&error.to_string()));
            assert_eq!(found.damage, [], "{repeat}");
            assert!(found.end > appended.position, "{repeat}");
        }
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
            self.reach("closed clean");
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
            let stored = life.contents(queue).into_iter();
            let found: Vec<String> = stored.map(|(_, body)| body).collect();
            let mut expected = self.known.remove(&queue).unwrap_or_default();
            let mut rest = asked.remove(&queue).unwrap_or_default().into_iter();
            let first = life.first(queue);
            let len = first + found.len();
            while expected.len() < len {
                match rest.next() {
                    Some(bodies) => expected.extend(bodies),
                    None => self.fail(&format!("queue {queue} has what nobody sent")),
                }
            }
            let seen = self.seen.get(&queue).copied().unwrap_or(0);
            if (len as u64) < seen {
                self.fail(&format!(
                    "queue {queue} was seen up to {seen}, and is shorter now"
                ));
            }
            if expected.get(first..) != Some(&found[..]) {
                let (have, want) = (len, expected.len());
                self.fail(&format!("queue {queue} is wrong: {have} found, {want} due"));
            }
            self.known.insert(queue, expected);
        }
        self.last_resort(life);
    }

    /// The commit log alone is enough.
    fn last_resort(&mut self, life: &Life) {
        if self.random.u8(0..4) > 0 {
            return;
        }
        let image = self.fs.crash(0);
        for dir in ["", "consumequeue", "index", "quarantine"] {
            let dir = Path::new(DIR).join(dir);
            for name in image.list(&dir).unwrap_or_default() {
                let _ = image.remove(&dir.join(name));
            }
        }
        let opened = Life::begin(&image, &self.clock, &self.habits);
        let (again, _steps) = opened.unwrap_or_else(|error| self.fail(&error.to_string()));
        for queue in 0..=QUEUES {
            if again.first(queue) != life.first(queue) {
                let (then, now) = (life.first(queue), again.first(queue));
                self.fail(&format!(
                    "queue {queue} began at {then}, and at {now} from the log alone"
                ));
            }
            let bodies = |life: &Life| -> Vec<String> {
                life.contents(queue)
                    .into_iter()
                    .map(|(_, body)| body)
                    .collect()
            };
            if bodies(&again) != bodies(life) {
                self.fail(&format!("queue {queue} is another from the log alone"));
            }
        }
        self.reach("made anew from the log alone");
    }
}
