//! The storage engine: a commit log that is the truth, consume queues derived from it, recovery.
//!
//! Guarantee: when a [`Pending`] resolves to `Ok`, its messages are durable on the disk, in log
//! order, once, and visible to readers. After a crash every such message is there; what was not yet
//! acknowledged is there whole batches at a time or not at all.
//!
//! Two threads own the log: the appender its tail, the syncer its durable end. All access to files
//! goes through [`fs::Fs`], all time through [`clock::Clock`].

mod appender;
pub mod audit;
mod checkpoint;
pub mod clock;
mod config;
mod consume_queue;
mod directory;
mod dispatch;
mod error;
pub mod fs;
mod group;
mod limits;
mod pending;
mod queue;
mod recovery;
mod scan;
mod segment;
mod segments;
pub mod sim;
mod spares;
mod syncer;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use quern_protocol::block::state_block;
use quern_protocol::record::RECORD_HEADER;
use quern_protocol::{
    Block, Epoch, LogPosition, QueueId, QueueOffset, RecordHeader, RecordKind, Tag, TopicId,
};

use crate::appender::{Appender, Tail};
use crate::checkpoint::{Checkpoint, Checkpoints};
use crate::clock::LogClock;
use crate::consume_queue::ConsumeQueues;
use crate::fs::Lock;
use crate::pending::Slot;
use crate::queue::{Batch, BlockFacts, Queue};
use crate::recovery::{Found, Recovery};
use crate::segment::LogId;
use crate::segments::Segments;
use crate::spares::{Spares, Yard};
use crate::syncer::{Dispatcher, Syncer};

pub use crate::config::{Config, Env};
pub use crate::consume_queue::Entry;
pub use crate::dispatch::Dispatched;
pub use crate::error::{AppendError, CloseError, OpenError, ReadError};
pub use crate::pending::{Appended, Pending};
pub use crate::recovery::TornTail;
pub use crate::segment::FORMAT;

/// Hears what the log says, in its order; at start on the caller's thread, then on the syncer's.
pub type Observer = Box<dyn FnMut(Dispatched<'_>) + Send>;

/// Message blocks for one queue, verified by the caller, appended together or not at all.
#[derive(Debug, Clone)]
pub struct Append {
    pub topic: TopicId,
    pub queue: QueueId,
    /// `count` blocks, one after the other.
    pub blocks: Bytes,
    pub count: u32,
}

/// What opening found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The log had been closed; nothing had to be doubted.
    pub clean: bool,
    pub epoch: Epoch,
    pub records: u64,
    pub segments: usize,
    pub end: LogPosition,
    pub took_ms: u64,
    pub torn: Option<TornTail>,
}

/// A store; a cheap handle to it. The last one dropped without [`Store::close`] leaves the log as a
/// crash would, and the next start verifies it.
#[derive(Debug, Clone)]
pub struct Store(Arc<Shared>);

struct Shared {
    dir: PathBuf,
    env: Env,
    epoch: Epoch,
    queue: Arc<Queue>,
    segments: Arc<Segments>,
    queues: Arc<ConsumeQueues>,
    durable: Arc<AtomicU64>,
    threads: Mutex<Option<Threads>>,
}

struct Threads {
    appender: JoinHandle<LogPosition>,
    syncer: JoinHandle<()>,
    spares: JoinHandle<()>,
    checkpoints: Checkpoints,
    _lock: Lock,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({})", self.dir.display())
    }
}

impl Store {
    /// Opens a data directory, making it if need be, and reads its log. Blocks meanwhile.
    pub fn open(
        config: Config,
        env: Env,
        mut observer: Observer,
    ) -> Result<(Self, Report), OpenError> {
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
        let epoch = match checkpoint {
            Some(last) if clean => last.epoch,
            Some(last) => Epoch(last.epoch.0 + 1),
            None => Epoch(1),
        };
        // Before the first append, so that no epoch is ever used twice.
        let checkpoint = Checkpoint {
            epoch,
            durable: LogPosition(found.end),
            clean: false,
        };
        checkpoints.write(&checkpoint).map_err(unusable)?;
        let yard = Yard {
            fs: Arc::clone(&env.fs),
            clock: Arc::clone(&env.clock),
            dir: log_dir,
            log,
            size: segment_size(&config, &env)?,
        };
        if found.segments.is_empty() {
            let first = yard.first(epoch).map_err(unusable)?;
            found.end = first.base + segment::SEGMENT_HEADER;
            found.segments.push(first);
        }
        let report = Report {
            clean,
            epoch,
            records: found.records,
            segments: found.segments.len(),
            end: LogPosition(found.end),
            took_ms: env.clock.steady_ms() - started,
            torn: found.torn.clone(),
        };
        let opened = Opened {
            dir: dir.clone(),
            env,
            epoch,
            log,
            found,
            queues,
            checkpoints,
            lock,
        };
        let store = opened.start(yard, observer).map_err(unusable)?;
        Ok((store, report))
    }

