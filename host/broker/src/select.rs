//! `SendSelected`: check the blocks, have a plugin choose their queues, hand each queue's to the log,
//! answer when they are as durable as they have to be. Or only choose: the sender stores them by `Send`.
//!
//! The guest runs on a delivery thread, so requests of one stream may overtake each other; a sender
//! that wants its order kept waits for each answer, as our client does.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quern_plugins::{Kind, Worker};
use quern_protocol::{
    Block, Placed, Placement, QueueId, SendSelected, SendSelectedReply, SendStatus, WireError,
    WriteQueues,
};
use quern_store::{Acknowledge, Append, Appended};

use crate::pool::Who;
use crate::selectors::{self, Choice, Chosen};
use crate::topics::Topic;
use crate::{Broker, durability, reply, send};

pub(crate) async fn send_selected(
    broker: &Arc<Broker>,
    mut request: SendSelected,
    body: Bytes,
    patience: Duration,
) -> Result<SendSelectedReply, WireError> {
    if broker.is_draining() {
        return Err(reply::going_away());
    }
    if let Some(beyond) = request.beyond_limits() {
        return Err(reply::bad_request(beyond));
    }
    send::check_blocks(broker, request.messages, &body)?;
    let topic = send::topic(broker, &request.topic).await?;
    send::check_rules(broker, &topic, &body, None)?;
    let acknowledge = durability::of_send(broker, &topic, request.durability)?;
    own_queues(broker, &topic, &mut request.route);
    let deciding = broker.deciding(&request.selector.plugin, Kind::QueueSelector);
    let deciding = deciding.await?;
    let choose_only = request.choose_only;
    let chosen = {
        let who = Who::Senders(topic.id);
        let (broker_, topic, body) = (Arc::clone(broker), Arc::clone(&topic), body.clone());
        let work = move |worker: &mut Worker| {
            selectors::choose((&broker_, worker), &deciding, (&request, &topic), &body)
        };
        broker.delivery.run(who, work).await??
    };
    let Chosen {
        by,
        choices,
        trouble,
    } = chosen;
    trouble.act(broker);
    let choices = choices.into_iter().map(placement);
    let placements = match choose_only {
        true => choices.collect(),
        false => store(broker, &topic, &body, choices, (acknowledge, patience)).await,
    };
    Ok(SendSelectedReply {
        selector: by,
        placements,
    })
}

/// Of its own queues this broker knows best.
fn own_queues(broker: &Broker, topic: &Topic, route: &mut Vec<WriteQueues>) {
    route.retain(|it| it.broker != broker.config.name);
    route.push(WriteQueues {
        broker: broker.config.name.clone(),
        queues: topic.write_queues,
    });
}

/// What is chosen, before anything is stored.
fn placement(choice: Result<Choice, WireError>) -> Placement {
    match choice {
        Err(error) => Placement {
            fell_back: false,
            placed: Placed::Refused(error),
        },
        Ok(Choice {
            broker,
            queue,
            fell_back,
        }) => Placement {
            fell_back,
            placed: Placed::Elsewhere { broker, queue },
        },
    }
}

/// Messages of one queue are appended together, in their order.
async fn store(
    broker: &Broker,
    topic: &Topic,
    body: &Bytes,
    chosen: impl Iterator<Item = Placement>,
    (acknowledge, patience): (Acknowledge, Duration),
) -> Vec<Placement> {
    let mut placements = Vec::new();
    // Of each queue: its blocks, and which messages they are.
    let mut groups: Vec<(QueueId, BytesMut, Vec<usize>)> = Vec::new();
    let mut rest = &body[..];
    for (index, placement) in chosen.enumerate() {
        let Ok(block) = Block::lengths(rest) else {
            break;
        };
        let (bytes, after) = rest.split_at(block.bytes().len());
        rest = after;
        if let Placed::Elsewhere { broker: of, queue } = &placement.placed
            && *of == broker.config.name
        {
            let known = groups.iter().position(|(it, ..)| it == queue);
            let group = known.unwrap_or_else(|| {
                groups.push((*queue, BytesMut::new(), Vec::new()));
                groups.len() - 1
            });
            groups[group].1.extend_from_slice(bytes);
            groups[group].2.push(index);
        }
        placements.push(placement);
    }
    // All are handed over before any is waited for: they share a sync.
    let pending: Vec<_> = groups
        .into_iter()
        .map(|(queue, blocks, messages)| {
            let append = Append {
                topic: topic.id,
                queue,
                blocks: blocks.freeze(),
                count: messages.len() as u32,
                acknowledge,
                ..Append::default()
            };
            (queue, messages, broker.store.submit(append))
        })
        .collect();
    let mut late = pin!(tokio::time::sleep(patience));
    for (queue, messages, pending) in pending {
        let stored = durability::reached(pending, acknowledge, late.as_mut()).await;
        for (place, message) in messages.into_iter().enumerate() {
            placements[message].placed = match &stored {
                Ok((status, appended)) => {
                    broker.metrics.messages_in.add(1);
                    placed(*status, queue, appended, place)
                }
                Err(error) => Placed::Refused(error.clone()),
            };
        }
    }
    placements
}

fn placed(status: SendStatus, queue: QueueId, appended: &Appended, place: usize) -> Placed {
    let offset = appended.first.plus(place as u64);
    let Appended {
        position,
        stored_at,
        ..
    } = *appended;
    match status {
        SendStatus::Ok => Placed::Stored {
            queue,
            offset,
            position,
            stored_at,
        },
        status => Placed::NotYetDurable {
            status,
            queue,
            offset,
            position,
            stored_at,
        },
    }
}
