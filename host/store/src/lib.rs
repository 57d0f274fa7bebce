//! The storage engine: a commit log that is the truth, all else derived from it, recovery, retention.
//!
//! Guarantee: when a [`Pending`] resolves to `Ok`, its messages are durable on the disk, in log
//! order, once, and visible to readers. After a crash every such message is there; what was not yet
//! acknowledged is there whole batches at a time or not at all.
//!
//! Two threads own the log: the appender its tail, the syncer its durable end; two more work ahead and
//! behind, on spare segments and on what is noted and let go. All access to files
//! goes through [`fs::Fs`], all time through [`clock::Clock`].

mod appender;
pub mod audit;
mod buffers;
mod checkpoint;
pub mod clock;
mod compaction;
mod config;
mod consume_queue;
mod derived;
mod directory;
mod dispatch;
mod error;
pub mod exercise;
mod filler;
pub mod fs;
mod gathering;
pub mod gauge;
mod group;
mod halves;
mod holes;
mod keeper;
mod keeping;
mod kept;
mod key_index;
mod layout;
mod le;
mod limits;
mod mapping;
mod missing;
mod opening;
mod pending;
mod producers;
mod progress;
mod quarantine;
mod queue;
mod queue_log;
mod recovery;
pub mod repair;
mod retention;
mod scan;
mod scrub;
mod search;
mod segment;
mod segments;
pub mod sim;
mod snapshot;
mod spares;
mod steps;
mod stretch;
mod syncer;
mod timers;
mod traffic;
mod unreadable;
mod wait_list;
mod zeroed;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use quern_protocol::block::state_block;
use quern_protocol::record::RecordError;
use quern_protocol::{
    Block, Epoch, LogPosition, ProducerBatch, QueueId, QueueOffset, RecordHeader, RecordKind, Tag,
    TopicId,
};

use crate::audit::Damage;
use crate::clock::LogClock;
use crate::consume_queue::ConsumeQueues;
use crate::key_index::KeyIndex;
use crate::opening::Opened;
use crate::pending::Slot;
use crate::queue::{Batch, BlockFacts, Queue};
use crate::segments::Segments;
use crate::steps::Running;
use crate::wait_list::WaitList;

pub use crate::config::{Config, Env, ReadMode};
pub use crate::consume_queue::Entry;
pub use crate::dispatch::{Dispatched, Observer, StateRecord, Stateless};
pub use crate::error::{AppendError, CloseError, OpenError, ReadError};
pub use crate::keeping::{Keep, KeptTopics};
pub use crate::key_index::Lookup;
pub use crate::pending::{Acknowledge, Appended, Held, Pending};
pub use crate::progress::Progress;
pub use crate::recovery::TornTail;
pub use crate::retention::{DiskLevel, Retention};
pub use crate::search::{FoundRecords, Most, Search, Waits};
pub use crate::segment::FORMAT;
pub use crate::steps::{Part, Steps};
pub use crate::timers::{DEFAULT_WAITING, Due};
pub use crate::wait_list::{AppendOne, Waiting};

/// Message blocks for one queue, verified by the caller, appended together or not at all.
#[derive(Debug, Clone, Default)]
pub struct Append {
    pub topic: TopicId,
    pub queue: QueueId,
    /// `count` blocks, one after the other.
    pub blocks: Bytes,
    pub count: u32,
    /// So that a batch sent twice is stored once; `None` = it is not recognised.
    pub producer: Option<ProducerBatch>,
    pub acknowledge: Acknowledge,
}

/// What opening found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The log had been closed; nothing had to be doubted.
    pub clean: bool,
    pub epoch: Epoch,
    /// Records that were read again.
    pub records: u64,
    pub segments: usize,
    pub end: LogPosition,
    pub took_ms: u64,
    /// There was no usable state file: all of the log was read.
    pub rebuilt: bool,
    pub torn: Option<TornTail>,
}

/// A store; a cheap handle to it. The last one dropped without [`Store::close`] leaves the log as a
/// crash would, and the next start verifies it.
#[derive(Debug, Clone)]
pub struct Store(Arc<Shared>);

