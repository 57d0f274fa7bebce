//! A consumer of a group: takes all queues of its topics, goes on where the group has committed,
//! and commits what the application has received. Groups of several members come later: start one
//! consumer per group.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use quern_protocol::{Filter, QueueOffset, TopicName};
use quern_quic::Backoff;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::{self, Client};
use crate::consumer::{MessageView, PullConsumer, PullOptions, PullResult};
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::routes::MessageQueue;

/// Where a group begins that has committed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// The first message still there.
    First,
    /// Only what comes from now on.
    Last,
    /// The first message stored at or after this time, ms since 1970.
    Time(u64),
    /// This offset in every queue.
    Offset(u64),
}

/// Settings of a [`Consumer`].
#[derive(Debug, Clone)]
pub struct ConsumerBuilder {
    client: Client,
    group: String,
    topics: Vec<(String, Filter)>,
    from: From,
}

impl ConsumerBuilder {
    pub(crate) fn new(client: Client, group: &str) -> Self {
        Self {
            client,
            group: group.to_owned(),
            topics: Vec::new(),
            from: From::First,
        }
    }

    /// Adds a topic, and which of its messages.
    #[must_use]
    pub fn subscribe(mut self, topic: &str, filter: Filter) -> Self {
        self.topics.push((topic.to_owned(), filter));
        self
    }

    /// Where to begin where the group has committed nothing. Default: the first message.
    #[must_use]
    pub fn from(mut self, from: From) -> Self {
        self.from = from;
        self
    }

    /// Finds the queues and begins to pull.
    pub async fn start(self) -> Result<Consumer> {
        client::group(&self.group)?;
        let pull = self.client.pull_consumer();
        let (batches, received) = mpsc::channel(limits::PULLED_AHEAD);
        let mut pullers = JoinSet::new();
        for (topic, filter) in &self.topics {
            let committed: HashMap<_, _> = pull
                .committed(&self.group, topic)
                .await?
                .into_iter()
                .collect();
            for queue in pull.queues(topic).await? {
                let from = match committed.get(&queue) {
                    Some(offset) => *offset,
                    None => start_of(&pull, &queue, self.from).await?,
                };
                let puller = Puller {
                    pull: pull.clone(),
                    queue,
                    from,
                    options: PullOptions {
                        filter: filter.clone(),
                        wait: limits::POLL,
                        ..PullOptions::default()
                    },
                    batches: batches.clone(),
                };
                pullers.spawn(puller.run());
            }
        }
        Ok(Consumer {
            pull,
            group: self.group,
            received,
            ready: VecDeque::new(),
            consumed: HashMap::new(),
            committed_at: Instant::now(),
            _pullers: pullers,
        })
    }
}

/// The offset a queue is read from by default.
pub(crate) async fn start_of(
    pull: &PullConsumer,
    queue: &MessageQueue,
    from: From,
) -> Result<QueueOffset> {
    match from {
        From::First => Ok(pull.offset_range(queue).await?.0),
        From::Last => Ok(pull.offset_range(queue).await?.1),
        From::Time(stored_at) => pull.offset_at(queue, stored_at).await,
        From::Offset(offset) => Ok(QueueOffset(offset)),
    }
}

type Batch = Result<PullResult>;

/// Receives the messages of a group. Dropped, it stops without committing.
#[derive(Debug)]
pub struct Consumer {
    pull: PullConsumer,
    group: String,
    received: mpsc::Receiver<Batch>,
    ready: VecDeque<MessageView>,
    /// Next offset by queue, not yet committed.
    consumed: HashMap<MessageQueue, QueueOffset>,
    committed_at: Instant,
    /// Stop with the consumer.
    _pullers: JoinSet<()>,
}

impl Consumer {
    /// The next message, waiting for one. What was received before counts as consumed and is
    /// committed every 5 s. An error is of one queue; the others go on.
    pub async fn recv(&mut self) -> Result<MessageView> {
        if self.committed_at.elapsed() >= limits::COMMIT {
            self.commit().await?;
        }
        loop {
            if let Some(message) = self.ready.pop_front() {
                let next = message.offset().plus(1);
                match self.consumed.get_mut(message.queue()) {
                    Some(offset) => *offset = next,
                    None => {
                        self.consumed.insert(message.queue().clone(), next);
                    }
                }
                return Ok(message);
            }
            match self.received.recv().await {
                Some(Ok(batch)) => self.ready.extend(batch.messages),
                Some(Err(error)) => return Err(error),
                // No queue is read any more: there is nothing to come.
                None => std::future::pending().await,
            }
        }
    }

    /// Commits what was received so far; durable when this returns.
    pub async fn commit(&mut self) -> Result<()> {
        let mut by_topic: HashMap<TopicName, Vec<(MessageQueue, QueueOffset)>> = HashMap::new();
        for (queue, offset) in &self.consumed {
            let of_topic = by_topic.entry(queue.topic.clone()).or_default();
            of_topic.push((queue.clone(), *offset));
        }
        for (topic, offsets) in by_topic {
            self.pull
                .commit(&self.group, topic.as_str(), &offsets)
                .await?;
        }
        self.consumed.clear();
        self.committed_at = Instant::now();
        Ok(())
    }

    /// Commits and stops.
    pub async fn shutdown(mut self) -> Result<()> {
        self.commit().await
    }
}

/// Reads one queue ahead of the application, for ever.
struct Puller {
    pull: PullConsumer,
    queue: MessageQueue,
    from: QueueOffset,
    options: PullOptions,
    batches: mpsc::Sender<Batch>,
}

impl Puller {
    async fn run(mut self) {
        let mut backoff = Backoff::new();
        loop {
            let began = Instant::now();
            match self.pull.pull(&self.queue, self.from, &self.options).await {
                Ok(batch) => {
                    backoff.healthy(began.elapsed());
                    self.from = batch.next;
                    let stall = batch.stall.as_ref().map(|stall| stall.retry_ms);
                    if let Some(stall) = &batch.stall {
                        tracing::warn!(
                            topic = %self.queue.topic, queue = %self.queue.queue, offset = %stall.offset,
                            code = stall.code, "delivery waits: {}", stall.message
                        );
                    }
                    if !batch.messages.is_empty() && self.batches.send(Ok(batch)).await.is_err() {
                        return;
                    }
                    if let Some(ms) = stall {
                        tokio::time::sleep(Duration::from_millis(ms.into())).await;
                    }
                }
                Err(error) => {
                    if !self.survives(&error) {
                        // Told once; this queue is not read any more.
                        let _ = self.batches.send(Err(error)).await;
                        return;
                    }
                    self.pull.forget_route(&self.queue.topic);
                    tracing::debug!(queue = ?self.queue, %error, "pull failed; trying again");
                    tokio::time::sleep(backoff.next(fastrand::f64())).await;
                }
            }
        }
    }

    /// Brokers come back; an expression that was refused will be refused again.
    fn survives(&self, error: &Error) -> bool {
        error.is_retryable() || matches!(error.kind(), ErrorKind::Connect | ErrorKind::Timeout)
    }
}
