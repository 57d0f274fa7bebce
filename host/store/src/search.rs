//! Finding messages: by key or unique id across all of the log, by position.

use std::ops::RangeInclusive;

use bytes::Bytes;
use quern_protocol::record::RECORD_HEADER;
use quern_protocol::{LogPosition, RecordHeader, RecordView, TopicId};

use crate::Store;
use crate::error::ReadError;
use crate::key_index::{self, Entry, Found, KeyIndex, Lookup};
use crate::segment::Segment;
use crate::segments::Segments;

/// What to look for, and where.
#[derive(Debug, Clone)]
pub struct Search<'a> {
    /// In these.
    pub topics: &'a [TopicId],
    pub lookup: Lookup<'a>,
    /// When it was stored, by the log's clock, ms since 1970.
    pub stored: RangeInclusive<u64>,
    /// Only before this one.
    pub before: LogPosition,
}

impl<'a> Search<'a> {
    /// In all of the log.
    pub fn new(topics: &'a [TopicId], lookup: Lookup<'a>) -> Self {
        Self {
            topics,
            lookup,
            stored: 0..=u64::MAX,
            before: LogPosition(u64::MAX),
        }
    }
}

/// When a search stops, to be gone on with. It has looked at one record at least.
#[derive(Debug, Clone, Copy)]
pub struct Most {
    pub records: usize,
    /// Of the records found, the first apart.
    pub bytes: usize,
    /// ms.
    pub took: u64,
}

impl Most {
    const ALL: Self = Self {
        records: usize::MAX,
        bytes: usize::MAX,
        took: u64::MAX,
    };
}

/// What a search has found.
#[derive(Debug, Default)]
pub struct FoundRecords {
    /// Newest first.
    pub records: Vec<Bytes>,
    /// Why some could not be read that may be what is looked for.
    pub unreadable: Vec<ReadError>,
    /// Where to go on, before this; `None` = that was all.
    pub next: Option<LogPosition>,
}

/// What a message that is in no queue waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    /// Its time, ms since 1970.
    Until(u64),
    /// The outcome of its transaction.
    ForOutcome,
}

impl Store {
    /// Records of up to `most` messages of a topic that are or were in a queue, newest first. Reads files; where
    /// the index of a segment is missing, all of the segment. Blocks.
    pub fn find(
        &self,
        topic: TopicId,
        lookup: Lookup<'_>,
        most: usize,
    ) -> Result<Vec<Bytes>, ReadError> {
        let topics = [topic];
        let mut search = Search::new(&topics, lookup);
        let mut records = Vec::new();
        loop {
            let page = Most {
                records: most - records.len(),
                ..Most::ALL
            };
            let mut found = self.search(&search, &page)?;
            if let Some(error) = found.unreadable.pop() {
                return Err(error);
            }
            let is_queued =
                |it: &Bytes| RecordView::trusted(it).is_ok_and(|it| it.header.kind.is_queued());
            records.extend(found.records.into_iter().filter(is_queued));
            match found.next {
                Some(next) if records.len() < most => search.before = next,
                _ => return Ok(records),
            }
        }
    }

