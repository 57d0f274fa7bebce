//! What takes the place of bytes that are damaged: groups that hold nothing, fit between their neighbours
//! to the byte, and say which queues go on behind them and where.
//!
//! The next good group names the checksum of the one before it, which is lost, and cannot be changed:
//! the chain behind it would break instead. So the last group of a filler is given that checksum: a
//! CRC is linear, and four bytes that mean nothing are enough to bring it to any value. A checksum guards
//! against accidents; this is none. Why so: `docs/decisions/0017-repair-fills-holes-to-the-byte.md`.

use quern_protocol::block::{BLOCK_HEADER, state_block};
use quern_protocol::record::RECORD_HEADER;
use quern_protocol::{
    Block, Epoch, LogPosition, QueueOffset, RecordHeader, RecordKind, record::Extensions,
};

use crate::consume_queue::Key;
use crate::group::{GROUP_HEADER, GroupHeader, GroupKind, RecordsCrc};
use crate::limits;
use crate::segment::LogId;

const HEADER: u64 = GROUP_HEADER as u64;
/// A record that says where a queue goes on, and nothing else: no record of a message is smaller.
const RECORD: u64 = (RECORD_HEADER + BLOCK_HEADER) as u64;
const PIECE: u64 = limits::GROUP as u64;

/// A queue of which messages are lost, and the offset of the next one that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GoesOn {
    pub(crate) key: Key,
    pub(crate) next: u64,
}

/// Where a filler goes and what it has to fit.
#[derive(Debug, Clone)]
pub(crate) struct Filler {
    pub(crate) log: LogId,
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// The seal of the segment is lost, too; behind it there is nothing.
    pub(crate) seals: bool,
    /// The seal is at the very end, for nothing else says that the log was as long.
    pub(crate) ends_log: bool,
    pub(crate) previous_crc: u32,
    /// What the group behind names as the checksum of the one before it.
    pub(crate) wanted: Option<u32>,
    pub(crate) epoch: Epoch,
    pub(crate) stored_at: u64,
    pub(crate) queues: Vec<GoesOn>,
}

/// Of so many queues a hole can say where they go on.
pub(crate) fn room(from: u64, to: u64, seals: bool) -> usize {
    let mut left = to - from;
    if seals {
        left = left.saturating_sub(HEADER).min(PIECE);
    }
    let mut count = 0;
    while left > 0 {
        let piece = piece(left);
        count += piece.saturating_sub(HEADER) / RECORD;
        left -= piece;
    }
    count as usize
}

/// The next group of a filler of so many bytes.
fn piece(left: u64) -> u64 {
    if left > 2 * PIECE { PIECE } else { left }
}

impl Filler {
    /// Hands out the groups with their positions, in order; returns the checksum of the last and where it
    /// ends. An error says why there can be none.
    pub(crate) fn write(
        &self,
        out: &mut dyn FnMut(u64, &[u8]) -> std::io::Result<()>,
    ) -> std::io::Result<(u32, u64)> {
        let mut queues = self.queues.as_slice();
        let (mut at, mut crc) = (self.from, self.previous_crc);
        let to = self.body_end();
        let len = to - self.from;
        if len < HEADER + RECORD && !len.is_multiple_of(HEADER) {
            let why = format!("no groups are {len} bytes long, as the damage at {at} is");
            return Err(std::io::Error::other(why));
        }
        while at < to {
            let left = to - at;
            let (len, count) = match left < HEADER + RECORD {
                true => (HEADER, 0),
                false => {
                    let len = piece(left);
                    (len, ((len - HEADER) / RECORD).min(queues.len() as u64))
                }
            };
            let (here, rest) = queues.split_at(count as usize);
            let is_last = at + len == to && !self.seals;
            let build = |free| match len {
                HEADER => self.bare(GroupKind::Truncation, at, crc, free),
                len => self.group(at, len, crc, (here, free)),
            };
            let (bytes, new) = match self.wanted.filter(|_| is_last) {
                Some(wanted) => forge(wanted, build),
                None => build(0),
            };
            out(at, &bytes)?;
            (at, crc, queues) = (at + len, new, rest);
        }
        if self.seals {
            let build = |free| self.bare(GroupKind::Seal, at, crc, free);
            let (bytes, new) = match self.wanted {
                Some(wanted) => forge(wanted, build),
                None => build(0),
            };
            out(at, &bytes)?;
            (at, crc) = (at + HEADER, new);
        }
        Ok((crc, at))
    }

    /// Where the seal goes, or the next good group is.
    fn body_end(&self) -> u64 {
        if !self.seals {
            return self.to;
        }
        let len = (self.to - self.from).saturating_sub(HEADER);
        if self.ends_log && (len >= HEADER + RECORD || len.is_multiple_of(HEADER)) {
            return self.from + len;
        }
        let records = self.queues.len().max(1) as u64 * RECORD;
        let end = self.from + HEADER + records;
        // Without queues it need not say anything.
        if end + HEADER <= self.to {
            end
        } else {
            self.from
        }
    }

    fn header(&self, at: u64, len: u64, previous_crc: u32) -> GroupHeader {
        GroupHeader {
            len: len as u32,
            previous_crc,
            position: LogPosition(at),
            durable_upto: LogPosition(self.from),
            stored_at: self.stored_at,
            epoch: self.epoch,
            records: 0,
            records_crc: RecordsCrc::new().finish(),
            kind: GroupKind::Data,
        }
    }

    /// A group without records. What is free in it is the lower half of its time.
    fn bare(&self, kind: GroupKind, at: u64, previous_crc: u32, free: u32) -> (Vec<u8>, u32) {
        let mut header = self.header(at, HEADER, previous_crc);
        header.kind = kind;
        header.stored_at ^= u64::from(free);
        let (bytes, crc) = header.encode(&self.log);
        (bytes.to_vec(), crc)
    }

