//! Frames whose queues a plugin of the broker chooses. Any broker of the topic may be asked; it stores
//! what it chose for itself and tells of the rest, which goes to those who have the queues.

use bytes::Bytes;
use quern_protocol::{
    BrokerName, BrokerRoute, Code, Durability, GroupName, Placed, Placement, QueueId, Selector,
    Send, SendReply, SendSelected, SendSelectedReply, SendStatus, TopicName, WriteQueues,
};

use super::job::Job;
use super::task::{answer, connect, outcome_of, queue_for};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::routes::MessageQueue;

/// Who sends, as selectors may see it, and what it wants of every send.
#[derive(Debug, Clone, Default)]
pub(super) struct Sender {
    pub(super) group: Option<GroupName>,
    pub(super) zone: String,
    pub(super) durability: Option<Durability>,
}

/// Where one message went.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) queue: MessageQueue,
    /// `first` is this message's own offset.
    pub(super) reply: SendReply,
    /// Name and version of who chose.
    pub(super) selector: String,
}

/// What the policy of a broker calls taking turns.
const IN_TURN: &str = "round-robin";

/// Sends one frame; an outcome for each job. `Err` = certainly nothing was stored.
pub(super) async fn try_send(
    client: &Client,
    topic: &TopicName,
    (selector, sender): (&Selector, &Sender),
    turn: usize,
    jobs: &[Job],
) -> Result<Vec<Result<Stored>>> {
    let route = client.0.routes.of(topic, true).await?;
    let preferred = client.0.health.preferred(client, &route);
    let (broker, _) = queue_for(&preferred, turn)?;
    let live = connect(client, broker, preferred.len()).await?;
    let request = SendSelected {
        topic: topic.clone(),
        messages: jobs.len() as u32,
        selector: selector.clone(),
        group: sender.group.clone(),
        zone: sender.zone.clone(),
        route: route
            .iter()
            .map(|it| WriteQueues {
                broker: it.broker.clone(),
                queues: it.write_queues,
            })
            .collect(),
        durability: sender.durability,
    };
    let body = jobs.iter().map(|job| job.block.clone()).collect();
    let reply = answer(
        client,
        broker,
        live.sends.call(&request, body, client.0.within),
    );
    let reply = reply.await.map_err(outcome_of)?;
    if reply.placements.len() != jobs.len() {
        let short = "a broker answered for fewer messages than it was sent";
        return Err(Error::new(Code::PROTOCOL, short).unknown());
    }
    let forwarded = forward_all(client, &route, (topic, sender), jobs, &reply.placements).await;
    let SendSelectedReply {
        selector,
        placements,
    } = reply;
    let outcomes = placements.into_iter().enumerate();
    let outcomes = outcomes.map(|(index, Placement { fell_back, placed })| {
        let (queue, reply) = stored(&broker.broker, index, placed, &forwarded)?;
        Ok(Stored {
            queue: queue_of(topic, &queue.0, queue.1),
            reply,
            selector: match fell_back {
                true => IN_TURN.to_owned(),
                false => selector.clone(),
            },
        })
    });
    Ok(outcomes.collect())
}

/// Where a message is, and what was said of it.
fn stored(
    asked: &BrokerName,
    index: usize,
    placed: Placed,
    forwarded: &[Forwarded],
) -> Result<((BrokerName, QueueId), SendReply)> {
    let (status, queue, first, position, stored_at) = match placed {
        Placed::Stored {
            queue,
            offset,
            position,
            stored_at,
        } => (SendStatus::Ok, queue, offset, position, stored_at),
        Placed::NotYetDurable {
            status,
            queue,
            offset,
            position,
            stored_at,
        } => (status, queue, offset, position, stored_at),
        Placed::Refused(error) => return Err(error.into()),
        Placed::Elsewhere { broker, queue } => {
            let lost = || Error::new(Code::INTERNAL, "a message was not forwarded");
            let mut all = forwarded.iter();
            let found = all.find(|it| it.broker == broker && it.queue == queue);
            let found = found.ok_or_else(lost)?;
            let place = found.messages.iter().position(|it| *it == index);
            let mut reply = found.sent.clone()?;
            reply.first = reply.first.plus(place.ok_or_else(lost)? as u64);
            return Ok(((broker, queue), reply));
        }
    };
    let reply = SendReply {
        status,
        first,
        position,
        stored_at,
    };
    Ok(((asked.clone(), queue), reply))
}

/// Messages for one queue of another broker, and what it said.
struct Forwarded {
    broker: BrokerName,
    queue: QueueId,
    messages: Vec<usize>,
    sent: Result<SendReply>,
}

/// Sends what the asked broker did not store to those who have the queues.
async fn forward_all(
    client: &Client,
    route: &[BrokerRoute],
    (topic, sender): (&TopicName, &Sender),
    jobs: &[Job],
    placements: &[Placement],
) -> Vec<Forwarded> {
    let mut groups: Vec<(&BrokerName, QueueId, Vec<usize>)> = Vec::new();
    for (index, placement) in placements.iter().enumerate() {
        let Placed::Elsewhere { broker, queue } = &placement.placed else {
            continue;
        };
        match groups
            .iter_mut()
            .find(|it| it.0 == broker && it.1 == *queue)
        {
            Some((_, _, messages)) => messages.push(index),
            None => groups.push((broker, *queue, vec![index])),
        }
    }
    let mut forwarded = Vec::with_capacity(groups.len());
    for (broker, queue, messages) in groups {
        let request = Send {
            durability: sender.durability,
            ..Send::new(topic.clone(), queue, messages.len() as u32)
        };
        let blocks = messages.iter().map(|index| jobs[*index].block.clone());
        let sent = forward(client, route, broker, request, blocks.collect()).await;
        forwarded.push(Forwarded {
            broker: broker.clone(),
            queue,
            messages,
            sent,
        });
    }
    forwarded
}

async fn forward(
    client: &Client,
    route: &[BrokerRoute],
    broker: &BrokerName,
    request: Send,
    blocks: Vec<Bytes>,
) -> Result<SendReply> {
    let known = route.iter().find(|it| it.broker == *broker);
    let unknown = || Error::new(Code::NO_ROUTE, format!("nobody knows broker {broker}"));
    let live = client.live(known.ok_or_else(unknown)?).await?;
    let call = live.sends.call(&request, blocks, client.0.within);
    let (reply, _) = call.await.map_err(outcome_of)?;
    Ok(reply)
}

fn queue_of(topic: &TopicName, broker: &BrokerName, queue: QueueId) -> MessageQueue {
    MessageQueue {
        topic: topic.clone(),
        broker: broker.clone(),
        queue,
    }
}
