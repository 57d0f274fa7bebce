//! Leases: which member of a group has which queue of this broker. One owner at a time, whoever
//! coordinates the group and whatever crashes: grants and releases are records of the log, and a lease
//! that a start finds there counts from the start.
//!
//! Told the time, by the store's steady clock.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use quern_protocol::{GroupName, GroupSetting, Lease, QueueId, Taken, TopicId};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::limits;
use crate::parks::ParkChange;
use crate::pops::PopChange;
use crate::state::Body;

/// The body of a group record (kind 33), version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum GroupChange {
    Granted {
        group: GroupName,
        topic: TopicId,
        member: String,
        epoch: u64,
        queues: Vec<QueueId>,
    },
    Released {
        group: GroupName,
        topic: TopicId,
        queues: Vec<QueueId>,
    },
    /// Nothing of the group is left, its committed offsets neither.
    Deleted(GroupName),
    Set {
        group: GroupName,
        settings: Vec<GroupSetting>,
    },
    Popped(PopChange),
    Parked(ParkChange),
}

impl Body for GroupChange {
    const VERSION: u8 = 1;
}

#[derive(Debug, Clone)]
struct Held {
    member: String,
    epoch: u64,
    /// Steady ms.
    until: u64,
}

type Queues = BTreeMap<QueueId, Held>;

#[derive(Debug, Default)]
struct Table {
    groups: HashMap<GroupName, HashMap<TopicId, Queues>>,
    /// The highest that was given, as far as is known.
    epoch: u64,
}

impl Table {
    fn is_valid(&self, group: &GroupName, topic: TopicId, lease: Lease) -> bool {
        let held = self.groups.get(group).and_then(|it| it.get(&topic));
        let held = held.and_then(|held| held.get(&lease.queue));
        held.is_some_and(|held| held.epoch == lease.epoch)
    }
}

/// The leases of one broker's queues.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    table: Mutex<Table>,
    changed: Notify,
}

/// How the queues a member wants stand.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Look {
    /// Its own, for another term.
    pub(crate) leased: Vec<Lease>,
    pub(crate) free: Vec<QueueId>,
    pub(crate) taken: Vec<Taken>,
}

const POISONED: &str = "no code that can panic runs under the leases lock";

impl Leases {
    /// Applies a change the log contains. Applying one twice changes nothing.
    pub(crate) fn apply(&self, change: GroupChange) {
        let mut table = self.table.lock().expect(POISONED);
        match change {
            GroupChange::Granted {
                group,
                topic,
                member,
                epoch,
                queues,
            } => {
                table.epoch = table.epoch.max(epoch);
                let of_topic = table.groups.entry(group).or_default();
                let held = of_topic.entry(topic).or_default();
                for queue in queues {
                    let lease = Held {
                        member: member.clone(),
                        epoch,
                        until: 0,
                    };
                    held.insert(queue, lease);
                }
            }
            GroupChange::Released {
                group,
                topic,
                queues,
            } => {
                if let Some(topics) = table.groups.get_mut(&group)
                    && let Some(held) = topics.get_mut(&topic)
                {
                    held.retain(|queue, _| !queues.contains(queue));
                    if held.is_empty() {
                        topics.remove(&topic);
                    }
                    if topics.is_empty() {
                        table.groups.remove(&group);
                    }
                }
            }
            GroupChange::Deleted(group) => drop(table.groups.remove(&group)),
            // Not of leases.
            GroupChange::Set { .. } | GroupChange::Popped(_) | GroupChange::Parked(_) => return,
        }
        drop(table);
        self.changed.notify_waiters();
    }

    pub(crate) fn forget_topic(&self, topic: TopicId) {
        let mut table = self.table.lock().expect(POISONED);
        table.groups.retain(|_, topics| {
            topics.remove(&topic);
            !topics.is_empty()
        });
    }

    /// What a start has found holds for a whole term: nobody knows what its owners were told last.
    pub(crate) fn begin(&self, now: u64) {
        let mut table = self.table.lock().expect(POISONED);
        let topics = table.groups.values_mut().flat_map(HashMap::values_mut);
        for held in topics.flat_map(BTreeMap::values_mut) {
            held.until = now + limits::LEASE;
        }
    }

    /// The changes that make a table like this one, in an order of their own.
    pub(crate) fn snapshot(&self) -> Vec<GroupChange> {
        let table = self.table.lock().expect(POISONED);
        let mut grants: BTreeMap<(GroupName, TopicId, u64, String), Vec<QueueId>> = BTreeMap::new();
        for (group, topics) in &table.groups {
            for (topic, held) in topics {
                for (queue, Held { member, epoch, .. }) in held {
                    let grant = (group.clone(), *topic, *epoch, member.clone());
                    grants.entry(grant).or_default().push(*queue);
                }
            }
        }
        let grants = grants.into_iter();
        let grants = grants.map(
            |((group, topic, epoch, member), queues)| GroupChange::Granted {
                group,
                topic,
                member,
                epoch,
                queues,
            },
        );
        grants.collect()
    }

    /// Prolongs what the member has of these queues, and tells how the others stand.
    pub(crate) fn look(
        &self,
        now: u64,
        (group, topic): (&GroupName, TopicId),
        member: &str,
        wanted: &[QueueId],
    ) -> Look {
        let mut table = self.table.lock().expect(POISONED);
        let topics = table.groups.get_mut(group);
        let mut held = topics.and_then(|topics| topics.get_mut(&topic));
        let mut look = Look::default();
        for queue in wanted {
            match held.as_mut().and_then(|held| held.get_mut(queue)) {
                // One that has run out and that nobody else has taken is still its own.
                Some(lease) if lease.member == member => {
                    lease.until = now + limits::LEASE;
                    look.leased.push(Lease {
                        queue: *queue,
                        epoch: lease.epoch,
                    });
                }
                Some(lease) if lease.until > now => look.taken.push(Taken {
                    queue: *queue,
                    member: lease.member.clone(),
                    free_in_ms: u32::try_from(lease.until - now).unwrap_or(u32::MAX),
                }),
                _ => look.free.push(*queue),
            }
        }
        look
    }

