//! A group: what one write brought to the log, and one sync made durable. Little-endian.
//!
//! ```text
//! group header, 64 B; crc of 0..8 and 12..64
//!   0 u32 magic "QGRP"   4 u32 len incl. header, a multiple of 8
//!   8 u32 crc           12 u32 previous group's crc  16 u64 position
//!  24 u64 durable_upto  32 u64 stored_at, ms of the log clock
//!  40 u32 epoch         44 u32 records               48 u32 crc over the records' header crcs
//!  52 u16 kind: 1 data, 2 idle stamp, 3 truncation, 4 seal   54 u16 flags = 0
//!  56 u64 log uuid, low half
//! then the records
//! ```
//!
//! Headers bind blocks, the group binds its records' headers, and the chain binds the groups: no
//! byte and no order is uncovered. Position and uuid tell stale bytes from damage.

use bytes::Bytes;
use quern_protocol::block::crc_around;
use quern_protocol::record::{RecordError, RecordHeader};
use quern_protocol::{Block, Epoch, LogPosition};

use crate::le::{u32_at, u64_at};
use crate::limits;
use crate::segment::LogId;

pub(crate) const GROUP_HEADER: usize = 64;
pub(crate) const GROUP_MAGIC: u32 = u32::from_le_bytes(*b"QGRP");

/// What a group is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum GroupKind {
    Data = 1,
    /// Says that everything before it is durable, when nothing else comes to say so; holds no records.
    Stamp = 2,
    /// A torn tail was cut off here; holds no records.
    Truncation = 3,
    /// The last group of a segment; holds no records.
    Seal = 4,
}

impl GroupKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Stamp => "stamp",
            Self::Truncation => "truncation",
            Self::Seal => "seal",
        }
    }
}

/// Why bytes cannot be read as what should be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unreadable {
    Damaged(String),
    /// Whole, but of a later format: nothing is wrong with it.
    Later(String),
}

impl Unreadable {
    fn damaged(why: &str) -> Self {
        Self::Damaged(why.to_owned())
    }
}

impl From<RecordError> for Unreadable {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::Kind(_) => Self::Later(error.to_string()),
            _ => Self::Damaged(error.to_string()),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GroupHeader {
    pub(crate) len: u32,
    /// The group before, of this or the previous segment; 0 at the very beginning.
    pub(crate) previous_crc: u32,
    pub(crate) position: LogPosition,
    /// The log was durable up to here when this group was written.
    pub(crate) durable_upto: LogPosition,
    pub(crate) stored_at: u64,
    pub(crate) epoch: Epoch,
    pub(crate) records: u32,
    pub(crate) records_crc: u32,
    pub(crate) kind: GroupKind,
}

impl GroupHeader {
    /// The bytes, and the checksum the next group will name.
    pub(crate) fn encode(&self, log: &LogId) -> ([u8; GROUP_HEADER], u32) {
        let mut out = [0; GROUP_HEADER];
        out[0..4].copy_from_slice(&GROUP_MAGIC.to_le_bytes());
        out[4..8].copy_from_slice(&self.len.to_le_bytes());
        out[12..16].copy_from_slice(&self.previous_crc.to_le_bytes());
        out[16..24].copy_from_slice(&self.position.0.to_le_bytes());
        out[24..32].copy_from_slice(&self.durable_upto.0.to_le_bytes());
        out[32..40].copy_from_slice(&self.stored_at.to_le_bytes());
        out[40..44].copy_from_slice(&self.epoch.0.to_le_bytes());
        out[44..48].copy_from_slice(&self.records.to_le_bytes());
        out[48..52].copy_from_slice(&self.records_crc.to_le_bytes());
        out[52..54].copy_from_slice(&(self.kind as u16).to_le_bytes());
        out[56..64].copy_from_slice(&log[0..8]);
        let crc = header_crc(&out);
        out[8..12].copy_from_slice(&crc.to_le_bytes());
        (out, crc)
    }

