//! Messages that outlive their segments, because their topic says so: before a segment goes, they are appended
//! again at the end. A copy is marked as carried; it has its place in its queue still, and when it was first
//! stored. What else is in the segment goes with it, so such a queue has gaps.
//!
//! A topic that says for how long keeps all its messages so long. The size of the log is its operator's to
//! bound: what goes for that goes, kept or not. A compacted topic ([`crate::compaction`]) keeps the newest
//! message of each key, whatever a segment goes for.

use std::collections::{HashMap, VecDeque};

use quern_protocol::block::Pairs;
use quern_protocol::{QueueOffset, RecordView, TopicId};

use crate::compaction;
use crate::consume_queue::{ConsumeQueues, Entry, Key};
use crate::error::ReadError;
use crate::key_index::KeyIndex;
use crate::limits;
use crate::pending::{Acknowledge, Slot};
use crate::queue::{Batch, Original};
use crate::segments::Segments;
use crate::unreadable::Unreadable;
use crate::wait_list::{self, AppendOne};

/// Which messages of a topic outlive their segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// All that are no older, ms of the log's time.
    For(u64),
    /// The newest of each key in each queue, however old. One without a body lets its key go when it is older than
    /// this, ms of the log's time.
    Newest { tombstones: u64 },
}

/// Topics with messages that outlive their segments.
pub type KeptTopics = HashMap<TopicId, Keep>;

/// Copies on their way to the end of the log.
#[derive(Debug, Default)]
pub(crate) struct Keeping {
    /// What is before this is to go.
    head: u64,
    /// What was to be kept of that.
    topics: KeptTopics,
    /// Of each queue, up to where it was looked through.
    done: HashMap<Key, QueueOffset>,
    /// Of those before, what is yet to be copied.
    staying: VecDeque<(Key, Entry)>,
    under_way: Vec<Slot>,
    /// Of those before, what the disk did not give, to be tried again when all else is done …
    missed: Vec<(Key, Entry)>,
    /// … for as long as that may be; those that wait, too.
    pub(crate) unreadable: Unreadable,
    /// So many messages may be kept behind their segments.
    most: usize,
    has_warned: bool,
}

/// A look at what is to go.
pub(crate) struct Look<'a> {
    pub(crate) queues: &'a ConsumeQueues,
    pub(crate) segments: &'a Segments,
    pub(crate) keys: &'a KeyIndex,
    pub(crate) topics: &'a KeptTopics,
    /// What is before this is to go.
    pub(crate) head: u64,
    /// The log's end.
    pub(crate) durable: u64,
    pub(crate) now: u64,
}

impl Look<'_> {
    /// How long tombstones of a topic stay, ms.
    pub(crate) fn tombstones(&self, topic: TopicId) -> u64 {
        match self.topics.get(&topic) {
            Some(Keep::Newest { tombstones }) => *tombstones,
            Some(Keep::For(_)) | None => u64::MAX,
        }
    }

    /// Whether a copy of a message is needed. What is newest of its key was looked up before.
    fn keeps(&self, topic: TopicId, stored_at: u64) -> bool {
        match self.topics.get(&topic) {
            Some(Keep::For(ms)) => self.now.saturating_sub(stored_at) <= *ms,
            Some(Keep::Newest { .. }) => true,
            None => false,
        }
    }
}

/// Copies to be appended at once.
#[derive(Debug, Default)]
struct Copies {
    batches: Vec<Batch>,
    bytes: usize,
}

impl Copies {
    fn is_full(&self) -> bool {
        self.bytes >= limits::CARRIED_AT_ONCE
    }
}

/// What is to be compared at once.
#[derive(Debug, Default)]
struct Compared {
    entries: Vec<(Key, Entry)>,
    bytes: usize,
}

impl Compared {
    fn add(&mut self, key: Key, entry: Entry) {
        self.bytes += entry.size as usize;
        self.entries.push((key, entry));
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= limits::COMPARED || self.bytes >= limits::COMPARED_BYTES
    }
}

/// What has to happen before a segment can go.
#[derive(Debug)]
pub(crate) enum Carried {
    /// Nothing: all that is kept is behind it.
    All,
    /// These are to be appended; and if there are none, those before them have to be durable first, or there is more
    /// to look through.
    More(Vec<Batch>),
    /// There are more than may be kept: the log cannot let it go.
    TooMany,
    /// The disk does not give some for now.
    Unreadable,
}

