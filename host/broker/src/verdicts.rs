//! What filters have said, so that they are not asked the same again: by other consumers of a broadcast, by groups
//! that ask the same, by pops, by whoever goes back. A verdict is kept under what it depends on, and on nothing
//! else: the component's digest, the expression, its parameters; the topic's id, the queue, the offset, under
//! which one message lies for ever. What a group or a zone is, no filter is told.
//!
//! Only what a guest has said stays: a message it failed on is asked about again. A digest that was caught saying
//! different things of one message is forgotten, and never remembered again. A queue's offsets are given out anew
//! only when a log is cut while it is opened, and that begins with nothing remembered.
//! Why so: `docs/decisions/0022-verdicts-are-remembered.md`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quern_plugins::Subscription;
use quern_protocol::{QueueId, QueueOffset, TopicId};

use crate::accepted::Params;
use crate::limits;

/// Offsets of one block.
const OFFSETS: u64 = 4_096;
const WORDS: usize = OFFSETS as usize / 64;

/// What is known of so many offsets, a bit each; bits are only ever added.
#[derive(Debug)]
struct Block {
    known: [AtomicU64; WORDS],
    deliver: [AtomicU64; WORDS],
}

/// What one block takes with its place in the maps, about.
const BLOCK_BYTES: usize = size_of::<Block>() + 256;

impl Default for Block {
    fn default() -> Self {
        Self {
            known: [const { AtomicU64::new(0) }; WORDS],
            deliver: [const { AtomicU64::new(0) }; WORDS],
        }
    }
}

/// The word of an offset, and its bit.
fn place(offset: QueueOffset) -> (usize, u64) {
    let within = offset.0 % OFFSETS;
    ((within / 64) as usize, 1 << (within % 64))
}

impl Block {
    fn said(&self, offset: QueueOffset) -> Option<bool> {
        let (word, bit) = place(offset);
        let is_known = self.known[word].load(Ordering::Acquire) & bit != 0;
        is_known.then(|| self.deliver[word].load(Ordering::Relaxed) & bit != 0)
    }

    fn add(&self, word: usize, known: u64, deliver: u64) {
        self.deliver[word].fetch_or(deliver, Ordering::Relaxed);
        // Last, so that nobody takes what is not told yet for a "no".
        self.known[word].fetch_or(known, Ordering::Release);
    }
}

/// What is asked, of whom.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Question {
    digest: Box<str>,
    expression: Box<str>,
    params: Params,
}

/// The number of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Asked(u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    asked: Asked,
    topic: TopicId,
    queue: QueueId,
    block: u64,
}

#[derive(Debug)]
struct Slot {
    block: Arc<Block>,
    used: u64,
}

#[derive(Debug, Default)]
struct Inner {
    questions: HashMap<Question, Asked>,
    asked: u64,
    blocks: HashMap<Key, Slot>,
    /// The one not used for longest comes first.
    by_use: BTreeMap<u64, Key>,
    uses: u64,
    /// Not more than there are versions.
    impure: HashSet<Box<str>>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Verdicts(Mutex<Inner>);

impl Verdicts {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose verdicts are kept together; `None` = none are.
    pub(crate) fn asked(&self, subscription: &Subscription) -> Option<Asked> {
        let question = Question {
            digest: subscription.plugin().digest().into(),
            expression: subscription.expression().into(),
            params: subscription.params().to_vec(),
        };
        let mut inner = self.lock();
        if inner.impure.contains(&question.digest) {
            return None;
        }
        if let Some(asked) = inner.questions.get(&question) {
            return Some(*asked);
        }
        if inner.questions.len() >= limits::SUBSCRIPTIONS {
            inner.questions.clear();
            inner.blocks.clear();
            inner.by_use.clear();
        }
        // Never one that was given before: somebody may still hold it.
        inner.asked += 1;
        let asked = Asked(inner.asked);
        inner.questions.insert(question, asked);
        Some(asked)
    }

    /// What is known of a queue's messages, to be looked up one after the other.
    pub(crate) fn of(&self, asked: Asked, topic: TopicId, queue: QueueId) -> Known<'_> {
        Known {
            verdicts: self,
            key: Key {
                asked,
                topic,
                queue,
                block: u64::MAX,
            },
            block: None,
            learnt: Word::default(),
        }
    }

    /// The digest has said different things of one message.
    pub(crate) fn distrust(&self, digest: &str) {
        let mut inner = self.lock();
        let Inner {
            questions,
            blocks,
            by_use,
            impure,
            ..
        } = &mut *inner;
        impure.insert(digest.into());
        let mut gone = HashSet::new();
        questions.retain(|question, asked| {
            let stays = &*question.digest != digest;
            if !stays {
                gone.insert(*asked);
            }
            stays
        });
        blocks.retain(|key, _| !gone.contains(&key.asked));
        by_use.retain(|_, key| !gone.contains(&key.asked));
    }
}

