//! Consume queues: for each queue, where its messages lie in the log. Derived data: the newest entries
//! of each queue are in memory, older ones in blocks of the queue log, and all of it is made from the
//! commit log. Only the dispatcher appends.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, RwLock};

use quern_protocol::{LogPosition, QueueId, QueueOffset, TopicId};

use crate::error::ReadError;
use crate::kept::Kept;
use crate::queue_log::{BLOCK, Place, QueueLog};

/// A queue of a topic.
pub(crate) type Key = (TopicId, QueueId);

/// Where one message lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub offset: QueueOffset,
    pub position: LogPosition,
    /// Bytes of the record.
    pub size: u32,
    /// Java's hash of the tag; 0 = no tag.
    pub tag_code: i32,
}

/// An entry whose offset is known from its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packed {
    pub(crate) position: u64,
    pub(crate) size: u32,
    pub(crate) tag_code: i32,
}

impl Packed {
    fn at(self, offset: u64) -> Entry {
        Entry {
            offset: QueueOffset(offset),
            position: LogPosition(self.position),
            size: self.size,
            tag_code: self.tag_code,
        }
    }
}

impl Packed {
    /// In the place of a message that is lost; whoever was to make it anew begins at `position`.
    fn hole(position: LogPosition) -> Self {
        Self {
            position: position.0,
            size: 0,
            tag_code: 0,
        }
    }

    fn is_hole(self) -> bool {
        self.size == 0
    }
}

/// A block of this queue in the queue log.
#[derive(Debug, Clone, Copy)]
struct Block {
    first: u64,
    at: u64,
}

#[derive(Debug, Default)]
struct Queue {
    /// The first message that is still in the log.
    min: u64,
    blocks: VecDeque<Block>,
    /// Offset of the first entry in memory.
    first: u64,
    recent: Vec<Packed>,
    /// Messages before `min` of which there are copies further on, and where these are. Some behind it may have one already.
    kept: Kept,
    /// Nothing before this is served: its topic keeps it no longer.
    floor: u64,
}

/// Where an entry lies.
enum Found {
    Here(Packed),
    In(Place),
}

impl Queue {
    /// The first message that is there and served.
    fn begin(&self) -> u64 {
        let kept = self.kept_from(self.floor).next();
        kept.map_or_else(|| self.min.max(self.floor), |(offset, _)| offset)
    }

    /// Messages whose copies stand for them, from an offset on.
    fn kept_from(&self, from: u64) -> impl Iterator<Item = (u64, Packed)> {
        self.kept.range(from, self.min)
    }

    /// Messages that are there and served, from an offset on.
    fn count(&self, from: u64) -> u64 {
        let from = from.max(self.floor);
        let kept = self.kept.count(from, self.min) as u64;
        kept + self.end().saturating_sub(from.max(self.min))
    }

    fn end(&self) -> u64 {
        self.first.saturating_add(self.recent.len() as u64)
    }

    fn push(&mut self, entry: Packed) {
        if self.recent.len() == self.recent.capacity() {
            // Most queues stay small, and a block is what a queue keeps in memory at the most.
            let len = self.recent.len();
            let most = BLOCK.max(len + 64);
            self.recent.reserve_exact((len * 2).clamp(8, most) - len);
        }
        self.recent.push(entry);
    }

    /// Brings the entries in memory to the queue log, a block at a time; all of them, or full blocks
    /// only. What cannot be written stays in memory.
    fn flush(&mut self, key: Key, log: &QueueLog, all: bool) -> io::Result<()> {
        while self.recent.len() >= BLOCK || (all && !self.recent.is_empty()) {
            let count = self.recent.len().min(BLOCK);
            let at = log.append(key, self.first, &self.recent[..count])?;
            self.blocks.push_back(Block {
                first: self.first,
                at,
            });
            self.first += count as u64;
            self.recent.drain(..count);
        }
        if all {
            self.recent = Vec::new();
        }
        Ok(())
    }

    fn block(&self, key: Key, index: usize) -> Option<Place> {
        let block = self.blocks.get(index)?;
        let next = self.blocks.get(index + 1);
        let end = next.map_or(self.first, |next| next.first);
        Some(Place {
            key,
            first: block.first,
            at: block.at,
            count: (end - block.first) as u32,
        })
    }

