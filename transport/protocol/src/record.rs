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

use bytes::Bytes;

use crate::block::{Block, BlockError, Pairs, crc_around};
use crate::ids::{Epoch, LogPosition, ProducerId, QueueId, QueueOffset, TopicId};
use crate::limits;
use crate::send::ProducerBatch;

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

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        /// What a record is. Numbers are only added; 0 and 255 stay unused. From 16 on the block is the
        /// broker's own, and its body begins with a version byte.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum RecordKind {
            $($(#[$doc])* $name = $number,)*
        }

        impl RecordKind {
            pub const ALL: &[Self] = &[$(Self::$name),*];

            pub fn from_number(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    Message = 1,
    /// A transaction's message before its outcome is known: in no queue.
    Half = 2,
    /// A message for later: in no queue until it is due.
    Timer = 3,
    /// The half this one's origin names is not to be delivered.
    Rollback = 16,
    /// The timer this one's origin names is not to be delivered.
    TimerCancel = 17,
    OffsetCommit = 18,
    /// Part of what the state of the log adds up to, so that older records may go.
    Snapshot = 20,
    Topic = 32,
    Group = 33,
    /// A producer id was given out.
    Producer = 34,
    Plugin = 35,
    Access = 36,
    /// A damaged range that an operator has put aside.
    Quarantine = 37,
}

impl RecordKind {
    /// Whether its records have a place in a consume queue.
    pub fn is_queued(self) -> bool {
        self == Self::Message
    }

    /// Whether its block is the broker's own.
    pub fn is_state(self) -> bool {
        self as u8 >= 16
    }
}

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
        let (stored, computed) = (u32_at(head, 8), crc_around(whole, 8..12));
        if stored != computed {
            return Err(RecordError::Checksum { stored, computed });
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

/// A record, borrowed and checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordView<'a> {
    pub header: RecordHeader,
    /// The broker's words about this record.
    pub notes: Pairs<'a>,
    pub block: Block<'a>,
}

impl<'a> RecordView<'a> {
    /// Reads the record that `bytes` begin with and verifies header and block checksums.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, RecordError> {
        Self::read(bytes, Block::parse)
    }

    /// Reads a message record whose checksums have been verified since it left the disk.
    pub fn trusted(bytes: &'a [u8]) -> Result<Self, RecordError> {
        Self::read(bytes, Block::lengths)
    }

    fn read(
        bytes: &'a [u8],
        block: fn(&'a [u8]) -> Result<Block<'a>, BlockError>,
    ) -> Result<Self, RecordError> {
        let header = RecordHeader::decode(bytes)?;
        let need = header.len as usize;
        if bytes.len() < need {
            return Err(RecordError::Truncated {
                have: bytes.len(),
                need,
            });
        }
        let block = block(&bytes[header.size()..need])?;
        if block.bytes().len() + header.size() != need {
            return Err(RecordError::Length { len: header.len });
        }
        if block.crc() != header.block_crc {
            return Err(RecordError::OtherBlock {
                header: header.block_crc,
                block: block.crc(),
            });
        }
        let notes = notes(&bytes[..header.size()], header.extensions.notes_len);
        Ok(Self {
            header,
            notes: notes.ok_or(RecordError::Notes)?,
            block,
        })
    }
}

/// The notes at the end of a header.
fn notes(head: &[u8], len: u16) -> Option<Pairs<'_>> {
    let len = usize::from(len);
    if len == 0 {
        return Some(Pairs::default());
    }
    let from = head.len() - (4 + len).next_multiple_of(8) + 4;
    let (pairs, padding) = head[from..].split_at(len);
    let padded = padding.iter().all(|byte| *byte == 0);
    Pairs::parse(pairs).filter(|_| padded)
}

/// Cuts a pull reply into its records, each still a slice of the one buffer, each verified.
pub fn records(body: &Bytes) -> impl Iterator<Item = Result<Bytes, RecordError>> {
    let mut rest = body.clone();
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        match RecordView::parse(&rest) {
            Ok(record) => Some(Ok(rest.split_to(record.header.len as usize))),
            Err(error) => {
                rest.clear();
                Some(Err(error))
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Message;

    fn record(extensions: Extensions, notes: &[u8]) -> Vec<u8> {
        let block = Message::new("t", "body").tag("a").encode("id", 1).unwrap();
        let header = RecordHeader {
            len: (RECORD_HEADER + extensions.size() + block.len()) as u32,
            block_crc: Block::parse(&block).unwrap().crc(),
            position: LogPosition(4096),
            queue_offset: QueueOffset(3),
            stored_at: 9,
            topic: TopicId(1),
            queue: QueueId(2),
            epoch: Epoch(1),
            kind: RecordKind::Message,
            attempts: 0,
            extensions,
        };
        let mut out = Vec::new();
        header.encode(notes, &mut out);
        assert_eq!(out.len(), header.size());
        out.extend_from_slice(&block);
        out
    }

    fn sample() -> Vec<u8> {
        record(Extensions::default(), &[])
    }

    fn full() -> Vec<u8> {
        let notes = Pairs::encode([("reason", "why")]);
        let extensions = Extensions {
            producer: Some(ProducerStamp {
                id: ProducerId(7),
                epoch: 1,
                sequence: 5,
                to_follow: 2,
            }),
            origin: Some(Origin {
                due_at: 11,
                root: LogPosition(4_160),
            }),
            carried: true,
            notes_len: notes.len() as u16,
        };
        record(extensions, &notes)
    }

    #[test]
    fn extensions_and_notes_read_back() {
        let bytes = full();
        let view = RecordView::parse(&bytes).unwrap();
        assert_eq!(view.notes.iter().collect::<Vec<_>>(), [("reason", "why")]);
        let more = view.header.extensions;
        assert_eq!(
            more.producer.map(|it| (it.sequence, it.to_follow)),
            Some((5, 2))
        );
        assert_eq!(more.origin.map(|it| it.due_at), Some(11));
        assert!(more.carried);
        assert_eq!(view.block.stored_body(), b"body");
    }

    #[test]
    fn kinds_have_their_numbers_and_no_other_is_known() {
        let known = |number| RecordKind::from_number(number).is_some();
        assert_eq!(
            (0..=255).filter(|it| known(*it)).count(),
            RecordKind::ALL.len()
        );
        assert!(
            RecordKind::ALL
                .iter()
                .all(|it| RecordKind::from_number(*it as u8) == Some(*it))
        );
        assert!(!known(0) && !known(255));
    }

    #[test]
    fn records_read_back_one_after_the_other() {
        let body = Bytes::from([sample(), sample()].concat());
        let read: Vec<_> = records(&body).map(Result::unwrap).collect();
        assert_eq!(read.len(), 2);
        let view = RecordView::parse(&read[1]).unwrap();
        assert_eq!(view.header.queue_offset, QueueOffset(3));
        assert_eq!(view.block.stored_body(), b"body");
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        for bytes in [sample(), full()] {
            for bit in 0..bytes.len() * 8 {
                let mut damaged = bytes.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert!(RecordView::parse(&damaged).is_err(), "bit {bit}");
            }
            for len in 0..bytes.len() {
                assert!(RecordView::parse(&bytes[..len]).is_err(), "cut at {len}");
            }
        }
    }
}
