//! What groups have popped: of each queue, how far it was given, and which messages are hidden until when.
//! The truth is in the log, as group records; this table is what they say, applied in log order.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use quern_protocol::{GroupName, QueueId, QueueOffset, QueuePosition, Receipt, TopicId};
use serde::{Deserialize, Serialize};

use crate::offsets::Commit;

/// A change of what a group has popped of a topic; part of a group record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PopChange {
    pub(crate) group: GroupName,
    pub(crate) topic: TopicId,
    pub(crate) what: PopWhat,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PopWhat {
    /// Given, and hidden until then, ms since 1970. Everything before `next` was given or is of no interest. Of
    /// those that were given before, only what is hidden still: another record may have come first.
    Given {
        queue: QueueId,
        next: QueueOffset,
        offsets: Vec<QueueOffset>,
        token: u64,
        until: u64,
    },
    Acknowledged(Vec<Receipt>),
    Hidden {
        receipts: Vec<Receipt>,
        until: u64,
    },
    /// All of it, for a snapshot.
    Queue {
        queue: QueueId,
        next: QueueOffset,
        hidden: Vec<(QueueOffset, Hidden)>,
    },
}

/// A message that was given and not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hidden {
    pub(crate) token: u64,
    /// ms since 1970.
    pub(crate) until: u64,
    /// How often it was given.
    pub(crate) times: u16,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Queue {
    pub(crate) next: QueueOffset,
    pub(crate) hidden: BTreeMap<QueueOffset, Hidden>,
}

impl Queue {
    /// Everything before is consumed.
    fn consumed(&self) -> QueueOffset {
        let first = self.hidden.keys().next();
        first.copied().unwrap_or(self.next)
    }

    fn is_current(&self, receipt: &Receipt) -> bool {
        let hidden = self.hidden.get(&receipt.offset);
        hidden.is_some_and(|it| it.token == receipt.token)
    }
}

type Key = (GroupName, TopicId);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Pops {
    table: Mutex<HashMap<Key, BTreeMap<QueueId, Queue>>>,
    /// The newest token.
    newest: AtomicU64,
}

const POISONED: &str = "no code that can panic runs under the pops lock";

impl Queue {
    /// These are hidden until then, for whoever has the token.
    fn give(&mut self, next: QueueOffset, offsets: Vec<QueueOffset>, (token, until): (u64, u64)) {
        let before = self.next;
        self.next = before.max(next);
        for offset in offsets {
            let again = self.hidden.get(&offset);
            // Acknowledged while it was about to be given again: that came first, and holds.
            if again.is_none() && offset < before && !cfg!(zoo = "z27") {
                continue;
            }
            let times = again.map_or(0, |it| it.times);
            let hidden = Hidden {
                token,
                until,
                times: times.saturating_add(1),
            };
            self.hidden.insert(offset, hidden);
        }
    }
}

impl Pops {
    /// Applies what the log says. Returns how far the group has consumed the queues concerned.
    pub(crate) fn apply(&self, change: PopChange) -> Commit {
        let mut table = self.table.lock().expect(POISONED);
        let key = (change.group.clone(), change.topic);
        let queues = table.entry(key).or_default();
        let mut touched = Vec::new();
        match change.what {
            PopWhat::Given {
                queue,
                next,
                offsets,
                token,
                until,
            } => {
                self.newest.fetch_max(token, Ordering::Relaxed);
                let known = queues.entry(queue).or_default();
                known.give(next, offsets, (token, until));
                touched.push(queue);
            }
            PopWhat::Acknowledged(receipts) => {
                for receipt in receipts {
                    if let Some(known) = queues.get_mut(&receipt.queue)
                        && known.is_current(&receipt)
                    {
                        known.hidden.remove(&receipt.offset);
                        touched.push(receipt.queue);
                    }
                }
            }
            PopWhat::Hidden { receipts, until } => {
                for receipt in receipts {
                    let known = queues.get_mut(&receipt.queue);
                    let hidden = known.and_then(|it| it.hidden.get_mut(&receipt.offset));
                    if let Some(hidden) = hidden.filter(|it| it.token == receipt.token) {
                        hidden.until = until;
                    }
                }
            }
            PopWhat::Queue {
                queue,
                next,
                hidden,
            } => {
                let hidden: BTreeMap<_, _> = hidden.into_iter().collect();
                let newest = hidden.values().map(|it: &Hidden| it.token).max();
                self.newest
                    .fetch_max(newest.unwrap_or(0), Ordering::Relaxed);
                queues.insert(queue, Queue { next, hidden });
                touched.push(queue);
            }
        }
        touched.sort_unstable();
        touched.dedup();
        let consumed = |queue: QueueId| QueuePosition {
            queue,
            offset: queues.get(&queue).map_or(QueueOffset(0), Queue::consumed),
        };
        Commit {
            offsets: touched.into_iter().map(consumed).collect(),
            group: change.group,
            topic: change.topic,
        }
    }