    fn find(&self, key: Key, offset: u64) -> Option<Found> {
        if offset < self.floor || offset >= self.end() {
            return None;
        }
        if offset < self.min {
            return self.kept.get(offset).map(Found::Here);
        }
        if let Some(index) = offset.checked_sub(self.first) {
            return Some(Found::Here(*self.recent.get(index as usize)?));
        }
        let after = self.blocks.partition_point(|block| block.first <= offset);
        self.block(key, after.checked_sub(1)?).map(Found::In)
    }
}

/// So many entries of messages that have copies are taken out at once.
const KEPT_AT_ONCE: usize = 4_096;

/// The queues of one log.
#[derive(Debug)]
pub(crate) struct ConsumeQueues {
    queues: RwLock<HashMap<Key, Arc<RwLock<Queue>>>>,
    log: QueueLog,
}

const POISONED: &str = "no code that can panic runs under a consume queue's lock";

impl ConsumeQueues {
    pub(crate) fn new(log: QueueLog) -> Self {
        Self {
            queues: RwLock::default(),
            log,
        }
    }

    /// Queues as the queue log has them; `None` when blocks do not follow each other.
    pub(crate) fn load(log: QueueLog, places: &[Place]) -> Option<Self> {
        let mut queues: HashMap<Key, Queue> = HashMap::new();
        for place in places {
            let queue = queues.entry(place.key).or_default();
            if queue.blocks.is_empty() {
                queue.min = place.first;
            } else if queue.first != place.first {
                return None;
            }
            queue.first = place.first + u64::from(place.count);
            queue.blocks.push_back(Block {
                first: place.first,
                at: place.at,
            });
        }
        let queues = queues.into_iter();
        Some(Self {
            queues: RwLock::new(
                queues
                    .map(|(key, it)| (key, Arc::new(RwLock::new(it))))
                    .collect(),
            ),
            log,
        })
    }

    /// Where queues begin that may have no message to show for it. Those that are not named are of topics
    /// that are gone.
    pub(crate) fn begin(&self, mins: &HashMap<Key, u64>) {
        let mut queues = self.queues.write().expect(POISONED);
        queues.retain(|key, _| mins.contains_key(key));
        for (key, min) in mins {
            let queue = Arc::clone(queues.entry(*key).or_default());
            let mut queue = queue.write().expect(POISONED);
            if queue.recent.is_empty() && queue.blocks.is_empty() {
                queue.first = *min;
            }
            queue.min = queue.min.max(*min);
        }
    }

    /// There is a copy of a message, further on in the log.
    pub(crate) fn keep(&self, key: Key, entry: Entry) {
        let queue = self.find_or_make(key);
        let mut queue = queue.write().expect(POISONED);
        let packed = Packed {
            position: entry.position.0,
            size: entry.size,
            tag_code: entry.tag_code,
        };
        queue.kept.put(entry.offset.0, packed);
    }

    /// Whether there is a copy of a message.
    pub(crate) fn has_copy(&self, key: Key, offset: QueueOffset) -> bool {
        let queue = self.find(key);
        queue.is_some_and(|it| it.read().expect(POISONED).kept.get(offset.0).is_some())
    }

    /// Of all queues, the messages of which there are copies, and where these are: some at a time, so that nobody who
    /// adds to a queue waits for long.
    pub(crate) fn all_kept(&self) -> impl Iterator<Item = (Key, Entry)> {
        let some = |queue: &RwLock<Queue>, from| -> Vec<Entry> {
            let queue = queue.read().expect(POISONED);
            let kept = queue.kept.range(from, u64::MAX).take(KEPT_AT_ONCE);
            kept.map(|(offset, it)| it.at(offset)).collect()
        };
        self.all().into_iter().flat_map(move |(key, queue)| {
            let mut from = Some(0);
            let parts = std::iter::from_fn(move || {
                let part = some(&queue, from?);
                from = part.last().map(|it| it.offset.0.saturating_add(1));
                Some(part)
            });
            parts.flatten().map(move |it| (key, it))
        })
    }

