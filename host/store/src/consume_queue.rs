//! Consume queues: for each queue, where its messages lie in the log. Derived data: kept in memory
//! and rebuilt from the log at every start. Only the dispatcher writes.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use quern_protocol::{LogPosition, QueueId, QueueOffset, TopicId};

use crate::limits;

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

#[derive(Debug, Clone, Copy)]
struct Packed {
    position: u64,
    size: u32,
    tag_code: i32,
}

/// Chunks, so that growing never copies what is there.
#[derive(Debug, Default)]
struct Queue {
    chunks: Vec<Vec<Packed>>,
    len: u64,
}

impl Queue {
    fn push(&mut self, entry: Packed) {
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < limits::QUEUE_CHUNK => chunk.push(entry),
            _ => {
                // The first chunk grows as it must: most queues stay small.
                let room = if self.chunks.is_empty() {
                    8
                } else {
                    limits::QUEUE_CHUNK
                };
                let mut chunk = Vec::with_capacity(room);
                chunk.push(entry);
                self.chunks.push(chunk);
            }
        }
        self.len += 1;
    }

    fn get(&self, offset: u64) -> Option<Entry> {
        let chunk = self.chunks.get(offset as usize / limits::QUEUE_CHUNK)?;
        let packed = chunk.get(offset as usize % limits::QUEUE_CHUNK)?;
        Some(Entry {
            offset: QueueOffset(offset),
            position: LogPosition(packed.position),
            size: packed.size,
            tag_code: packed.tag_code,
        })
    }
}

/// The queues of one log.
#[derive(Debug, Default)]
pub(crate) struct ConsumeQueues(RwLock<HashMap<Key, Arc<RwLock<Queue>>>>);

const POISONED: &str = "no code that can panic runs under a consume queue's lock";

impl ConsumeQueues {
    fn find(&self, key: Key) -> Option<Arc<RwLock<Queue>>> {
        self.0.read().expect(POISONED).get(&key).cloned()
    }

    fn find_or_make(&self, key: Key) -> Arc<RwLock<Queue>> {
        match self.find(key) {
            Some(queue) => queue,
            None => Arc::clone(self.0.write().expect(POISONED).entry(key).or_default()),
        }
    }

    /// Adds the next messages of a queue; returns where the queue ends now.
    pub(crate) fn append(&self, key: Key, entries: impl Iterator<Item = Entry>) -> QueueOffset {
        let queue = self.find_or_make(key);
        let mut queue = queue.write().expect(POISONED);
        for entry in entries {
            debug_assert_eq!(entry.offset.0, queue.len, "queue offsets have no gaps");
            queue.push(Packed {
                position: entry.position.0,
                size: entry.size,
                tag_code: entry.tag_code,
            });
        }
        QueueOffset(queue.len)
    }

    /// Where a queue ends; 0 for one that has never had a message.
    pub(crate) fn end(&self, key: Key) -> QueueOffset {
        let len = |queue: Arc<RwLock<Queue>>| queue.read().expect(POISONED).len;
        QueueOffset(self.find(key).map_or(0, len))
    }

    pub(crate) fn get(&self, key: Key, offset: QueueOffset) -> Option<Entry> {
        let queue = self.find(key)?;
        let queue = queue.read().expect(POISONED);
        queue.get(offset.0)
    }

    /// Up to `most` entries from an offset on.
    pub(crate) fn read(&self, key: Key, from: QueueOffset, most: usize) -> Vec<Entry> {
        let Some(queue) = self.find(key) else {
            return Vec::new();
        };
        let queue = queue.read().expect(POISONED);
        let end = queue.len.min(from.0.saturating_add(most as u64));
        (from.0..end)
            .filter_map(|offset| queue.get(offset))
            .collect()
    }

    /// Ends of all queues.
    pub(crate) fn ends(&self) -> HashMap<Key, u64> {
        let queues = self.0.read().expect(POISONED);
        let end =
            |(key, queue): (&Key, &Arc<RwLock<Queue>>)| (*key, queue.read().expect(POISONED).len);
        queues.iter().map(end).collect()
    }

    pub(crate) fn remove_topic(&self, topic: TopicId) {
        let mut queues = self.0.write().expect(POISONED);
        queues.retain(|(of, _), _| *of != topic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_across_chunks() {
        let queues = ConsumeQueues::default();
        let key = (TopicId(1), QueueId(0));
        let many = 3 * limits::QUEUE_CHUNK as u64 + 5;
        let entry = |offset| Entry {
            offset: QueueOffset(offset),
            position: LogPosition(offset * 64),
            size: 64,
            tag_code: offset as i32,
        };
        assert_eq!(queues.append(key, (0..many).map(entry)), QueueOffset(many));
        for offset in [0, 7, 8, 8_191, 8_192, many - 1] {
            assert_eq!(queues.get(key, QueueOffset(offset)), Some(entry(offset)));
        }
        assert_eq!(queues.get(key, QueueOffset(many)), None);
        let out = queues.read(key, QueueOffset(8_190), 4);
        assert_eq!(out, (8_190..8_194).map(entry).collect::<Vec<_>>());
        assert_eq!(queues.read(key, QueueOffset(many), 4), []);
        queues.remove_topic(TopicId(1));
        assert_eq!(queues.end(key), QueueOffset(0));
    }
}