struct Shared {
    dir: PathBuf,
    env: Env,
    log_clock: Arc<LogClock>,
    epoch: Epoch,
    queue: Arc<Queue>,
    segments: Arc<Segments>,
    queues: Arc<ConsumeQueues>,
    keys: Arc<KeyIndex>,
    timers: Arc<WaitList>,
    halves: Arc<WaitList>,
    most_waiting: usize,
    damage: Arc<Mutex<Vec<Damage>>>,
    durable: Arc<AtomicU64>,
    running: Mutex<Option<Running>>,
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
        observer: Box<dyn Observer>,
    ) -> Result<(Self, Report), OpenError> {
        let opened = Opened::open(&config, env, observer)?;
        let unusable = |source| OpenError::Unusable {
            path: config.dir.clone(),
            source,
        };
        let running = opened.steps.start().map_err(unusable)?;
        *opened
            .store
            .0
            .running
            .lock()
            .expect("nobody else has it yet") = Some(running);
        Ok((opened.store, opened.report))
    }

    /// The same, but the log only moves when it is told to. For simulations.
    pub fn open_in_steps(
        config: &Config,
        env: Env,
        observer: Box<dyn Observer>,
    ) -> Result<(Self, Report, Steps), OpenError> {
        let opened = Opened::open(config, env, observer)?;
        Ok((opened.store, opened.report, opened.steps))
    }

    /// Hands over a batch. Calls for one queue are appended in their order; the future resolves
    /// when the batch is durable and visible, and may be dropped.
    pub fn submit(&self, append: Append) -> Pending {
        let mut keys = Vec::new();
        let facts = facts(&append.blocks, append.count, |index, block| {
            let kind = RecordKind::Message;
            key_index::hashes(kind, append.topic, block, |hash| keys.push((index, hash)));
        });
        debug_assert_eq!(facts.len(), append.count as usize, "count says how many");
        let mut batch = Batch::new(
            RecordKind::Message,
            (append.topic, append.queue),
            facts,
            append.blocks,
            Slot::new(append.acknowledge),
        );
        batch.producer = append.producer.map(Into::into);
        batch.keys = keys;
        self.enqueue(batch)
    }

    /// Appends a state record; the observer has applied it when the future resolves.
    pub fn submit_state(&self, kind: RecordKind, body: &[u8]) -> Pending {
        let slot = Slot::new(Acknowledge::Durable);
        self.enqueue(state_batch(kind, body, self.now_ms(), slot))
    }

    /// The same, and holds something until then, even if the future is dropped: who may not look at the state
    /// before this is part of it can wait for that.
    pub fn submit_state_holding(&self, kind: RecordKind, body: &[u8], held: Held) -> Pending {
        self.enqueue(state_batch(kind, body, self.now_ms(), Slot::holding(held)))
    }

    fn enqueue(&self, batch: Batch) -> Pending {
        let pending = batch.slot.pending(&self.0.queue);
        self.0.queue.submit(batch);
        pending
    }

    /// Resolves when there is room for another batch: read no more requests before.
    pub async fn ready(&self) {
        self.0.queue.ready().await;
    }

    /// A queue's first message that is still there, and where its next one goes.
    pub fn range(&self, topic: TopicId, queue: QueueId) -> (QueueOffset, QueueOffset) {
        self.0.queues.range((topic, queue))
    }

    /// How many messages of a queue are there from an offset on; what is gone from between them is not counted.
    pub fn count(&self, topic: TopicId, queue: QueueId, from: QueueOffset) -> u64 {
        self.0.queues.count((topic, queue), from)
    }

    /// Up to `most` entries of a queue, from an offset on, or from the first that is there. May block,
    /// unless [`Self::is_recent`].
    pub fn entries(
        &self,
        topic: TopicId,
        queue: QueueId,
        from: QueueOffset,
        most: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        self.0.queues.read((topic, queue), from, most)
    }

    /// Messages before an offset are not served any more, or again: what is there follows from the log, and this is
    /// forgotten with the store.
    pub fn serve_from(&self, topic: TopicId, queue: QueueId, floor: QueueOffset) {
        self.0.queues.serve_from((topic, queue), floor);
    }

    /// Whether this message is still in memory, so that reading it, and those behind it, does not touch
    /// the disk.
    pub fn is_recent(&self, topic: TopicId, queue: QueueId, offset: QueueOffset) -> bool {
        let entry = self.0.queues.in_memory((topic, queue), offset);
        entry.is_some_and(|entry| self.0.segments.is_recent(entry.position))
    }

    /// The record of an entry, verified since it left the disk. May block.
    pub fn record(&self, entry: &Entry) -> Result<Bytes, ReadError> {
        self.0.segments.record(entry)
    }

    /// Records of entries, in their order, as [`Self::record`] gives them, but with far fewer calls where
    /// they lie close together. Ends before the first that cannot be read; an error when that is the first
    /// of all. May block.
    pub fn records(&self, entries: &[Entry]) -> Result<Vec<Bytes>, ReadError> {
        self.0.segments.records(entries)
    }

    /// The same for who must not wait for a disk. `None` = read them with [`Self::records`]: some are not in memory, or
    /// cannot be read.
    pub fn records_now(&self, entries: &[Entry]) -> Option<Vec<Bytes>> {
        self.0.segments.records_now(entries)
    }

    /// The first message stored at or after a time; the queue's end when there is none. May block.
    pub fn offset_at(
        &self,
        topic: TopicId,
        queue: QueueId,
        stored_at: u64,
    ) -> Result<QueueOffset, ReadError> {
        let key = (topic, queue);
        let (from, to) = self.0.queues.range(key);
        let (mut from, mut to) = (from.0, to.0);
        while from < to {
            let middle = from + (to - from) / 2;
            let Some(entry) = self.0.queues.get(key, QueueOffset(middle))? else {
                break;
            };
            if self.entry_stored_at(&entry)? < stored_at {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        Ok(QueueOffset(from))
    }

    /// When a message was stored, by the log's clock, ms since 1970; `None` = it is not there. May block.
    pub fn stored_at(
        &self,
        topic: TopicId,
        queue: QueueId,
        offset: QueueOffset,
    ) -> Result<Option<u64>, ReadError> {
        let entry = self.0.queues.get((topic, queue), offset)?;
        entry.map(|entry| self.entry_stored_at(&entry)).transpose()
    }

    fn entry_stored_at(&self, entry: &Entry) -> Result<u64, ReadError> {
        let read = |len| self.0.segments.read(entry.position, len);
        let size = entry.size as usize;
        let mut decoded = RecordHeader::decode(&read(size.min(limits::HEADER_READ))?);
        if matches!(decoded, Err(RecordError::Truncated { .. })) {
            decoded = RecordHeader::decode(&read(size)?);
        }
        let header = decoded.map_err(ReadError::damaged(entry.position))?;
        Ok(header.stored_at)
    }

    /// Forgets the queues of a topic that was deleted.
    pub fn remove_topic(&self, topic: TopicId) {
        self.0.queues.retain_topics(|it| it != topic);
        self.0.timers.retain_topics(|it| it != topic);
        self.0.halves.retain_topics(|it| it != topic);
    }

    /// Forgets the queues of all topics but these: once after opening, when it is known which there are.
    pub fn retain_topics(&self, is_kept: impl Fn(TopicId) -> bool) {
        self.0.queues.retain_topics(&is_kept);
        self.0.timers.retain_topics(&is_kept);
        self.0.halves.retain_topics(is_kept);
    }

    /// Ranges of sealed segments that the scrub has found since the start to be damaged, or that the disk did not give
    /// all of.
    pub fn damage(&self) -> Vec<Damage> {
        self.0
            .damage
            .lock()
            .map(|it| it.clone())
            .unwrap_or_default()
    }

    /// How full the disk was when it was last looked at.
    pub fn disk_level(&self) -> DiskLevel {
        self.0.queue.lock().disk
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

    /// The log's time, ms since 1970: the wall clock's, but it never goes back and does not jump. What is stored
    /// now is stored at this time, and what is due is due by it.
    pub fn now_ms(&self) -> u64 {
        self.0.log_clock.now()
    }

    /// Steady time, ms.
    pub fn steady_ms(&self) -> u64 {
        self.0.env.clock.steady_ms()
    }

    /// The same moment, µs.
    pub fn steady_us(&self) -> u64 {
        self.0.env.clock.steady_us()
    }

    /// Makes everything durable and marks the log as closed. Appends fail from now on.
    pub fn close(&self) -> Result<(), CloseError> {
        self.0.stop(true)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Nobody is left to be told, and a log that is not marked clean is verified.
        let _ = self.stop(false);
    }
}

impl Shared {
    fn stop(&self, clean: bool) -> Result<(), CloseError> {
        let running = self.running.lock().ok().and_then(|mut it| it.take());
        running.map_or(Ok(()), |running| running.stop(clean))
    }
}

/// A record of the broker's own, in no queue.
fn state_batch(kind: RecordKind, body: &[u8], born_at: u64, slot: Slot) -> Batch {
    let blocks = state_block(body, born_at);
    let facts = facts(&blocks, 1, |_, _| {});
    Batch::new(kind, (TopicId(0), QueueId(0)), facts, blocks, slot)
}

/// What the appender has to know of each block. The blocks have been verified.
fn facts(blocks: &[u8], count: u32, mut visit: impl FnMut(u32, &Block<'_>)) -> Vec<BlockFacts> {
    let mut facts = Vec::with_capacity(count as usize);
    let mut rest = blocks;
    while let Ok(block) = Block::lengths(rest) {
        let len = block.bytes().len();
        visit(facts.len() as u32, &block);
        facts.push(BlockFacts {
            len: len as u32,
            crc: block.crc(),
            tag_code: Tag::code(block.tag()),
        });
        rest = &rest[len..];
    }
    facts
}
