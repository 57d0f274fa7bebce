//! The appender: the one thread that owns the tail of the log. It gives batches their positions and
//! queue offsets, lays out groups, and writes each with one call.
//!
//! While nothing is being synced a batch is written at once; while a sync runs, batches collect
//! until there is a worthwhile group, unless being written is all that one of them waits for. So a
//! single sender waits for nobody, and many share a sync.
//!
//! It works in turns: a turn never waits, but says that it has to.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use quern_protocol::{Epoch, LogPosition};

use crate::clock::{Clock, LogClock};
use crate::consume_queue::Key;
use crate::error::{AppendError, is_full};
use crate::fs::File;
use crate::group::{GROUP_HEADER, GroupHeader, GroupKind, RecordsCrc};
use crate::layout::Layout;
use crate::limits;
use crate::producers::{Producers, Standing};
use crate::queue::{Batch, Group, Queue, Written};
use crate::segment::{LogId, SEGMENT_HEADER, Segment};
use crate::segments::Segments;
use crate::spares::{Blank, Claim, Yard};
use crate::steps::Turn;
use crate::syncer::Syncer;
use crate::zeroed::Zeroed;

/// The tail of the log: all the appender knows and nobody else changes.
pub(crate) struct Tail {
    pub(crate) log: LogId,
    pub(crate) epoch: Epoch,
    pub(crate) segment: Segment,
    /// Where the next group goes.
    pub(crate) position: u64,
    /// The segment has its seal: the next group needs a new one.
    pub(crate) sealed: bool,
    pub(crate) previous_crc: u32,
    pub(crate) next_offsets: HashMap<Key, u64>,
    pub(crate) producers: Producers,
    pub(crate) log_clock: Arc<LogClock>,
    /// Where the last group with records ends.
    pub(crate) data_end: u64,
    /// What the last group said was durable.
    pub(crate) noted: u64,
    /// Steady time of the last write, or of a stamp that found no space, ms.
    pub(crate) written_at: u64,
    pub(crate) zeroed: Zeroed,
}

/// Writes the log.
pub(crate) struct Appender {
    pub(crate) queue: Arc<Queue>,
    pub(crate) segments: Arc<Segments>,
    pub(crate) durable: Arc<AtomicU64>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) yard: Yard,
    pub(crate) syncer: Syncer,
    /// Sync a lone group here rather than wake the syncer.
    pub(crate) syncs_alone: bool,
    pub(crate) stamp_after: Duration,
    pub(crate) tail: Tail,
    /// What goes into the log before anything else, a group each.
    pub(crate) waiting: VecDeque<Vec<Batch>>,
}

/// Why a group was not written.
enum Unwritten {
    DiskFull,
    Failed(String),
}

impl From<io::Error> for Unwritten {
    fn from(error: io::Error) -> Self {
        if is_full(&error) {
            Self::DiskFull
        } else {
            Self::Failed(error.to_string())
        }
    }
}

impl Appender {
    /// Writes one group, if there is one to write. Ends when the log is closed or has failed.
    pub(crate) fn turn(&mut self) -> Turn {
        let has_failed = {
            let mut state = self.queue.lock();
            state.writing = false;
            state.look_again = false;
            state.failed.is_some()
        };
        if has_failed {
            return self.end();
        }
        let others = self.gathering();
        if let Some(batches) = self.waiting.pop_front().or_else(|| self.gather()) {
            return self.append(batches);
        }
        if self.queue.lock().is_drained() {
            return self.end();
        }
        if others.is_some() {
            return Turn::Waiting(others);
        }
        self.let_sync();
        match self.until_stamp() {
            Some(left) if left.is_zero() => self.stamp(),
            left => Turn::Waiting(left),
        }
    }

    /// How much longer the next sync waits for batches, if it does.
    fn gathering(&self) -> Option<Duration> {
        let mut state = self.queue.lock();
        let (left, has_ended) = state.gathering.look(self.clock.steady_us());
        // First what has come, then the sync.
        state.flushing |= has_ended;
        left.map(Duration::from_micros)
    }

    /// There is nothing to write before the next sync.
    fn let_sync(&self) {
        let mut state = self.queue.lock();
        if std::mem::take(&mut state.flushing) {
            self.queue.for_syncer.notify_one();
        }
    }

    /// Where the log ends.
    pub(crate) fn position(&self) -> LogPosition {
        LogPosition(self.tail.position)
    }

