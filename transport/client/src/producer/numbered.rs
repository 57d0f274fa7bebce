//! A frame with a number: sent again under it until it is answered, so that it is stored once, whatever
//! became of connections and brokers meanwhile. How numbers are given: `numbers.rs`.

use std::time::Duration;

use bytes::Bytes;
use quern_protocol::{BrokerRoute, Code, Later, Send, SendReply, TopicName};
use quern_quic::CallError;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::job::Job;
use super::numbers::{Number, Numbers, Setback, Verdict};
use super::selected::Sender;
use super::task::{Destination, FIRST_PAUSE, answer, connect};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::routes::MessageQueue;

/// What all attempts of a frame share.
pub(super) struct Frame<'a> {
    pub(super) client: &'a Client,
    pub(super) topic: &'a TopicName,
    pub(super) later: Option<&'a Later>,
    pub(super) sender: &'a Sender,
    pub(super) blocks: Vec<Bytes>,
    pub(super) until: Instant,
    /// Brokers that could have it, this one included.
    pub(super) brokers: usize,
}

/// Those of one frame were handed over within moments.
pub(super) fn deadline(jobs: &[Job]) -> Instant {
    let deadlines = jobs.iter().map(|job| job.deadline);
    deadlines.max().unwrap_or_else(Instant::now)
}

/// Sends one frame until it is stored, certain not to be, or its time is over. The error says which:
/// [`crate::ErrorKind::Unknown`] if it may be stored.
pub(super) async fn try_send(
    client: &Client,
    numbers: &Numbers,
    (to, sender): (&Destination, &Sender),
    turn: usize,
    jobs: &[Job],
) -> Result<(MessageQueue, SendReply)> {
    let (topic, later) = (&to.topic, to.later.as_ref());
    let route = client.0.routes.of(topic, true).await?;
    let route = client.0.health.preferred(client, topic, &route);
    let frame = Frame {
        brokers: route.len(),
        client,
        topic,
        later,
        sender,
        blocks: jobs.iter().map(|job| job.block.clone()).collect(),
        until: deadline(jobs),
    };
    let taken = timeout_at(frame.until, numbers.take(to, &route, turn)).await;
    let (broker, number) = taken.unwrap_or_else(|_| Err(no_queue(topic)))?;
    frame.send(numbers, broker.clone(), &number).await
}

fn no_queue(topic: &TopicName) -> Error {
    let why = format!("every queue of topic \"{topic}\" waits for answers; nothing was sent");
    Error::new(Code::DEADLINE, why)
}

