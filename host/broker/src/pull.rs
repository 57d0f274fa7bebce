//! `Pull`: look at the queue, fill the reply; or wait for news.

use std::sync::Arc;
use std::time::Duration;

use quern_protocol::frame::Outgoing;
use quern_protocol::{
    Operation, Permission, Pull, PullReply, QueueId, TopicId, WireError, limits as wire,
};

use crate::filters;
use crate::scan::{Scan, Scanned, look};
use crate::{Broker, group_settings, reply};

pub(crate) async fn pull(broker: &Arc<Broker>, request: Pull) -> Result<Outgoing, WireError> {
    let topic = broker.topic(&request.topic)?;
    reply::topic_is_open(broker, &topic, "read", Permission::can_read)?;
    reply::queue_exists(&topic, request.queue, topic.has_read_queue(request.queue))?;
    check(&request)?;
    // A bad expression is refused at once, not when the first message comes.
    let group = request.group.as_ref();
    let view = broker.view(&request.filter, group, (&topic, request.queue));
    let mut judge = Some(filters::judge(broker, &view, group).await?);
    let wait = Duration::from_millis(request.wait_ms.into());
    let mut over = std::pin::pin!(tokio::time::sleep(wait));
    let mut scan = Scan {
        view,
        reader: request.group.clone(),
        topic: Arc::clone(&topic),
        from: request.from,
        max_messages: request.max_messages as usize,
        max_bytes: request.max_bytes.min(wire::PULL_BYTES) as usize,
    };
    // Registered before looking, or a message between look and wait would be missed.
    let waiter = broker.waits.enter(topic.id, request.queue);
    loop {
        // Good for a look at once; after a wait, others may decide.
        let known = judge.take();
        let mut bell = std::pin::pin!(waiter.bell());
        bell.as_mut().enable();
        if let Some(group) = &request.group {
            group_settings::is_open(broker, group)?;
            group_settings::may_have(broker, group, &topic.name)?;
            if request.broadcast {
                group_settings::may_broadcast(broker, group)?;
            }
        }
        let (min, max) = broker.store.range(topic.id, request.queue);
        if !(min..=max).contains(&scan.from) {
            let next = scan.from.clamp(min, max);
            return answered(broker, &scan, Scanned::nothing(next), true);
        }
        if scan.from < max {
            let now = match known {
                Some(known) => known,
                None => {
                    scan.view = broker.view(&request.filter, group, (&topic, request.queue));
                    filters::judge(broker, &scan.view, group).await?
                }
            };
            let scanned = look(broker, &scan, now).await?;
            let advanced = scanned.next > scan.from;
            if !scanned.records.is_empty() || scanned.stalled.is_some() {
                return answered(broker, &scan, scanned, false);
            }
            scan.from = scanned.next;
            if advanced && !over.is_elapsed() {
                continue;
            }
        }
        let gone = broker.is_draining() || !broker.state.topics.is_open(topic.id);
        let rung = !gone
            && request.wait_ms > 0
            && tokio::select! {
                () = bell => true,
                () = &mut over => false,
            };
        if !rung {
            let next = scan.from;
            return answered(broker, &scan, Scanned::nothing(next), false);
        }
    }
}

fn check(request: &Pull) -> Result<(), WireError> {
    if !(1..=wire::PULL_MESSAGES).contains(&request.max_messages) {
        return Err(reply::bad_request(format!(
            "a pull asks for 1 to {} messages, not {}",
            wire::PULL_MESSAGES,
            request.max_messages
        )));
    }
    if request.wait_ms > wire::PULL_WAIT_MS {
        return Err(reply::bad_request(format!(
            "a pull is held at most {} ms, not {}",
            wire::PULL_WAIT_MS,
            request.wait_ms
        )));
    }
    match request.filter.beyond_limits() {
        Some(beyond) => Err(reply::bad_request(beyond)),
        None => Ok(()),
    }
}

fn answered(
    broker: &Broker,
    scan: &Scan,
    scanned: Scanned,
    moved: bool,
) -> Result<Outgoing, WireError> {
    let place = (scan.topic.id, scan.view.queue);
    Ok(answer::<Pull>(broker, place, scanned, moved)?.0)
}

/// What a look has brought, as it is told; and how long to wait where delivery stands still.
pub(crate) fn answer<O: Operation<Reply = PullReply>>(
    broker: &Broker,
    (topic, queue): (TopicId, QueueId),
    scanned: Scanned,
    moved: bool,
) -> Result<(Outgoing, Option<Duration>), WireError> {
    let (min, max) = broker.store.range(topic, queue);
    broker
        .metrics
        .messages_out
        .add(scanned.records.len() as u64);
    let stall = scanned.stalled.map(|it| it.told(broker.store.steady_ms()));
    let pause = stall
        .as_ref()
        .map(|it| Duration::from_millis(it.retry_ms.into()));
    let header = PullReply {
        messages: scanned.records.len() as u32,
        next: scanned.next,
        min,
        max,
        moved,
        stall,
    };
    Ok((Outgoing::reply::<O>(&header, scanned.records)?, pause))
}