    fn end(&mut self) -> Turn {
        let mut state = self.queue.lock();
        state.appender_done = true;
        state.writing = false;
        let failed = state.failed.clone();
        drop(state);
        self.queue.for_syncer.notify_all();
        self.queue.for_maker.notify_all();
        self.queue.for_keeper.notify_all();
        if let Some(why) = failed {
            let error = AppendError::Failed(why);
            let waiting = std::mem::take(&mut self.waiting);
            waiting.into_iter().for_each(|it| refuse(it, &error));
        }
        Turn::Ended
    }

    /// The batches of the next group, when it is time to write one.
    fn gather(&self) -> Option<Vec<Batch>> {
        let mut state = self.queue.lock();
        if !state.write_now() {
            return None;
        }
        let mut batches = Vec::new();
        let mut bytes = 0;
        while bytes < limits::GROUP
            && let Some(batch) = state.batches.pop_front()
        {
            // A large batch goes alone rather than making a group larger than any segment's room.
            if bytes > 0 && bytes + batch.blocks.len() > limits::GROUP {
                state.batches.push_front(batch);
                break;
            }
            bytes += batch.blocks.len();
            batches.push(batch);
        }
        state.submitted -= bytes;
        state.writing = true;
        state.hurried &= !state.batches.is_empty();
        let wakers = Queue::announce_room(&mut state);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        Some(batches)
    }

    fn append(&mut self, batches: Vec<Batch>) -> Turn {
        let len = GROUP_HEADER + batches.iter().map(Batch::stored_len).sum::<usize>();
        let max = self.yard.size - SEGMENT_HEADER - GROUP_HEADER as u64;
        if len as u64 > max {
            return self.append_apart(batches, max);
        }
        let claim = batches.iter().map(Batch::claim).min();
        match self.make_room(len, claim.unwrap_or(Claim::Users)) {
            Ok(true) => {}
            Ok(false) => {
                self.waiting.push_front(batches);
                self.queue.for_syncer.notify_one();
                return Turn::Waiting(None);
            }
            Err(Unwritten::DiskFull) => return self.part(batches),
            Err(error) => return self.give_up(batches, error),
        }
        let before = self.tail.before(&batches);
        let group = self.lay_out(batches, len);
        let written = self.write(&group.bytes);
        match written.and_then(|()| self.zero_behind(group.bytes.len())) {
            Ok(()) => self.hand_over(group),
            Err(error) => {
                self.tail.take_back(before);
                let batches = group.written.into_iter().map(|it| it.batch);
                self.give_up(batches.collect(), error)
            }
        }
    }

    /// There is no room for the least important of these: the others go on without them.
    fn part(&mut self, batches: Vec<Batch>) -> Turn {
        let least = batches.iter().map(Batch::claim).min();
        let (refused, others): (Vec<_>, Vec<_>) = batches
            .into_iter()
            .partition(|it| Some(it.claim()) == least);
        if !others.is_empty() {
            self.waiting.push_front(others);
        }
        self.give_up(refused, Unwritten::DiskFull)
    }

    fn write(&mut self, group: &[u8]) -> Result<(), Unwritten> {
        if group.is_empty() {
            return Ok(());
        }
        let at = self.tail.position - self.tail.segment.base;
        self.tail.segment.file.write_at(group, at)?;
        self.tail.written_at = self.clock.steady_ms();
        Ok(())
    }

    fn zero_behind(&mut self, len: usize) -> Result<(), Unwritten> {
        let tail = &mut self.tail;
        let end = tail.position + len as u64;
        Ok(tail.zeroed.follow(&tail.segment, end, len)?)
    }

    fn give_up(&mut self, batches: Vec<Batch>, error: Unwritten) -> Turn {
        match error {
            Unwritten::DiskFull => {
                tracing::error!(code = "Q-4001", "the disk is full; messages are refused");
                refuse(batches, &AppendError::DiskFull);
                Turn::Moved
            }
            Unwritten::Failed(why) => {
                tracing::error!(code = "Q-4002", why, "the log cannot be written any more");
                refuse(batches, &AppendError::Failed(why.clone()));
                self.queue.fail(&why);
                self.end()
            }
        }
    }

