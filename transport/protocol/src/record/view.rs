//! A record as it is read: header, notes and block, each checked against its checksum.

use bytes::Bytes;

use crate::block::{Block, BlockError, Pairs};
use crate::record::{RecordError, RecordHeader};

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
        Self::read(bytes, RecordHeader::decode, Block::parse)
    }

    /// Reads a message record whose checksums have been verified since it left the disk.
    pub fn trusted(bytes: &'a [u8]) -> Result<Self, RecordError> {
        Self::read(bytes, RecordHeader::trusted, Block::lengths)
    }

    fn read(
        bytes: &'a [u8],
        header: fn(&[u8]) -> Result<RecordHeader, RecordError>,
        block: fn(&'a [u8]) -> Result<Block<'a>, BlockError>,
    ) -> Result<Self, RecordError> {
        let header = header(bytes)?;
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
    use crate::record::{Extensions, Origin, ProducerStamp, RECORD_HEADER, RecordKind};
    use crate::{Epoch, LogPosition, Message, ProducerId, QueueId, QueueOffset, TopicId};

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
