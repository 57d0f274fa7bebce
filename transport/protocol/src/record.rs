//! A log record: the header the broker puts before a message block. It is a disk format and, since
//! pull replies carry records verbatim, a wire format too. Little-endian.
//!
//! ```text
//!  0  u32 magic        "QRC0"            24  u64 queue offset
//!  4  u32 len          header + block,   32  u64 stored_at, ms of the log's clock
//!                      a multiple of 8   40  u32 topic id
//!  8  u32 crc          of 0..8, 12..end  44  u32 queue id
//!                      of extensions     48  u32 epoch
//! 12  u32 block crc    the block's own   52  u8 kind   53  u8 flags   54  u16 attempts
//! 16  u64 position                       56  extensions, then the block
//!
//! flags: 1 producer · 2 origin · 4 carried · 16 notes; each but 4 brings an extension, in this order
//! producer, 16 B: u64 producer id · u32 sequence · u16 producer epoch · u16 records of this batch still to follow
//! origin, 16 B:   u64 due_at, 0 = none · u64 first position of the record this one stems from, 0 = none
//! notes, 4 + n B, zeros to a multiple of 8: u32 n · pairs as in the block
//! ```
//!
//! The header's CRC binds the block's: no byte of a record is uncovered. A kind that is not known is no
//! damage: kinds are added, and whoever lacks one refuses the log. Frozen in `tests/golden`.
//!
//! To change anything else, flags too: a new format number (`host/store/src/segment.rs`), a reader that keeps the old one,
//! new golden files beside the old, for the wire as well as the disk.

mod kind;
mod view;

use crate::block::{BlockError, crc_around};
use crate::ids::{Epoch, LogPosition, ProducerId, QueueId, QueueOffset, TopicId};
use crate::limits;
use crate::send::ProducerBatch;

pub use kind::RecordKind;
pub use view::{RecordView, records};

/// Bytes before extensions and block.
pub const RECORD_HEADER: usize = 56;
/// First four bytes of a record.
pub const RECORD_MAGIC: u32 = u32::from_le_bytes(*b"QRC0");

const PRODUCER: u8 = 1;
const ORIGIN: u8 = 2;
const CARRIED: u8 = 4;
const NOTES: u8 = 16;
const PRODUCER_BYTES: usize = 16;
const ORIGIN_BYTES: usize = 16;

/// Which batch of which producer a record belongs to, so that one sent twice is stored once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerStamp {
    pub id: ProducerId,
    /// Rises whenever the id is taken over.
    pub epoch: u16,
    /// Counts the producer's batches for this queue.
    pub sequence: u32,
    /// Records of the batch behind this one.
    pub to_follow: u16,
}

impl From<ProducerBatch> for ProducerStamp {
    /// Of a batch of one record.
    fn from(batch: ProducerBatch) -> Self {
        Self {
            id: batch.producer,
            epoch: batch.epoch,
            sequence: batch.sequence,
            to_follow: 0,
        }
    }
}

/// Where a record comes from, and when it is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Origin {
    /// ms since 1970; 0 = at once.
    pub due_at: u64,
    /// First position of the record this one stems from; 0 = from none.
    pub root: LogPosition,
}

/// What not every record has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extensions {
    pub producer: Option<ProducerStamp>,
    pub origin: Option<Origin>,
    /// Appended again so that an older segment could go; its queue offset is the first one's.
    pub carried: bool,
    /// Bytes of the notes' pairs; 0 = no notes.
    pub notes_len: u16,
}

impl Extensions {
    /// Bytes they take.
    pub fn size(&self) -> usize {
        let notes = match usize::from(self.notes_len) {
            0 => 0,
            len => (4 + len).next_multiple_of(8),
        };
        usize::from(self.producer.is_some()) * PRODUCER_BYTES
            + usize::from(self.origin.is_some()) * ORIGIN_BYTES
            + notes
    }

    fn flags(&self) -> u8 {
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        flag(self.producer.is_some(), PRODUCER)
            | flag(self.origin.is_some(), ORIGIN)
            | flag(self.carried, CARRIED)
            | flag(self.notes_len > 0, NOTES)
    }
}