    /// Gives every record its place. Batches that cannot be appended are refused; those that are in the
    /// log already stay in the group without a record, so that they are answered in their turn.
    fn lay_out(&mut self, batches: Vec<Batch>, len: usize) -> LaidOut {
        let durable = self.durable.load(Ordering::Acquire);
        let tail = &mut self.tail;
        let stored_at = tail.log_clock.now();
        let mut group = Layout::new(tail, stored_at, self.segments.buffers.take(len));
        let mut written = Vec::with_capacity(batches.len());
        for mut batch in batches {
            match tail.standing(&batch) {
                Ok(Standing::Next) => {
                    let appended = group.add(&batch, tail);
                    written.push(Written { batch, appended });
                }
                Ok(Standing::Again(appended)) => {
                    batch.facts.clear();
                    written.push(Written { batch, appended });
                }
                Err(error) => batch.slot.settle(Err(error)),
            }
        }
        let mut bytes = group.bytes;
        if group.records == 0 {
            return LaidOut {
                bytes: Bytes::new(),
                crc: tail.previous_crc,
                durable_upto: tail.noted,
                stored_at,
                written,
            };
        }
        let (header, crc) = GroupHeader {
            len: bytes.len() as u32,
            previous_crc: tail.previous_crc,
            position: LogPosition(tail.position),
            durable_upto: LogPosition(durable),
            stored_at,
            epoch: tail.epoch,
            records: group.records,
            records_crc: group.crc.finish(),
            kind: GroupKind::Data,
        }
        .encode(&tail.log);
        bytes[..GROUP_HEADER].copy_from_slice(&header);
        LaidOut {
            bytes: Bytes::from(bytes),
            crc,
            durable_upto: durable,
            stored_at,
            written,
        }
    }

    /// The group is in the file: on to the syncer, or synced here when nothing waits behind it.
    fn hand_over(&mut self, group: LaidOut) -> Turn {
        let tail = &mut self.tail;
        let LaidOut {
            bytes,
            crc,
            durable_upto,
            stored_at,
            written,
        } = group;
        let hurried = written.iter().any(|it| it.batch.slot.is_eager());
        for it in &written {
            it.batch.slot.note_written(it.appended);
        }
        let group = Group {
            position: tail.position,
            previous_crc: tail.previous_crc,
            stored_at,
            bytes,
            batches: written,
            file: to_sync(&self.yard, &tail.segment),
        };
        tail.position += group.bytes.len() as u64;
        tail.previous_crc = crc;
        tail.noted = durable_upto;
        if !group.batches.is_empty() {
            tail.data_end = tail.position;
        }
        let mut state = self.queue.lock();
        state.unsynced += group.bytes.len();
        let others = state.syncing || !state.groups.is_empty() || !state.batches.is_empty();
        let alone = !others && !state.gathering.is_open();
        // Who only waits to be written sends again at once, and shall not wait for this sync; for a stamp
        // nobody waits at all.
        let is_awaited = !hurried && !group.batches.is_empty();
        if alone && is_awaited && self.syncs_alone {
            state.syncing = true;
            drop(state);
            if self.syncer.complete(vec![group]) {
                return Turn::Moved;
            }
            return self.end();
        }
        state.groups.push(group);
        state.flushing &= !state.batches.is_empty();
        state.writing = false;
        drop(state);
        self.queue.for_syncer.notify_one();
        Turn::Moved
    }

    /// Goes on to a new segment when this one cannot hold the group and its own seal. False: not
    /// yet, all of this one must be durable first, and a spare there.
    fn make_room(&mut self, len: usize, claim: Claim) -> Result<bool, Unwritten> {
        if self.queue.lock().stock.refuses(claim) {
            return Err(Unwritten::DiskFull);
        }
        if !self.tail.sealed && self.fits(len) {
            return Ok(true);
        }
        let need = SEGMENT_HEADER + (len + GROUP_HEADER) as u64;
        let Some(made) = self.queue.lock().take_next(claim, need) else {
            return Ok(false);
        };
        let rolled = made
            .map_err(Unwritten::from)
            .and_then(|next| self.roll(&next));
        // Whatever became of this one.
        self.queue.want_spare();
        rolled.map(|()| true)
    }

    fn fits(&self, len: usize) -> bool {
        let need = (len + GROUP_HEADER) as u64;
        self.tail.position + need <= self.tail.segment.end()
    }

