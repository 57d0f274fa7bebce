//! Reads one queue ahead of the application, for as long as its lease is held: has its messages sent, and grants more
//! as the application is done with them. From a broker that knows no subscriptions, or if it is told to, it pulls.

use std::sync::Arc;
use std::time::Duration;

use quern_protocol::retry::is_retry_topic;
use quern_protocol::{Code, Lease, QueueOffset, Subscribe};
use quern_quic::Backoff;
use tokio::time::Instant;

use super::membership::Shared;
use super::progress::{Due, Hold};
use super::pull::unpack;
use super::{From, MessageView, PullConsumer, PullOptions, PullResult};
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::routes::MessageQueue;

/// Messages read by one lease.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) queue: MessageQueue,
    pub(super) hold: Hold,
    pub(super) messages: Vec<MessageView>,
    /// Behind them, and behind what the filter left out.
    pub(super) next: QueueOffset,
}

pub(super) struct Puller {
    pub(super) shared: Arc<Shared>,
    pub(super) queue: MessageQueue,
    pub(super) epoch: u64,
    pub(super) hold: Hold,
    pub(super) committed: Option<QueueOffset>,
}

impl Puller {
    /// Ends with the consumer, or after an error that will not go away, which is told once.
    pub(super) async fn run(self) {
        let mut backoff = Backoff::new();
        let mut from = None;
        let mut pulls = self.shared.flow.pulls;
        let mut is_told = false;
        loop {
            let began = Instant::now();
            let ended = match pulls {
                true => self.step(&mut from).await,
                false => self.follow(&mut from).await,
            };
            match ended {
                Ok(None) => return,
                Err(error) if error.coded() == Code::UNSUPPORTED && !pulls => pulls = true,
                // Who holds the lease asks how it stands, and ends this or begins anew.
                Err(error) if error.coded() == Code::FENCED => {
                    tracing::debug!(queue = ?self.queue, %error, "not ours any more");
                    self.shared.progress.read_anew();
                    tokio::time::sleep(backoff.next(fastrand::f64())).await;
                }
                Ok(Some(wait)) => {
                    backoff.healthy(began.elapsed());
                    tokio::time::sleep(wait).await;
                }
                // What is forbidden may be allowed again. One that broadcasts is told, as it was not when it started.
                Err(error)
                    if error.coded() == Code::TOPIC_FORBIDDEN && self.shared.local.is_none() =>
                {
                    if !is_told {
                        tracing::warn!(queue = %self.queue.queue, %error, "a queue waits");
                    }
                    is_told = true;
                    tokio::time::sleep(backoff.next(fastrand::f64())).await;
                }
                Err(error) => {
                    if !survives(&error) {
                        let _ = self.shared.batches.send(Err(error)).await;
                        return;
                    }
                    self.shared.pull.doubt_route(&self.queue.topic);
                    tracing::debug!(queue = ?self.queue, %error, "not read; trying again");
                    tokio::time::sleep(backoff.next(fastrand::f64())).await;
                }
            }
        }
    }

    /// Has the messages sent, until the broker ends it. Returns how long to wait before the next time; `None` = nobody
    /// listens any more.
    async fn follow(&self, from: &mut Option<QueueOffset>) -> Result<Option<Duration>> {
        let at = self.at(from).await?;
        let (progress, threshold) = (&self.shared.progress, self.shared.flow.threshold);
        let bell = progress.subscribe(&self.queue, self.hold, threshold);
        let first = progress.grant(&self.queue, self.hold);
        let (topic, filter) = (&self.queue.topic, self.shared.filter(&self.queue.topic));
        let request = Subscribe {
            group: Some(self.shared.group.clone()),
            topic: topic.clone(),
            queue: self.queue.queue,
            epoch: self.shared.local.is_none().then_some(self.epoch),
            from: at,
            filter,
            messages: first.map_or(0, |it| it.messages),
            bytes: first.map_or(0, |it| it.bytes),
        };
        let subscribing = self.shared.pull.subscribe(&self.queue, &request);
        let mut subscription = subscribing.await?;
        loop {
            let delivery = tokio::select! {
                delivery = subscription.next() => Some(delivery),
                () = bell.notified() => None,
            };
            match delivery {
                None => {}
                Some(None) => return Ok(Some(Duration::ZERO)),
                Some(Some(delivery)) => {
                    let (reply, body) = delivery?;
                    let count = reply.messages as usize;
                    progress.sent(&self.queue, self.hold, count, body.len());
                    let pulled = unpack(&self.queue, reply, &body)?;
                    if !self.take(pulled, from).await {
                        return Ok(None);
                    }
                }
            }
            if let Some(grant) = progress.grant(&self.queue, self.hold) {
                subscription.grant(grant.messages, grant.bytes).await;
            }
        }
    }

