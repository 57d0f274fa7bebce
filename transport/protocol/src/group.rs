//! Consumer groups: which member consumes which queue, and how far a group has come.
//!
//! Two kinds of broker take part. The *coordinator* of a group, the broker on which its members agree by
//! [`coordinator`], knows them and gives each its queues ([`JoinGroup`]). The broker that has a queue
//! leases it to one member at a time ([`LeaseQueues`]). That no queue has two owners rests on leases
//! alone: members that disagree on the coordinator lose time, never order.

use serde::{Deserialize, Serialize};

use crate::fingerprint;
use crate::ids::{BrokerName, GroupName, QueueId, QueueOffset, TopicName};
use crate::limits;
use crate::pull::Filter;
use crate::select::Selector;

/// The queues of a topic that one broker has for reading.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadQueues {
    pub broker: BrokerName,
    pub queues: u32,
}

/// A topic of a group, which of its messages, and where it is as the member knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    pub topic: TopicName,
    pub filter: Filter,
    pub route: Vec<ReadQueues>,
}

/// A member's sign of life. Answered at once when the member does not know the newest generation,
/// otherwise when there is a newer one or the time is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinGroup {
    pub group: GroupName,
    /// Unique in the group: 1 to 127 bytes without control characters.
    pub member: String,
    /// Where the member stands, for strategies that care; empty = unknown.
    pub zone: String,
    /// For strategies that care; 1 is the usual.
    pub weight: u32,
    /// Who shares out the queues: a plugin; `None` = `averagely`.
    pub strategy: Option<Selector>,
    /// The same topics and filters in every member.
    pub subscriptions: Vec<Subscription>,
    /// The newest the member knows; 0 = none.
    pub generation: u64,
    /// At most 5,000; 60,000 where the broker has said [`crate::LONG_HOLDS`]. Who is silent for longer than the
    /// session meanwhile, with its leases too, is gone, and hears that.
    pub wait_ms: u32,
    /// [`Self::fingerprint`] of what it said before and says by this again; zone, weight, strategy and subscriptions are
    /// not said then. A coordinator that does not remember it answers with `UNKNOWN_MEMBER`. Since version 2.
    pub again: Option<u64>,
}

impl JoinGroup {
    pub(crate) fn says_more_than_version_1(&self) -> bool {
        self.again.is_some()
    }

    /// Of what the member is and wants.
    pub fn fingerprint(&self) -> u64 {
        let presence = (&self.zone, self.weight, &self.strategy);
        fingerprint::of(&(presence, &self.subscriptions))
    }

    /// What is beyond a limit, in words.
    pub fn beyond_limits(&self) -> Option<String> {
        let brokers = self.subscriptions.iter().map(|it| it.route.len()).max();
        let queues = self.subscriptions.iter().flat_map(|it| &it.route);
        let queues: u64 = queues.map(|it| u64::from(it.queues)).sum();
        let strategy = self.strategy.as_ref().map_or(0, Selector::size);
        for (what, have, most) in [
            ("bytes of member id", self.member.len(), limits::NAME),
            ("bytes of zone", self.zone.len(), limits::NAME),
            (
                "bytes of strategy and parameters",
                strategy,
                limits::SELECTOR,
            ),
            ("topics", self.subscriptions.len(), limits::GROUP_TOPICS),
            (
                "brokers of a topic",
                brokers.unwrap_or(0),
                limits::ROUTE_BROKERS,
            ),
            ("queues", queues as usize, limits::ROUTE_QUEUES),
        ] {
            if have > most {
                return Some(format!(
                    "a member of a group names {have} {what}, the limit is {most}"
                ));
            }
        }
        if self.member.is_empty() || self.member.chars().any(char::is_control) {
            return Some("a member id is 1 to 127 bytes without control characters".to_owned());
        }
        None
    }
}

/// Queues of one broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    pub topic: TopicName,
    pub broker: BrokerName,
    pub queues: Vec<QueueId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinGroupReply {
    /// Another one for every new sharing out of the queues.
    pub generation: u64,
    /// Members that are alive.
    pub members: u32,
    /// Name and version of who shared out the queues, and why if it is not who was asked for.
    pub strategy: String,
    /// A member that stays silent longer is taken for gone.
    pub session_ms: u32,
    /// What this member shall consume, once it has the leases.
    pub shares: Vec<Share>,
}