    /// Hands over a batch. Calls for one queue are appended in their order; the future resolves
    /// when the batch is durable and visible, and may be dropped.
    pub fn submit(&self, append: Append) -> Pending {
        let facts = facts(&append);
        debug_assert_eq!(facts.len(), append.count as usize, "count says how many");
        self.enqueue(Batch {
            key: (append.topic, append.queue),
            kind: RecordKind::Message,
            blocks: append.blocks,
            facts,
            slot: Slot::default(),
        })
    }

    /// Appends a state record; the observer has applied it when the future resolves.
    pub fn submit_state(&self, kind: RecordKind, body: Vec<u8>) -> Pending {
        let blocks = state_block(&body, self.now_ms());
        let facts = facts(&Append {
            topic: TopicId(0),
            queue: QueueId(0),
            blocks: blocks.clone(),
            count: 1,
        });
        self.enqueue(Batch {
            key: (TopicId(0), QueueId(0)),
            kind,
            blocks,
            facts,
            slot: Slot::default(),
        })
    }

    fn enqueue(&self, batch: Batch) -> Pending {
        let pending = batch.slot.pending();
        self.0.queue.submit(batch);
        pending
    }

    /// Resolves when there is room for another batch: read no more requests before.
    pub async fn ready(&self) {
        self.0.queue.ready().await;
    }

    /// A queue's first message and where its next one goes.
    pub fn range(&self, topic: TopicId, queue: QueueId) -> (QueueOffset, QueueOffset) {
        (QueueOffset(0), self.0.queues.end((topic, queue)))
    }

    /// Up to `most` entries of a queue, from an offset on.
    pub fn entries(
        &self,
        topic: TopicId,
        queue: QueueId,
        from: QueueOffset,
        most: usize,
    ) -> Vec<Entry> {
        self.0.queues.read((topic, queue), from, most)
    }

    /// Whether this message is still in memory, so that reading it does not touch the disk.
    pub fn is_recent(&self, topic: TopicId, queue: QueueId, offset: QueueOffset) -> bool {
        let entry = self.0.queues.get((topic, queue), offset);
        entry.is_some_and(|entry| self.0.segments.is_recent(entry.position))
    }

    /// The record of an entry, verified since it left the disk. May block.
    pub fn record(&self, entry: &Entry) -> Result<Bytes, ReadError> {
        self.0.segments.record(entry)
    }

