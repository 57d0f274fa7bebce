//! Frames whose queues a plugin of the broker chooses. Any broker of the topic may be asked. With numbers it only
//! chooses, and what is for each queue goes there under a number, so that it is stored once. Without, it
//! stores what it chose for itself and tells of the rest, which goes to those who have the queues.

use bytes::Bytes;
use futures_util::future::join_all;
use quern_protocol::{
    BrokerName, BrokerRoute, Code, Durability, GroupName, Placed, Placement, QueueId, Selector,
    Send, SendReply, SendSelected, SendSelectedReply, SendStatus, TopicName, WriteQueues,
};
use quern_quic::CallError;
use tokio::time::Instant;

use super::job::Job;
use super::numbered::{Frame, LEAST, deadline};
use super::numbers::Numbers;
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

/// What became of one message.
#[derive(Debug)]
pub(super) enum Outcome {
    Stored(Stored),
    /// Certainly not stored; a queue may be chosen for it again.
    Again(Error),
    Failed(Error),
}

/// What the policy of a broker calls taking turns.
const IN_TURN: &str = "round-robin";

/// So often a queue is asked for within the time of one request. It stores nothing, so a broker that may be gone is not
/// waited for while there is time to ask another, or the same once it is back.
const ASKED: u32 = 3;

/// Messages of a frame, and who chooses for them.
pub(super) struct Selected<'a> {
    pub(super) client: &'a Client,
    pub(super) topic: &'a TopicName,
    pub(super) selector: &'a Selector,
    pub(super) sender: &'a Sender,
    pub(super) jobs: &'a [Job],
}

/// Messages for one queue, and what its broker said.
struct Batch<'a> {
    queue: MessageQueue,
    messages: Vec<usize>,
    sent: Result<SendReply>,
    /// `None` = nobody knows its broker.
    broker: Option<&'a BrokerRoute>,
}

