//! `LeaseQueues`: a member takes, keeps and gives back queues of this broker. A grant is in the log before
//! it is told, so a broker that starts again knows whom it has promised what.

use std::pin::pin;
use std::time::Duration;

use quern_protocol::{
    GroupName, Lease, LeaseQueues, LeaseQueuesReply, Leased, QueueId, RecordKind, WireError,
    limits as wire,
};

use crate::gate::Turn;
use crate::leases::GroupChange;
use crate::topics::Topic;
use crate::{Broker, group_settings, limits, reply};

pub(crate) async fn lease(
    broker: &Broker,
    request: LeaseQueues,
) -> Result<LeaseQueuesReply, WireError> {
    if broker.is_draining() {
        return Err(reply::going_away());
    }
    let now = broker.store.steady_ms();
    broker.groups.hear(now, &request.group, &request.member);
    let named = request.queues.len().max(request.release.len());
    if named > wire::QUEUES_PER_TOPIC as usize {
        return Err(reply::bad_request(format!(
            "a request names {named} queues of a topic, the limit is {}",
            wire::QUEUES_PER_TOPIC
        )));
    }
    if request.member.is_empty() || request.member.len() > wire::NAME {
        return Err(reply::bad_request("a member id is 1 to 127 bytes"));
    }
    group_settings::admit(broker, &request.group)?;
    let topic = broker.topic(&request.topic)?;
    let wait = Duration::from_millis(request.wait_ms.min(wire::GROUP_WAIT_MS).into());
    let mut over = pin!(tokio::time::sleep(wait));
    release(broker, &request.group, &topic, &request.release).await?;
    loop {
        let mut changed = pin!(broker.state.leases.changed());
        changed.as_mut().enable();
        let (reply, is_new) = take(broker, &request, &topic).await?;
        let is_over = over.is_elapsed() || broker.is_draining();
        if reply.taken.is_empty() || is_new || is_over {
            return Ok(reply);
        }
        let free_in = reply.taken.iter().map(|it| it.free_in_ms).min();
        let free_in = Duration::from_millis(free_in.unwrap_or(0).into());
        tokio::select! {
            () = changed => {}
            () = tokio::time::sleep(free_in) => {}
            () = over.as_mut() => {}
        }
    }
}

/// What the member has, and can have, of what it wants; whether that is more than it had.
async fn take(
    broker: &Broker,
    request: &LeaseQueues,
    topic: &Topic,
) -> Result<(LeaseQueuesReply, bool), WireError> {
    let one_change_at_a_time = broker.group_changes().await;
    let leases = &broker.state.leases;
    // Those a topic has no longer, or not yet, are neither given nor taken.
    let wanted = request.queues.iter().copied();
    let wanted: Vec<QueueId> = wanted.filter(|it| topic.has_read_queue(*it)).collect();
    let of = (&request.group, topic.id);
    let now = broker.store.steady_ms();
    let mut look = leases.look(now, of, &request.member, &wanted);
    let is_new = !look.free.is_empty();
    if is_new {
        let turn = &one_change_at_a_time;
        group_settings::begin(broker, turn, &request.group, topic).await?;
        let grant = GroupChange::Granted {
            group: request.group.clone(),
            topic: topic.id,
            member: request.member.clone(),
            epoch: leases.next_epoch(broker.store.now_ms()),
            queues: look.free.clone(),
        };
        broker.change(turn, RecordKind::Group, &grant).await?;
        tell_subscribers(broker, topic, &look.free);
        // The term begins when the grant is told.
        let now = broker.store.steady_ms();
        look = leases.look(now, of, &request.member, &wanted);
    }
    let leased = look.leased.into_iter().map(|lease| Leased {
        lease,
        committed: broker
            .state
            .offsets
            .next(&request.group, topic.id, lease.queue),
    });
    let reply = LeaseQueuesReply {
        lease_ms: limits::LEASE as u32,
        leased: leased.collect(),
        taken: look.taken,
    };
    Ok((reply, is_new))
}

async fn release(
    broker: &Broker,
    group: &GroupName,
    topic: &Topic,
    leases: &[Lease],
) -> Result<(), WireError> {
    let one_change_at_a_time = broker.group_changes().await;
    // One that somebody else has by now is not given back.
    let queues = broker.state.leases.valid(group, topic.id, leases);
    take_back(broker, &one_change_at_a_time, (group, topic), queues).await
}

pub(crate) async fn take_back(
    broker: &Broker,
    turn: &Turn,
    (group, topic): (&GroupName, &Topic),
    queues: Vec<QueueId>,
) -> Result<(), WireError> {
    if queues.is_empty() {
        return Ok(());
    }
    let released = GroupChange::Released {
        group: group.clone(),
        topic: topic.id,
        queues: queues.clone(),
    };
    broker.change(turn, RecordKind::Group, &released).await?;
    tell_subscribers(broker, topic, &queues);
    Ok(())
}

/// Those whose lease is over are to hear it now, not with the next message.
fn tell_subscribers(broker: &Broker, topic: &Topic, queues: &[QueueId]) {
    for queue in queues {
        broker.waits.wake(topic.id, *queue);
    }
}
