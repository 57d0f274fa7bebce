//! `AckPopped` and `HidePopped`: what becomes of messages that were given by [`crate::pop`], and their records.

use std::collections::BTreeSet;
use std::sync::Arc;

use quern_protocol::{
    AckPopped, AckPoppedReply, GroupName, HidePopped, HidePoppedReply, QueueId, Receipt,
    RecordKind, TopicId, WireError, limits as wire,
};
use quern_store::Held;

use crate::leases::GroupChange;
use crate::pops::{PopChange, PopWhat};
use crate::topics::Topic;
use crate::{Broker, limits, reply};

pub(crate) async fn log(
    broker: &Broker,
    group: &GroupName,
    topic: TopicId,
    what: PopWhat,
) -> Result<(), WireError> {
    broker
        .log(RecordKind::Group, &change(group, topic, what))
        .await
}

pub(crate) fn change(group: &GroupName, topic: TopicId, what: PopWhat) -> GroupChange {
    GroupChange::Popped(PopChange {
        group: group.clone(),
        topic,
        what,
    })
}

pub(crate) async fn acknowledge(
    broker: &Broker,
    request: AckPopped,
) -> Result<AckPoppedReply, WireError> {
    let topic = checked(broker, &request.topic, &request.receipts)?;
    let (pops, group) = (&broker.state.pops, &request.group);
    let held = keep_from_others(broker, group, topic.id, &request.receipts).await;
    let (current, mut stale) = pops.sort(group, topic.id, request.receipts);
    if !current.is_empty() {
        let queues = queues_of(&current);
        let what = PopWhat::Acknowledged(current.clone());
        let change = change(group, topic.id, what);
        broker.log_holding(RecordKind::Group, &change, held).await?;
        // Given again before that: the log says which came first.
        stale.extend(pops.still_hidden(group, topic.id, current));
        // What comes behind it in order may be given now.
        queues
            .into_iter()
            .for_each(|it| broker.waits.wake(topic.id, it));
    }
    Ok(AckPoppedReply { stale })
}

pub(crate) async fn hide(
    broker: &Broker,
    request: HidePopped,
) -> Result<HidePoppedReply, WireError> {
    if request.invisible_ms > *wire::POP_INVISIBLE_MS.end() {
        return Err(hidden_for(request.invisible_ms));
    }
    let topic = checked(broker, &request.topic, &request.receipts)?;
    let pops = &broker.state.pops;
    let (receipts, mut stale) = pops.sort(&request.group, topic.id, request.receipts);
    let until = broker.store.now_ms() + u64::from(request.invisible_ms);
    if !receipts.is_empty() {
        let queues = queues_of(&receipts);
        let what = PopWhat::Hidden {
            receipts: receipts.clone(),
            until,
        };
        log(broker, &request.group, topic.id, what).await?;
        stale.extend(pops.sort(&request.group, topic.id, receipts).1);
        queues
            .into_iter()
            .for_each(|it| broker.waits.wake(topic.id, it));
    }
    Ok(HidePoppedReply {
        invisible_until: until,
        stale,
    })
}

/// Nobody makes dead letters of those meanwhile whose time is over soon, or they would be acknowledged, too.
async fn keep_from_others(
    broker: &Broker,
    group: &GroupName,
    topic: TopicId,
    receipts: &[Receipt],
) -> Held {
    let mut closed = BTreeSet::new();
    let mut held = Vec::new();
    loop {
        let soon_over = broker.store.now_ms() + limits::SOON_OVER;
        let late = broker.state.pops.over(group, topic, receipts, soon_over);
        let before = closed.len();
        closed.extend(queues_of(&late));
        if closed.len() == before {
            return Box::new(held);
        }
        // The time of others may be over when these are closed at last. In an order, or two might wait for each other.
        drop(held);
        let queues = closed.iter().copied();
        held = broker.pop_gates.close(group, topic, queues).await;
    }
}

fn queues_of(receipts: &[Receipt]) -> Vec<QueueId> {
    let mut queues: Vec<_> = receipts.iter().map(|it| it.queue).collect();
    queues.sort_unstable();
    queues.dedup();
    queues
}

fn checked(
    broker: &Broker,
    topic: &quern_protocol::TopicName,
    receipts: &[Receipt],
) -> Result<Arc<Topic>, WireError> {
    if receipts.len() > wire::RECEIPTS {
        return Err(reply::bad_request(format!(
            "a request has at most {} receipts, not {}",
            wire::RECEIPTS,
            receipts.len()
        )));
    }
    broker.topic(topic)
}

pub(crate) fn hidden_for(ms: u32) -> WireError {
    let (least, most) = (wire::POP_INVISIBLE_MS.start(), wire::POP_INVISIBLE_MS.end());
    reply::bad_request(format!(
        "a message is hidden for {least} to {most} ms, not {ms}"
    ))
}
