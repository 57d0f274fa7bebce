//! Finding messages by key or unique id, across all of the log.

use bytes::Bytes;
use quern_protocol::record::RECORD_HEADER;
use quern_protocol::{LogPosition, RecordHeader, RecordView, TopicId};

use crate::Store;
use crate::error::ReadError;
use crate::key_index::{Found, Lookup};
use crate::segment::Segment;

impl Store {
    /// Records of up to `most` messages of a topic, newest first. Reads files; where the index of a
    /// segment is missing, all of the segment. Blocks.
    pub fn find(
        &self,
        topic: TopicId,
        lookup: Lookup<'_>,
        most: usize,
    ) -> Result<Vec<Bytes>, ReadError> {
        let mut records = Vec::new();
        for segment in self.0.segments.all().iter().rev() {
            for position in self.positions(segment, topic, lookup)? {
                if records.len() == most {
                    return Ok(records);
                }
                records.extend(self.record_with(LogPosition(position), topic, lookup)?);
            }
        }
        Ok(records)
    }

    /// The record that begins at a position, of whatever kind; `None` = there is none, or not any more. Blocks.
    pub fn record_at(&self, position: LogPosition) -> Result<Option<Bytes>, ReadError> {
        let segments = &self.0.segments;
        let durable = self.durable().0;
        let end = segments
            .holding(position)
            .map_or(0, |it| it.end().min(durable));
        let fits = |len: usize| position.0.saturating_add(len as u64) <= end;
        if !fits(RECORD_HEADER) {
            return Ok(None);
        }
        let head = segments.read(position, RECORD_HEADER)?;
        let Some(len) = RecordHeader::stored_len(&head).filter(|len| fits(*len)) else {
            return Ok(None);
        };
        let record = Bytes::from(segments.read(position, len)?);
        let is_one = RecordView::parse(&record).is_ok_and(|it| it.header.position == position);
        Ok(is_one.then_some(record))
    }

    fn positions(
        &self,
        segment: &Segment,
        topic: TopicId,
        lookup: Lookup<'_>,
    ) -> Result<Vec<u64>, ReadError> {
        let keys = &self.0.keys;
        let Found {
            mut positions,
            unknown_below,
        } = keys.find(segment.base, lookup, topic);
        if unknown_below <= segment.first() {
            return Ok(positions);
        }
        let durable = self.durable().0;
        let up_to = unknown_below.min(durable);
        let failed = |error: std::io::Error| ReadError::Io {
            position: LogPosition(segment.base),
            why: error.to_string(),
        };
        let entries = keys.read(segment, up_to).map_err(failed)?;
        let hash = lookup.hash(topic);
        let here = entries.iter().rev().filter(|entry| entry.hash == hash);
        let older = here.filter(|entry| entry.position < unknown_below);
        positions.extend(older.map(|entry| entry.position));
        if unknown_below >= segment.end() && durable >= segment.end() {
            // For the next who asks; without it, it is only slower.
            let _ = keys.write(segment.base, segment.end(), Some(entries));
        }
        Ok(positions)
    }

    /// `None` when it is another message with the same hash.
    fn record_with(
        &self,
        position: LogPosition,
        topic: TopicId,
        lookup: Lookup<'_>,
    ) -> Result<Option<Bytes>, ReadError> {
        let damaged = |why: String| ReadError::Damaged { position, why };
        let segments = &self.0.segments;
        let head = segments.read(position, RECORD_HEADER)?;
        let len = RecordHeader::stored_len(&head).ok_or_else(|| damaged("no record".to_owned()))?;
        let record = Bytes::from(segments.read(position, len)?);
        let view = RecordView::parse(&record).map_err(|error| damaged(error.to_string()))?;
        let is_it = view.header.topic == topic && lookup.is_of(&view.block);
        Ok(is_it.then_some(record))
    }
}
