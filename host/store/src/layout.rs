//! How batches become a group: every record gets its log position, its queue offset and its header. What
//! that changes in the tail can be taken back, should the group not be written.

use quern_protocol::{Epoch, LogPosition, ProducerId, ProducerStamp, QueueOffset, RecordHeader};

use crate::appender::Tail;
use crate::consume_queue::Key;
use crate::error::AppendError;
use crate::group::{GROUP_HEADER, RecordsCrc};
use crate::pending::Appended;
use crate::producers::{self, Sent, Standing};
use crate::queue::Batch;

/// A group that is being laid out.
pub(crate) struct Layout {
    position: u64,
    epoch: Epoch,
    stored_at: u64,
    pub(crate) bytes: Vec<u8>,
    pub(crate) crc: RecordsCrc,
    pub(crate) records: u32,
}

impl Layout {
    /// An empty group at the end of the log, in a buffer with room for it.
    pub(crate) fn new(tail: &Tail, stored_at: u64, mut bytes: Vec<u8>) -> Self {
        bytes.resize(GROUP_HEADER, 0);
        Self {
            position: tail.position,
            epoch: tail.epoch,
            stored_at,
            bytes,
            crc: RecordsCrc::new(),
            records: 0,
        }
    }

    /// Gives a batch's records their places.
    pub(crate) fn add(&mut self, batch: &Batch, tail: &mut Tail) -> Appended {
        let mut copied;
        let (next, stored_at) = match batch.original {
            // In its place, and as old as it was.
            Some(original) => {
                copied = original.offset.0;
                (&mut copied, original.stored_at)
            }
            None => {
                let next = tail.next_offsets.entry(batch.key).or_default();
                (next, self.stored_at)
            }
        };
        let appended = Appended {
            position: LogPosition(self.position + self.bytes.len() as u64),
            first: QueueOffset(if batch.kind.is_queued() { *next } else { 0 }),
            stored_at,
        };
        let head_len = batch.head_len();
        let mut extensions = batch.extensions(self.stored_at);
        let (mut at, mut left) = (0, batch.facts.len());
        for block in &batch.facts {
            left -= 1;
            if let Some(producer) = &mut extensions.producer {
                producer.to_follow = left as u16;
            }
            let header = RecordHeader {
                len: head_len + block.len,
                block_crc: block.crc,
                position: LogPosition(self.position + self.bytes.len() as u64),
                queue_offset: QueueOffset(if batch.kind.is_queued() { *next } else { 0 }),
                stored_at,
                topic: batch.key.0,
                queue: batch.key.1,
                epoch: self.epoch,
                kind: batch.kind,
                attempts: batch.attempts,
                extensions,
            };
            self.crc.add(header.encode(&batch.notes, &mut self.bytes));
            let end = at + block.len as usize;
            self.bytes.extend_from_slice(&batch.blocks[at..end]);
            at = end;
            if batch.kind.is_queued() {
                *next += 1;
            }
            self.records += 1;
        }
        if let Some(stamp) = &batch.producer {
            let sent = producers::Batch::new(stamp, &appended);
            tail.producers.apply(stamp, batch.key, sent);
        }
        appended
    }
}

/// What a group changes in the tail, as it was.
pub(crate) struct Before {
    offsets: Vec<(Key, u64)>,
    windows: Vec<(ProducerId, Key, Option<Sent>)>,
}

impl Tail {
    pub(crate) fn before(&self, batches: &[Batch]) -> Before {
        let next = |key| self.next_offsets.get(&key).copied().unwrap_or(0);
        let stamped = |batch: &Batch| {
            let ProducerStamp { id, .. } = batch.producer?;
            Some((id, batch.key, self.producers.window(id, batch.key)))
        };
        Before {
            offsets: batches.iter().map(|it| (it.key, next(it.key))).collect(),
            windows: batches.iter().filter_map(stamped).collect(),
        }
    }

    /// The group was not written.
    pub(crate) fn take_back(&mut self, before: Before) {
        self.next_offsets.extend(before.offsets);
        for (id, key, window) in before.windows {
            self.producers.restore(id, key, window);
        }
    }

    /// How a batch stands to what its producer has sent before.
    pub(crate) fn standing(&self, batch: &Batch) -> Result<Standing, AppendError> {
        match &batch.producer {
            Some(stamp) => self.producers.check(stamp, batch.key),
            None => Ok(Standing::Next),
        }
    }
}
