//! From a directory to a store: lock it, recover its log, and put the parts together.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use quern_protocol::{Epoch, LogPosition};

use crate::appender::{Appender, Tail};
use crate::checkpoint::{Checkpoint, Checkpoints};
use crate::clock::LogClock;
use crate::config::{Config, Env};
use crate::consume_queue::ConsumeQueues;
use crate::error::OpenError;
use crate::queue::Queue;
use crate::recovery::{Found, Recovery};
use crate::segment::{SEGMENT_HEADER, Segment};
use crate::segments::Segments;
use crate::spares::{Maker, Yard};
use crate::steps::Steps;
use crate::syncer::{Dispatcher, Syncer};
use crate::{Observer, Report, Shared, Store, directory, limits};

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
        mut observer: Observer,
    ) -> Result<Self, OpenError> {
        let started = env.clock.steady_ms();
        let dir = config.dir.clone();
        let unusable = |source| OpenError::Unusable {
            path: dir.clone(),
            source,
        };
        let (lock, log) = directory::enter(&*env.fs, &dir)?;
        let (mut checkpoints, checkpoint) = Checkpoints::open(&*env.fs, &dir).map_err(unusable)?;
        let queues = Arc::new(ConsumeQueues::default());
        let log_dir = dir.join("commitlog");
        let last = checkpoint.unwrap_or_default();
        let mut found = Recovery {
            fs: &env.fs,
            dir: &dir,
            log_dir: &log_dir,
            log,
            durable: last.durable.0,
            clean: last.clean,
            queues: &queues,
            observer: &mut observer,
        }
        .run()?;
        let clean = last.clean || (checkpoint.is_none() && found.segments.is_empty());
        let epoch = next_epoch(checkpoint, clean);
        // Before the first append, so that no epoch is ever used twice.
        let checkpoint = Checkpoint {
            epoch,
            durable: LogPosition(found.end),
            clean: false,
        };
        checkpoints.write_both(&checkpoint).map_err(unusable)?;
        let yard = Yard {
            fs: Arc::clone(&env.fs),
            clock: Arc::clone(&env.clock),
            dir: log_dir,
            log,
            size: segment_size(config, &env)?,
        };
        let segment = last_segment(&mut found, &yard, epoch).map_err(unusable)?;
        let report = Report {
            clean,
            epoch,
            records: found.records,
            segments: found.segments.len(),
            end: LogPosition(found.end),
            took_ms: env.clock.steady_ms() - started,
            torn: found.torn.clone(),
        };
        let parts = Recovered {
            dir,
            env,
            observer,
            found,
            queues,
            yard,
            segment,
            epoch,
        }
        .parts(config);
        Ok(Self {
            store: Store(Arc::new(parts.shared)),
            report,
            steps: Steps {
                queue: Arc::clone(&parts.maker.queue),
                appender: parts.appender,
                syncer: parts.syncer,
                maker: parts.maker,
                checkpoints,
                lock,
            },
        })
    }
}

/// A log that has been read.
struct Recovered {
    dir: PathBuf,
    env: Env,
    observer: Observer,
    found: Found,
    queues: Arc<ConsumeQueues>,
    yard: Yard,
    segment: Segment,
    epoch: Epoch,
}

struct Parts {
    shared: Shared,
    appender: Appender,
    syncer: Syncer,
    maker: Maker,
}

impl Recovered {
    fn parts(self, config: &Config) -> Parts {
        let Self { env, found, .. } = self;
        let queue = Arc::new(Queue::default());
        let durable = Arc::new(AtomicU64::new(found.end));
        let segments = Arc::new(Segments::new(found.segments, LogPosition(found.end)));
        let syncer = Syncer {
            queue: Arc::clone(&queue),
            durable: Arc::clone(&durable),
            dispatcher: Arc::new(Mutex::new(Dispatcher {
                segments: Arc::clone(&segments),
                queues: Arc::clone(&self.queues),
                observer: self.observer,
            })),
        };
        let appender = Appender {
            queue: Arc::clone(&queue),
            segments: Arc::clone(&segments),
            durable: Arc::clone(&durable),
            clock: Arc::clone(&env.clock),
            yard: self.yard.clone(),
            syncer: syncer.clone(),
            syncs_alone: true,
            stamp_after: config.stamp_after,
            tail: Tail {
                log: self.yard.log,
                epoch: self.epoch,
                segment: self.segment,
                position: found.end,
                sealed: found.sealed,
                previous_crc: found.previous_crc,
                next_offsets: self.queues.ends(),
                log_clock: LogClock::new(found.last_stored_at, &*env.clock),
                data_end: found.end,
                // The checkpoint says it.
                noted: found.end,
                written_at: env.clock.steady_ms(),
            },
            waiting: VecDeque::new(),
        };
        Parts {
            maker: Maker {
                yard: self.yard,
                queue: Arc::clone(&queue),
            },
            appender,
            syncer,
            shared: Shared {
                dir: self.dir,
                env,
                epoch: self.epoch,
                queue,
                segments,
                queues: self.queues,
                durable,
                running: Mutex::new(None),
            },
        }
    }
}

/// Rises at every start that does not follow a clean end.
fn next_epoch(checkpoint: Option<Checkpoint>, clean: bool) -> Epoch {
    match checkpoint {
        Some(last) if clean => last.epoch,
        Some(last) => Epoch(last.epoch.0 + 1),
        None => Epoch(1),
    }
}

/// The segment that is written to; a new log gets its first.
fn last_segment(found: &mut Found, yard: &Yard, epoch: Epoch) -> io::Result<Segment> {
    if let Some(last) = found.segments.last() {
        return Ok(last.clone());
    }
    let first = yard.first(epoch)?;
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
