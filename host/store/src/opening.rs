//! From a directory to a store: lock it, recover its log, and put the parts together.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quern_protocol::{Epoch, LogPosition};

use crate::appender::{Appender, Tail};
use crate::checkpoint::{Checkpoint, Checkpoints};
use crate::clock::LogClock;
use crate::config::{Config, Env};
use crate::consume_queue::ConsumeQueues;
use crate::derived::{Derived, Mark, Reading};
use crate::dispatch::Observer;
use crate::error::OpenError;
use crate::fs::Lock;
use crate::keeper::Keeper;
use crate::keeping::Keeping;
use crate::key_index::KeyIndex;
use crate::queue_log::QueueLog;
use crate::recovery::{Found, Recovery};
use crate::retention::DiskLevel;
use crate::scrub::Scrub;
use crate::segment::{LogId, SEGMENT_HEADER, Segment};
use crate::segments::Segments;
use crate::snapshot::{Contents, StateFile};
use crate::spares::{Maker, Yard};
use crate::steps::Steps;
use crate::syncer::{Dispatcher, Syncer};
use crate::zeroed::Zeroed;
use crate::{Report, Shared, Store, directory, limits};

/// A store, and what moves it.
pub(crate) struct Opened {
    pub(crate) store: Store,
    pub(crate) report: Report,
    pub(crate) steps: Steps,
}

impl Opened {
    pub(crate) fn open(
        config: &Config,
        env: Env,
        observer: Box<dyn Observer>,
    ) -> Result<Self, OpenError> {
        let started = env.clock.steady_ms();
        let dir = config.dir.clone();
        let unusable = |source| OpenError::Unusable {
            path: dir.clone(),
            source,
        };
        let (lock, log) = directory::enter(&*env.fs, &dir)?;
        let (checkpoints, last) = Checkpoints::open(&*env.fs, &dir).map_err(unusable)?;
        let yard = Yard {
            fs: Arc::clone(&env.fs),
            dir: dir.join("commitlog"),
            log,
            size: segment_size(config, &env)?,
        };
        let known = last.unwrap_or_default();
        let segments = Segment::open_all(&*env.fs, &yard.dir, log, &known)?;
        let is_new = last.is_none() && segments.is_empty();
        let mut start = Start::find(&env, &dir, log, observer, &segments).map_err(unusable)?;
        let from = start.from;
        let found = Recovery {
            fs: &env.fs,
            dir: &dir,
            log_dir: &yard.dir,
            log,
            durable: known.durable.0.max(start.derived.applied),
            clean: known.clean,
            epoch: Epoch(known.epoch.0 + 1),
            derived: &mut start.derived,
            reading: start.reading,
            progress: &config.progress,
        }
        .run(segments, from)?;
        let mut report = Report {
            clean: known.clean || is_new,
            epoch: next_epoch(last, known.clean || is_new, found.epoch),
            records: found.records,
            segments: 0,
            end: LogPosition(0),
            took_ms: 0,
            rebuilt: from.is_none() && !is_new,
            torn: found.torn.clone(),
        };
        let read = Read {
            dir: dir.clone(),
            log_clock: Arc::new(LogClock::new(found.last_stored_at, &env.clock)),
            env,
            found,
            derived: start.derived,
            queues_head: start.queues_head,
            replay_from: from.map_or(0, |mark| mark.position),
            checked: start.checked,
            yard,
            epoch: report.epoch,
        };
        let (read, segment, checkpoints) = read.go_on(checkpoints).map_err(unusable)?;
        report.segments = read.found.segments.len();
        report.end = LogPosition(read.found.end);
        report.took_ms = read.env.clock.steady_ms() - started;
        let (shared, steps) = read.parts(config, segment, checkpoints, lock);
        Ok(Self {
            store: Store(Arc::new(shared)),
            report,
            steps,
        })
    }
}

/// Where a start begins to read.
struct Start {
    derived: Derived,
    reading: Reading,
    /// `None`: at the beginning.
    from: Option<Mark>,
    /// The state file is true of everything before.
    checked: u64,
    /// Where queues take the log to begin.
    queues_head: u64,
}