    /// Reads on. Returns how long to wait before the next time; `None` = nobody listens any more.
    async fn step(&self, from: &mut Option<QueueOffset>) -> Result<Option<Duration>> {
        let at = self.at(from).await?;
        let threshold = &self.shared.flow.threshold;
        let room = self.shared.progress.room(&self.queue, threshold).await;
        let options = PullOptions {
            filter: self.shared.filter(&self.queue.topic),
            wait: limits::POLL,
            max_messages: limits::PULL_MESSAGES.min(room as u32),
            broadcast: self.shared.local.is_some(),
            ..PullOptions::default()
        };
        let group = Some(&self.shared.group);
        let pull = self.shared.pull.pull_for(group, &self.queue, at, &options);
        let pulled = pull.await?;
        let retry = pulled.stall.as_ref().map(|it| it.retry_ms);
        match self.take(pulled, from).await {
            true => Ok(Some(Duration::from_millis(retry.unwrap_or(0).into()))),
            false => Ok(None),
        }
    }

    async fn at(&self, from: &mut Option<QueueOffset>) -> Result<QueueOffset> {
        Ok(match *from {
            Some(at) => at,
            None => *from.insert(self.start().await?),
        })
    }

    /// Hands on what has been read; whether anybody listens.
    async fn take(&self, pulled: PullResult, from: &mut Option<QueueOffset>) -> bool {
        let is_news = *from != Some(pulled.next);
        *from = Some(pulled.next);
        if is_news {
            let sizes = pulled.messages.iter().map(|it| (it.offset(), it.size()));
            let progress = &self.shared.progress;
            progress.read(&self.queue, self.hold, sizes, pulled.next);
            let batch = Batch {
                queue: self.queue.clone(),
                hold: self.hold,
                messages: pulled.messages,
                next: pulled.next,
            };
            if self.shared.batches.send(Ok(batch)).await.is_err() {
                return false;
            }
        }
        if let Some(stall) = pulled.stall {
            tracing::warn!(
                topic = %self.queue.topic, queue = %self.queue.queue, offset = %stall.offset,
                code = stall.code, "delivery waits: {}", stall.message
            );
        }
        true
    }

    /// Where the group has stopped. A group that has committed nothing commits where it begins, so that
    /// whoever takes the queue over begins there as well, not at another end.
    async fn start(&self) -> Result<QueueOffset> {
        if let Some(committed) = self.committed {
            return Ok(committed);
        }
        let start = match self.shared.ends.get(&self.queue) {
            Some(end) => *end,
            // Wherever the group begins, what it has given back it wants.
            None if is_retry_topic(&self.queue.topic) => {
                start_of(&self.shared.pull, &self.queue, From::First).await?
            }
            None => start_of(&self.shared.pull, &self.queue, self.shared.from).await?,
        };
        let due = Due {
            queue: self.queue.clone(),
            lease: Lease {
                queue: self.queue.queue,
                epoch: self.epoch,
            },
            offset: start,
        };
        self.shared.commit(vec![due]).await?;
        Ok(start)
    }
}

/// The offset a queue is read from by default. A queue that was not there when the consumer started is new
/// from its first message on.
async fn start_of(pull: &PullConsumer, queue: &MessageQueue, from: From) -> Result<QueueOffset> {
    let (min, max) = pull.offset_range(queue).await?;
    Ok(match from {
        From::First | From::Last => min,
        From::Time(stored_at) => pull.offset_at(queue, stored_at).await?,
        From::Offset(offset) => QueueOffset(offset.clamp(min.0, max.0)),
    })
}

/// Brokers come back; an expression that was refused will be refused again.
pub(super) fn survives(error: &Error) -> bool {
    error.is_retryable() || matches!(error.kind(), ErrorKind::Connect | ErrorKind::Timeout)
}
