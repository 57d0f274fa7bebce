//! Offsets: what groups have committed, as records of the log; a queue's bounds; time to offset.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use quern_protocol::{
    Code, CommitOffsets, CommitOffsetsReply, GroupName, OffsetAt, OffsetAtReply, OffsetRange,
    OffsetRangeReply, QueryOffsets, QueryOffsetsReply, QueueId, QueueOffset, QueuePosition,
    RecordKind, TopicId, WireError,
};
use quern_store::Held;
use serde::{Deserialize, Serialize};

use crate::state::Body;
use crate::topics::Topic;
use crate::{Broker, group_settings, lease, reply};

/// The body of an offset commit (kind 18), version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Commit {
    pub(crate) group: GroupName,
    pub(crate) topic: TopicId,
    pub(crate) offsets: Vec<QueuePosition>,
}

impl Body for Commit {
    const VERSION: u8 = 1;
}

type Committed = HashMap<TopicId, HashMap<GroupName, BTreeMap<QueueId, QueueOffset>>>;

/// Committed offsets of all groups.
#[derive(Debug, Default)]
pub(crate) struct Offsets(Mutex<Committed>);

const POISONED: &str = "no code that can panic runs under the offsets lock";

impl Offsets {
    pub(crate) fn apply(&self, commit: Commit) {
        let mut committed = self.0.lock().expect(POISONED);
        let topic = committed.entry(commit.topic).or_default();
        topic
            .entry(commit.group)
            .or_default()
            .extend(commit.offsets.iter().map(|at| (at.queue, at.offset)));
    }

    pub(crate) fn forget_topic(&self, topic: TopicId) {
        self.0.lock().expect(POISONED).remove(&topic);
    }

    /// One commit for each group and topic, in an order of their own.
    pub(crate) fn snapshot(&self) -> Vec<Commit> {
        let committed = self.0.lock().expect(POISONED);
        let commits = committed.iter().flat_map(|(topic, groups)| {
            groups.iter().map(|(group, queues)| Commit {
                group: group.clone(),
                topic: *topic,
                offsets: positions(queues),
            })
        });
        let mut commits: Vec<_> = commits.collect();
        commits.sort_by(|a, b| (a.topic, &a.group).cmp(&(b.topic, &b.group)));
        commits
    }

    pub(crate) fn forget_group(&self, group: &GroupName) {
        let mut committed = self.0.lock().expect(POISONED);
        committed
            .values_mut()
            .for_each(|groups| drop(groups.remove(group)));
        committed.retain(|_, groups| !groups.is_empty());
    }

    /// The next message a group wants; `None` = it never committed.
    pub(crate) fn next(
        &self,
        group: &GroupName,
        topic: TopicId,
        queue: QueueId,
    ) -> Option<QueueOffset> {
        let committed = self.0.lock().expect(POISONED);
        let queues = committed.get(&topic)?.get(group)?;
        queues.get(&queue).copied()
    }

    pub(crate) fn knows(&self, group: &GroupName, topic: TopicId) -> bool {
        let committed = self.0.lock().expect(POISONED);
        committed
            .get(&topic)
            .is_some_and(|groups| groups.contains_key(group))
    }

    /// All groups, and of how many topics each has committed something.
    pub(crate) fn groups(&self) -> BTreeMap<GroupName, u32> {
        let committed = self.0.lock().expect(POISONED);
        let mut groups = BTreeMap::new();
        for group in committed.values().flat_map(HashMap::keys) {
            *groups.entry(group.clone()).or_default() += 1;
        }
        groups
    }

    /// Queues a group has committed.
    pub(crate) fn count(&self, group: &GroupName) -> u32 {
        let committed = self.0.lock().expect(POISONED);
        let queues = committed.values().filter_map(|groups| groups.get(group));
        queues.map(|queues| queues.len() as u32).sum()
    }

    /// Sorted by queue.
    fn of(&self, group: &GroupName, topic: TopicId) -> Vec<QueuePosition> {
        let committed = self.0.lock().expect(POISONED);
        let Some(queues) = committed.get(&topic).and_then(|groups| groups.get(group)) else {
            return Vec::new();
        };
        positions(queues)
    }
}

