//! What producers have sent, so that a batch sent twice is stored once. Pure: a function of the log's
//! records in their order, and so the same before and after a restart.
//!
//! Kept are, by producer and queue, the last [`WINDOW`] batches. Producers that were silent for
//! [`limits::PRODUCER_AGE`] of the log's time are forgotten, and the longest silent ones when there are
//! more than [`limits::PRODUCERS`].

use std::collections::{BTreeSet, HashMap, VecDeque};

use quern_protocol::{
    LogPosition, ProducerId, ProducerStamp, QueueId, QueueOffset, RecordHeader, TopicId,
};
use serde::{Deserialize, Serialize};

use crate::consume_queue::Key;
use crate::error::AppendError;
use crate::limits;
use crate::pending::Appended;

/// Batches of a producer that can still be recognised.
pub(crate) const WINDOW: usize = 5;

/// A batch in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Batch {
    pub(crate) sequence: u32,
    pub(crate) position: LogPosition,
    pub(crate) first: QueueOffset,
    pub(crate) stored_at: u64,
}

impl Batch {
    pub(crate) fn new(stamp: &ProducerStamp, appended: &Appended) -> Self {
        Self {
            sequence: stamp.sequence,
            position: appended.position,
            first: appended.first,
            stored_at: appended.stored_at,
        }
    }
}

/// What one producer has sent to one queue, newest last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sent {
    pub(crate) id: ProducerId,
    pub(crate) topic: TopicId,
    pub(crate) queue: QueueId,
    pub(crate) epoch: u16,
    pub(crate) batches: VecDeque<Batch>,
}

impl Sent {
    fn key(&self) -> (ProducerId, Key) {
        (self.id, (self.topic, self.queue))
    }

    /// Orders by silence; positions are unique.
    fn age(&self) -> (u64, LogPosition) {
        let last = self.batches.back();
        last.map_or_else(Default::default, |last| (last.stored_at, last.position))
    }
}

/// How a batch stands to what was sent before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Next,
    /// It is in the log already, there.
    Again(Appended),
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Producers {
    windows: HashMap<(ProducerId, Key), Sent>,
    by_age: BTreeSet<((u64, LogPosition), (ProducerId, Key))>,
    /// A batch whose last record has not come yet.
    open: Option<(ProducerStamp, Batch)>,
}

impl Producers {
    /// Whether a batch may be appended.
    pub(crate) fn check(&self, stamp: &ProducerStamp, key: Key) -> Result<Standing, AppendError> {
        let out_of_sequence = |expected| AppendError::OutOfSequence {
            expected,
            found: stamp.sequence,
        };
        let Some(sent) = self.windows.get(&(stamp.id, key)) else {
            return match stamp.sequence {
                0 => Ok(Standing::Next),
                _ => Err(AppendError::UnknownProducer(stamp.id)),
            };
        };
        if stamp.epoch < sent.epoch {
            return Err(AppendError::Fenced {
                epoch: stamp.epoch,
                newest: sent.epoch,
            });
        }
        if stamp.epoch > sent.epoch {
            return match stamp.sequence {
                0 => Ok(Standing::Next),
                _ => Err(out_of_sequence(0)),
            };
        }
        let next = sent
            .batches
            .back()
            .map_or(0, |last| last.sequence.wrapping_add(1));
        if stamp.sequence == next {
            return Ok(Standing::Next);
        }
        let again = sent
            .batches
            .iter()
            .find(|batch| batch.sequence == stamp.sequence);
        let batch = again.ok_or_else(|| out_of_sequence(next))?;
        Ok(Standing::Again(Appended {
            position: batch.position,
            first: batch.first,
            stored_at: batch.stored_at,
        }))
    }

    /// A batch is in the log.
    pub(crate) fn apply(&mut self, stamp: &ProducerStamp, key: Key, batch: Batch) {
        let mut sent = match self.take((stamp.id, key)) {
            Some(sent) if sent.epoch == stamp.epoch => sent,
            _ => Sent {
                id: stamp.id,
                topic: key.0,
                queue: key.1,
                epoch: stamp.epoch,
                batches: VecDeque::with_capacity(WINDOW),
            },
        };
        sent.batches.push_back(batch);
        if sent.batches.len() > WINDOW {
            sent.batches.pop_front();
        }
        self.put(sent);
        self.expire(batch.stored_at);
    }

    /// The same, record by record.
    pub(crate) fn apply_record(&mut self, header: &RecordHeader) {
        let Some(stamp) = header.extensions.producer else {
            return;
        };
        if header.extensions.carried {
            return;
        }
        let is_same = |open: &ProducerStamp| {
            (open.id, open.epoch, open.sequence) == (stamp.id, stamp.epoch, stamp.sequence)
        };
        let begins = Batch {
            sequence: stamp.sequence,
            position: header.position,
            first: header.queue_offset,
            stored_at: header.stored_at,
        };
        let batch = match self.open.take() {
            Some((open, batch)) if is_same(&open) => batch,
            _ => begins,
        };
        if stamp.to_follow == 0 {
            self.apply(&stamp, (header.topic, header.queue), batch);
        } else {
            self.open = Some((stamp, batch));
        }
    }