impl Inner {
    fn block(&mut self, key: Key, make: bool) -> Option<Arc<Block>> {
        self.uses += 1;
        let used = self.uses;
        if let Some(slot) = self.blocks.get_mut(&key) {
            self.by_use.remove(&slot.used);
            self.by_use.insert(used, key);
            slot.used = used;
            return Some(Arc::clone(&slot.block));
        }
        if !make {
            return None;
        }
        if self.blocks.len() >= limits::VERDICTS / BLOCK_BYTES
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.blocks.remove(&oldest);
        }
        let block = Arc::<Block>::default();
        let slot = Slot {
            block: Arc::clone(&block),
            used,
        };
        self.blocks.insert(key, slot);
        self.by_use.insert(used, key);
        Some(block)
    }
}

/// The verdicts on one queue; looks for a block only where the offsets come to another.
#[derive(Debug)]
pub(crate) struct Known<'a> {
    verdicts: &'a Verdicts,
    key: Key,
    block: Option<Arc<Block>>,
    /// Not in the block yet: a word costs as much to write as a bit.
    learnt: Word,
}

#[derive(Debug, Default)]
struct Word {
    place: usize,
    known: u64,
    deliver: u64,
}

impl Known<'_> {
    fn block(&mut self, offset: QueueOffset, make: bool) -> Option<&Block> {
        let block = offset.0 / OFFSETS;
        if self.key.block != block || make && self.block.is_none() {
            self.write();
            self.key.block = block;
            self.block = self.verdicts.lock().block(self.key, make);
        }
        self.block.as_deref()
    }

    fn write(&mut self) {
        let Word {
            place,
            known,
            deliver,
        } = std::mem::take(&mut self.learnt);
        if let Some(block) = self.block.as_ref().filter(|_| known != 0) {
            block.add(place, known, deliver);
        }
    }

    /// Whether the message is delivered; `None` = nobody has said.
    pub(crate) fn said(&mut self, offset: QueueOffset) -> Option<bool> {
        self.write();
        self.block(offset, false)?.said(offset)
    }

    /// Whether the message is delivered, as a guest has just said.
    pub(crate) fn learn(&mut self, offset: QueueOffset, deliver: bool) {
        self.block(offset, true);
        let (word, bit) = place(offset);
        if self.learnt.place != word {
            self.write();
            self.learnt.place = word;
        }
        self.learnt.known |= bit;
        if deliver {
            self.learnt.deliver |= bit;
        }
    }
}

impl Drop for Known<'_> {
    fn drop(&mut self) {
        self.write();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUE: (TopicId, QueueId) = (TopicId(1), QueueId(0));

    fn of(verdicts: &Verdicts, asked: u64) -> Known<'_> {
        verdicts.of(Asked(asked), QUEUE.0, QUEUE.1)
    }

    #[test]
    fn what_was_said_is_known_where_it_was_said() {
        let verdicts = Verdicts::default();
        let offsets = [0, 63, 64, 4_095, 4_096, 4_097, 1 << 40];
        let mut mine = of(&verdicts, 1);
        for offset in offsets {
            assert_eq!(mine.said(QueueOffset(offset)), None);
            mine.learn(QueueOffset(offset), offset % 2 == 1);
        }
        for offset in offsets {
            assert_eq!(mine.said(QueueOffset(offset)), Some(offset % 2 == 1));
            assert_eq!(mine.said(QueueOffset(offset + 5)), None);
            let elsewhere = [
                verdicts.of(Asked(2), QUEUE.0, QUEUE.1),
                verdicts.of(Asked(1), TopicId(2), QUEUE.1),
                verdicts.of(Asked(1), QUEUE.0, QueueId(1)),
            ];
            for mut other in elsewhere {
                assert_eq!(other.said(QueueOffset(offset)), None);
            }
        }
    }

    #[test]
    fn memory_is_bounded_and_what_is_used_stays() {
        let verdicts = Verdicts::default();
        let room = (limits::VERDICTS / BLOCK_BYTES) as u64;
        let at = |block: u64| QueueOffset(block * OFFSETS);
        for block in 0..room + 100 {
            of(&verdicts, 1).learn(at(block), true);
            assert_eq!(of(&verdicts, 1).said(at(0)), Some(true));
        }
        let inner = verdicts.lock();
        assert_eq!(
            (inner.blocks.len(), inner.by_use.len()),
            (room as usize, room as usize)
        );
        drop(inner);
        assert_eq!(of(&verdicts, 1).said(at(1)), None);
        assert_eq!(of(&verdicts, 1).said(at(101)), Some(true));
    }
}