    /// How many messages are kept by copies.
    pub(crate) fn kept(&self) -> usize {
        let queues = self.queues.read().expect(POISONED);
        let kept = queues
            .values()
            .map(|it| it.read().expect(POISONED).kept.len());
        kept.sum()
    }

    /// Whether a topic has messages whose copies stand elsewhere than they did.
    pub(crate) fn keeps(&self, topics: &[TopicId]) -> bool {
        let queues = self.queues.read().expect(POISONED);
        queues.iter().any(|((topic, _), queue)| {
            topics.contains(topic) && queue.read().expect(POISONED).kept.len() > 0
        })
    }

    /// Bytes of the copies of such topics' messages.
    pub(crate) fn kept_bytes(&self, is_meant: impl Fn(TopicId) -> bool) -> u64 {
        let queues = self.queues.read().expect(POISONED);
        let meant = queues.iter().filter(|((topic, _), _)| is_meant(*topic));
        let bytes = meant.map(|(_, queue)| queue.read().expect(POISONED).kept.bytes());
        bytes.sum()
    }

    /// Queues of topics, in their order.
    pub(crate) fn of_topics(&self, is_meant: impl Fn(TopicId) -> bool) -> Vec<Key> {
        let queues = self.queues.read().expect(POISONED);
        let mut keys: Vec<_> = queues.keys().filter(|it| is_meant(it.0)).copied().collect();
        keys.sort_unstable();
        keys
    }

    /// Nothing before an offset is served, until it is said otherwise.
    pub(crate) fn serve_from(&self, key: Key, floor: QueueOffset) {
        if let Some(queue) = self.find(key) {
            let mut queue = queue.write().expect(POISONED);
            queue.floor = floor.0.min(queue.end());
        }
    }

    /// The next entries from an offset on whose records stand before a position and have no copy behind it;
    /// none = there are no more. May block.
    pub(crate) fn read_before(
        &self,
        key: Key,
        from: QueueOffset,
        head: u64,
    ) -> Result<Vec<Entry>, ReadError> {
        let Some(queue) = self.find(key) else {
            return Ok(Vec::new());
        };
        let mut from = from;
        loop {
            let mut entries = self.read(key, from, BLOCK)?;
            let Some(last) = entries.last().map(|it| it.offset) else {
                return Ok(entries);
            };
            let queue = queue.read().expect(POISONED);
            // Behind the first of these, no record stands where it is asked for.
            let is_behind = |it: &Entry| it.offset.0 >= queue.min && it.position.0 >= head;
            let is_end = entries.iter().any(is_behind);
            let has_copy = |it: &Entry| {
                let copy = queue.kept.get(it.offset.0);
                copy.is_some_and(|copy| copy.position >= head)
            };
            entries.retain(|it| it.position.0 < head && !has_copy(it));
            if is_end || !entries.is_empty() {
                return Ok(entries);
            }
            from = last.plus(1);
        }
    }

    fn find(&self, key: Key) -> Option<Arc<RwLock<Queue>>> {
        self.queues.read().expect(POISONED).get(&key).cloned()
    }

    fn find_or_make(&self, key: Key) -> Arc<RwLock<Queue>> {
        match self.find(key) {
            Some(queue) => queue,
            None => Arc::clone(self.queues.write().expect(POISONED).entry(key).or_default()),
        }
    }

    /// Adds the next messages of a queue; returns where the queue ends now.
    pub(crate) fn append(&self, key: Key, entries: impl Iterator<Item = Entry>) -> QueueOffset {
        let queue = self.find_or_make(key);
        let mut queue = queue.write().expect(POISONED);
        for entry in entries {
            if queue.end() < entry.offset.0 && queue.recent.is_empty() && queue.blocks.is_empty() {
                // The first that is left of a queue whose beginning is gone.
                (queue.min, queue.first) = (entry.offset.0, entry.offset.0);
            }
            debug_assert_eq!(entry.offset.0, queue.end(), "queue offsets have no gaps");
            queue.push(Packed {
                position: entry.position.0,
                size: entry.size,
                tag_code: entry.tag_code,
            });
        }
        if queue.recent.len() >= BLOCK {
            // What cannot be written now is written with what comes next.
            let _ = queue.flush(key, &self.log, false);
        }
        QueueOffset(queue.end())
    }

