//! What versions of a plugin decided for groups, and where: so that what one rejected wrongly can be judged again.
//!
//! ```text
//!        first            judged_until      seen_until        of one queue, for one group
//!  ────────┼──────────────────┼──────────────────┼────────▶
//!  another │ the version that │ the version that │ nobody
//!  decided │ is replayed did  │ came after it did│ has yet
//! ```
//!
//! The first look at a queue for a group under an activation is written down before it is answered, and so is one that
//! begins further in front. A replay takes the group back to `first`. Up to `judged_until` it gets what the filters let
//! through now and the replayed version did not: that one is asked again, for the same message gets the same answer. Up
//! to `seen_until` it gets nothing, for those who decide now have done so before. An entry goes when the group has
//! committed beyond it.
//!
//! A name's first activation is not marked: there was nothing before to go back to.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use quern_protocol::{Activation, GroupName, PluginName, QueueId, QueueOffset, TopicId};
use serde::{Deserialize, Serialize};

use crate::limits;
use crate::offsets::Commit;
use crate::plugins::{Named, PluginRecord};

/// A version decides about this queue for this group, from here on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    pub(crate) name: PluginName,
    /// When the version was activated.
    pub(crate) activated_at: u64,
    pub(crate) group: GroupName,
    pub(crate) topic: TopicId,
    pub(crate) queue: QueueId,
    pub(crate) first: QueueOffset,
}

/// A group goes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReplayBegan {
    pub(crate) group: GroupName,
    pub(crate) topic: TopicId,
    pub(crate) queues: Vec<(QueueId, Replay)>,
}

/// What is delivered of a queue that is judged again; see the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Replay {
    pub(crate) name: PluginName,
    pub(crate) version: u32,
    pub(crate) judged_until: QueueOffset,
    pub(crate) seen_until: QueueOffset,
}

/// What a version decided of a queue, for a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decided {
    pub(crate) queue: QueueId,
    pub(crate) first: QueueOffset,
    /// `None` = nobody has decided after it.
    pub(crate) until: Option<QueueOffset>,
}

type Queues<T> = HashMap<GroupName, HashMap<(TopicId, QueueId), T>>;

#[derive(Debug, Default)]
struct Inner {
    marks: Queues<Vec<(PluginName, u64, QueueOffset)>>,
    replays: Queues<Replay>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Replays(Mutex<Inner>);

impl Replays {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        let inner = self.0.lock();
        inner.expect("no code that can panic runs under the replays lock")
    }

    /// Applying a mark twice changes nothing.
    pub(crate) fn mark(&self, mark: Mark) {
        let mut inner = self.lock();
        let queues = inner.marks.entry(mark.group).or_default();
        let marks = queues.entry((mark.topic, mark.queue)).or_default();
        let is_it = |(name, at, _): &&mut (PluginName, u64, QueueOffset)| {
            *name == mark.name && *at == mark.activated_at
        };
        match marks.iter_mut().find(is_it) {
            Some((_, _, first)) => *first = mark.first.min(*first),
            None => marks.push((mark.name, mark.activated_at, mark.first)),
        }
    }

    pub(crate) fn began(&self, began: ReplayBegan) {
        let mut inner = self.lock();
        let queues = inner.replays.entry(began.group).or_default();
        let replays = began.queues.into_iter();
        queues.extend(replays.map(|(queue, replay)| ((began.topic, queue), replay)));
    }

    /// Marks of the last activations stay: one can go back to them.
    pub(crate) fn activated(&self, name: &PluginName, activations: &[Activation]) {
        let last = activations.iter().rev().take(limits::MARKED_ACTIVATIONS);
        let last: Vec<u64> = last.map(|it| it.at).collect();
        let mut inner = self.lock();
        inner.marks.retain(|_, queues| {
            queues.retain(|_, marks| {
                marks.retain(|(of, at, _)| of != name || last.contains(at));
                !marks.is_empty()
            });
            !queues.is_empty()
        });
    }

    /// What the group has committed beyond is not met again.
    pub(crate) fn committed(&self, commit: &Commit) {
        let mut inner = self.lock();
        let Some(queues) = inner.replays.get_mut(&commit.group) else {
            return;
        };
        for at in &commit.offsets {
            let key = (commit.topic, at.queue);
            if queues
                .get(&key)
                .is_some_and(|it| it.seen_until <= at.offset)
            {
                queues.remove(&key);
            }
        }
        if queues.is_empty() {
            inner.replays.remove(&commit.group);
        }
    }