    /// What a snapshot knows of a time before the records applied so far.
    pub(crate) fn recall(&mut self, older: Sent) {
        let newer = self.take(older.key());
        let Some(mut newer) = newer else {
            self.put(older);
            return;
        };
        if newer.epoch == older.epoch {
            let first = newer.batches.front().map(|it| it.position);
            let before = older.batches.into_iter().rev();
            for batch in before.filter(|it| first.is_none_or(|first| it.position < first)) {
                if newer.batches.len() < WINDOW {
                    newer.batches.push_front(batch);
                }
            }
        }
        self.put(newer);
    }

    /// One window, to be put back if what changes it cannot be written.
    pub(crate) fn window(&self, id: ProducerId, key: Key) -> Option<Sent> {
        self.windows.get(&(id, key)).cloned()
    }

    pub(crate) fn restore(&mut self, id: ProducerId, key: Key, before: Option<Sent>) {
        self.take((id, key));
        if let Some(before) = before {
            self.put(before);
        }
    }

    /// All windows, the longest silent first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Sent> {
        self.by_age
            .iter()
            .filter_map(|(_, key)| self.windows.get(key))
    }

    fn take(&mut self, key: (ProducerId, Key)) -> Option<Sent> {
        let sent = self.windows.remove(&key)?;
        self.by_age.remove(&(sent.age(), key));
        Some(sent)
    }

    fn put(&mut self, sent: Sent) {
        self.by_age.insert((sent.age(), sent.key()));
        self.windows.insert(sent.key(), sent);
    }

    pub(crate) fn expire(&mut self, now: u64) {
        while let Some(((last, _), key)) = self.by_age.first().copied() {
            let silent = now.saturating_sub(last) > limits::PRODUCER_AGE;
            if !silent && self.windows.len() <= limits::PRODUCERS {
                return;
            }
            self.take(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = (TopicId(1), QueueId(0));

    fn stamp(id: u64, epoch: u16, sequence: u32) -> ProducerStamp {
        ProducerStamp {
            id: ProducerId(id),
            epoch,
            sequence,
            to_follow: 0,
        }
    }

    fn batch(sequence: u32, at: u64) -> Batch {
        Batch {
            sequence,
            position: LogPosition(at),
            first: QueueOffset(at / 10),
            stored_at: at,
        }
    }

    #[test]
    fn each_batch_is_next_again_or_refused() {
        let mut producers = Producers::default();
        for sequence in 0..8 {
            producers.apply(
                &stamp(1, 2, sequence),
                KEY,
                batch(sequence, u64::from(sequence) * 100),
            );
        }
        let again = |sequence: u32| {
            Ok(Standing::Again(Appended {
                position: LogPosition(u64::from(sequence) * 100),
                first: QueueOffset(u64::from(sequence) * 10),
                stored_at: u64::from(sequence) * 100,
            }))
        };
        let expected = |expected, found| Err(AppendError::OutOfSequence { expected, found });
        let cases = [
            (stamp(1, 2, 8), Ok(Standing::Next)),
            (stamp(1, 2, 7), again(7)),
            (stamp(1, 2, 3), again(3)),
            (stamp(1, 2, 2), expected(8, 2)),
            (stamp(1, 2, 9), expected(8, 9)),
            (
                stamp(1, 1, 8),
                Err(AppendError::Fenced {
                    epoch: 1,
                    newest: 2,
                }),
            ),
            (stamp(1, 3, 0), Ok(Standing::Next)),
            (stamp(1, 3, 1), expected(0, 1)),
            (stamp(2, 0, 0), Ok(Standing::Next)),
            (
                stamp(2, 0, 1),
                Err(AppendError::UnknownProducer(ProducerId(2))),
            ),
        ];
        for (stamp, outcome) in cases {
            assert_eq!(producers.check(&stamp, KEY), outcome, "{stamp:?}");
        }
        assert_eq!(
            producers.check(&stamp(1, 2, 8), (TopicId(1), QueueId(1))),
            Err(AppendError::UnknownProducer(ProducerId(1))),
            "another queue has sequences of its own"
        );
    }

    #[test]
    fn the_silent_are_forgotten() {
        let mut producers = Producers::default();
        producers.apply(&stamp(1, 0, 0), KEY, batch(0, 100));
        producers.apply(&stamp(2, 0, 0), KEY, batch(0, 100 + limits::PRODUCER_AGE));
        assert_eq!(producers.all().count(), 2);
        producers.apply(&stamp(3, 0, 0), KEY, batch(0, 101 + limits::PRODUCER_AGE));
        let left: Vec<_> = producers.all().map(|sent| sent.id.0).collect();
        assert_eq!(left, [2, 3]);
    }
}
