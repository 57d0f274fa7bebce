//! Compacted topics: of each key, the newest message in a queue outlives its segment, and those before it go
//! with theirs. Nothing is remembered for that: the key index says where else the log has a key, and the
//! records there are compared. What cannot be read there makes nothing go that it may be the key of.
//!
//! A message with a key and no body, a tombstone, goes too when it is old enough, but not before all that it
//! takes the place of. Copies stand behind messages that are newer than they are; so of one that is to go the
//! whole log is asked, not only what is behind it.

use std::collections::HashMap;

use quern_protocol::{LogPosition, QueueOffset, RecordView};

use crate::consume_queue::{Entry, Key};
use crate::error::ReadError;
use crate::keeping::Look;
use crate::key_index::{self, Lookup};
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
    /// Records before this position say nothing of it: those before an original are older messages, or copies of
    /// such, and go before it does.
    from: u64,
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
            from: match view.header.extensions.carried {
                true => 0,
                false => entry.position.0,
            },
            is_over: view.block.raw_len() == 0 && age > look.tombstones(queue.0),
            has_newer: false,
            has_older: false,
        })
    }

    fn stays(&self) -> bool {
        let has_older = self.has_older && !cfg!(zoo = "z30");
        !self.has_newer && (!self.is_over || has_older)
    }

    /// Whether something before a position may still say what becomes of it.
    fn is_open(&self, end: u64) -> bool {
        !self.has_newer && self.from < end
    }

    fn asks_for(&self, position: u64) -> bool {
        !self.has_newer && self.from <= position && self.entry.position.0 != position
    }

    /// A record with its hash is there; `None` = it cannot be read.
    fn meet(&mut self, other: Option<&Other>, is_staying: bool) {
        match other {
            Some(other) if other.queue == Some(self.queue) && other.key == self.key => {
                self.has_newer |= other.offset > self.entry.offset;
                self.has_older |= other.offset < self.entry.offset && is_staying;
            }
            Some(_) => {}
            None => self.has_older |= is_staying,
        }
    }
}

/// A record that the index names.
struct Other {
    /// `None` = it is in none.
    queue: Option<Key>,
    offset: QueueOffset,
    key: Box<str>,
}

impl Other {
    fn read(look: &Look<'_>, position: LogPosition) -> Result<Self, ReadError> {
        let record = whole(look.segments, position)?;
        let view = RecordView::parse(&record).map_err(ReadError::damaged(position))?;
        let header = &view.header;
        let is_queued = header.kind.is_queued();
        Ok(Self {
            queue: is_queued.then_some((header.topic, header.queue)),
            offset: header.queue_offset,
            key: view.block.keys().into(),
        })
    }
}

/// What becomes of messages whose segment is to go.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    /// These must not.
    pub(crate) staying: Vec<(Key, Entry)>,
    /// The disk does not give these, so nobody knows.
    pub(crate) unreadable: Vec<(Key, Entry, ReadError)>,
}

/// Judges messages that are to go, those of a queue in their order.
pub(crate) fn judge(look: &Look<'_>, going: &[(Key, Entry)]) -> Judged {
    let mut judged = Judged::default();
    let mut candidates = Vec::with_capacity(going.len());
    for part in going.chunk_by(|(a, _), (b, _)| a == b) {
        let entries: Vec<Entry> = part.iter().map(|(_, entry)| *entry).collect();
        let key = part[0].0;
        for (entry, error) in read(look, key, &entries, &mut candidates) {
            judged.unreadable.push((key, entry, error));
        }
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
    compare(look, &mut candidates);
    let staying = candidates.iter().filter(|it| it.stays());
    judged.staying = staying.map(|it| (it.queue, it.entry)).collect();
    judged
}

/// So much of the log at a time. What the disk did not give.
fn read(
    look: &Look<'_>,
    queue: Key,
    entries: &[Entry],
    candidates: &mut Vec<Candidate>,
) -> Vec<(Entry, ReadError)> {
    let mut unreadable = Vec::new();
    let mut rest = entries;
    while let Some(first) = rest.first() {
        let mut bytes = 0;
        let fits = |it: &&Entry| {
            bytes += it.size as usize;
            bytes <= limits::CARRIED_AT_ONCE
        };
        let count = rest.iter().take_while(fits).count().max(1);
        let records = match look.segments.records(&rest[..count]) {
            Ok(records) => records,
            Err(error) => {
                match error {
                    ReadError::Damaged { .. } => tracing::error!(
                        code = "Q-4007", %error, "a message of a compacted topic is lost"
                    ),
                    error => unreadable.push((*first, error)),
                }
                rest = &rest[1..];
                continue;
            }
        };
        for (entry, record) in rest.iter().zip(&records) {
            // It was verified a moment ago.
            if let Ok(view) = RecordView::trusted(record) {
                candidates.extend(Candidate::new(look, queue, *entry, &view));
            }
        }
        rest = &rest[records.len()..];
    }
    unreadable
}

/// Looks for the same keys in all of the log, the newest segment first: that is where most have a newer message.
fn compare(look: &Look<'_>, candidates: &mut [Candidate]) {
    let places = Places {
        keys: look.keys,
        durable: look.durable,
    };
    let all = candidates.iter().enumerate();
    let mut open: Vec<(u64, usize)> = all.map(|(index, it)| (it.hash, index)).collect();
    open.sort_unstable();
    let mut failed = None;
    for segment in look.segments.all().iter().rev() {
        open.retain(|(_, index)| candidates[*index].is_open(segment.end()));
        let mut hashes: Vec<u64> = open.iter().map(|(hash, _)| *hash).collect();
        hashes.dedup();
        if hashes.is_empty() {
            break;
        }
        match places.of(segment, &hashes) {
            Ok(found) => failed = meet_all(look, found, &open, candidates).or(failed),
            // Whatever is there: only what has something newer elsewhere goes.
            Err(error) => {
                for (_, index) in &open {
                    candidates[*index].meet(None, segment.end() > look.head);
                }
                failed = Some(error);
            }
        }
    }
    if let Some(error) = failed {
        tracing::warn!(
            code = "Q-4002", %error,
            "messages of compacted topics stay, for not all can be read that may be newer"
        );
    }
}

/// What is found in a segment is read once, if anybody asks for it. Why some could not be.
fn meet_all(
    look: &Look<'_>,
    mut found: Vec<key_index::Entry>,
    open: &[(u64, usize)],
    candidates: &mut [Candidate],
) -> Option<ReadError> {
    let mut failed = None;
    found.sort_unstable_by_key(|it| (std::cmp::Reverse(it.position), it.hash));
    found.dedup();
    for place in found {
        let from = open.partition_point(|(hash, _)| *hash < place.hash);
        let same = open[from..].iter().take_while(|it| it.0 == place.hash);
        let asking = same.filter(|it| candidates[it.1].asks_for(place.position));
        let asking: Vec<usize> = asking.map(|it| it.1).collect();
        if asking.is_empty() {
            continue;
        }
        let other = match Other::read(look, LogPosition(place.position)) {
            Ok(other) => Some(other),
            Err(ReadError::Damaged { .. }) => None,
            Err(error) => {
                failed = Some(error);
                None
            }
        };
        for index in asking {
            candidates[index].meet(other.as_ref(), place.position >= look.head);
        }
    }
    failed
}