    /// Records of messages, those that wait or have waited too, newest first. What cannot be read keeps
    /// nothing else from being found. Blocks, for not much longer than it may take.
    pub fn search(&self, search: &Search<'_>, most: &Most) -> Result<FoundRecords, ReadError> {
        let until = self.steady_ms().saturating_add(most.took);
        let hashes = search.topics.iter().map(|it| search.lookup.hash(*it));
        let mut hashes: Vec<_> = hashes.collect();
        hashes.sort_unstable();
        let mut found = FoundRecords::default();
        let mut bytes = 0;
        let mut looked_at = 0;
        // All of a segment is older than the next one is.
        let mut newest = u64::MAX;
        // But for copies of messages that are kept.
        let any_age = self.0.queues.keeps(search.topics);
        for segment in self.0.segments.all().iter().rev() {
            if !any_age && newest < *search.stored.start() {
                break;
            }
            newest = segment.created_at;
            let is_later = !any_age && segment.created_at > *search.stored.end();
            if segment.base >= search.before.0 || is_later {
                continue;
            }
            for position in self.positions(segment, &hashes)? {
                let position = LogPosition(position);
                if position >= search.before {
                    continue;
                }
                let is_over = looked_at > 0 && self.steady_ms() > until;
                let count = found.records.len() + found.unreadable.len();
                let is_full = count >= most.records || bytes >= most.bytes;
                if is_over || is_full {
                    found.next = Some(LogPosition(position.0 + 1));
                    return Ok(found);
                }
                looked_at += 1;
                match self.record_with(position, search) {
                    Ok(Some(record)) if count > 0 && bytes + record.len() > most.bytes => {
                        found.next = Some(LogPosition(position.0 + 1));
                        return Ok(found);
                    }
                    Ok(Some(record)) => {
                        bytes += record.len();
                        found.records.push(record);
                    }
                    Ok(None) => {}
                    // Its segment has just gone.
                    Err(_) if position.0 < self.0.segments.head() => return Ok(found),
                    Err(error) => found.unreadable.push(error),
                }
            }
            if self.steady_ms() > until && segment.base > self.0.segments.head() {
                found.next = Some(LogPosition(segment.base));
                return Ok(found);
            }
        }
        Ok(found)
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

    /// What the message waits for that is known by this position; `None` = it is none that waits.
    pub fn waits(&self, position: LogPosition) -> Option<Waits> {
        if let Some((timer, _)) = self.0.timers.find(position) {
            return Some(Waits::Until(timer.due_at));
        }
        let half = self.0.halves.find(position);
        half.map(|_| Waits::ForOutcome)
    }

    /// As [`Self::record_at`], but of a message that waits, and was copied meanwhile, the copy.
    pub fn record_known_by(&self, position: LogPosition) -> Result<Option<Bytes>, ReadError> {
        let lists = [&self.0.timers, &self.0.halves];
        let waiting = lists.iter().find_map(|list| list.find(position));
        self.record_at(waiting.map_or(position, |(_, at)| at))
    }

    /// Where in a segment what has one of these hashes is, the last first.
    fn positions(&self, segment: &Segment, hashes: &[u64]) -> Result<Vec<u64>, ReadError> {
        let entries = Places {
            keys: &self.0.keys,
            durable: self.durable().0,
        };
        let entries = entries.of(segment, hashes)?.into_iter();
        let mut positions: Vec<_> = entries.map(|it| it.position).collect();
        positions.sort_unstable_by(|a, b| b.cmp(a));
        // One message can say a key twice.
        positions.dedup();
        Ok(positions)
    }

    /// `None` when it is another message with the same hash, or of another time.
    fn record_with(
        &self,
        position: LogPosition,
        search: &Search<'_>,
    ) -> Result<Option<Bytes>, ReadError> {
        let record = whole(&self.0.segments, position)?;
        let view = RecordView::parse(&record).map_err(ReadError::damaged(position))?;
        let is_it = search.topics.contains(&view.header.topic)
            && search.lookup.is_of(&view.block)
            && search.stored.contains(&view.header.stored_at);
        Ok((is_it && self.stands(&view.header)?).then_some(record))
    }

    /// Whether this record stands for its message: not one that a copy stands for, nor one that is not served
    /// any more.
    fn stands(&self, header: &RecordHeader) -> Result<bool, ReadError> {
        if !header.kind.is_queued() {
            return Ok(true);
        }
        let key = (header.topic, header.queue);
        let entry = self.0.queues.get(key, header.queue_offset)?;
        Ok(entry.is_some_and(|it| it.position == header.position))
    }
}

/// The record at a position that the index names; it is yet to be parsed.
pub(crate) fn whole(segments: &Segments, position: LogPosition) -> Result<Bytes, ReadError> {
    let head = segments.read(position, RECORD_HEADER)?;
    let len = RecordHeader::stored_len(&head).ok_or("no record");
    let len = len.map_err(ReadError::damaged(position))?;
    Ok(Bytes::from(segments.read(position, len)?))
}

/// Where messages are that have something in common, also where the index does not know.
pub(crate) struct Places<'a> {
    pub(crate) keys: &'a KeyIndex,
    /// The log's end.
    pub(crate) durable: u64,
}

impl Places<'_> {
    /// Of a segment, what has one of these hashes, which are sorted; in no order.
    pub(crate) fn of(&self, segment: &Segment, hashes: &[u64]) -> Result<Vec<Entry>, ReadError> {
        let Found {
            mut entries,
            unknown_below,
        } = self.keys.find(segment.base, hashes);
        if unknown_below > segment.first() {
            entries.extend(self.older(segment, unknown_below, hashes)?);
        }
        Ok(entries)
    }

    /// The same of what the index does not know, which is read for it.
    fn older(
        &self,
        segment: &Segment,
        unknown_below: u64,
        hashes: &[u64],
    ) -> Result<Vec<Entry>, ReadError> {
        let (keys, durable) = (self.keys, self.durable);
        let up_to = unknown_below.min(durable);
        let failed = |error: std::io::Error| ReadError::Io {
            position: LogPosition(segment.base),
            why: error.to_string(),
        };
        let mut entries = keys.read(segment, up_to).map_err(failed)?;
        entries.retain(|entry| entry.position < unknown_below);
        let matching = key_index::matching(entries.iter(), hashes);
        // For the next who asks.
        if unknown_below < segment.end() {
            keys.add_older(segment.base, segment.first(), unknown_below, &entries);
        } else if durable >= segment.end() {
            // Without it, it is only slower.
            let _ = keys.write(segment.base, segment.end(), Some(entries));
        }
        Ok(matching)
    }
}
