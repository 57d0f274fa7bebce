//! Compacted topics: of each key, the newest message in a queue outlives its segment, and those before it go
//! with theirs. Nothing is remembered for that: the key index says where else the log has a key, and the
//! records there are compared. What cannot be read makes nothing go.
//!
//! A message with a key and no body, a tombstone, goes too when it is old enough, but not before all that it
//! takes the place of. Copies stand behind messages that are newer than they are; so of one that is to go the
//! whole log is asked, not only what is behind it.

use std::collections::HashMap;

use quern_protocol::{LogPosition, QueueOffset, RecordView};

use crate::consume_queue::{Entry, Key};
use crate::error::ReadError;
use crate::keeping::Look;
use crate::key_index::Lookup;
use crate::limits;
use crate::search::{Places, whole};

/// A message that is to go unless it is the newest of its key.
#[derive(Debug)]
struct Candidate {
    queue: Key,
    entry: Entry,
    /// As its producer wrote it: all of it, if there are several.
    key: Box<str>,
    hash: u64,
    /// It is a tombstone that has stood for long enough.
    is_over: bool,
    has_newer: bool,
    /// Something that it takes the place of is not going yet.
    has_older: bool,
}

impl Candidate {
    /// `None` = it has no key, so nothing ever takes its place: it goes.
    fn new(look: &Look<'_>, queue: Key, entry: Entry, view: &RecordView<'_>) -> Option<Self> {
        let key = view.block.keys();
        let word = key.split_ascii_whitespace().next()?;
        let age = look.now.saturating_sub(view.header.stored_at);
        Some(Self {
            queue,
            entry,
            key: key.into(),
            hash: Lookup::Key(word).hash(queue.0),
            is_over: view.block.raw_len() == 0 && age > look.tombstones(queue.0),
            has_newer: false,
            has_older: false,
        })
    }

    fn stays(&self) -> bool {
        let has_older = self.has_older && !cfg!(zoo = "z30");
        !self.has_newer && (!self.is_over || has_older)
    }

    /// Another record with its hash is there.
    fn meet(&mut self, look: &Look<'_>, position: LogPosition) -> Result<(), ReadError> {
        let is_staying = position.0 >= look.head;
        match other(look, self.queue, position) {
            Ok(Some((offset, word))) if word == self.key => {
                self.has_newer |= offset > self.entry.offset;
                self.has_older |= offset < self.entry.offset && is_staying;
            }
            Ok(_) => {}
            Err(ReadError::Damaged { .. }) => self.has_older |= is_staying,
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Offset and key of the message there, if it is of this queue.
fn other(
    look: &Look<'_>,
    (topic, queue): Key,
    position: LogPosition,
) -> Result<Option<(QueueOffset, Box<str>)>, ReadError> {
    let record = whole(look.segments, position)?;
    let view = RecordView::parse(&record).map_err(ReadError::damaged(position))?;
    let header = &view.header;
    let is_it = header.kind.is_queued() && (header.topic, header.queue) == (topic, queue);
    Ok(is_it.then(|| (header.queue_offset, view.block.keys().into())))
}

/// Of messages that are to go, those of a queue in their order, those that must not.
pub(crate) fn staying(
    look: &Look<'_>,
    going: &[(Key, Entry)],
) -> Result<Vec<(Key, Entry)>, ReadError> {
    let mut candidates = Vec::with_capacity(going.len());
    for part in going.chunk_by(|(a, _), (b, _)| a == b) {
        let entries: Vec<Entry> = part.iter().map(|(_, entry)| *entry).collect();
        read(look, part[0].0, &entries, &mut candidates)?;
    }
    let mut earlier = Vec::new();
    {
        let mut newest: HashMap<(Key, &str), usize> = HashMap::new();
        for (index, it) in candidates.iter().enumerate() {
            earlier.extend(newest.insert((it.queue, &it.key), index));
        }
    }
    for index in earlier {
        candidates[index].has_newer = true;
    }
    compare(look, &mut candidates)?;
    let staying = candidates.iter().filter(|it| it.stays());
    Ok(staying.map(|it| (it.queue, it.entry)).collect())
}

/// So much of the log at a time.
fn read(
    look: &Look<'_>,
    queue: Key,
    entries: &[Entry],
    candidates: &mut Vec<Candidate>,
) -> Result<(), ReadError> {
    let mut rest = entries;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = |it: &&Entry| {
            bytes += it.size as usize;
            bytes <= limits::CARRIED_AT_ONCE
        };
        let count = rest.iter().take_while(fits).count().max(1);
        let read = match look.segments.records(&rest[..count]) {
            Ok(records) => records,
            Err(error @ ReadError::Damaged { .. }) => {
                tracing::error!(code = "Q-4007", %error, "a message of a compacted topic is lost");
                rest = &rest[1..];
                continue;
            }
            Err(error) => return Err(error),
        };
        for (entry, record) in rest.iter().zip(&read) {
            let view = RecordView::trusted(record).map_err(ReadError::damaged(entry.position))?;
            candidates.extend(Candidate::new(look, queue, *entry, &view));
        }
        rest = &rest[read.len()..];
    }
    Ok(())
}

/// Looks for the same keys in all of the log, the newest segment first: that is where most have a newer message.
fn compare(look: &Look<'_>, candidates: &mut [Candidate]) -> Result<(), ReadError> {
    let places = Places {
        keys: look.keys,
        durable: look.durable,
    };
    let all = candidates.iter().enumerate();
    let mut open: Vec<(u64, usize)> = all.map(|(index, it)| (it.hash, index)).collect();
    open.sort_unstable();
    for segment in look.segments.all().iter().rev() {
        open.retain(|(_, index)| !candidates[*index].has_newer);
        let mut hashes: Vec<u64> = open.iter().map(|(hash, _)| *hash).collect();
        hashes.dedup();
        if hashes.is_empty() {
            break;
        }
        let mut found = places.of(segment, &hashes)?;
        found.sort_unstable_by_key(|it| std::cmp::Reverse(it.position));
        for place in found {
            let from = open.partition_point(|(hash, _)| *hash < place.hash);
            let same = open[from..].iter().take_while(|it| it.0 == place.hash);
            for (_, index) in same {
                let candidate = &mut candidates[*index];
                if !candidate.has_newer && candidate.entry.position.0 != place.position {
                    candidate.meet(look, LogPosition(place.position))?;
                }
            }
        }
    }
    Ok(())
}
