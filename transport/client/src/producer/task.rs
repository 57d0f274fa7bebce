//! The producer's task: gathers messages into frames, gives each frame a queue, and hands every
//! answer back.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use quern_protocol::delay::waiting_record_len;
use quern_protocol::{
    BrokerRoute, Code, Later, MessageHandle, Priority, QueueId, Selector, Send, SendReply,
    TopicName,
};
use quern_quic::CallError;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::job::Job;
use super::numbered;
use super::numbers::Numbers;
use super::selected::{self, Selected, Sender};
use super::sent::How;
use crate::client::Client;
use crate::connections::Live;
use crate::error::{Error, Result};
use crate::limits;
use crate::routes::MessageQueue;

/// Messages of one topic, whose queues one and the same chooses.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Destination {
    pub(super) topic: TopicName,
    /// `None` = this producer, in turn.
    pub(super) selector: Option<Arc<Selector>>,
    pub(super) later: Option<Later>,
    /// The queues are lanes, and it takes this one of each broker.
    pub(super) priority: Option<Priority>,
}

impl Destination {
    /// Frames that may be unanswered at once: where a plugin chooses, one, to keep the order; numbered
    /// ones, as many as so many queues take.
    fn frames(&self, is_numbered: bool, queues: usize) -> usize {
        match self.selector {
            Some(_) => 1,
            None if is_numbered => (queues.max(1) * limits::NUMBERED).min(limits::FRAMES),
            None => limits::FRAMES,
        }
    }
}

/// What became of one frame.
struct Answered {
    destination: Destination,
    jobs: Vec<Job>,
    outcome: Outcome,
}

enum Outcome {
    Stored(MessageQueue, SendReply),
    /// Each message for itself.
    Placed(Vec<selected::Outcome>),
    /// Certainly not stored; another queue may take it.
    Again(Error),
    Failed(Error),
}

type Frame = Pin<Box<dyn Future<Output = Answered> + std::marker::Send>>;

#[derive(Default)]
struct Topic {
    waiting: VecDeque<Job>,
    waiting_bytes: usize,
    /// When the oldest of them has waited long enough.
    linger_ends: Option<Instant>,
    unanswered: usize,
    /// Frames given a queue so far.
    turn: usize,
    /// Write queues, as far as is known.
    queues: usize,
}

impl Topic {
    fn push_back(&mut self, job: Job) {
        self.waiting_bytes += job.block.len();
        self.waiting.push_back(job);
    }

    fn push_front(&mut self, job: Job) {
        self.waiting_bytes += job.block.len();
        self.waiting.push_front(job);
    }

    fn is_due(&self, now: Instant, frames: usize, at_once: usize) -> bool {
        !self.waiting.is_empty()
            && self.unanswered < frames
            && (self.unanswered < at_once
                || self.waiting.len() >= limits::BATCH_MESSAGES
                || self.waiting_bytes >= limits::BATCH_BYTES
                || self.linger_ends.is_some_and(|ends| ends <= now))
    }

    /// The messages of the next frame.
    fn take(&mut self) -> Vec<Job> {
        let mut jobs = Vec::with_capacity(self.waiting.len().min(limits::BATCH_MESSAGES));
        let mut bytes = 0;
        while let Some(job) = self.waiting.front() {
            let more = bytes + job.block.len();
            let full = jobs.len() >= limits::BATCH_MESSAGES || more > limits::BATCH_BYTES;
            if full && !jobs.is_empty() {
                break;
            }
            bytes = more;
            jobs.extend(self.waiting.pop_front());
        }
        self.waiting_bytes -= bytes;
        self.linger_ends = None;
        jobs
    }
}

/// The producer's task.
pub(super) struct Task {
    client: Client,
    linger: Duration,
    /// While fewer frames of a topic are unanswered, messages do not linger.
    at_once: usize,
    sender: Sender,
    /// `None` = frames have none: one that comes again is stored again.
    numbers: Option<Arc<Numbers>>,
    topics: HashMap<Destination, Topic>,
    /// Frames for later given a queue so far: their destinations come and go.
    later_turn: usize,
    under_way: FuturesUnordered<Frame>,
}

impl Task {
    pub(super) fn new(
        client: Client,
        linger: Option<Duration>,
        sender: Sender,
        numbers: Option<Arc<Numbers>>,
    ) -> Self {
        Self {
            client,
            linger: linger.unwrap_or(limits::LINGER),
            at_once: linger.map_or(limits::FRAMES_AT_ONCE, |_| 1),
            sender,
            numbers,
            topics: HashMap::new(),
            later_turn: 0,
            under_way: FuturesUnordered::new(),
        }
    }

