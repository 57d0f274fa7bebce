//! Groups as administrators see them: list, describe, delete.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quern_protocol::{
    Code, DeleteGroup, DeleteGroupReply, DescribeGroup, DescribeGroupReply, GroupName, GroupQueue,
    GroupSummary, ListGroupsReply, QueueId, QueueOffset, RecordKind, WireError,
};

use crate::leases::GroupChange;
use crate::topics::Topic;
use crate::{Broker, reply};

pub(crate) fn list(broker: &Broker) -> ListGroupsReply {
    let mut groups: BTreeMap<GroupName, GroupSummary> = BTreeMap::new();
    let summary = |group: &GroupName| GroupSummary {
        group: group.clone(),
        members: 0,
        topics: 0,
    };
    for (group, topics) in broker.state.offsets.groups() {
        let entry = groups.entry(group.clone());
        entry.or_insert_with(|| summary(&group)).topics = topics;
    }
    for (group, members) in broker.groups.list() {
        let entry = groups.entry(group.clone());
        entry.or_insert_with(|| summary(&group)).members = members;
    }
    ListGroupsReply {
        groups: groups.into_values().collect(),
    }
}

/// The age of a message may have to be read from the disk, so it is done where cold reads are.
pub(crate) async fn describe(
    broker: &Arc<Broker>,
    request: DescribeGroup,
) -> Result<DescribeGroupReply, WireError> {
    let group = request.group;
    let known = broker.groups.describe(broker.store.steady_ms(), &group);
    let (generation, strategy, members) = known.unwrap_or_default();
    let subscribed = members.iter().flat_map(|it| &it.subscriptions);
    let subscribed: BTreeSet<_> = subscribed.map(|(topic, _)| topic.clone()).collect();
    let topics = broker.state.topics.list().into_iter().filter(|topic| {
        subscribed.contains(&topic.name) || broker.state.offsets.knows(&group, topic.id)
    });
    let topics: Vec<_> = topics.collect();
    if members.is_empty() && topics.is_empty() {
        let text = format!("group \"{group}\" has neither members nor committed offsets here");
        return Err(WireError::new(Code::NOT_FOUND, text));
    }
    let with = Arc::clone(broker);
    let look = move || {
        let queues = topics.iter().map(|topic| queues(&with, &group, topic));
        queues.collect::<Result<Vec<_>, _>>()
    };
    let queues = broker.cold.run(&None, look).await??;
    Ok(DescribeGroupReply {
        generation,
        strategy,
        members,
        queues: queues.into_iter().flatten().collect(),
    })
}

fn queues(broker: &Broker, group: &GroupName, topic: &Topic) -> Result<Vec<GroupQueue>, WireError> {
    let owners = broker.state.leases.owners(group, topic.id);
    let queue = |queue| {
        let queue = QueueId(queue);
        let (min, max) = broker.store.range(topic.id, queue);
        let committed = broker.state.offsets.next(group, topic.id, queue);
        Ok(GroupQueue {
            topic: topic.name.clone(),
            queue,
            committed,
            min,
            max,
            behind_ms: match committed {
                Some(next) if next < max => age(broker, topic, queue, next.max(min))?,
                _ => None,
            },
            owner: owners.get(&queue).cloned(),
        })
    };
    (0..topic.read_queues).map(queue).collect()
}

/// How long a message has been there.
fn age(
    broker: &Broker,
    topic: &Topic,
    queue: QueueId,
    offset: QueueOffset,
) -> Result<Option<u64>, WireError> {
    let stored_at = broker.store.stored_at(topic.id, queue, offset);
    let stored_at = stored_at.map_err(|error| reply::read_failed(&error))?;
    Ok(stored_at.map(|at| broker.store.now_ms().saturating_sub(at)))
}

pub(crate) async fn delete(
    broker: &Broker,
    request: DeleteGroup,
) -> Result<DeleteGroupReply, WireError> {
    let one_change_at_a_time = broker.group_changes().await;
    let group = request.group;
    let members = broker.groups.list().get(&group).copied().unwrap_or(0);
    let leased = broker.state.leases.in_use(broker.store.steady_ms(), &group);
    if members > 0 || leased {
        let text =
            format!("group \"{group}\" has {members} members here, or queues leased to some");
        return Err(WireError::new(Code::GROUP_IN_USE, text));
    }
    let queues = broker.state.offsets.count(&group);
    if queues == 0 && !broker.state.group_settings.knows(&group) {
        let text = format!("group \"{group}\" has committed nothing here");
        return Err(WireError::new(Code::NOT_FOUND, text));
    }
    let deleted = GroupChange::Deleted(group);
    let turn = &one_change_at_a_time;
    broker.change(turn, RecordKind::Group, &deleted).await?;
    Ok(DeleteGroupReply { queues })
}