impl Start {
    fn find(
        env: &Env,
        dir: &Path,
        log: LogId,
        observer: Box<dyn Observer>,
        segments: &[Segment],
    ) -> io::Result<Self> {
        let queue_dir = dir.join("consumequeue");
        let file = StateFile::read(&*env.fs, dir, &log)?;
        let head = segments.first().map_or(0, |first| first.base);
        let file = file.filter(|file| file.replay_from >= head && !segments.is_empty());
        let usable = file.and_then(|mut file| {
            let contents = Contents::new(std::mem::take(&mut file.items)).ok()?;
            let loaded = QueueLog::load(Arc::clone(&env.fs), &queue_dir, file.queue_log_end);
            let queues = match loaded {
                Ok((log, places)) => ConsumeQueues::load(log, &places),
                Err(error) => {
                    tracing::warn!(%error, "consume queues are made anew from the log");
                    None
                }
            };
            Some((file, contents, queues?))
        });
        let keys = KeyIndex::new(Arc::clone(&env.fs), dir.join("index"), log);
        let Some((file, contents, queues)) = usable else {
            StateFile::remove(&*env.fs, dir)?;
            let queues = ConsumeQueues::new(QueueLog::empty(Arc::clone(&env.fs), &queue_dir)?);
            return Ok(Self {
                derived: Derived::new(queues, keys, observer),
                reading: Reading::anew(head == 0),
                from: None,
                checked: 0,
                queues_head: head,
            });
        };
        let mut derived = Derived::new(queues, keys, observer);
        derived.load(file.as_of, contents);
        Ok(Self {
            reading: Reading::On {
                as_of: file.as_of,
                ends: derived.queues.ends(),
            },
            derived,
            from: Some(Mark {
                position: file.replay_from,
                previous_crc: file.previous_crc,
            }),
            checked: file.as_of,
            queues_head: file.head,
        })
    }
}

/// A log that has been read.
struct Read {
    dir: PathBuf,
    env: Env,
    log_clock: Arc<LogClock>,
    found: Found,
    derived: Derived,
    queues_head: u64,
    replay_from: u64,
    checked: u64,
    yard: Yard,
    epoch: Epoch,
}

impl Read {
    /// Notes that a new life begins, and finds the segment it goes on in.
    fn go_on(mut self, mut checkpoints: Checkpoints) -> io::Result<(Self, Segment, Checkpoints)> {
        let first = self.found.segments.first();
        let head = first.map_or(0, |first| first.base);
        Segment::remove_before(&*self.env.fs, &self.yard.dir, head)?;
        // Before the first append, so that no epoch is ever used twice.
        checkpoints.write_both(&Checkpoint {
            epoch: self.epoch,
            durable: LogPosition(self.found.end),
            clean: false,
            head: LogPosition(head),
        })?;
        let now = self.log_clock.now();
        let segment = last_segment(&mut self.found, &self.yard, now, self.epoch)?;
        self.derived.applied = self.derived.applied.max(self.found.end);
        if self.queues_head != head {
            let advanced = self.derived.queues.advance(head);
            advanced.map_err(io::Error::other)?;
        }
        Ok((self, segment, checkpoints))
    }

    fn parts(
        self,
        config: &Config,
        segment: Segment,
        checkpoints: Checkpoints,
        lock: Lock,
    ) -> (Shared, Steps) {
        let tail = self.tail(segment);
        let end = self.found.end;
        let snapshot_at = self.derived.snapshot.map_or(0, |it| it.as_of);
        let segments = Segments::new(
            self.found.segments,
            LogPosition(end),
            config.read_mode,
            &self.env.clock,
        );
        let shared = Shared {
            dir: self.dir,
            env: self.env,
            log_clock: Arc::clone(&self.log_clock),
            epoch: self.epoch,
            queue: Arc::default(),
            segments: Arc::new(segments),
            queues: Arc::clone(&self.derived.queues),
            keys: Arc::clone(&self.derived.keys),
            timers: Arc::clone(&self.derived.timers),
            halves: Arc::clone(&self.derived.halves),
            most_waiting: config.most_waiting,
            damage: Arc::default(),
            durable: Arc::new(AtomicU64::new(end)),
            running: Mutex::new(None),
        };
        let syncer = syncer(&shared, self.derived, self.checked, config);
        let keeper = Keeper {
            queue: Arc::clone(&shared.queue),
            env: shared.env.clone(),
            dir: shared.dir.clone(),
            log: self.yard.log,
            segments: Arc::clone(&shared.segments),
            queues: Arc::clone(&shared.queues),
            keys: Arc::clone(&shared.keys),
            dispatcher: Arc::clone(&syncer.dispatcher),
            checkpoints,
            epoch: self.epoch,
            retention: config.retention.clone(),
            checkpoint_every: config.checkpoint_every,
            segment_size: self.yard.size,
            log_clock: Arc::clone(&shared.log_clock),
            checked: Arc::clone(&syncer.checked),
            replay_from: self.replay_from,
            state_bytes: 0,
            snapshot_at,
            snapshot: Vec::new(),
            looked_at: None,
            level: DiskLevel::default(),
            scrub: Scrub::default(),
            is_carrying: false,
            is_refusing: false,
            keeping: Keeping::new(config.most_kept),
            is_oversized: false,
            damage: Arc::clone(&shared.damage),
        };
        let yard = self.yard;
        let appender = appender(&shared, tail, yard.clone(), &syncer, config.stamp_after);
        let steps = Steps {
            queue: Arc::clone(&shared.queue),
            appender,
            syncer,
            maker: Maker {
                yard,
                queue: Arc::clone(&shared.queue),
            },
            keeper,
            lock,
        };
        (shared, steps)
    }