    /// An epoch that no lease has had. At least the wall clock, so that it rises even where the log has
    /// forgotten the earlier ones.
    pub(crate) fn next_epoch(&self, wall_ms: u64) -> u64 {
        (self.table.lock().expect(POISONED).epoch + 1).max(wall_ms)
    }

    /// Those of the leases that are still what they say.
    pub(crate) fn valid(
        &self,
        group: &GroupName,
        topic: TopicId,
        leases: &[Lease],
    ) -> Vec<QueueId> {
        let table = self.table.lock().expect(POISONED);
        let is_valid = |lease: &&Lease| table.is_valid(group, topic, **lease);
        let valid = leases.iter().filter(is_valid);
        valid.map(|lease| lease.queue).collect()
    }

    /// Whether a lease is still what it says.
    pub(crate) fn is_valid(&self, group: &GroupName, topic: TopicId, lease: Lease) -> bool {
        let table = self.table.lock().expect(POISONED);
        table.is_valid(group, topic, lease)
    }

    /// Who has which queue of a topic, by the last grant, its term over or not.
    pub(crate) fn owners(&self, group: &GroupName, topic: TopicId) -> BTreeMap<QueueId, String> {
        let table = self.table.lock().expect(POISONED);
        let held = table.groups.get(group).and_then(|it| it.get(&topic));
        let owners = held.into_iter().flatten();
        owners
            .map(|(queue, held)| (*queue, held.member.clone()))
            .collect()
    }

    /// Groups whose members have queues of a topic.
    pub(crate) fn groups(&self, topic: TopicId) -> Vec<GroupName> {
        let table = self.table.lock().expect(POISONED);
        let groups = table.groups.iter();
        let groups = groups.filter(|(_, topics)| topics.contains_key(&topic));
        groups.map(|(group, _)| group.clone()).collect()
    }

    /// Whether anybody has a queue of this group, now.
    pub(crate) fn in_use(&self, now: u64, group: &GroupName) -> bool {
        let table = self.table.lock().expect(POISONED);
        let topics = table
            .groups
            .get(group)
            .into_iter()
            .flat_map(|it| it.values());
        let mut held = topics.flat_map(BTreeMap::values);
        held.any(|held| held.until > now)
    }

    /// Resolves at the next change. Enable it before looking.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Lets everybody look again: the broker is shutting down.
    pub(crate) fn wake_all(&self) {
        self.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUES: [QueueId; 3] = [QueueId(0), QueueId(1), QueueId(2)];

    fn group() -> GroupName {
        GroupName::new("g").unwrap()
    }

    fn look(leases: &Leases, now: u64, member: &str) -> Look {
        leases.look(now, (&group(), TopicId(1)), member, &QUEUES)
    }

    fn grant(leases: &Leases, now: u64, member: &str, queues: &[QueueId]) -> u64 {
        let epoch = leases.next_epoch(0);
        leases.apply(GroupChange::Granted {
            group: group(),
            topic: TopicId(1),
            member: member.to_owned(),
            epoch,
            queues: queues.to_vec(),
        });
        look(leases, now, member);
        epoch
    }

    #[test]
    fn a_queue_has_one_owner_until_its_term_is_over() {
        let leases = Leases::default();
        assert_eq!(look(&leases, 0, "a").free, QUEUES);
        let first = grant(&leases, 0, "a", &QUEUES[..2]);
        let seen = look(&leases, 1_000, "b");
        assert_eq!(seen.free, QUEUES[2..]);
        assert_eq!(seen.taken[0].member, "a");
        assert_eq!(u64::from(seen.taken[0].free_in_ms), limits::LEASE - 1_000);
        // Kept by asking again, over by not asking.
        assert_eq!(look(&leases, 9_000, "a").leased.len(), 2);
        assert_eq!(look(&leases, 9_000 + limits::LEASE - 1, "b").taken.len(), 2);
        assert_eq!(look(&leases, 9_000 + limits::LEASE, "b").free, QUEUES);
        let second = grant(&leases, 30_000, "b", &QUEUES[..1]);
        assert!(second > first);
        // The old owner's right is over where somebody else has the queue, and only there.
        let old = [0, 1].map(|queue| Lease {
            queue: QueueId(queue),
            epoch: first,
        });
        let valid = leases.valid(&group(), TopicId(1), &old);
        assert_eq!(valid, [QueueId(1)]);
        leases.apply(GroupChange::Released {
            group: group(),
            topic: TopicId(1),
            queues: QUEUES.to_vec(),
        });
        assert_eq!(look(&leases, 30_001, "c").free, QUEUES);
        assert!(leases.next_epoch(0) > second);
    }

    #[test]
    fn after_a_start_owners_keep_their_queues_for_a_term() {
        let before = Leases::default();
        let epoch = grant(&before, 0, "a", &QUEUES);
        let leases = Leases::default();
        for change in before.snapshot() {
            leases.apply(change);
        }
        leases.begin(500);
        assert_eq!(look(&leases, 499 + limits::LEASE, "b").taken.len(), 3);
        assert_eq!(look(&leases, 600, "a").leased[0].epoch, epoch);
        assert_eq!(look(&leases, 600 + limits::LEASE, "b").free, QUEUES);
        assert!(leases.in_use(600, &group()));
        assert!(!leases.in_use(600 + limits::LEASE, &group()));
    }
}
