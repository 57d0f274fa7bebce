//! A log record: the header the broker puts before a message block. It is a disk format and, since
//! pull replies carry records verbatim, a wire format too. Little-endian.
//!
//! ```text
//!  0  u32 magic        "QRC0"            24  u64 queue offset
//!  4  u32 len          header + block,   32  u64 stored_at, ms of the log's clock
//!                      a multiple of 8   40  u32 topic id
//!  8  u32 crc          of 0..8, 12..56   44  u32 queue id
//! 12  u32 block crc    the block's own   48  u32 epoch
//! 16  u64 position                       52  u8 kind   53  u8 flags   54  u16 attempts
//! 56  block
//! ```
//!
//! The header's CRC binds the block's: no byte of a record is uncovered. Flags announce extensions
//! of later formats; this version refuses a record that has any. Frozen in `tests/golden`.

use bytes::Bytes;

use crate::block::{Block, BlockError, crc_around};
use crate::ids::{Epoch, LogPosition, QueueId, QueueOffset, TopicId};

/// Bytes before the block.
pub const RECORD_HEADER: usize = 56;
/// First four bytes of a record.
pub const RECORD_MAGIC: u32 = u32::from_le_bytes(*b"QRC0");

/// What a record is. Numbers are only added; 0 and 255 stay unused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RecordKind {
    Message = 1,
    OffsetCommit = 18,
    Topic = 32,
}

impl RecordKind {
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Message),
            18 => Some(Self::OffsetCommit),
            32 => Some(Self::Topic),
            _ => None,
        }
    }
}

/// The fixed part of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeader {
    /// Header and block together.
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
    #[error("record flags {0:#04x} belong to a later format")]
    Flags(u8),
    #[error("record header names block checksum {header:#010x}, the block has {block:#010x}")]
    OtherBlock { header: u32, block: u32 },
    #[error(transparent)]
    Block(#[from] BlockError),
}

fn u32_at(bytes: &[u8; RECORD_HEADER], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8; RECORD_HEADER], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

impl RecordHeader {
    pub fn encode(&self) -> [u8; RECORD_HEADER] {
        let mut out = [0; RECORD_HEADER];
        out[0..4].copy_from_slice(&RECORD_MAGIC.to_le_bytes());
        out[4..8].copy_from_slice(&self.len.to_le_bytes());
        out[12..16].copy_from_slice(&self.block_crc.to_le_bytes());
        out[16..24].copy_from_slice(&self.position.0.to_le_bytes());
        out[24..32].copy_from_slice(&self.queue_offset.0.to_le_bytes());
        out[32..40].copy_from_slice(&self.stored_at.to_le_bytes());
        out[40..44].copy_from_slice(&self.topic.0.to_le_bytes());
        out[44..48].copy_from_slice(&self.queue.0.to_le_bytes());
        out[48..52].copy_from_slice(&self.epoch.0.to_le_bytes());
        out[52] = self.kind as u8;
        out[54..56].copy_from_slice(&self.attempts.to_le_bytes());
        let crc = crc_around(&out, 8..12);
        out[8..12].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Decodes and checks the header that `bytes` begin with.
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
        let (stored, computed) = (u32_at(head, 8), crc_around(head, 8..12));
        if stored != computed {
            return Err(RecordError::Checksum { stored, computed });
        }
        let len = u32_at(head, 4);
        if !len.is_multiple_of(8) || (len as usize) < RECORD_HEADER {
            return Err(RecordError::Length { len });
        }
        if head[53] != 0 {
            return Err(RecordError::Flags(head[53]));
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
        })
    }
}

/// A record, borrowed and checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordView<'a> {
    pub header: RecordHeader,
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
        let block = block(&bytes[RECORD_HEADER..need])?;
        if block.bytes().len() + RECORD_HEADER != need {
            return Err(RecordError::Length { len: header.len });
        }
        if block.crc() != header.block_crc {
            return Err(RecordError::OtherBlock {
                header: header.block_crc,
                block: block.crc(),
            });
        }
        Ok(Self { header, block })
    }
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

    fn sample() -> Vec<u8> {
        let block = Message::new("t", "body").tag("a").encode("id", 1).unwrap();
        let header = RecordHeader {
            len: (RECORD_HEADER + block.len()) as u32,
            block_crc: Block::parse(&block).unwrap().crc(),
            position: LogPosition(4096),
            queue_offset: QueueOffset(3),
            stored_at: 9,
            topic: TopicId(1),
            queue: QueueId(2),
            epoch: Epoch(1),
            kind: RecordKind::Message,
            attempts: 0,
        };
        [&header.encode()[..], &block].concat()
    }

    #[test]
    fn records_read_back_one_after_the_other() {
        let body = Bytes::from([sample(), sample()].concat());
        let read: Vec<_> = records(&body).map(Result::unwrap).collect();
        assert_eq!(read.len(), 2);
        let view = RecordView::parse(&read[1]).unwrap();
        assert_eq!(view.header.queue_offset, QueueOffset(3));
        assert_eq!(view.block.body(), b"body");
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let bytes = sample();
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