    /// Reads the header that belongs at `position` of this log; the checksum comes with it.
    pub(crate) fn decode(
        bytes: &[u8],
        position: u64,
        log: &LogId,
    ) -> Result<(Self, u32), Unreadable> {
        let Some(head) = bytes.first_chunk::<GROUP_HEADER>() else {
            return Err(Unreadable::damaged("the group header is cut short"));
        };
        if u32_at(head, 0) != GROUP_MAGIC {
            return Err(Unreadable::damaged("no group begins here"));
        }
        let (stored, computed) = (u32_at(head, 8), header_crc(head));
        let unchecked = cfg!(zoo = "z6") && stored == 0;
        if stored != computed && !unchecked {
            return Err(Unreadable::damaged("the group header's checksum is wrong"));
        }
        if head[56..64] != log[0..8] {
            return Err(Unreadable::damaged("the group belongs to another log"));
        }
        if u64_at(head, 16) != position && !cfg!(zoo = "z8") {
            return Err(Unreadable::damaged("the group belongs to another position"));
        }
        let kind = match u16::from_le_bytes([head[52], head[53]]) {
            1 => GroupKind::Data,
            2 => GroupKind::Stamp,
            3 => GroupKind::Truncation,
            4 => GroupKind::Seal,
            other => {
                let why = format!("group kind {other} belongs to a later format");
                return Err(Unreadable::Later(why));
            }
        };
        let len = u32_at(head, 4);
        if len as usize > limits::GROUP_MAX
            || (len as usize) < GROUP_HEADER
            || !len.is_multiple_of(8)
        {
            return Err(Unreadable::Damaged(format!(
                "group length {len} is impossible"
            )));
        }
        let header = Self {
            len,
            previous_crc: u32_at(head, 12),
            position: LogPosition(position),
            durable_upto: LogPosition(u64_at(head, 24)),
            stored_at: u64_at(head, 32),
            epoch: Epoch(u32_at(head, 40)),
            records: u32_at(head, 44),
            records_crc: u32_at(head, 48),
            kind,
        };
        Ok((header, stored))
    }
}

fn header_crc(head: &[u8; GROUP_HEADER]) -> u32 {
    if cfg!(zoo = "z7") {
        return crc_around(&head[..40], 8..12);
    }
    crc_around(head, 8..12)
}

/// A checksum over records' header checksums.
pub(crate) struct RecordsCrc(crc_fast::Digest);

impl RecordsCrc {
    pub(crate) fn new() -> Self {
        Self(crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi))
    }

    /// The checksum of a record's header.
    pub(crate) fn add(&mut self, header: u32) {
        self.0.update(&header.to_le_bytes());
    }

    pub(crate) fn finish(self) -> u32 {
        self.0.finalize() as u32
    }
}

/// A record of a verified group.
pub(crate) struct Scanned<'a> {
    pub(crate) header: RecordHeader,
    pub(crate) block: Block<'a>,
}

/// Verifies everything in a group after its header and hands out its records.
pub(crate) fn verify<'a>(
    group: &'a Bytes,
    header: &GroupHeader,
) -> Result<Vec<Scanned<'a>>, Unreadable> {
    let mut records = Vec::with_capacity((header.records as usize).min(limits::GROUP_MAX / 64));
    let mut crc = RecordsCrc::new();
    let mut at = GROUP_HEADER;
    while at < group.len() {
        let view = quern_protocol::RecordView::parse(&group[at..])?;
        let expected = header.position.0 + at as u64;
        if view.header.position.0 != expected && !cfg!(zoo = "z8") {
            let why = format!("a record says it is at {}", view.header.position);
            return Err(Unreadable::Damaged(why));
        }
        crc.add(u32_at(group, at + 8));
        at += view.header.len as usize;
        records.push(Scanned {
            header: view.header,
            block: view.block,
        });
    }
    if records.len() != header.records as usize || crc.finish() != header.records_crc {
        let why = "the group's records are not those it was written with";
        return Err(Unreadable::damaged(why));
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> GroupHeader {
        GroupHeader {
            len: 128,
            previous_crc: 7,
            position: LogPosition(4_096),
            durable_upto: LogPosition(4_096),
            stored_at: 1_700_000_000_000,
            epoch: Epoch(3),
            records: 2,
            records_crc: 9,
            kind: GroupKind::Data,
        }
    }

    #[test]
    fn a_header_reads_back_and_every_flipped_bit_is_noticed() {
        let log = [5; 16];
        let (bytes, crc) = header().encode(&log);
        let decode = |bytes: &[u8]| GroupHeader::decode(bytes, 4_096, &log);
        assert_eq!(decode(&bytes), Ok((header(), crc)));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&damaged).is_err(), "bit {bit}");
        }
        // Nothing stands for "not checked".
        let mut unchecked = bytes;
        unchecked[8..12].fill(0);
        assert!(decode(&unchecked).is_err());
        // Right bytes at a wrong place, or in another log.
        assert!(GroupHeader::decode(&bytes, 8_192, &log).is_err());
        assert!(GroupHeader::decode(&bytes, 4_096, &[6; 16]).is_err());
    }
}
