//! The appender: the one thread that owns the tail of the log. It gives batches their positions and
//! queue offsets, lays out groups, and writes each with one call.
//!
//! While nothing is being synced a batch is written at once; while a sync runs, batches collect
//! until there is a worthwhile group. So a single sender waits for nobody, and many share a sync.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

use bytes::Bytes;
use quern_protocol::record::{RECORD_HEADER, RecordHeader};
use quern_protocol::{Epoch, LogPosition, QueueOffset};

use crate::clock::{Clock, LogClock};
use crate::consume_queue::Key;
use crate::error::{AppendError, is_full};
use crate::group::{GROUP_HEADER, GroupHeader, GroupKind, RecordsCrc};
use crate::limits;
use crate::pending::Appended;
use crate::queue::{Batch, Group, Queue, Written};
use crate::segment::{LogId, SEGMENT_HEADER, Segment};
use crate::segments::Segments;
use crate::spares::Spares;
use crate::syncer::Syncer;

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
    pub(crate) log_clock: LogClock,
}

/// The appender's thread.
pub(crate) struct Appender {
    pub(crate) queue: Arc<Queue>,
    pub(crate) segments: Arc<Segments>,
    pub(crate) durable: Arc<AtomicU64>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) spares: Spares,
    pub(crate) syncer: Syncer,
    pub(crate) tail: Tail,
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
    /// Runs until the log is closed or has failed; returns where the log ends.
    pub(crate) fn run(mut self) -> LogPosition {
        while let Some(batches) = self.next() {
            if !self.append(batches) {
                break;
            }
        }
        let mut state = self.queue.lock();
        state.appender_done = true;
        self.queue.for_syncer.notify_all();
        LogPosition(self.tail.position)
    }

    /// The batches of the next group; `None` when the log is closed or has failed.
    fn next(&self) -> Option<Vec<Batch>> {
        let mut spins = 0;
        let mut state = self.queue.lock();
        loop {
            if state.failed.is_some() || (state.closed && state.batches.is_empty()) {
                return None;
            }
            if state.write_now() {
                break;
            }
            if spins < limits::SPINS {
                spins += 1;
                drop(state);
                std::hint::spin_loop();
                state = self.queue.lock();
            } else {
                state = self.queue.wait(&self.queue.for_appender, state);
            }
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
        let wakers = Queue::announce_room(&mut state);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        Some(batches)
    }

    /// False: the log has failed.
    fn append(&mut self, batches: Vec<Batch>) -> bool {
        let len = GROUP_HEADER + batches.iter().map(stored_len).sum::<usize>();
        let max = self.tail.segment.size - SEGMENT_HEADER - GROUP_HEADER as u64;
        if len as u64 > max {
            return self.append_apart(batches, max);
        }
        let offsets = self.next_offsets(&batches);
        let written = self.make_room(len).and_then(|()| {
            let group = self.lay_out(&batches, len);
            let at = self.tail.position - self.tail.segment.base;
            self.tail.segment.file.write_at(&group.bytes, at)?;
            Ok(group)
        });
        match written {
            Ok(group) => self.hand_over(group, batches),
            Err(Unwritten::DiskFull) => {
                tracing::error!(code = "Q-4001", "the disk is full; messages are refused");
                self.tail.next_offsets.extend(offsets);
                refuse(batches, &AppendError::DiskFull);
                true
            }
            Err(Unwritten::Failed(why)) => {
                tracing::error!(code = "Q-4002", why, "the log cannot be written any more");
                refuse(batches, &AppendError::Failed(why.clone()));
                self.queue.fail(&why);
                false
            }
        }
    }

    /// As they are before a group, to be put back if it cannot be written.
    fn next_offsets(&self, batches: &[Batch]) -> Vec<(Key, u64)> {
        let next = |key| self.tail.next_offsets.get(&key).copied().unwrap_or(0);
        let keys = batches.iter().map(|batch| batch.key);
        keys.map(|key| (key, next(key))).collect()
    }

    /// Gives every record its place.
    fn lay_out(&mut self, batches: &[Batch], len: usize) -> LaidOut {
        let tail = &mut self.tail;
        let stored_at = tail.log_clock.now(&*self.clock);
        let mut bytes = vec![0; GROUP_HEADER];
        bytes.reserve_exact(len - GROUP_HEADER);
        let mut crc = RecordsCrc::new();
        let mut records = 0;
        let mut appended = Vec::with_capacity(batches.len());
        for batch in batches {
            let next = tail.next_offsets.entry(batch.key).or_default();
            appended.push(Appended {
                position: LogPosition(tail.position + bytes.len() as u64),
                first: QueueOffset(*next),
                stored_at,
            });
            let mut at = 0;
            for block in &batch.facts {
                let header = RecordHeader {
                    len: RECORD_HEADER as u32 + block.len,
                    block_crc: block.crc,
                    position: LogPosition(tail.position + bytes.len() as u64),
                    queue_offset: QueueOffset(*next),
                    stored_at,
                    topic: batch.key.0,
                    queue: batch.key.1,
                    epoch: tail.epoch,
                    kind: batch.kind,
                    attempts: 0,
                }
                .encode();
                crc.add(&header);
                bytes.extend_from_slice(&header);
                let end = at + block.len as usize;
                bytes.extend_from_slice(&batch.blocks[at..end]);
                at = end;
                *next += 1;
                records += 1;
            }
        }
        let (header, group_crc) = GroupHeader {
            len: bytes.len() as u32,
            previous_crc: tail.previous_crc,
            position: LogPosition(tail.position),
            durable_upto: LogPosition(self.durable.load(Ordering::Acquire)),
            stored_at,
            epoch: tail.epoch,
            records,
            records_crc: crc.finish(),
            kind: GroupKind::Data,
        }
        .encode(&tail.log);
        bytes[..GROUP_HEADER].copy_from_slice(&header);
        LaidOut {
            bytes: Bytes::from(bytes),
            crc: group_crc,
            appended,
        }
    }

    /// The group is in the file: on to the syncer, or synced here when nothing waits behind it.
    /// False: the log has failed.
    fn hand_over(&mut self, group: LaidOut, batches: Vec<Batch>) -> bool {
        let tail = &mut self.tail;
        let position = tail.position;
        tail.position += group.bytes.len() as u64;
        tail.previous_crc = group.crc;
        let batches = batches.into_iter().zip(group.appended);
        let group = Group {
            position,
            bytes: group.bytes,
            batches: batches
                .map(|(batch, appended)| Written { batch, appended })
                .collect(),
            file: Arc::clone(&tail.segment.file),
        };
        let mut state = self.queue.lock();
        state.unsynced += group.bytes.len();
        let alone = !state.syncing && state.groups.is_empty() && state.batches.is_empty();
        if alone {
            state.syncing = true;
            drop(state);
            return self.syncer.complete(vec![group]);
        }
        state.groups.push(group);
        self.queue.for_syncer.notify_one();
        true
    }

    /// Goes on to a new segment when this one cannot hold the group and its own seal.
    fn make_room(&mut self, len: usize) -> Result<(), Unwritten> {
        let need = (len + GROUP_HEADER) as u64;
        if !self.tail.sealed && self.tail.position + need <= self.tail.segment.end() {
            return Ok(());
        }
        // Prepared before the seal: when there is no space, this segment stays as it is.
        let base = self.tail.segment.end();
        let next = self.spares.take(base, self.tail.epoch)?;
        if !self.tail.sealed {
            self.seal()?;
        }
        let segment = self.spares.install(next, base)?;
        self.segments.add(segment.clone());
        self.tail.position = base + SEGMENT_HEADER;
        self.tail.segment = segment;
        self.tail.sealed = false;
        Ok(())
    }

    /// Ends a segment for good: everything in it is durable before the next takes a write.
    fn seal(&mut self) -> Result<(), Unwritten> {
        self.wait_until_synced()?;
        let tail = &mut self.tail;
        let (header, crc) = GroupHeader {
            len: GROUP_HEADER as u32,
            previous_crc: tail.previous_crc,
            position: LogPosition(tail.position),
            durable_upto: LogPosition(tail.position),
            stored_at: tail.log_clock.now(&*self.clock),
            epoch: tail.epoch,
            records: 0,
            records_crc: RecordsCrc::new().finish(),
            kind: GroupKind::Seal,
        }
        .encode(&tail.log);
        let at = tail.position - tail.segment.base;
        tail.segment.file.write_at(&header, at)?;
        let synced = tail.segment.file.sync_data();
        // Whatever its kind: after a failed sync nothing is known about what was written.
        synced.map_err(|error| Unwritten::Failed(error.to_string()))?;
        tail.previous_crc = crc;
        tail.position += GROUP_HEADER as u64;
        tail.sealed = true;
        Ok(())
    }

    fn wait_until_synced(&self) -> Result<(), Unwritten> {
        let mut state = self.queue.lock();
        while state.unsynced > 0 && state.failed.is_none() {
            state = self.queue.wait(&self.queue.for_appender, state);
        }
        match &state.failed {
            Some(why) => Err(Unwritten::Failed(why.clone())),
            None => Ok(()),
        }
    }

    /// A group no segment holds: each batch by itself, and what is too large alone is refused.
    fn append_apart(&mut self, batches: Vec<Batch>, max: u64) -> bool {
        if batches.len() == 1 {
            let len = batches.iter().map(stored_len).sum();
            refuse(batches, &AppendError::TooLarge { len, max });
            return true;
        }
        batches.into_iter().all(|batch| self.append(vec![batch]))
    }
}

struct LaidOut {
    bytes: Bytes,
    crc: u32,
    appended: Vec<Appended>,
}

/// Bytes a batch takes in the log.
fn stored_len(batch: &Batch) -> usize {
    batch.blocks.len() + batch.facts.len() * RECORD_HEADER
}

fn refuse(batches: Vec<Batch>, error: &AppendError) {
    for batch in batches {
        batch.slot.settle(Err(error.clone()));
    }
}