    /// Messages before an offset are lost, as the record at `position` says: whoever reads on finds the
    /// next one that is there.
    pub(crate) fn step_over(&self, key: Key, next: QueueOffset, position: LogPosition) {
        let queue = self.find_or_make(key);
        let mut queue = queue.write().expect(POISONED);
        if queue.recent.is_empty() && queue.blocks.is_empty() && queue.end() < next.0 {
            (queue.min, queue.first) = (next.0, next.0);
        }
        while queue.end() < next.0 {
            queue.push(Packed::hole(position));
            if queue.recent.len() >= BLOCK {
                let _ = queue.flush(key, &self.log, false);
            }
        }
    }

    /// The first message of a queue that is still there, and where its next one goes.
    pub(crate) fn range(&self, key: Key) -> (QueueOffset, QueueOffset) {
        let bounds = |queue: Arc<RwLock<Queue>>| {
            let queue = queue.read().expect(POISONED);
            (QueueOffset(queue.begin()), QueueOffset(queue.end()))
        };
        self.find(key).map_or_else(Default::default, bounds)
    }

    /// How many messages of a queue are there from an offset on: what is gone from between them is not counted.
    pub(crate) fn count(&self, key: Key, from: QueueOffset) -> u64 {
        let queue = self.find(key);
        queue.map_or(0, |it| it.read().expect(POISONED).count(from.0))
    }

    /// Where a queue ends; 0 for one that has never had a message.
    pub(crate) fn end(&self, key: Key) -> QueueOffset {
        self.range(key).1
    }

    /// One entry. May block.
    pub(crate) fn get(&self, key: Key, offset: QueueOffset) -> Result<Option<Entry>, ReadError> {
        Ok(self.read(key, offset, 1)?.pop())
    }

    /// One entry, if finding it takes no reading from disk.
    pub(crate) fn in_memory(&self, key: Key, offset: QueueOffset) -> Option<Entry> {
        let found = self
            .find(key)?
            .read()
            .expect(POISONED)
            .find(key, offset.0)?;
        let packed = match found {
            Found::Here(packed) => packed,
            Found::In(place) => {
                let entries = self.log.in_memory(place)?.ok()?;
                *entries.get((offset.0 - place.first) as usize)?
            }
        };
        (!packed.is_hole()).then(|| packed.at(offset.0))
    }

    /// Up to `most` entries from an offset on, or from the first that is left. May block.
    pub(crate) fn read(
        &self,
        key: Key,
        from: QueueOffset,
        most: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        let Some(queue) = self.find(key) else {
            return Ok(Vec::new());
        };
        let mut out = Vec::new();
        let mut next = from.0;
        while out.len() < most {
            // Blocks are read without holding up the dispatcher.
            let place = {
                let queue = queue.read().expect(POISONED);
                next = next.max(queue.floor);
                let left = most - out.len();
                let kept = queue.kept_from(next).take(left);
                out.extend(kept.map(|(offset, packed)| packed.at(offset)));
                if out.len() >= most {
                    break;
                }
                next = next.max(queue.min);
                if next >= queue.first {
                    let recent = queue.recent.iter().zip(queue.first..);
                    let wanted = recent.skip((next - queue.first) as usize);
                    let left = most - out.len();
                    let wanted = wanted.filter(|(packed, _)| !packed.is_hole());
                    out.extend(wanted.take(left).map(|(packed, offset)| packed.at(offset)));
                    break;
                }
                match queue.find(key, next) {
                    Some(Found::In(place)) => place,
                    _ => break,
                }
            };
            let entries = self.log.read(place).map_err(|error| ReadError::Queue {
                offset: QueueOffset(next),
                why: error.to_string(),
            })?;
            let wanted = entries.iter().zip(place.first..);
            let wanted = wanted.skip((next - place.first) as usize);
            let left = most - out.len();
            let wanted = wanted.filter(|(packed, _)| !packed.is_hole());
            out.extend(wanted.take(left).map(|(packed, offset)| packed.at(offset)));
            next = place.first + u64::from(place.count);
        }
        Ok(out)
    }