impl Frame<'_> {
    /// Sends it to a queue that is chosen already; the error as of [`try_send`].
    pub(super) async fn send_to(
        &self,
        numbers: &Numbers,
        broker: BrokerRoute,
        queue: &MessageQueue,
    ) -> Result<SendReply> {
        let taken = timeout_at(self.until, numbers.take_of(queue)).await;
        let number = taken.map_err(|_| no_queue(self.topic))?;
        let sent = self.send(numbers, broker, &number).await;
        sent.map(|(_, reply)| reply)
    }

    async fn send(
        &self,
        numbers: &Numbers,
        mut broker: BrokerRoute,
        number: &Number,
    ) -> Result<(MessageQueue, SendReply)> {
        let mut pause = FIRST_PAUSE;
        loop {
            let (setback, error) = match self.attempt(&broker, number).await {
                Ok(reply) => {
                    numbers.stored(number);
                    return Ok((number.queue.clone(), reply));
                }
                Err(failure) => failure,
            };
            // A closed or deleted topic does not even say whether it has the frame.
            let is_shut = [Code::TOPIC_CLOSED, Code::TOPIC_DELETED].contains(&error.coded());
            let hopeless = setback == Setback::NotTaken && (is_shut || !error.is_retryable());
            let mut verdict = numbers.judge(number, setback);
            if verdict == Verdict::Again
                && (hopeless || !self.wait(numbers, number, setback, pause).await)
            {
                verdict = numbers.give_up(number);
            }
            match verdict {
                Verdict::Again => {}
                Verdict::NotStored if setback == Setback::NotTaken => return Err(error),
                Verdict::NotStored => return Err(renumbered(&error)),
                Verdict::Unknown => return Err(error.unknown()),
            }
            pause = (pause * 2).min(FIRST_PAUSE * 16);
            broker = self.broker(broker).await;
        }
    }

    /// Until it is this frame's turn to go again; false = its time is over.
    async fn wait(
        &self,
        numbers: &Numbers,
        number: &Number,
        setback: Setback,
        pause: Duration,
    ) -> bool {
        // Whose predecessor is missing waits for that alone.
        let pause = match setback {
            Setback::Lost | Setback::NotTaken => pause,
            _ => Duration::ZERO,
        };
        let ready = Instant::now() + pause;
        let turn = async {
            numbers.turn(number).await;
            sleep_until(ready).await;
        };
        timeout_at(self.until, turn).await.is_ok()
    }

    async fn attempt(
        &self,
        broker: &BrokerRoute,
        Number { queue, batch }: &Number,
    ) -> std::result::Result<SendReply, (Setback, Error)> {
        let not_taken = |error| (Setback::NotTaken, error);
        let late = |_| {
            let why = format!("no connection to broker {} in time", broker.broker);
            not_taken(Error::new(Code::CONNECT, why))
        };
        let live = connect(self.client, broker, self.brokers);
        let live = timeout_at(self.until, live).await;
        let live = live.map_err(late)?.map_err(not_taken)?;
        let request = Send {
            durability: self.sender.durability,
            batch: Some(*batch),
            later: self.later.cloned(),
            ..Send::new(self.topic.clone(), queue.queue, self.blocks.len() as u32)
        };
        let left = self.until.saturating_duration_since(Instant::now());
        let within = left.clamp(LEAST, self.client.0.within.max(LEAST));
        let call = live.sends.call(&request, self.blocks.clone(), within);
        answer(self.client, (self.topic, broker), call)
            .await
            .map_err(|error| {
                let setback = setback(&error);
                (setback, error.into())
            })
    }

    /// The broker as it is known now: one that started again may have another address.
    async fn broker(&self, known: BrokerRoute) -> BrokerRoute {
        let routes = &self.client.0.routes;
        routes.doubt(self.topic);
        let route = timeout_at(self.until, routes.of(self.topic, true)).await;
        let route = route.ok().and_then(Result::ok);
        let mut brokers = route.iter().flat_map(|route| route.iter());
        let found = brokers.find(|it| it.broker == known.broker).cloned();
        found.unwrap_or(known)
    }
}

/// The shortest time a broker is given to answer.
pub(super) const LEAST: Duration = Duration::from_millis(10);

fn setback(error: &CallError) -> Setback {
    match error {
        CallError::Remote(error) if error.is(Code::OUT_OF_SEQUENCE) => Setback::OutOfSequence,
        CallError::Remote(error) if error.is(Code::UNKNOWN_PRODUCER) => Setback::Forgotten,
        CallError::Remote(error) if error.is(Code::FENCED) => Setback::Fenced,
        // What a failed write or a handler that broke off has left behind is not known either.
        CallError::Remote(error) if error.is(Code::STORAGE_FAILED) || error.is(Code::INTERNAL) => {
            Setback::Lost
        }
        CallError::Remote(_) | CallError::TooLarge(_) => Setback::NotTaken,
        CallError::Lost(_) | CallError::Deadline(_) | CallError::Reply(_) => Setback::Lost,
    }
}

/// It is not stored, and goes again under another number.
fn renumbered(cause: &Error) -> Error {
    let why = format!(
        "what was sent before it was not stored, nor was this ({})",
        cause.message()
    );
    Error::new(Code::OUT_OF_SEQUENCE, why)
}