    fn roll(&mut self, next: &Blank) -> Result<(), Unwritten> {
        let base = self.tail.segment.end();
        let now = self.tail.log_clock.now();
        // Before the seal: when there is no space, this segment stays as it is.
        let header = self.yard.address(next, (base, now), self.tail.epoch)?;
        if !self.tail.sealed {
            self.seal()?;
        }
        let segment = self.yard.install(next, &header)?;
        self.segments.add(segment.clone());
        self.tail.position = base + SEGMENT_HEADER;
        self.tail.zeroed = Zeroed(self.tail.position);
        self.tail.segment = segment;
        self.tail.sealed = false;
        self.queue.want_keeper();
        Ok(())
    }

    /// A group without records, at the end of the log.
    fn mark(&mut self, kind: GroupKind) -> LaidOut {
        let durable = self.durable.load(Ordering::Acquire);
        let tail = &mut self.tail;
        let stored_at = tail.log_clock.now();
        let (header, crc) = GroupHeader {
            len: GROUP_HEADER as u32,
            previous_crc: tail.previous_crc,
            position: LogPosition(tail.position),
            durable_upto: LogPosition(durable),
            stored_at,
            epoch: tail.epoch,
            records: 0,
            records_crc: RecordsCrc::new().finish(),
            kind,
        }
        .encode(&tail.log);
        LaidOut {
            bytes: Bytes::copy_from_slice(&header),
            crc,
            durable_upto: durable,
            stored_at,
            written: Vec::new(),
        }
    }

    /// Ends a segment for good; everything before is durable, and so is the seal when this returns.
    fn seal(&mut self) -> Result<(), Unwritten> {
        let seal = self.mark(GroupKind::Seal);
        self.write(&seal.bytes)?;
        let synced = if cfg!(zoo = "z24") {
            Ok(())
        } else {
            self.tail.segment.file.sync_data()
        };
        // Whatever its kind: after a failed sync nothing is known about what was written.
        synced.map_err(|error| Unwritten::Failed(error.to_string()))?;
        self.tail.previous_crc = seal.crc;
        self.tail.noted = seal.durable_upto;
        self.tail.position += GROUP_HEADER as u64;
        self.tail.sealed = true;
        Ok(())
    }

    /// How long until the log should note that all of it is durable; `None` when it says so already.
    fn until_stamp(&self) -> Option<Duration> {
        let tail = &self.tail;
        let is_due = tail.noted < tail.data_end && !tail.sealed && self.fits(GROUP_HEADER);
        if !is_due {
            return None;
        }
        if self.durable.load(Ordering::Acquire) < tail.data_end {
            return Some(self.stamp_after.max(Duration::from_millis(1)));
        }
        let silent = self.clock.steady_ms().saturating_sub(tail.written_at);
        Some(
            self.stamp_after
                .saturating_sub(Duration::from_millis(silent)),
        )
    }

    fn stamp(&mut self) -> Turn {
        let stamp = self.mark(GroupKind::Stamp);
        match self.write(&stamp.bytes) {
            Ok(()) => self.hand_over(stamp),
            // Nobody waits for it: it is tried again after the same silence, not at once and for ever.
            Err(Unwritten::DiskFull) => {
                self.tail.written_at = self.clock.steady_ms();
                Turn::Waiting(self.until_stamp())
            }
            Err(error) => self.give_up(Vec::new(), error),
        }
    }

    /// A group no segment holds: each batch by itself, and what is too large alone is refused.
    fn append_apart(&mut self, batches: Vec<Batch>, max: u64) -> Turn {
        if batches.len() == 1 {
            let len = batches.iter().map(Batch::stored_len).sum();
            refuse(batches, &AppendError::TooLarge { len, max });
        } else {
            let alone = batches.into_iter().map(|batch| vec![batch]);
            self.waiting.extend(alone);
        }
        Turn::Moved
    }
}

struct LaidOut {
    /// Empty when there is nothing to write.
    bytes: Bytes,
    crc: u32,
    durable_upto: u64,
    stored_at: u64,
    written: Vec<Written>,
}

/// The descriptor a segment was written through, the only one that hears of every failure; the zoo
/// takes a new one.
fn to_sync(yard: &Yard, segment: &Segment) -> Arc<dyn File> {
    let fresh = || yard.fs.open(&Segment::path(&yard.dir, segment.base)).ok();
    let fresh = if cfg!(zoo = "z4") { fresh() } else { None };
    fresh.unwrap_or_else(|| Arc::clone(&segment.file))
}

fn refuse(batches: Vec<Batch>, error: &AppendError) {
    for batch in batches {
        batch.slot.settle(Err(error.clone()));
    }
}