/// All of a record before its block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeader {
    /// Header, extensions and block together.
    pub len: u32,
    pub block_crc: u32,
    pub position: LogPosition,
    pub queue_offset: QueueOffset,
    pub stored_at: u64,
    pub topic: TopicId,
    pub queue: QueueId,
    pub epoch: Epoch,
    pub kind: RecordKind,
    pub attempts: u16,
    pub extensions: Extensions,
}

/// Why bytes are not a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("record is cut short: {have} bytes of at least {need}")]
    Truncated { have: usize, need: usize },
    #[error("no record begins here: magic is {0:#010x}")]
    Magic(u32),
    #[error("record length {len} is impossible")]
    Length { len: u32 },
    #[error("record header checksum is {stored:#010x}, its bytes give {computed:#010x}")]
    Checksum { stored: u32, computed: u32 },
    #[error("record kind {0} belongs to a later format")]
    Kind(u8),
    #[error("record flags {0:#04x} are not of this format")]
    Flags(u8),
    #[error("the extensions of a record of {len} bytes need {need}")]
    Extensions { len: u32, need: usize },
    #[error("the notes of a record do not add up")]
    Notes,
    #[error("record header names block checksum {header:#010x}, the block has {block:#010x}")]
    OtherBlock { header: u32, block: u32 },
    #[error(transparent)]
    Block(#[from] BlockError),
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(number(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(number(bytes, at))
}

impl RecordHeader {
    /// Bytes of header and extensions: where the block begins.
    pub fn size(&self) -> usize {
        RECORD_HEADER + self.extensions.size()
    }

    /// Appends header and extensions. `notes` are encoded pairs, `notes_len` bytes of them. Returns the
    /// checksum.
    pub fn encode(&self, notes: &[u8], out: &mut Vec<u8>) -> u32 {
        debug_assert_eq!(notes.len(), usize::from(self.extensions.notes_len));
        let start = out.len();
        let mut head = [0; RECORD_HEADER];
        head[0..4].copy_from_slice(&RECORD_MAGIC.to_le_bytes());
        head[4..8].copy_from_slice(&self.len.to_le_bytes());
        head[12..16].copy_from_slice(&self.block_crc.to_le_bytes());
        head[16..24].copy_from_slice(&self.position.0.to_le_bytes());
        head[24..32].copy_from_slice(&self.queue_offset.0.to_le_bytes());
        head[32..40].copy_from_slice(&self.stored_at.to_le_bytes());
        head[40..44].copy_from_slice(&self.topic.0.to_le_bytes());
        head[44..48].copy_from_slice(&self.queue.0.to_le_bytes());
        head[48..52].copy_from_slice(&self.epoch.0.to_le_bytes());
        head[52] = self.kind as u8;
        head[53] = self.extensions.flags();
        head[54..56].copy_from_slice(&self.attempts.to_le_bytes());
        out.extend_from_slice(&head);
        if let Some(producer) = self.extensions.producer {
            out.extend_from_slice(&producer.id.0.to_le_bytes());
            out.extend_from_slice(&producer.sequence.to_le_bytes());
            out.extend_from_slice(&producer.epoch.to_le_bytes());
            out.extend_from_slice(&producer.to_follow.to_le_bytes());
        }
        if let Some(origin) = self.extensions.origin {
            out.extend_from_slice(&origin.due_at.to_le_bytes());
            out.extend_from_slice(&origin.root.0.to_le_bytes());
        }
        if !notes.is_empty() {
            out.extend_from_slice(&(notes.len() as u32).to_le_bytes());
            out.extend_from_slice(notes);
            out.resize(start + self.size(), 0);
        }
        let crc = crc_around(&out[start..], 8..12);
        out[start + 8..start + 12].copy_from_slice(&crc.to_le_bytes());
        crc
    }

    /// What the record that `bytes` begin with says of its length, believed by nobody before all of it
    /// has been checked; `None` when none begins there.
    pub fn stored_len(bytes: &[u8]) -> Option<usize> {
        let head = bytes.first_chunk::<RECORD_HEADER>()?;
        let len = u32_at(head, 4) as usize;
        let possible = RECORD_HEADER..=RECORD_HEADER + limits::NOTES + 2 * limits::FRAME_BODY;
        (u32_at(head, 0) == RECORD_MAGIC && possible.contains(&len)).then_some(len)
    }

    /// Decodes and checks header and extensions that `bytes` begin with.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        Self::read(bytes, true)
    }

    /// The same where the checksum has been verified before.
    pub(crate) fn trusted(bytes: &[u8]) -> Result<Self, RecordError> {
        Self::read(bytes, false)
    }

    fn read(bytes: &[u8], with_checksum: bool) -> Result<Self, RecordError> {
        let Some(head) = bytes.first_chunk::<RECORD_HEADER>() else {
            return Err(RecordError::Truncated {
                have: bytes.len(),
                need: RECORD_HEADER,
            });
        };
        let magic = u32_at(head, 0);
        if magic != RECORD_MAGIC {
            return Err(RecordError::Magic(magic));
        }
        let flags = head[53];
        // Where an unknown flag is, the length is not known either.
        if flags & !(PRODUCER | ORIGIN | CARRIED | NOTES) != 0 {
            return Err(RecordError::Flags(flags));
        }
        let mut rest = Rest(&bytes[RECORD_HEADER..]);
        let producer = (flags & PRODUCER != 0).then(|| rest.producer());
        let origin = (flags & ORIGIN != 0).then(|| rest.origin());
        let extensions = Extensions {
            producer: producer.transpose()?,
            origin: origin.transpose()?,
            carried: flags & CARRIED != 0,
            notes_len: if flags & NOTES != 0 {
                rest.notes_len()?
            } else {
                0
            },
        };
        let size = RECORD_HEADER + extensions.size();
        let whole = bytes.get(..size).ok_or(RecordError::Truncated {
            have: bytes.len(),
            need: size,
        })?;
        if with_checksum {
            let (stored, computed) = (u32_at(head, 8), crc_around(whole, 8..12));
            if stored != computed {
                return Err(RecordError::Checksum { stored, computed });
            }
        }
        let len = u32_at(head, 4);
        if !len.is_multiple_of(8) || (len as usize) < RECORD_HEADER {
            return Err(RecordError::Length { len });
        }
        if (len as usize) < size {
            return Err(RecordError::Extensions { len, need: size });
        }
        Ok(Self {
            len,
            block_crc: u32_at(head, 12),
            position: LogPosition(u64_at(head, 16)),
            queue_offset: QueueOffset(u64_at(head, 24)),
            stored_at: u64_at(head, 32),
            topic: TopicId(u32_at(head, 40)),
            queue: QueueId(u32_at(head, 44)),
            epoch: Epoch(u32_at(head, 48)),
            kind: RecordKind::from_number(head[52]).ok_or(RecordError::Kind(head[52]))?,
            attempts: u16::from_le_bytes([head[54], head[55]]),
            extensions,
        })
    }
}

/// Extensions not yet read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take<const N: usize>(&mut self) -> Result<&'a [u8; N], RecordError> {
        let Some((taken, rest)) = self.0.split_first_chunk::<N>() else {
            return Err(RecordError::Truncated {
                have: RECORD_HEADER + self.0.len(),
                need: RECORD_HEADER + N,
            });
        };
        self.0 = rest;
        Ok(taken)
    }

    fn producer(&mut self) -> Result<ProducerStamp, RecordError> {
        let bytes = self.take::<PRODUCER_BYTES>()?;
        Ok(ProducerStamp {
            id: ProducerId(u64_at(bytes, 0)),
            sequence: u32_at(bytes, 8),
            epoch: u16::from_le_bytes(number(bytes, 12)),
            to_follow: u16::from_le_bytes(number(bytes, 14)),
        })
    }

    fn origin(&mut self) -> Result<Origin, RecordError> {
        let bytes = self.take::<ORIGIN_BYTES>()?;
        Ok(Origin {
            due_at: u64_at(bytes, 0),
            root: LogPosition(u64_at(bytes, 8)),
        })
    }

    fn notes_len(&mut self) -> Result<u16, RecordError> {
        let len = u32::from_le_bytes(*self.take::<4>()?);
        match u16::try_from(len) {
            Ok(len) if len > 0 && usize::from(len) <= limits::NOTES => Ok(len),
            _ => Err(RecordError::Notes),
        }
    }
}