impl Selected<'_> {
    /// Sends the frame under numbers; an outcome for each job. `Err` = nothing was stored.
    pub(super) async fn send_numbered(
        &self,
        numbers: &Numbers,
        turn: usize,
    ) -> Result<Vec<Outcome>> {
        let route = self.client.0.routes.of(self.topic, true).await?;
        let chosen = self.ask(&route, turn, true).await?;
        let mut batches = self.batches(&route, &chosen.1.placements);
        let sends = batches
            .iter()
            .map(|it| self.send_batch(numbers, it, route.len()));
        let sent = join_all(sends).await;
        for (batch, sent) in batches.iter_mut().zip(sent) {
            batch.sent = sent;
        }
        let outcomes = self.outcomes(chosen, &batches).into_iter();
        let outcomes = outcomes.map(|it| match it {
            Ok(stored) => Outcome::Stored(stored),
            Err(error) if may_come_again(&error) => Outcome::Again(error),
            Err(error) => Outcome::Failed(error),
        });
        Ok(outcomes.collect())
    }

    /// The same without numbers: one whose answer is lost fails, and nobody knows whether it is stored.
    pub(super) async fn send_once(&self, turn: usize) -> Result<Vec<Outcome>> {
        let route = self.client.0.routes.of(self.topic, true).await?;
        let placed = self.ask(&route, turn, false).await?;
        let mut batches = self.batches(&route, &placed.1.placements);
        for batch in &mut batches {
            batch.sent = self.forward(batch).await;
        }
        let outcomes = self.outcomes(placed, &batches).into_iter();
        Ok(outcomes
            .map(|it| it.map_or_else(Outcome::Failed, Outcome::Stored))
            .collect())
    }

    /// The answer of one of the route, and its name.
    async fn ask(
        &self,
        route: &[BrokerRoute],
        turn: usize,
        choose_only: bool,
    ) -> Result<(BrokerName, SendSelectedReply)> {
        let (client, topic, jobs) = (self.client, self.topic, self.jobs);
        let preferred = client.0.health.preferred(client, topic, route);
        let (broker, _) = queue_for(&preferred, turn)?;
        let live = connect(client, broker, preferred.len()).await?;
        let queues = |it: &BrokerRoute| WriteQueues {
            broker: it.broker.clone(),
            queues: it.write_queues,
        };
        let request = SendSelected {
            group: self.sender.group.clone(),
            zone: self.sender.zone.clone(),
            route: route.iter().map(queues).collect(),
            durability: self.sender.durability,
            choose_only,
            ..SendSelected::new(topic.clone(), jobs.len() as u32, self.selector.clone())
        };
        let body = jobs.iter().map(|job| job.block.clone()).collect();
        let left = deadline(jobs).saturating_duration_since(Instant::now());
        let within = match choose_only {
            true => left.min(client.0.within / ASKED).max(LEAST),
            false => client.0.within,
        };
        let call = live.sends.call(&request, body, within);
        let reply = answer(client, (topic, broker), call).await;
        let reply = reply.map_err(|error| match choose_only {
            true => not_chosen(error),
            false => outcome_of(error),
        })?;
        if reply.placements.len() != jobs.len() {
            let short = "a broker answered for fewer messages than it was sent";
            let error = Error::new(Code::PROTOCOL, short);
            return Err(if choose_only { error } else { error.unknown() });
        }
        Ok((broker.broker.clone(), reply))
    }

    /// What is still to be sent, by queue.
    fn batches<'a>(&self, route: &'a [BrokerRoute], placements: &[Placement]) -> Vec<Batch<'a>> {
        let mut batches: Vec<Batch<'a>> = Vec::new();
        for (index, placement) in placements.iter().enumerate() {
            let Placed::Elsewhere { broker, queue } = &placement.placed else {
                continue;
            };
            let is_it = |it: &&mut Batch| it.queue.broker == *broker && it.queue.queue == *queue;
            match batches.iter_mut().find(is_it) {
                Some(batch) => batch.messages.push(index),
                None => batches.push(Batch {
                    queue: self.queue(broker, *queue),
                    messages: vec![index],
                    sent: Err(nobody(broker)),
                    broker: route.iter().find(|it| it.broker == *broker),
                }),
            }
        }
        batches
    }

    fn queue(&self, broker: &BrokerName, queue: QueueId) -> MessageQueue {
        MessageQueue {
            topic: self.topic.clone(),
            broker: broker.clone(),
            queue,
        }
    }

    fn blocks(&self, batch: &Batch<'_>) -> Vec<Bytes> {
        let messages = batch.messages.iter();
        messages
            .map(|index| self.jobs[*index].block.clone())
            .collect()
    }

    async fn send_batch(
        &self,
        numbers: &Numbers,
        batch: &Batch<'_>,
        brokers: usize,
    ) -> Result<SendReply> {
        let broker = batch.broker.ok_or_else(|| nobody(&batch.queue.broker))?;
        let frame = Frame {
            client: self.client,
            topic: self.topic,
            later: None,
            sender: self.sender,
            blocks: self.blocks(batch),
            until: deadline(self.jobs),
            brokers,
        };
        frame.send_to(numbers, broker.clone(), &batch.queue).await
    }

    async fn forward(&self, batch: &Batch<'_>) -> Result<SendReply> {
        let broker = batch.broker.ok_or_else(|| nobody(&batch.queue.broker))?;
        let live = self.client.live(broker).await?;
        let messages = batch.messages.len() as u32;
        let request = Send {
            durability: self.sender.durability,
            ..Send::new(self.topic.clone(), batch.queue.queue, messages)
        };
        let within = self.client.0.within;
        let call = live.sends.call(&request, self.blocks(batch), within);
        let (reply, _) = call.await.map_err(outcome_of)?;
        Ok(reply)
    }

    /// `asked` has stored what is in no batch.
    fn outcomes(
        &self,
        (asked, reply): (BrokerName, SendSelectedReply),
        batches: &[Batch<'_>],
    ) -> Vec<Result<Stored>> {
        let SendSelectedReply {
            selector,
            placements,
        } = reply;
        let outcome = |(index, Placement { fell_back, placed })| {
            let (queue, reply) = match elsewhere(index, batches) {
                Some(sent) => sent?,
                None => {
                    let (queue, reply) = here(placed)?;
                    (self.queue(&asked, queue), reply)
                }
            };
            Ok(Stored {
                queue,
                reply,
                selector: match fell_back {
                    true => IN_TURN.to_owned(),
                    false => selector.clone(),
                },
            })
        };
        placements.into_iter().enumerate().map(outcome).collect()
    }
}

/// Nothing was stored, whatever became of the question. It may be asked again.
fn not_chosen(error: CallError) -> Error {
    match error {
        CallError::Deadline(_) | CallError::Lost(_) | CallError::Reply(_) => Error::new(
            Code::CONNECTION_LOST,
            format!("no queue was chosen: {error}"),
        ),
        error => error.into(),
    }
}

fn nobody(broker: &BrokerName) -> Error {
    Error::new(Code::NO_ROUTE, format!("nobody knows broker {broker}"))
}

/// Whether a message that is certainly not stored may be sent after all. Its queue's broker is the only one that can
/// take it, so a refusal is told.
fn may_come_again(error: &Error) -> bool {
    error.is_worth_another_route() && !error.is_refusal()
}

/// Of a message that was sent to a queue, what became of it.
fn elsewhere(index: usize, batches: &[Batch<'_>]) -> Option<Result<(MessageQueue, SendReply)>> {
    batches.iter().find_map(|batch| {
        let place = batch.messages.iter().position(|it| *it == index)?;
        let sent = batch.sent.clone();
        Some(sent.map(|mut reply| {
            reply.first = reply.first.plus(place as u64);
            (batch.queue.clone(), reply)
        }))
    })
}

/// Of one that the asked broker dealt with.
fn here(placed: Placed) -> Result<(QueueId, SendReply)> {
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
        Placed::Elsewhere { .. } => {
            return Err(Error::new(Code::INTERNAL, "a message was not forwarded"));
        }
    };
    let reply = SendReply {
        status,
        first,
        position,
        stored_at,
    };
    Ok((queue, reply))
}