    /// A group of records that say where queues go on; the last is as long as it must be. What is free is
    /// when its block was born.
    fn group(
        &self,
        at: u64,
        len: u64,
        previous_crc: u32,
        (queues, free): (&[GoesOn], u32),
    ) -> (Vec<u8>, u32) {
        let mut header = self.header(at, len, previous_crc);
        header.records = queues.len().max(1) as u32;
        let mut bytes = vec![0; GROUP_HEADER];
        let mut crc = RecordsCrc::new();
        for index in 0..header.records {
            let is_last = index + 1 == header.records;
            let mut body = Vec::new();
            if is_last {
                let filled = bytes.len() as u64 + RECORD;
                body.resize((len - filled) as usize, 0);
                // From kind 16 on a body begins with its version.
                body.iter_mut().take(1).for_each(|version| *version = 1);
            }
            let born_at = if is_last { u64::from(free) } else { 0 };
            let block = state_block(&body, born_at);
            let goes_on = queues.get(index as usize);
            let record = RecordHeader {
                len: (RECORD_HEADER + block.len()) as u32,
                block_crc: Block::lengths(&block).map_or(0, |block| block.crc()),
                position: LogPosition(at + bytes.len() as u64),
                queue_offset: QueueOffset(goes_on.map_or(0, |it| it.next)),
                stored_at: self.stored_at,
                topic: goes_on.map(|it| it.key.0).unwrap_or_default(),
                queue: goes_on.map(|it| it.key.1).unwrap_or_default(),
                epoch: self.epoch,
                kind: RecordKind::Quarantine,
                attempts: 0,
                extensions: Extensions::default(),
            };
            crc.add(record.encode(&[], &mut bytes));
            bytes.extend_from_slice(&block);
        }
        header.records_crc = crc.finish();
        let (head, crc) = header.encode(&self.log);
        bytes[..GROUP_HEADER].copy_from_slice(&head);
        (bytes, crc)
    }
}

/// Chooses what is free in a group so that its checksum is the one wanted. Each free bit flips the same
/// bits of the checksum whatever the others are: 32 equations.
fn forge(wanted: u32, build: impl Fn(u32) -> (Vec<u8>, u32)) -> (Vec<u8>, u32) {
    let base = build(0).1;
    // By the highest bit of what they flip: what they flip, and which free bits do it.
    let mut rows = [(0u32, 0u32); 32];
    let reduce = |rows: &[(u32, u32); 32], mut row: (u32, u32)| {
        for bit in (0..32).rev() {
            if row.0 >> bit & 1 == 1 && rows[bit].0 != 0 {
                row = (row.0 ^ rows[bit].0, row.1 ^ rows[bit].1);
            }
        }
        row
    };
    for bit in 0..32 {
        let free = 1 << bit;
        let row = reduce(&rows, (build(free).1 ^ base, free));
        if row.0 != 0 {
            rows[row.0.ilog2() as usize] = row;
        }
    }
    build(reduce(&rows, (wanted ^ base, 0)).1)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quern_protocol::{QueueId, TopicId};

    use super::*;
    use crate::group::verify;

    /// Fills of every size, small and large: good groups, one behind the other, that end in the checksum
    /// that is wanted and say of every queue where it goes on.
    #[test]
    fn a_filler_fits_to_the_byte_and_the_checksum() {
        let log = [7; 16];
        let mut random = fastrand::Rng::with_seed(1);
        let mut sizes: Vec<u64> = vec![64, 128, 152, 160, 216, 4_000, 3 << 20, (3 << 20) + 8];
        sizes.extend((0..50).map(|_| 152 + random.u64(0..10_000) * 8));
        for (len, seals) in sizes.iter().flat_map(|len| [(*len, false), (*len, true)]) {
            let (from, wanted) = (1 << 40, random.u32(..));
            let count = room(from, from + len, seals).min(random.usize(..100));
            let queue = |n| GoesOn {
                key: (TopicId(1), QueueId(n as u32)),
                next: 9 + n as u64,
            };
            let filler = Filler {
                log,
                from,
                to: from + len,
                seals,
                ends_log: seals && random.bool(),
                previous_crc: 5,
                wanted: Some(wanted),
                epoch: Epoch(3),
                stored_at: 1_700_000_000_000,
                queues: (0..count).map(queue).collect(),
            };
            let (mut at, mut previous, mut told) = (from, 5, Vec::new());
            let mut last = GroupKind::Stamp;
            let written =
                filler.write(&mut |position, bytes| {
                    assert_eq!(position, at, "{len}");
                    let (header, crc) = GroupHeader::decode(bytes, at, &log).unwrap();
                    assert_eq!(
                        (header.previous_crc, header.len as usize),
                        (previous, bytes.len())
                    );
                    let bytes = Bytes::copy_from_slice(bytes);
                    let records = verify(&bytes, &header).unwrap();
                    told.extend(records.iter().filter(|it| it.header.topic.0 > 0).map(|it| {
                        GoesOn {
                            key: (it.header.topic, it.header.queue),
                            next: it.header.queue_offset.0,
                        }
                    }));
                    (at, previous, last) = (at + bytes.len() as u64, crc, header.kind);
                    Ok(())
                });
            assert_eq!(written.unwrap(), (wanted, at), "{len}");
            assert_eq!(told, filler.queues, "{len}");
            assert_eq!(previous, wanted);
            match seals {
                true => assert!(last == GroupKind::Seal && at <= filler.to, "{len}"),
                false => assert_eq!(at, filler.to),
            }
        }
    }
}