    pub(super) async fn run(mut self, mut incoming: mpsc::Receiver<Job>) {
        let mut jobs = Vec::new();
        let mut open = true;
        while open || !self.under_way.is_empty() || self.next_linger().is_some() {
            let linger_ends = self.next_linger();
            let lingering = async {
                match linger_ends {
                    Some(ends) => tokio::time::sleep_until(ends).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some(answered) = self.under_way.next(), if !self.under_way.is_empty() => {
                    self.settle(answered);
                }
                count = incoming.recv_many(&mut jobs, limits::BATCH_MESSAGES), if open => {
                    open = count > 0;
                    for job in jobs.drain(..) {
                        self.enqueue(job);
                    }
                }
                () = lingering => {}
            }
            self.send_due();
        }
    }

    fn enqueue(&mut self, job: Job) {
        match self.topics.get_mut(&job.destination) {
            Some(topic) => topic.push_back(job),
            None => {
                let destination = job.destination.clone();
                self.topics.entry(destination).or_default().push_back(job);
            }
        }
    }

    fn next_linger(&self) -> Option<Instant> {
        let topics = self.topics.iter();
        let is_numbered = self.numbers.is_some();
        let lingering =
            topics.filter(|(to, topic)| topic.unanswered < to.frames(is_numbered, topic.queues));
        lingering.filter_map(|(_, topic)| topic.linger_ends).min()
    }

    fn send_due(&mut self) {
        let now = Instant::now();
        for (destination, topic) in &mut self.topics {
            let frames = destination.frames(self.numbers.is_some(), topic.queues);
            while topic.is_due(now, frames, self.at_once) {
                let jobs = topic.take();
                let who = (self.client.clone(), self.sender.clone());
                let numbers = self.numbers.clone();
                let nth = match &destination.later {
                    Some(_) => &mut self.later_turn,
                    None => &mut topic.turn,
                };
                let turn = Turn {
                    nth: *nth,
                    was_known: topic.queues > 0,
                };
                *nth += 1;
                let frame = send(who, numbers, destination.clone(), turn, jobs);
                topic.unanswered += 1;
                self.under_way.push(Box::pin(frame));
            }
            if !topic.waiting.is_empty() && topic.linger_ends.is_none() {
                topic.linger_ends = Some(now + self.linger);
            }
        }
    }

    fn settle(&mut self, answered: Answered) {
        if let Some(topic) = self.topics.get_mut(&answered.destination) {
            topic.unanswered -= 1;
            let known = &self.client.0.routes;
            let queues = known.write_queues(&answered.destination.topic);
            topic.queues = queues.unwrap_or(topic.queues);
            // Every time is a destination of its own.
            let is_over = topic.unanswered == 0 && topic.waiting.is_empty();
            if is_over && answered.destination.later.is_some() {
                self.topics.remove(&answered.destination);
            }
        }
        match answered.outcome {
            Outcome::Stored(queue, reply) => match &answered.destination.later {
                Some(later) => {
                    let is_numbered = self.numbers.is_some();
                    let mut position = reply.position;
                    for job in answered.jobs {
                        let handle = MessageHandle {
                            broker: queue.broker.clone(),
                            position,
                        };
                        position.0 += waiting_record_len(job.block.len(), is_numbered, later);
                        job.stored(queue.clone(), &reply, How::Waiting(handle));
                    }
                }
                None => {
                    for (index, job) in answered.jobs.into_iter().enumerate() {
                        let reply = SendReply {
                            first: reply.first.plus(index as u64),
                            ..reply.clone()
                        };
                        job.stored(queue.clone(), &reply, How::InTurn);
                    }
                }
            },
            Outcome::Placed(outcomes) => {
                let mut again = Vec::new();
                for (job, outcome) in answered.jobs.into_iter().zip(outcomes) {
                    match outcome {
                        selected::Outcome::Stored(it) => {
                            job.stored(it.queue, &it.reply, How::Selected(it.selector));
                        }
                        selected::Outcome::Again(error) => again.push((job, error)),
                        selected::Outcome::Failed(error) => job.answered(Err(error)),
                    }
                }
                self.again(answered.destination, again);
            }
            Outcome::Failed(error) => {
                for job in answered.jobs {
                    job.answered(Err(error.clone()));
                }
            }
            Outcome::Again(error) => {
                let jobs = answered.jobs.into_iter();
                let jobs = jobs.map(|job| (job, error.clone())).collect();
                self.again(answered.destination, jobs);
            }
        }
    }

    /// Those that have time left go once more, before those that wait, or a retry would change their order.
    fn again(&mut self, destination: Destination, jobs: Vec<(Job, Error)>) {
        if jobs.is_empty() {
            return;
        }
        let now = Instant::now();
        let topic = self.topics.entry(destination).or_default();
        for (mut job, error) in jobs.into_iter().rev() {
            job.attempts += 1;
            if job.deadline <= now {
                job.answered(Err(error));
            } else {
                topic.push_front(job);
            }
        }
    }
}

/// Which of its topic's frames one is.
struct Turn {
    nth: usize,
    /// The topic has had a route.
    was_known: bool,
}

pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(25);

/// Sends one frame. What was certainly not stored comes back for another try, after a pause.
async fn send(
    (client, sender): (Client, Sender),
    numbers: Option<Arc<Numbers>>,
    destination: Destination,
    Turn { nth, was_known }: Turn,
    jobs: Vec<Job>,
) -> Answered {
    let attempts = jobs.iter().map(|job| job.attempts).max().unwrap_or(0);
    let pause = FIRST_PAUSE * (1 << attempts.min(4));
    let topic = &destination.topic;
    let who = (&client, &sender);
    let outcome = match try_once(who, numbers.as_deref(), &destination, nth, &jobs).await {
        Ok(Outcome::Placed(outcomes)) => {
            let is_again = |it: &selected::Outcome| matches!(it, selected::Outcome::Again(_));
            if outcomes.iter().any(is_again) {
                client.0.routes.doubt(topic);
                tokio::time::sleep(pause).await;
            }
            Outcome::Placed(outcomes)
        }
        Ok(outcome) => outcome,
        Err(error) if error.is_worth_another_route() => {
            let is_refused = error.is_refusal() && !has_another(&client, topic).await;
            client.0.routes.doubt(topic);
            // An unknown topic is asked for twice: the first answer may have come from a memory. One that
            // had a route may only lack it until its broker is back.
            let hopeless = match error.coded() {
                Code::NO_ROUTE => !was_known,
                code => code == Code::NOT_FOUND || code == Code::TOPIC_DELETED,
            };
            if is_refused || hopeless && attempts > 0 {
                Outcome::Failed(error)
            } else {
                tokio::time::sleep(pause).await;
                Outcome::Again(error)
            }
        }
        Err(error) => Outcome::Failed(error),
    };
    Answered {
        destination,
        jobs,
        outcome,
    }
}

/// `Err` = nothing was stored, unless it says so.
async fn try_once(
    (client, sender): (&Client, &Sender),
    numbers: Option<&Numbers>,
    destination: &Destination,
    turn: usize,
    jobs: &[Job],
) -> Result<Outcome> {
    let selected = destination.selector.as_deref().map(|selector| Selected {
        client,
        topic: &destination.topic,
        selector,
        sender,
        jobs,
    });
    let stored = |(queue, reply)| Outcome::Stored(queue, reply);
    match (selected, numbers) {
        (None, None) => {
            let sent = try_send(client, destination, sender, turn, jobs).await;
            sent.map(stored)
        }
        (None, Some(numbers)) => {
            let what = (destination, sender);
            let sent = numbered::try_send(client, numbers, what, turn, jobs).await;
            sent.map(stored)
        }
        (Some(selected), Some(numbers)) => {
            let sent = selected.send_numbered(numbers, turn).await;
            sent.map(Outcome::Placed)
        }
        (Some(selected), None) => selected.send_once(turn).await.map(Outcome::Placed),
    }
}

/// Whether another broker might take what one has refused.
async fn has_another(client: &Client, topic: &TopicName) -> bool {
    let route = client.0.routes.of(topic, true).await;
    route.is_ok_and(|route| client.0.health.is_open(topic, &route))
}

async fn try_send(
    client: &Client,
    destination: &Destination,
    sender: &Sender,
    turn: usize,
    jobs: &[Job],
) -> Result<(MessageQueue, SendReply)> {
    let (topic, later) = (&destination.topic, destination.later.as_ref());
    let route = client.0.routes.of(topic, true).await?;
    let route = client.0.health.preferred(client, topic, &route);
    let (broker, queue) = lane_for(&route, destination.priority, turn)?;
    let live = connect(client, broker, route.len()).await?;
    let request = Send {
        durability: sender.durability,
        later: later.cloned(),
        ..Send::new(topic.clone(), queue, jobs.len() as u32)
    };
    let body = jobs.iter().map(|job| job.block.clone()).collect();
    let call = live.sends.call(&request, body, client.0.within);
    let reply = answer(client, (topic, broker), call);
    let reply = reply.await.map_err(outcome_of)?;
    let queue = MessageQueue {
        topic: topic.clone(),
        broker: broker.broker.clone(),
        queue,
    };
    Ok((queue, reply))
}

/// A connection to a broker, for which no send waits to its end while there are others.
pub(super) async fn connect(client: &Client, broker: &BrokerRoute, of: usize) -> Result<Live> {
    let live = client.live(broker);
    let live = match of {
        1 => live.await,
        _ => match timeout(limits::CONNECT, live).await {
            Ok(live) => live,
            Err(_) => Err(Error::new(
                Code::CONNECT,
                format!("no connection to broker {} in time", broker.broker),
            )),
        },
    };
    live.inspect_err(|_| client.0.health.failed(&broker.broker))
}

/// The answer to a send; how long it took, that there was none, or that it was a refusal, is remembered of the broker.
pub(super) async fn answer<T>(
    client: &Client,
    (topic, broker): (&TopicName, &BrokerRoute),
    call: impl Future<Output = std::result::Result<(T, Bytes), CallError>>,
) -> std::result::Result<T, CallError> {
    let began = Instant::now();
    let answer = call.await;
    let health = &client.0.health;
    match &answer {
        Ok(_) | Err(CallError::Remote(_)) => health.answered(&broker.broker, began.elapsed()),
        Err(CallError::Lost(_) | CallError::Deadline(_)) => health.failed(&broker.broker),
        Err(CallError::Reply(_) | CallError::TooLarge(_)) => {}
    }
    if let Err(CallError::Remote(error)) = &answer
        && Error::from(error.clone()).is_refusal()
    {
        health.has_refused(topic, &broker.broker);
    }
    answer.map(|(reply, _)| reply)
}

/// Once a send has left, only an answer tells what it did.
pub(super) fn outcome_of(error: CallError) -> Error {
    match error {
        CallError::Remote(_) | CallError::TooLarge(_) => error.into(),
        CallError::Lost(_) | CallError::Deadline(_) | CallError::Reply(_) => {
            Error::from(error).unknown()
        }
    }
}

/// The lane for a priority of all brokers, in turn; for messages without one, all write queues.
pub(super) fn lane_for(
    route: &[BrokerRoute],
    priority: Option<Priority>,
    turn: usize,
) -> Result<(&BrokerRoute, QueueId)> {
    let Some(priority) = priority else {
        return queue_for(route, turn);
    };
    let brokers: Vec<_> = route.iter().filter(|it| it.write_queues > 0).collect();
    let broker = turn.checked_rem(brokers.len()).map(|at| brokers[at]);
    let broker = broker.ok_or_else(nowhere)?;
    Ok((broker, priority.lane(broker.write_queues)))
}

fn nowhere() -> Error {
    Error::new(Code::NO_ROUTE, "the topic has no queues to write to")
}

/// Write queues of all brokers, in turn.
pub(super) fn queue_for(route: &[BrokerRoute], turn: usize) -> Result<(&BrokerRoute, QueueId)> {
    let all: usize = route.iter().map(|it| it.write_queues as usize).sum();
    let mut index = turn.checked_rem(all).unwrap_or(0);
    for broker in route {
        let queues = broker.write_queues as usize;
        if index < queues {
            return Ok((broker, QueueId(index as u32)));
        }
        index -= queues;
    }
    Err(nowhere())
}

#[cfg(test)]
mod tests {
    use super::*;
    use quern_protocol::{BrokerName, Epoch};

    #[test]
    fn frames_take_the_queues_of_all_brokers_in_turn() {
        let broker = |name: &str, write_queues| BrokerRoute {
            cluster: String::new(),
            broker: BrokerName::new(name).unwrap(),
            address: String::new(),
            read_queues: 9,
            write_queues,
            epoch: Epoch(1),
        };
        let route = [broker("a", 2), broker("b", 0), broker("c", 1)];
        let queues: Vec<_> = (0..6)
            .map(|turn| {
                let (broker, queue) = queue_for(&route, turn).unwrap();
                format!("{}{}", broker.broker, queue)
            })
            .collect();
        assert_eq!(queues, ["a0", "a1", "c0", "a0", "a1", "c0"]);
        assert!(queue_for(&route[1..2], 0).is_err());
        assert!(queue_for(&[], 0).is_err());
    }
}