/// The member goes, and says so: its queues go to others at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaveGroup {
    pub group: GroupName,
    pub member: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaveGroupReply {}

/// A queue's lease. Its epoch rises whenever the queue gets a new owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub queue: QueueId,
    pub epoch: u64,
}

/// Takes queues of one broker for a member, or keeps them, and gives others back. Answered at once when
/// it has all of them, otherwise when it gets another one or the time is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseQueues {
    pub group: GroupName,
    pub topic: TopicName,
    pub member: String,
    pub queues: Vec<QueueId>,
    pub release: Vec<Lease>,
    /// At most 5,000.
    pub wait_ms: u32,
}

/// A queue the member has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leased {
    pub lease: Lease,
    /// The next message the group wants; `None` = it never committed.
    pub committed: Option<QueueOffset>,
}

/// A queue another member has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    pub queue: QueueId,
    pub member: String,
    /// Unless it is given back before, or kept.
    pub free_in_ms: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseQueuesReply {
    /// How long a lease holds, counted by the member from when it *sent* the request.
    pub lease_ms: u32,
    pub leased: Vec<Leased>,
    pub taken: Vec<Taken>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListGroups {}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupSummary {
    pub group: GroupName,
    /// Members this broker knows; it may not be the coordinator.
    pub members: u32,
    /// Topics of which it has committed something here.
    pub topics: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListGroupsReply {
    pub groups: Vec<GroupSummary>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescribeGroup {
    pub group: GroupName,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupMember {
    pub member: String,
    pub zone: String,
    pub weight: u32,
    /// Since its last sign of life.
    pub silent_ms: u64,
    pub subscriptions: Vec<(TopicName, Filter)>,
}

/// How far a group has come in a queue of this broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupQueue {
    pub topic: TopicName,
    pub queue: QueueId,
    /// The next message the group wants; `None` = it never committed.
    pub committed: Option<QueueOffset>,
    pub min: QueueOffset,
    pub max: QueueOffset,
    /// Age of the first message it has not consumed; `None` = there is none, or it is not there any more.
    pub behind_ms: Option<u64>,
    /// Who has the lease.
    pub owner: Option<String>,
}

/// What one broker knows of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescribeGroupReply {
    /// 0 = this broker does not coordinate it.
    pub generation: u64,
    pub strategy: String,
    pub members: Vec<GroupMember>,
    pub queues: Vec<GroupQueue>,
}

/// Forgets what a group has committed on one broker. Refused while it has members there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteGroup {
    pub group: GroupName,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteGroupReply {
    /// Queues that had a committed offset.
    pub queues: u32,
}

/// The broker that coordinates a group: the same for all who know the same brokers, and for most groups
/// the same still when a broker comes or goes. `None` = there are no brokers.
pub fn coordinator<'a>(
    group: &GroupName,
    brokers: impl IntoIterator<Item = &'a BrokerName>,
) -> Option<&'a BrokerName> {
    let weight = |broker: &&BrokerName| (weight(group, broker), broker.as_str().to_owned());
    brokers.into_iter().max_by_key(weight)
}

/// Of the group, a zero byte and the broker.
fn weight(group: &GroupName, broker: &BrokerName) -> u64 {
    let bytes = group.as_str().bytes().chain([0]);
    fingerprint::mixed(bytes.chain(broker.as_str().bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brokers(count: usize) -> Vec<BrokerName> {
        let names = (0..count).map(|n| BrokerName::new(format!("broker-{n}")).unwrap());
        names.collect()
    }

    fn group(n: usize) -> GroupName {
        GroupName::new(format!("group-{n}")).unwrap()
    }

    #[test]
    fn groups_spread_over_brokers_and_few_move_when_one_goes() {
        let all = brokers(4);
        let mut by_broker = [0; 4];
        for n in 0..4_000 {
            let group = group(n);
            let chosen = coordinator(&group, &all).unwrap();
            let index = all.iter().position(|it| it == chosen).unwrap();
            by_broker[index] += 1;
            // Without one of the others the choice is the same, whatever the order.
            let mut fewer: Vec<_> = all.clone();
            fewer.remove((index + 1) % 4);
            fewer.reverse();
            assert_eq!(coordinator(&group, &fewer), Some(chosen));
        }
        for groups in by_broker {
            assert!((900..1_100).contains(&groups), "{by_broker:?}");
        }
        assert_eq!(coordinator(&group(0), &[]), None);
    }
}