    /// Of all queues, the first message that is there and where the next one goes.
    pub(crate) fn bounds(&self) -> HashMap<Key, (u64, u64)> {
        let queues = self.queues.read().expect(POISONED);
        let bounds = |(key, queue): (&Key, &Arc<RwLock<Queue>>)| {
            let queue = queue.read().expect(POISONED);
            (*key, (queue.min, queue.end()))
        };
        queues.iter().map(bounds).collect()
    }

    /// Where all queues end.
    pub(crate) fn ends(&self) -> HashMap<Key, u64> {
        let bounds = self.bounds().into_iter();
        bounds.map(|(key, (_, end))| (key, end)).collect()
    }

    fn all(&self) -> Vec<(Key, Arc<RwLock<Queue>>)> {
        let queues = self.queues.read().expect(POISONED);
        let mut all: Vec<_> = queues
            .iter()
            .map(|(key, it)| (*key, Arc::clone(it)))
            .collect();
        // In an order that does not depend on the map's.
        all.sort_unstable_by_key(|(key, _)| *key);
        all
    }

    /// Brings entries below a position to the queue log and makes it durable. Returns where the queue
    /// log ends, and the lowest position of an entry that is only in memory.
    pub(crate) fn flush(&self, below: u64) -> io::Result<(u64, Option<u64>)> {
        let mut lowest = None;
        for (key, queue) in self.all() {
            let mut queue = queue.write().expect(POISONED);
            let oldest = queue.recent.first().map(|entry| entry.position);
            if oldest.is_some_and(|oldest| oldest < below) {
                queue.flush(key, &self.log, true)?;
            } else if let Some(oldest) = oldest {
                lowest = Some(lowest.map_or(oldest, |lowest: u64| lowest.min(oldest)));
            }
        }
        Ok((self.log.flush()?, lowest))
    }

    /// The log begins at `head` now: messages before it are gone.
    pub(crate) fn advance(&self, head: u64) -> Result<(), ReadError> {
        let failed = |error: io::Error| ReadError::Queue {
            offset: QueueOffset(0),
            why: error.to_string(),
        };
        for (key, queue) in self.all() {
            let min = self.first_at(key, &queue, head).map_err(failed)?;
            let mut queue = queue.write().expect(POISONED);
            queue.min = queue.min.max(min);
            queue.kept.advance(head);
        }
        let gone = self.log.forget_before(head).map_err(failed)?;
        let Some(gone) = gone else {
            return Ok(());
        };
        for (_, queue) in self.all() {
            let mut queue = queue.write().expect(POISONED);
            while queue.blocks.front().is_some_and(|block| block.at < gone) {
                queue.blocks.pop_front();
            }
        }
        Ok(())
    }

    /// Offset of a queue's first message at or behind a position.
    fn first_at(&self, key: Key, queue: &RwLock<Queue>, head: u64) -> io::Result<u64> {
        let (mut low, mut high, recent) = {
            let queue = queue.read().expect(POISONED);
            let after = queue.recent.partition_point(|entry| entry.position < head);
            let from = queue
                .blocks
                .partition_point(|block| block.first < queue.min);
            let recent = queue.first + after as u64;
            (from.saturating_sub(1), queue.blocks.len(), recent)
        };
        // The first block whose last entry is at or behind the head.
        let mut best = recent;
        while low < high {
            let middle = low + (high - low) / 2;
            let place = queue.read().expect(POISONED).block(key, middle);
            let Some(place) = place else { break };
            let entries = self.log.read(place)?;
            let after = entries.partition_point(|entry| entry.position < head);
            if after == entries.len() {
                low = middle + 1;
            } else {
                best = place.first + after as u64;
                high = middle;
            }
        }
        Ok(best)
    }

    pub(crate) fn retain_topics(&self, is_kept: impl Fn(TopicId) -> bool) {
        let mut queues = self.queues.write().expect(POISONED);
        queues.retain(|(topic, _), _| is_kept(*topic));
    }
}