    /// The first message stored at or after a time; the queue's end when there is none. May block.
    pub fn offset_at(
        &self,
        topic: TopicId,
        queue: QueueId,
        stored_at: u64,
    ) -> Result<QueueOffset, ReadError> {
        let key = (topic, queue);
        let (mut from, mut to) = (0, self.0.queues.end(key).0);
        while from < to {
            let middle = from + (to - from) / 2;
            let Some(entry) = self.0.queues.get(key, QueueOffset(middle)) else {
                break;
            };
            if self.stored_at(&entry)? < stored_at {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        Ok(QueueOffset(from))
    }

    fn stored_at(&self, entry: &Entry) -> Result<u64, ReadError> {
        let bytes = self.0.segments.read(entry.position, RECORD_HEADER)?;
        let header = RecordHeader::decode(&bytes).map_err(|error| ReadError::Damaged {
            position: entry.position,
            why: error.to_string(),
        })?;
        Ok(header.stored_at)
    }

    /// Forgets the queues of a topic that was deleted.
    pub fn remove_topic(&self, topic: TopicId) {
        self.0.queues.remove_topic(topic);
    }

    /// End of the durable log.
    pub fn durable(&self) -> LogPosition {
        LogPosition(self.0.durable.load(Ordering::Acquire))
    }

    pub fn epoch(&self) -> Epoch {
        self.0.epoch
    }

    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// Wall time, ms since 1970.
    pub fn now_ms(&self) -> u64 {
        self.0.env.clock.wall_ms()
    }

    /// Steady time, ms.
    pub fn steady_ms(&self) -> u64 {
        self.0.env.clock.steady_ms()
    }

    /// Makes everything durable and marks the log as closed. Appends fail from now on.
    pub fn close(&self) -> Result<(), CloseError> {
        self.0.stop(true)
    }
}

impl Shared {
    fn stop(&self, clean: bool) -> Result<(), CloseError> {
        let threads = self.threads.lock().ok().and_then(|mut it| it.take());
        let Some(mut threads) = threads else {
            return Ok(());
        };
        {
            let mut state = self.queue.lock();
            state.closed = true;
            self.queue.for_appender.notify_all();
            self.queue.for_syncer.notify_all();
        }
        let end = threads.appender.join();
        let synced = threads.syncer.join();
        let spares = threads.spares.join();
        let failed = self.queue.lock().failed.clone();
        if let Some(why) = failed {
            return Err(CloseError::Failed(why));
        }
        let (Ok(durable), Ok(()), Ok(())) = (end, synced, spares) else {
            return Err(CloseError::Failed(
                "a thread of the log panicked".to_owned(),
            ));
        };
        if clean {
            threads.checkpoints.write(&Checkpoint {
                epoch: self.epoch,
                durable,
                clean: true,
            })?;
        }
        Ok(())
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Nobody is left to be told, and a log that is not marked clean is verified.
        let _ = self.stop(false);
    }
}

/// A recovered log, before its threads run.
struct Opened {
    dir: PathBuf,
    env: Env,
    epoch: Epoch,
    log: LogId,
    found: Found,
    queues: Arc<ConsumeQueues>,
    checkpoints: Checkpoints,
    lock: Lock,
}

impl Opened {
    fn start(self, yard: Yard, observer: Observer) -> std::io::Result<Store> {
        let Self { found, env, .. } = self;
        let Some(segment) = found.segments.last().cloned() else {
            return Err(std::io::Error::other("a log has at least one segment"));
        };
        let (spares, spares_thread) = Spares::start(yard)?;
        let queue = Arc::new(Queue::default());
        let durable = Arc::new(AtomicU64::new(found.end));
        let segments = Arc::new(Segments::new(found.segments, LogPosition(found.end)));
        let syncer = Syncer {
            queue: Arc::clone(&queue),
            durable: Arc::clone(&durable),
            dispatcher: Arc::new(Mutex::new(Dispatcher {
                segments: Arc::clone(&segments),
                queues: Arc::clone(&self.queues),
                observer,
            })),
        };
        let appender = Appender {
            queue: Arc::clone(&queue),
            segments: Arc::clone(&segments),
            durable: Arc::clone(&durable),
            clock: Arc::clone(&env.clock),
            spares,
            syncer: syncer.clone(),
            tail: Tail {
                log: self.log,
                epoch: self.epoch,
                segment,
                position: found.end,
                sealed: found.sealed,
                previous_crc: found.previous_crc,
                next_offsets: self.queues.ends(),
                log_clock: LogClock::new(found.last_stored_at, &*env.clock),
            },
        };
        let threads = Threads {
            appender: thread::Builder::new()
                .name("quern-append".to_owned())
                .spawn(move || appender.run())?,
            syncer: thread::Builder::new()
                .name("quern-sync".to_owned())
                .spawn(move || syncer.run())?,
            spares: spares_thread,
            checkpoints: self.checkpoints,
            _lock: self.lock,
        };
        Ok(Store(Arc::new(Shared {
            dir: self.dir,
            env,
            epoch: self.epoch,
            queue,
            segments,
            queues: self.queues,
            durable,
            threads: Mutex::new(Some(threads)),
        })))
    }
}

/// Smallest segment anyone may ask for, bytes; tests roll often.
const SMALLEST_SEGMENT: u64 = 1024 * 1024;

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

/// What the appender has to know of each block. The blocks have been verified.
fn facts(append: &Append) -> Vec<BlockFacts> {
    let mut facts = Vec::with_capacity(append.count as usize);
    let mut rest: &[u8] = &append.blocks;
    while let Ok(block) = Block::lengths(rest) {
        let len = block.bytes().len();
        facts.push(BlockFacts {
            len: len as u32,
            crc: block.crc(),
            tag_code: Tag::code(block.tag()),
        });
        rest = &rest[len..];
    }
    facts
}