    fn tail(&self, segment: Segment) -> Tail {
        let found = &self.found;
        Tail {
            log: self.yard.log,
            epoch: self.epoch,
            segment,
            position: found.end,
            sealed: found.sealed,
            previous_crc: found.previous_crc,
            next_offsets: self.derived.queues.ends(),
            producers: self.derived.producers.clone(),
            log_clock: Arc::clone(&self.log_clock),
            data_end: found.end,
            // The checkpoint says it.
            noted: found.end,
            written_at: self.env.clock.steady_ms(),
            zeroed: Zeroed(found.end),
        }
    }
}

fn appender(
    shared: &Shared,
    tail: Tail,
    yard: Yard,
    syncer: &Syncer,
    stamp_after: Duration,
) -> Appender {
    Appender {
        queue: Arc::clone(&shared.queue),
        segments: Arc::clone(&shared.segments),
        durable: Arc::clone(&shared.durable),
        clock: Arc::clone(&shared.env.clock),
        yard,
        syncer: syncer.clone(),
        syncs_alone: true,
        stamp_after,
        tail,
        waiting: VecDeque::new(),
    }
}

fn syncer(shared: &Shared, derived: Derived, checked: u64, config: &Config) -> Syncer {
    Syncer {
        queue: Arc::clone(&shared.queue),
        clock: Arc::clone(&shared.env.clock),
        traffic: Arc::clone(&shared.segments.traffic),
        durable: Arc::clone(&shared.durable),
        checked: Arc::new(AtomicU64::new(checked)),
        checkpoint_every: config.checkpoint_every,
        dispatcher: Arc::new(Mutex::new(Dispatcher {
            segments: Arc::clone(&shared.segments),
            derived,
        })),
    }
}

fn next_epoch(checkpoint: Option<Checkpoint>, clean: bool, found: Epoch) -> Epoch {
    match checkpoint {
        Some(last) if clean => last.epoch,
        Some(last) => Epoch(last.epoch.max(found).0 + 1),
        None => Epoch(found.0 + 1),
    }
}

/// The segment that is written to; a new log gets its first.
fn last_segment(found: &mut Found, yard: &Yard, now: u64, epoch: Epoch) -> io::Result<Segment> {
    if let Some(last) = found.segments.last() {
        return Ok(last.clone());
    }
    let first = yard.first(now, epoch)?;
    found.end = first.base + SEGMENT_HEADER;
    found.segments.push(first.clone());
    Ok(first)
}

/// Smallest segment anyone may ask for, bytes; tests roll often.
const SMALLEST_SEGMENT: u64 = 64 * 1024;

fn segment_size(config: &Config, env: &Env) -> Result<u64, OpenError> {
    match config.segment_size {
        Some(size) if size < SMALLEST_SEGMENT => Err(OpenError::SegmentSize {
            size,
            min: SMALLEST_SEGMENT,
        }),
        Some(size) => Ok(size.next_multiple_of(4_096)),
        None => {
            let capacity = env.fs.capacity(&config.dir);
            let capacity = capacity.map_err(|source| OpenError::Unusable {
                path: config.dir.clone(),
                source,
            })?;
            let size =
                (capacity / limits::SEGMENT_SHARE).clamp(limits::SEGMENT_MIN, limits::SEGMENT_MAX);
            Ok(size.next_multiple_of(1024 * 1024))
        }
    }
}