    /// The newest token that was given, of those that may be worth something.
    pub(crate) fn newest(&self) -> u64 {
        self.newest.load(Ordering::Relaxed)
    }

    /// Somebody has said where the group goes on: what it has popped of those queues counts no more.
    pub(crate) fn reset(&self, commit: &Commit) {
        let mut table = self.table.lock().expect(POISONED);
        let key = (commit.group.clone(), commit.topic);
        let Some(queues) = table.get_mut(&key) else {
            return;
        };
        for at in &commit.offsets {
            if let Some(known) = queues.get_mut(&at.queue) {
                known.next = at.offset;
                known.hidden.clear();
            }
        }
    }

    pub(crate) fn forget_topic(&self, topic: TopicId) {
        let mut table = self.table.lock().expect(POISONED);
        table.retain(|(_, it), _| *it != topic);
    }

    pub(crate) fn forget_group(&self, group: &GroupName) {
        let mut table = self.table.lock().expect(POISONED);
        table.retain(|(it, _), _| it != group);
    }

    /// The changes that make a table like this one, in an order of their own.
    pub(crate) fn snapshot(&self) -> Vec<PopChange> {
        let table = self.table.lock().expect(POISONED);
        let changes = table.iter().flat_map(|((group, topic), queues)| {
            queues.iter().map(|(queue, known)| PopChange {
                group: group.clone(),
                topic: *topic,
                what: PopWhat::Queue {
                    queue: *queue,
                    next: known.next,
                    hidden: known.hidden.iter().map(|(at, it)| (*at, *it)).collect(),
                },
            })
        });
        let mut changes: Vec<_> = changes.collect();
        changes.sort_by(|a, b| (a.topic, &a.group).cmp(&(b.topic, &b.group)));
        changes
    }

    /// A queue as the group has popped it; `None` = it never has.
    pub(crate) fn queue(&self, group: &GroupName, topic: TopicId, queue: QueueId) -> Option<Queue> {
        let table = self.table.lock().expect(POISONED);
        let queues = table.get(&(group.clone(), topic))?;
        queues.get(&queue).cloned()
    }

    /// Groups that have popped queues of a topic.
    pub(crate) fn groups(&self, topic: TopicId) -> Vec<GroupName> {
        let table = self.table.lock().expect(POISONED);
        let keys = table.keys().filter(|(_, it)| *it == topic);
        keys.map(|(group, _)| group.clone()).collect()
    }

    /// Those of the receipts that are worth something, and the others.
    pub(crate) fn sort(
        &self,
        group: &GroupName,
        topic: TopicId,
        receipts: Vec<Receipt>,
    ) -> (Vec<Receipt>, Vec<Receipt>) {
        let table = self.table.lock().expect(POISONED);
        let queues = table.get(&(group.clone(), topic));
        receipts.into_iter().partition(|receipt| {
            let known = queues.and_then(|it| it.get(&receipt.queue));
            known.is_some_and(|it| it.is_current(receipt))
        })
    }

    /// Those of the receipts that are worth something no longer than until then.
    pub(crate) fn over(
        &self,
        group: &GroupName,
        topic: TopicId,
        receipts: &[Receipt],
        then: u64,
    ) -> Vec<Receipt> {
        let table = self.table.lock().expect(POISONED);
        let queues = table.get(&(group.clone(), topic));
        let is_over = |receipt: &&Receipt| {
            let known = queues.and_then(|it| it.get(&receipt.queue));
            let hidden = known.and_then(|it| it.hidden.get(&receipt.offset));
            hidden.is_some_and(|it| it.token == receipt.token && it.until <= then)
        };
        receipts.iter().filter(is_over).copied().collect()
    }