impl Keeping {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            ..Self::default()
        }
    }

    pub(crate) fn carry(&mut self, look: &Look<'_>) -> Result<Carried, ReadError> {
        let is_over = |slot: &Slot| slot.outcome().map(|it| it.is_err());
        let outcomes: Option<Vec<bool>> = self.under_way.iter().map(is_over).collect();
        let Some(outcomes) = outcomes else {
            return Ok(Carried::More(Vec::new()));
        };
        self.under_way.clear();
        let is_other = self.head != look.head || self.topics != *look.topics;
        if is_other || outcomes.contains(&true) {
            self.begin(look);
        }
        let mut copies = Copies::default();
        let looked = self.look_through(look, &mut copies);
        if looked.is_err() {
            // With those that were found before it.
            self.begin(look);
        }
        let is_done = looked?;
        let batches = copies.batches;
        if self.are_too_many(look, &batches) {
            if !std::mem::replace(&mut self.has_warned, true) {
                tracing::warn!(
                    most = self.most,
                    "topics keep more messages than can be kept behind their segments: old segments stay"
                );
            }
            self.begin(look);
            return Ok(Carried::TooMany);
        }
        if batches.is_empty() && is_done {
            self.has_warned = false;
            return Ok(match self.missed.is_empty() {
                true => Carried::All,
                false => Carried::Unreadable,
            });
        }
        self.under_way = batches.iter().map(|it| it.slot.clone()).collect();
        Ok(Carried::More(batches))
    }

    /// A copy of a message that has one already takes its place.
    fn are_too_many(&self, look: &Look<'_>, copies: &[Batch]) -> bool {
        let kept = look.queues.kept();
        if kept + copies.len() <= self.most {
            return false;
        }
        let is_new = |it: &&Batch| {
            let original = it.original.as_ref();
            original.is_none_or(|original| !look.queues.has_copy(it.key, original.offset))
        };
        kept + copies.iter().filter(is_new).count() > self.most
    }

    /// From the beginning: those that are there are seen to be.
    fn begin(&mut self, look: &Look<'_>) {
        self.head = look.head;
        self.topics.clone_from(look.topics);
        self.done.clear();
        self.staying.clear();
        self.missed.clear();
    }

    /// False: there is more to look through, or to copy.
    fn look_through(&mut self, look: &Look<'_>, copies: &mut Copies) -> Result<bool, ReadError> {
        self.copy(look, copies);
        let mut compared = Compared::default();
        let is_full = |copies: &Copies, compared: &Compared| copies.is_full() || compared.is_full();
        let is_meant = |topic| look.topics.contains_key(&topic);
        for key in look.queues.of_topics(is_meant) {
            while !is_full(copies, &compared) {
                let entries = self.next(look, key)?;
                if entries.is_empty() {
                    break;
                }
                for entry in entries {
                    self.take(look, key, entry, &mut compared);
                }
                self.copy(look, copies);
            }
        }
        let is_all = !is_full(copies, &compared);
        if is_all {
            for (key, entry) in std::mem::take(&mut self.missed) {
                self.take(look, key, entry, &mut compared);
            }
        }
        // Those of all queues at once: the index is asked for all of them together.
        let judged = compaction::judge(look, &compared.entries);
        self.staying.extend(judged.staying);
        for (key, entry, error) in judged.unreadable {
            self.miss(look, key, entry, &error);
        }
        self.copy(look, copies);
        Ok(is_all && self.staying.is_empty())
    }

    /// A message that is to go is compared first, or copied.
    fn take(&mut self, look: &Look<'_>, key: Key, entry: Entry, compared: &mut Compared) {
        match look.topics.get(&key.0) {
            Some(Keep::Newest { .. }) => compared.add(key, entry),
            Some(Keep::For(_)) | None => self.staying.push_back((key, entry)),
        }
    }

    /// What the disk does not give is tried again, unless it is given up.
    fn miss(&mut self, look: &Look<'_>, key: Key, entry: Entry, error: &ReadError) {
        let why = ("a message that is to be kept", error);
        if !self.unreadable.miss(entry.position, look.now, why) {
            self.missed.push((key, entry));
        }
    }

    /// Goes on through a queue: what is to go next; none = there is no more of that.
    fn next(&mut self, look: &Look<'_>, key: Key) -> Result<Vec<Entry>, ReadError> {
        let done = self.done.entry(key).or_default();
        let entries = look.queues.read_before(key, *done, look.head)?;
        if let Some(last) = entries.last() {
            *done = last.offset.plus(1);
        }
        Ok(entries)
    }

    /// Copies what stays, as much as is appended at once.
    fn copy(&mut self, look: &Look<'_>, copies: &mut Copies) {
        while !copies.is_full()
            && let Some((key, entry)) = self.staying.pop_front()
        {
            let copy = match copy(look.segments, key, &entry) {
                Ok(copy) => copy,
                Err(error @ ReadError::Damaged { .. }) => {
                    tracing::error!(code = "Q-4007", %error, "a message that was to be kept is lost");
                    continue;
                }
                Err(error) => {
                    self.miss(look, key, entry, &error);
                    continue;
                }
            };
            self.unreadable.found(entry.position);
            let stored_at = copy.original.map_or(0, |it| it.stored_at);
            if look.keeps(key.0, stored_at) {
                copies.bytes += entry.size as usize;
                copies.batches.push(copy);
            }
        }
    }
}

/// The same message for the end of the log.
fn copy(segments: &Segments, (topic, queue): Key, entry: &Entry) -> Result<Batch, ReadError> {
    let record = segments.record(entry)?;
    let view = RecordView::parse(&record).map_err(ReadError::damaged(entry.position))?;
    let one = AppendOne {
        topic,
        queue,
        block: record.slice(view.header.size()..),
        attempts: view.header.attempts,
        notes: Pairs::encode(view.notes.iter()).into(),
        due_at: None,
    };
    let mut copy = wait_list::batch(view.header.kind, one, Slot::new(Acknowledge::Durable));
    copy.origin = view.header.extensions.origin;
    copy.carried = true;
    copy.original = Some(Original {
        offset: entry.offset,
        stored_at: view.header.stored_at,
    });
    Ok(copy)
}