fn positions(queues: &BTreeMap<QueueId, QueueOffset>) -> Vec<QueuePosition> {
    let position = |(queue, offset): (&QueueId, &QueueOffset)| QueuePosition {
        queue: *queue,
        offset: *offset,
    };
    queues.iter().map(position).collect()
}

/// Answers once the commit is durable. An offset may go back: that is how a group is reset. Who commits
/// without leases is no member, and members that have these queues lose them, to begin again.
pub(crate) async fn commit(
    broker: &Broker,
    request: CommitOffsets,
) -> Result<CommitOffsetsReply, WireError> {
    group_settings::admit(broker, &request.group)?;
    let topic = broker.topic(&request.topic)?;
    for at in &request.offsets {
        reply::queue_exists(&topic, at.queue, topic.has_read_queue(at.queue))?;
        let (_, max) = broker.store.range(topic.id, at.queue);
        if at.offset > max {
            return Err(WireError::new(
                Code::BAD_REQUEST,
                format!(
                    "offset {} of queue {} of topic \"{}\" lies beyond its end, {max}",
                    at.offset, at.queue, topic.name
                ),
            ));
        }
    }
    // Whoever pops these queues waits until the log has it, and so does the next who resets the group.
    let mut held: Held = Box::new(());
    if request.leases.is_empty() {
        let gate = broker.group_changes().await;
        let of_topic = broker.state.leases.owners(&request.group, topic.id);
        let queues = request.offsets.iter().map(|at| at.queue);
        let owned = queues.clone().filter(|queue| of_topic.contains_key(queue));
        let of = (&request.group, &*topic);
        lease::take_back(broker, &gate, of, owned.collect()).await?;
        if !cfg!(zoo = "z28") {
            let gates = &broker.pop_gates;
            let closed = gates.close(&request.group, topic.id, queues).await;
            held = Box::new((gate, closed));
        }
    } else {
        check_leases(broker, &request, &topic)?;
    }
    let record = Commit {
        group: request.group,
        topic: topic.id,
        offsets: request.offsets,
    };
    let kind = RecordKind::OffsetCommit;
    broker.log_holding(kind, &record, held).await?;
    Ok(CommitOffsetsReply {})
}

/// Every queue has a lease that is what it says.
fn check_leases(broker: &Broker, request: &CommitOffsets, topic: &Topic) -> Result<(), WireError> {
    let leases = &broker.state.leases;
    let valid = leases.valid(&request.group, topic.id, &request.leases);
    match request.offsets.iter().find(|at| !valid.contains(&at.queue)) {
        None => Ok(()),
        Some(at) => Err(WireError::new(
            Code::FENCED,
            format!(
                "queue {} of topic \"{}\" is no longer this member's of group \"{}\"; nothing was committed",
                at.queue, topic.name, request.group
            ),
        )),
    }
}

pub(crate) fn query(
    broker: &Broker,
    request: &QueryOffsets,
) -> Result<QueryOffsetsReply, WireError> {
    let topic = broker.topic(&request.topic)?;
    Ok(QueryOffsetsReply {
        offsets: broker.state.offsets.of(&request.group, topic.id),
    })
}

pub(crate) fn range(broker: &Broker, request: &OffsetRange) -> Result<OffsetRangeReply, WireError> {
    let topic = broker.topic(&request.topic)?;
    reply::queue_exists(&topic, request.queue, topic.has_read_queue(request.queue))?;
    let (min, max) = broker.store.range(topic.id, request.queue);
    Ok(OffsetRangeReply { min, max })
}

/// Reads records on the way, so it runs where cold reads do.
pub(crate) async fn at_time(
    broker: &Broker,
    request: OffsetAt,
) -> Result<OffsetAtReply, WireError> {
    let topic = broker.topic(&request.topic)?;
    reply::queue_exists(&topic, request.queue, topic.has_read_queue(request.queue))?;
    let store = broker.store.clone();
    let work = move || store.offset_at(topic.id, request.queue, request.stored_at);
    let offset = broker
        .cold
        .run(&None, work)
        .await?
        .map_err(|error| reply::read_failed(&error))?;
    Ok(OffsetAtReply { offset })
}