    /// Those of the receipts whose messages are hidden, whoever has them.
    pub(crate) fn still_hidden(
        &self,
        group: &GroupName,
        topic: TopicId,
        receipts: Vec<Receipt>,
    ) -> Vec<Receipt> {
        let table = self.table.lock().expect(POISONED);
        let queues = table.get(&(group.clone(), topic));
        let is_hidden = |receipt: &Receipt| {
            let known = queues.and_then(|it| it.get(&receipt.queue));
            known.is_some_and(|it| it.hidden.contains_key(&receipt.offset))
        };
        receipts.into_iter().filter(is_hidden).collect()
    }

    /// When the next hidden message of these queues is given again, ms since 1970.
    pub(crate) fn next_visible(
        &self,
        group: &GroupName,
        topic: TopicId,
        queues: &[QueueId],
    ) -> Option<u64> {
        let table = self.table.lock().expect(POISONED);
        let known = table.get(&(group.clone(), topic))?;
        let known = queues.iter().filter_map(|queue| known.get(queue));
        known
            .flat_map(|it| it.hidden.values())
            .map(|it| it.until)
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: TopicId = TopicId(1);
    const QUEUE: QueueId = QueueId(0);

    fn change(what: PopWhat) -> PopChange {
        PopChange {
            group: GroupName::new("g").unwrap(),
            topic: TOPIC,
            what,
        }
    }

    fn given(next: u64, offsets: &[u64], token: u64) -> PopChange {
        change(PopWhat::Given {
            queue: QUEUE,
            next: QueueOffset(next),
            offsets: offsets.iter().map(|it| QueueOffset(*it)).collect(),
            token,
            until: token * 10,
        })
    }

    fn receipt(offset: u64, token: u64) -> Receipt {
        Receipt {
            queue: QUEUE,
            offset: QueueOffset(offset),
            token,
        }
    }

    fn consumed(commit: &Commit) -> Vec<u64> {
        commit.offsets.iter().map(|it| it.offset.0).collect()
    }

    #[test]
    fn what_is_consumed_follows_the_oldest_that_is_hidden() {
        let pops = Pops::default();
        let group = GroupName::new("g").unwrap();
        assert_eq!(consumed(&pops.apply(given(5, &[0, 2, 4], 1))), [0]);
        let ack = |receipts: &[Receipt]| change(PopWhat::Acknowledged(receipts.to_vec()));
        assert_eq!(consumed(&pops.apply(ack(&[receipt(2, 1)]))), [0]);
        assert_eq!(consumed(&pops.apply(ack(&[receipt(0, 1)]))), [4]);
        // Given again: the first receipt is worth nothing any more.
        assert_eq!(consumed(&pops.apply(given(7, &[4, 6], 2))), [4]);
        let sorted = pops.sort(
            &group,
            TOPIC,
            vec![receipt(4, 1), receipt(4, 2), receipt(9, 2)],
        );
        assert_eq!(sorted.0, [receipt(4, 2)]);
        assert!(consumed(&pops.apply(ack(&[receipt(4, 1)]))).is_empty());
        let known = pops.queue(&group, TOPIC, QUEUE).unwrap();
        assert_eq!(known.hidden[&QueueOffset(4)].times, 2);
        assert_eq!(pops.next_visible(&group, TOPIC, &[QUEUE]), Some(20));
        let again = Pops::default();
        pops.snapshot()
            .into_iter()
            .for_each(|it| drop(again.apply(it)));
        assert_eq!(again.snapshot(), pops.snapshot());
        pops.reset(&Commit {
            group: group.clone(),
            topic: TOPIC,
            offsets: vec![QueuePosition {
                queue: QUEUE,
                offset: QueueOffset(1),
            }],
        });
        let known = pops.queue(&group, TOPIC, QUEUE).unwrap();
        assert_eq!((known.next, known.hidden.len()), (QueueOffset(1), 0));
        pops.forget_group(&group);
        assert!(pops.queue(&group, TOPIC, QUEUE).is_none());
    }
}
