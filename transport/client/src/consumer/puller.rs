//! Reads one queue ahead of the application, for as long as its lease is held.

use std::sync::Arc;
use std::time::Duration;

use quern_protocol::retry::is_retry_topic;
use quern_protocol::{Lease, QueueOffset};
use quern_quic::Backoff;
use tokio::time::Instant;

use super::membership::Shared;
use super::progress::{Due, Hold};
use super::{From, MessageView, PullConsumer, PullOptions};
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
        loop {
            let began = Instant::now();
            match self.step(&mut from).await {
                Ok(None) => return,
                Ok(Some(wait)) => {
                    backoff.healthy(began.elapsed());
                    tokio::time::sleep(wait).await;
                }
                Err(error) => {
                    if !survives(&error) {
                        let _ = self.shared.batches.send(Err(error)).await;
                        return;
                    }
                    self.shared.pull.forget_route(&self.queue.topic);
                    tracing::debug!(queue = ?self.queue, %error, "pull failed; trying again");
                    tokio::time::sleep(backoff.next(fastrand::f64())).await;
                }
            }
        }
    }

    /// Reads on. Returns how long to wait before the next time; `None` = nobody listens any more.
    async fn step(&self, from: &mut Option<QueueOffset>) -> Result<Option<Duration>> {
        let at = match *from {
            Some(at) => at,
            None => *from.insert(self.start().await?),
        };
        let threshold = &self.shared.flow.threshold;
        let room = self.shared.progress.room(&self.queue, threshold).await;
        let options = PullOptions {
            filter: self.shared.filter(&self.queue.topic),
            wait: limits::POLL,
            max_messages: limits::PULL_MESSAGES.min(room as u32),
            ..PullOptions::default()
        };
        let group = Some(&self.shared.group);
        let pull = self.shared.pull.pull_for(group, &self.queue, at, &options);
        let pulled = pull.await?;
        *from = Some(pulled.next);
        if pulled.next != at {
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
                return Ok(None);
            }
        }
        let Some(stall) = pulled.stall else {
            return Ok(Some(Duration::ZERO));
        };
        tracing::warn!(
            topic = %self.queue.topic, queue = %self.queue.queue, offset = %stall.offset,
            code = stall.code, "delivery waits: {}", stall.message
        );
        Ok(Some(Duration::from_millis(stall.retry_ms.into())))
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
