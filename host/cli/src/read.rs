//! Reading a topic: all its queues at once, each in order, up to where they end now or for ever.

use std::time::Duration;

use quern_client::{
    Client, Filter, MessageQueue, MessageView, PullConsumer, PullOptions, PullResult,
};
use quern_protocol::QueueOffset;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::failure::Failure;

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    First,
    Last,
    /// ms since 1970.
    Time(u64),
    Offset(u64),
}

impl Begin {
    /// Where that is in a queue with these bounds.
    pub(crate) async fn offset(
        self,
        pull: &PullConsumer,
        queue: &MessageQueue,
        (first, end): (QueueOffset, QueueOffset),
    ) -> Result<QueueOffset, Failure> {
        Ok(match self {
            Self::First => first,
            Self::Last => end,
            Self::Time(at) => pull.offset_at(queue, at).await?,
            Self::Offset(offset) => QueueOffset(offset).clamp(first, end),
        })
    }
}

/// What to read.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) topic: String,
    pub(crate) filter: Filter,
    pub(crate) begin: Begin,
    /// Of each queue so many messages before its end, if `begin` does not leave fewer.
    pub(crate) latest: Option<u64>,
    pub(crate) follow: bool,
}

/// A pull held by the broker this long; a lost broker is noticed by then.
const HOLD: Duration = Duration::from_secs(10);
/// Between tries to reach a broker that is away.
const AWAY: Duration = Duration::from_millis(500);

type Batch = Result<PullResult, quern_client::Error>;

/// A topic being read.
pub(crate) struct Reader {
    batches: mpsc::Receiver<Batch>,
    _queues: JoinSet<()>,
}

impl Reader {
    pub(crate) async fn start(client: &Client, plan: &Plan) -> Result<Self, Failure> {
        let pull = client.pull_consumer();
        let (sender, batches) = mpsc::channel(4);
        let mut queues = JoinSet::new();
        for queue in pull.queues(&plan.topic).await? {
            let (first, end) = pull.offset_range(&queue).await?;
            let from = plan.begin.offset(&pull, &queue, (first, end)).await?;
            let latest = plan.latest.map_or(0, |it| end.0.saturating_sub(it));
            let from = from.max(QueueOffset(latest));
            let reading = OneQueue {
                pull: pull.clone(),
                queue,
                from,
                end: (!plan.follow).then_some(end),
                options: PullOptions {
                    filter: plan.filter.clone(),
                    wait: if plan.follow { HOLD } else { Duration::ZERO },
                    ..PullOptions::default()
                },
                batches: sender.clone(),
            };
            queues.spawn(reading.run());
        }
        Ok(Self {
            batches,
            _queues: queues,
        })
    }

    /// The next messages of some queue; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<MessageView>>, Failure> {
        let batch = self.batches.recv().await.transpose()?;
        Ok(batch.map(|batch| batch.messages))
    }
}

struct OneQueue {
    pull: PullConsumer,
    queue: MessageQueue,
    from: QueueOffset,
    /// Where to stop; `None` = never.
    end: Option<QueueOffset>,
    options: PullOptions,
    batches: mpsc::Sender<Batch>,
}

impl OneQueue {
    async fn run(mut self) {
        // Once in any case, so that a bad filter is told of an empty queue too.
        let mut first = true;
        while first || self.end.is_none_or(|end| self.from < end) {
            first = false;
            match self.pull.pull(&self.queue, self.from, &self.options).await {
                Ok(mut batch) => {
                    let stall = batch.stall.take();
                    if let Some(end) = self.end {
                        batch.messages.retain(|message| message.offset() < end);
                        batch.next = batch.next.min(end);
                    }
                    self.from = batch.next;
                    if self.batches.send(Ok(batch)).await.is_err() {
                        return;
                    }
                    if let Some(stall) = stall {
                        let (queue, offset) = (self.queue.queue, stall.offset);
                        eprintln!(
                            "delivery of queue {queue} waits at offset {offset}: Q-{} {}",
                            stall.code, stall.message
                        );
                        tokio::time::sleep(Duration::from_millis(stall.retry_ms.into())).await;
                    }
                }
                Err(error) if self.end.is_none() && error.is_retryable() => {
                    tokio::time::sleep(AWAY).await;
                }
                Err(error) => {
                    // Nobody reads any more if this fails.
                    let _ = self.batches.send(Err(error)).await;
                    return;
                }
            }
        }
    }
}
