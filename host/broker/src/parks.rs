//! Messages a filter failed on that were put aside for a group: they lie among its dead letters, and whoever
//! looks at the queue for the group passes them by. What the log says of them; [`crate::park`] writes it.
//!
//! ```text
//! Parked, then the dead letter, then Buried: whatever is interrupted, one of three things is so.
//! ```
//!
//! Nothing, and the message is met again; `Parked` alone, and a start, or who failed, looks whether the dead letter is
//! there; all. An entry goes when the group has committed beyond it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard};

use quern_protocol::{GroupName, QueueId, QueueOffset, TopicId};
use serde::{Deserialize, Serialize};

use crate::offsets::Commit;

/// What one record says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ParkChange {
    pub(crate) group: GroupName,
    pub(crate) topic: TopicId,
    pub(crate) queue: QueueId,
    pub(crate) what: ParkWhat,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ParkWhat {
    /// These are put aside from now on, each with why.
    Parked(Vec<(QueueOffset, String)>),
    /// The dead letters of these are there.
    Buried(Vec<QueueOffset>),
}

/// Messages of one queue, and why those are parked whose dead letter may not be there yet.
type Parked = BTreeMap<QueueOffset, Option<String>>;
type Key = (GroupName, TopicId, QueueId);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Parks(Mutex<HashMap<Key, Parked>>);

impl Parks {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Parked>> {
        let parks = self.0.lock();
        parks.expect("no code that can panic runs under the parks lock")
    }

    /// Applies what the log says. Applying it twice changes nothing.
    pub(crate) fn apply(&self, change: ParkChange) {
        let mut parks = self.lock();
        let key = (change.group, change.topic, change.queue);
        match change.what {
            ParkWhat::Parked(messages) => {
                let parked = parks.entry(key).or_default();
                let messages = messages.into_iter();
                parked.extend(messages.map(|(offset, why)| (offset, Some(why))));
            }
            ParkWhat::Buried(offsets) => {
                let parked = parks.entry(key).or_default();
                parked.extend(offsets.into_iter().map(|offset| (offset, None)));
            }
        }
    }

    /// What the group has committed beyond is not met again.
    pub(crate) fn committed(&self, commit: &Commit) {
        let mut parks = self.lock();
        if parks.is_empty() {
            return;
        }
        for at in &commit.offsets {
            let key = (commit.group.clone(), commit.topic, at.queue);
            if let Some(parked) = parks.get_mut(&key) {
                parked.retain(|offset, why| *offset >= at.offset || why.is_some());
                if parked.is_empty() {
                    parks.remove(&key);
                }
            }
        }
    }

    pub(crate) fn forget_topic(&self, topic: TopicId) {
        self.lock().retain(|(_, it, _), _| *it != topic);
    }

    pub(crate) fn forget_group(&self, group: &GroupName) {
        self.lock().retain(|(it, _, _), _| it != group);
    }

    /// What whoever looks at this queue for the group passes by.
    pub(crate) fn of(
        &self,
        group: &GroupName,
        topic: TopicId,
        queue: QueueId,
    ) -> BTreeSet<QueueOffset> {
        let parks = self.lock();
        if parks.is_empty() {
            return BTreeSet::new();
        }
        let parked = parks.get(&(group.clone(), topic, queue));
        parked.map_or_else(BTreeSet::new, |parked| parked.keys().copied().collect())
    }

    /// Those whose dead letter may not be there.
    pub(crate) fn unburied(&self) -> Vec<ParkChange> {
        let parks = self.lock();
        let changes = parks.iter().filter_map(|(key, parked)| {
            let open = parked.iter();
            let open = open.filter_map(|(offset, why)| Some((*offset, why.clone()?)));
            change(key, ParkWhat::Parked(open.collect()))
        });
        changes.collect()
    }

    /// The changes that make a table like this one.
    pub(crate) fn snapshot(&self) -> Vec<ParkChange> {
        let mut changes = self.unburied();
        let parks = self.lock();
        changes.extend(parks.iter().filter_map(|(key, parked)| {
            let buried = parked.iter().filter(|(_, why)| why.is_none());
            let buried = buried.map(|(offset, _)| *offset);
            change(key, ParkWhat::Buried(buried.collect()))
        }));
        changes.sort_by(|a, b| (&a.group, a.topic, a.queue).cmp(&(&b.group, b.topic, b.queue)));
        changes
    }
}

/// `None` = there is nothing to say.
fn change((group, topic, queue): &Key, what: ParkWhat) -> Option<ParkChange> {
    let is_empty = match &what {
        ParkWhat::Parked(messages) => messages.is_empty(),
        ParkWhat::Buried(offsets) => offsets.is_empty(),
    };
    (!is_empty).then(|| ParkChange {
        group: group.clone(),
        topic: *topic,
        queue: *queue,
        what,
    })
}

#[cfg(test)]
mod tests {
    use quern_protocol::QueuePosition;

    use super::*;

    fn says(what: ParkWhat) -> ParkChange {
        ParkChange {
            group: GroupName::new("g").unwrap(),
            topic: TopicId(1),
            queue: QueueId(2),
            what,
        }
    }

    fn offsets(parks: &Parks) -> Vec<u64> {
        let group = GroupName::new("g").unwrap();
        let parked = parks.of(&group, TopicId(1), QueueId(2));
        parked.into_iter().map(|it| it.0).collect()
    }

    #[test]
    fn what_is_parked_is_passed_by_until_the_group_is_beyond_it() {
        let parks = Parks::default();
        let why = |offset| (QueueOffset(offset), "why".to_owned());
        parks.apply(says(ParkWhat::Parked(vec![why(3), why(5), why(9)])));
        parks.apply(says(ParkWhat::Buried(vec![QueueOffset(3), QueueOffset(9)])));
        assert_eq!(offsets(&parks), [3, 5, 9]);
        assert_eq!(parks.unburied(), [says(ParkWhat::Parked(vec![why(5)]))]);
        let again = Parks::default();
        let snapshot = parks.snapshot();
        snapshot.iter().for_each(|it| again.apply(it.clone()));
        assert_eq!(again.snapshot(), snapshot);
        let commit = Commit {
            group: GroupName::new("g").unwrap(),
            topic: TopicId(1),
            offsets: vec![QueuePosition {
                queue: QueueId(2),
                offset: QueueOffset(6),
            }],
        };
        again.committed(&commit);
        assert_eq!(offsets(&again), [5, 9], "5 may have no dead letter yet");
        again.apply(says(ParkWhat::Buried(vec![QueueOffset(5)])));
        again.committed(&commit);
        assert_eq!(offsets(&again), [9]);
        again.forget_topic(TopicId(1));
        assert_eq!(again.snapshot(), []);
    }
}
