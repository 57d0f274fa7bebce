//! A consumer that has every queue of its topics to itself: no member, no lease, nothing shared out.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::membership::Shared;
use super::puller::Puller;
use crate::error::Result;
use crate::limits;
use crate::routes::MessageQueue;

/// Nobody takes a queue away.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
/// There are no leases to tell apart.
const EPOCH: u64 = 0;

pub(super) struct Broadcast {
    pub(super) shared: Arc<Shared>,
}

impl Broadcast {
    /// Tells how the first look went, and ends when it is told to, or that went wrong.
    pub(super) async fn run(
        self,
        started: oneshot::Sender<Result<()>>,
        mut stop: oneshot::Receiver<()>,
    ) {
        let mut started = Some(started);
        let mut pullers = JoinSet::new();
        let mut reads: HashSet<MessageQueue> = HashSet::new();
        loop {
            match self.queues().await {
                Ok(queues) => {
                    for queue in &queues {
                        if reads.insert(queue.clone()) {
                            pullers.spawn(self.begin(queue.clone()).run());
                        }
                    }
                    self.shared.shares.send_replace(Some(queues));
                    if let Some(started) = started.take() {
                        let _ = started.send(Ok(()));
                    }
                }
                Err(error) => match started.take() {
                    Some(started) => {
                        let _ = started.send(Err(error));
                        return;
                    }
                    None => tracing::debug!(%error, "no news of the queues; trying again"),
                },
            }
            tokio::select! {
                () = tokio::time::sleep(limits::BROKERS_AGE) => {}
                _ = &mut stop => return,
            }
        }
    }

    /// All there are now.
    async fn queues(&self) -> Result<Vec<MessageQueue>> {
        let mut all = Vec::new();
        for (topic, _) in &self.shared.subscriptions {
            all.extend(self.shared.pull.queues(topic.as_str()).await?);
        }
        Ok(all)
    }

    fn begin(&self, queue: MessageQueue) -> Puller {
        let committed = self.shared.local.as_ref().and_then(|it| it.of(&queue));
        let until = Instant::now() + FOR_EVER;
        let progress = &self.shared.progress;
        let hold = progress.begin(&queue, EPOCH, until, committed);
        Puller {
            shared: Arc::clone(&self.shared),
            queue,
            epoch: EPOCH,
            hold,
            committed,
        }
    }
}