    pub(crate) fn forget_topic(&self, topic: TopicId) {
        let Inner { marks, replays } = &mut *self.lock();
        marks
            .values_mut()
            .for_each(|it| it.retain(|(of, _), _| *of != topic));
        replays
            .values_mut()
            .for_each(|it| it.retain(|(of, _), _| *of != topic));
        marks.retain(|_, queues| !queues.is_empty());
        replays.retain(|_, queues| !queues.is_empty());
    }

    pub(crate) fn forget_group(&self, group: &GroupName) {
        let mut inner = self.lock();
        inner.marks.remove(group);
        inner.replays.remove(group);
    }

    /// Whether it is known that this activation decides here.
    pub(crate) fn is_marked(
        &self,
        group: &GroupName,
        place: (TopicId, QueueId),
        (name, at): (&PluginName, u64),
        from: QueueOffset,
    ) -> bool {
        let inner = self.lock();
        let marks = inner.marks.get(group).and_then(|it| it.get(&place));
        let mut marks = marks.into_iter().flatten();
        marks.any(|(of, since, first)| of == name && *since == at && *first <= from)
    }

    /// How this queue is judged again, if a look that begins here meets what was decided before.
    pub(crate) fn of(
        &self,
        group: &GroupName,
        place: (TopicId, QueueId),
        from: QueueOffset,
    ) -> Option<Replay> {
        let inner = self.lock();
        let replay = inner.replays.get(group)?.get(&place)?;
        (from < replay.seen_until).then(|| replay.clone())
    }

    /// What was decided under one activation, up to where those after it began, by group and topic in order.
    pub(crate) fn decided(
        &self,
        name: &PluginName,
        activated_at: u64,
        after: &[u64],
    ) -> Vec<((GroupName, TopicId), Vec<Decided>)> {
        let inner = self.lock();
        let mut all = Vec::new();
        for (group, queues) in &inner.marks {
            for ((topic, queue), marks) in queues {
                let first_of = |wanted: &dyn Fn(u64) -> bool| {
                    let of_name = marks.iter().filter(|(of, at, _)| of == name && wanted(*at));
                    of_name.map(|(_, _, first)| *first).min()
                };
                if let Some(first) = first_of(&|at| at == activated_at) {
                    let decided = Decided {
                        queue: *queue,
                        first,
                        until: first_of(&|at| after.contains(&at)),
                    };
                    all.push(((group.clone(), *topic), decided));
                }
            }
        }
        all.sort_by(|(a, one), (b, other)| (a, one.queue).cmp(&(b, other.queue)));
        let mut by_topic: Vec<((GroupName, TopicId), Vec<Decided>)> = Vec::new();
        for (of, decided) in all {
            match by_topic.last_mut().filter(|(last, _)| *last == of) {
                Some((_, queues)) => queues.push(decided),
                None => by_topic.push((of, vec![decided])),
            }
        }
        by_topic
    }

    /// The records that make a table like this one, in an order of their own.
    pub(crate) fn snapshot(&self) -> Vec<PluginRecord> {
        let inner = self.lock();
        let mut marks = Vec::new();
        for (group, queues) in &inner.marks {
            for ((topic, queue), all) in queues {
                marks.extend(all.iter().map(|(name, at, first)| Mark {
                    name: name.clone(),
                    activated_at: *at,
                    group: group.clone(),
                    topic: *topic,
                    queue: *queue,
                    first: *first,
                }));
            }
        }
        marks.sort_by(|a, b| {
            let key = |it: &Mark| (it.topic, it.queue, it.activated_at);
            (&a.group, key(a), &a.name).cmp(&(&b.group, key(b), &b.name))
        });
        let mut replays = Vec::new();
        for (group, queues) in &inner.replays {
            for ((topic, queue), replay) in queues {
                replays.push(ReplayBegan {
                    group: group.clone(),
                    topic: *topic,
                    queues: vec![(*queue, replay.clone())],
                });
            }
        }
        let place = |it: &ReplayBegan| (it.topic, it.queues.first().map(|(queue, _)| *queue));
        replays.sort_by(|a, b| (&a.group, place(a)).cmp(&(&b.group, place(b))));
        let marks = marks.into_iter().map(PluginRecord::Marked);
        let replays = replays.into_iter().map(PluginRecord::Replaying);
        marks.chain(replays).collect()
    }
}

impl Named {
    /// Since when a version has decided, if it does and something else did before.
    pub(crate) fn marked_since(&self, version: u32) -> Option<u64> {
        let (_, later) = self.activations.split_first()?;
        let mut later = later.iter().rev();
        Some(later.find(|it| it.version == Some(version))?.at)
    }

    /// When a version that decides no more was activated last, and when all that came after it were.
    pub(crate) fn replayable(&self, version: u32) -> Option<(u64, Vec<u64>)> {
        let is_it = |it: &Activation| it.version == Some(version);
        let place = self.activations.iter().rposition(is_it)?;
        let (until, after) = self.activations.split_at(place + 1);
        Some((until.last()?.at, after.iter().map(|it| it.at).collect()))
    }

    /// The version that was active before what the name stands for now.
    pub(crate) fn last_retired(&self) -> Option<u32> {
        let mut earlier = self.activations.iter().rev().filter_map(|it| it.version);
        earlier.find(|it| Some(*it) != self.active)
    }
}

#[cfg(test)]
mod tests {
    use quern_protocol::QueuePosition;

    use super::*;

    fn name() -> PluginName {
        PluginName::new("geo").unwrap()
    }

    fn group() -> GroupName {
        GroupName::new("g").unwrap()
    }

    const PLACE: (TopicId, QueueId) = (TopicId(1), QueueId(2));

    fn mark(activated_at: u64, first: u64) -> Mark {
        Mark {
            name: name(),
            activated_at,
            group: group(),
            topic: PLACE.0,
            queue: PLACE.1,
            first: QueueOffset(first),
        }
    }

    fn commit(offset: u64) -> Commit {
        let at = QueuePosition {
            queue: PLACE.1,
            offset: QueueOffset(offset),
        };
        Commit {
            group: group(),
            topic: PLACE.0,
            offsets: vec![at],
        }
    }

    fn again(replays: &Replays) -> Replays {
        let again = Replays::default();
        for record in replays.snapshot() {
            match record {
                PluginRecord::Marked(it) => again.mark(it),
                PluginRecord::Replaying(it) => again.began(it),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(again.snapshot(), replays.snapshot());
        again
    }

    #[test]
    fn a_version_decided_from_its_mark_to_that_of_those_after_it() {
        let replays = Replays::default();
        for (at, first) in [(7, 100), (7, 90), (7, 95), (8, 200), (9, 150)] {
            replays.mark(mark(at, first));
        }
        let replays = again(&replays);
        let decided = |at, after: &[u64]| {
            let found = replays.decided(&name(), at, after);
            let [(of, queues)] = &found[..] else {
                panic!("{found:?}");
            };
            assert_eq!(*of, (group(), PLACE.0));
            let offset = |it: QueueOffset| it.0;
            (queues[0].first.0, queues[0].until.map(offset))
        };
        assert_eq!(decided(7, &[8, 9]), (90, Some(150)));
        assert_eq!(decided(7, &[]), (90, None));
        assert_eq!(replays.decided(&name(), 6, &[7]), []);
        let is_marked = |from| replays.is_marked(&group(), PLACE, (&name(), 7), QueueOffset(from));
        assert_eq!([89, 90].map(is_marked), [false, true]);
        let stands = |at| Activation {
            version: Some(1),
            at,
        };
        replays.activated(&name(), &[7, 8, 9, 10, 11].map(stands));
        assert_eq!(again(&replays).snapshot().len(), 2, "7 is long ago");
        replays.forget_topic(PLACE.0);
        assert_eq!(replays.snapshot(), []);
    }

    #[test]
    fn a_replay_is_over_when_the_group_has_committed_beyond_it() {
        let replays = Replays::default();
        let replay = Replay {
            name: name(),
            version: 2,
            judged_until: QueueOffset(20),
            seen_until: QueueOffset(30),
        };
        replays.began(ReplayBegan {
            group: group(),
            topic: PLACE.0,
            queues: vec![(PLACE.1, replay.clone())],
        });
        let replays = again(&replays);
        let of = |from| replays.of(&group(), PLACE, QueueOffset(from));
        replays.committed(&commit(29));
        assert_eq!((of(29), of(30)), (Some(replay), None));
        replays.committed(&commit(30));
        assert_eq!((of(0), replays.snapshot().len()), (None, 0));
    }

    #[test]
    fn the_first_activation_of_a_name_is_not_marked() {
        let activation = |(version, at)| Activation { version, at };
        let all = [(Some(1), 1), (Some(2), 2), (None, 3), (Some(1), 4)].map(activation);
        let mut named = Named {
            active: Some(1),
            activations: all.to_vec(),
            ..Named::default()
        };
        assert_eq!(named.marked_since(1), Some(4));
        assert_eq!(named.replayable(2), Some((2, vec![3, 4])));
        assert_eq!(named.last_retired(), Some(2));
        named.activations.truncate(1);
        assert_eq!(named.marked_since(1), None);
        assert_eq!((named.replayable(2), named.last_retired()), (None, None));
    }
}
