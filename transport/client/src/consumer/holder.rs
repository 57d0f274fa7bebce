//! Holds the leases of one topic's queues on one broker: takes those this member shall have, keeps them,
//! and gives back those it shall not have any more, once the application is done with them.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use quern_protocol::{
    BrokerName, Lease, LeaseQueues, LeaseQueuesReply, Leased, QueueId, TopicName,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::membership::Shared;
use super::puller::Puller;
use crate::limits;
use crate::routes::MessageQueue;

/// The queues this member shall have.
pub(super) type Wanted = BTreeSet<QueueId>;

pub(super) struct Holder {
    shared: Arc<Shared>,
    topic: TopicName,
    broker: BrokerName,
    wanted: watch::Receiver<Wanted>,
    held: BTreeMap<QueueId, Held>,
    /// No longer wanted and not yet known to be given back.
    to_release: Vec<Lease>,
}

struct Held {
    epoch: u64,
    /// `None` = the queue is leaving: it is kept only until the application is done with it.
    puller: Option<AbortOnDrop>,
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Holder {
    pub(super) fn new(
        shared: &Arc<Shared>,
        topic: TopicName,
        broker: BrokerName,
        wanted: watch::Receiver<Wanted>,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            topic,
            broker,
            wanted,
            held: BTreeMap::new(),
            to_release: Vec::new(),
        }
    }

    /// Ends when nobody can want anything any more, and everything is given back.
    pub(super) async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        loop {
            let mut moved = pin!(shared.progress.moved());
            moved.as_mut().enable();
            let mut sought = pin!(shared.progress.sought());
            sought.as_mut().enable();
            let is_over = self.wanted.has_changed().is_err();
            let wanted = match is_over {
                true => Wanted::new(),
                false => self.wanted.borrow_and_update().clone(),
            };
            self.let_go(&wanted).await;
            if self.held.is_empty() && self.to_release.is_empty() && wanted.is_empty() {
                if is_over {
                    return;
                }
                let _ = self.wanted.changed().await;
                continue;
            }
            let pause = self.ask(&wanted).await;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = self.wanted.changed(), if !is_over => {}
                () = moved, if self.is_leaving() => {}
                () = sought => {}
            }
        }
    }

    fn queue(&self, queue: QueueId) -> MessageQueue {
        MessageQueue {
            topic: self.topic.clone(),
            broker: self.broker.clone(),
            queue,
        }
    }

    fn is_leaving(&self) -> bool {
        self.held.values().any(|it| it.puller.is_none())
    }

    /// Stops reading what is not wanted, and gives it up once the application is done with it.
    async fn let_go(&mut self, wanted: &Wanted) {
        let progress = &self.shared.progress;
        let mut settled = Vec::new();
        for (queue, held) in &mut self.held {
            let name = MessageQueue {
                topic: self.topic.clone(),
                broker: self.broker.clone(),
                queue: *queue,
            };
            if held.puller.is_some() && !wanted.contains(queue) {
                held.puller = None;
                progress.leave(&name);
            }
            if held.puller.is_none() && progress.is_settled(&name) {
                settled.push(name);
            }
        }
        if settled.is_empty() {
            return;
        }
        let due = progress.due(|queue| settled.contains(queue));
        if let Err(error) = self.shared.commit(due).await {
            tracing::debug!(topic = %self.topic, broker = %self.broker, %error, "not committed; trying again");
            return;
        }
        for queue in settled {
            self.shared.progress.forget(&queue);
            if let Some(held) = self.held.remove(&queue.queue) {
                self.to_release.push(Lease {
                    queue: queue.queue,
                    epoch: held.epoch,
                });
            }
        }
    }

    /// Asks for what is wanted and what is held. Returns when to ask again.
    async fn ask(&mut self, wanted: &Wanted) -> Duration {
        let is_missing = wanted.iter().any(|queue| !self.held.contains_key(queue));
        // Nothing is to be told, only to be heard: the broker may hold the request.
        let is_patient = is_missing && self.to_release.is_empty() && !self.is_leaving();
        let queues: BTreeSet<QueueId> = self.held.keys().chain(wanted).copied().collect();
        let request = LeaseQueues {
            group: self.shared.group.clone(),
            topic: self.topic.clone(),
            member: self.shared.member.clone(),
            queues: queues.into_iter().collect(),
            release: self.to_release.clone(),
            wait_ms: match is_patient {
                true => limits::RENEW.as_millis() as u32,
                false => 0,
            },
        };
        let asked = Instant::now();
        let shared = Arc::clone(&self.shared);
        let reply = tokio::select! {
            reply = shared.lease(&self.broker, &request) => reply,
            _ = self.wanted.changed(), if is_patient => return Duration::ZERO,
        };
        match reply {
            Ok(reply) => {
                let half = Duration::from_millis(reply.lease_ms.into()) / 2;
                self.to_release.clear();
                self.take(reply, wanted, asked);
                match wanted.iter().all(|queue| self.held.contains_key(queue)) {
                    // There is nothing to be renewed.
                    true if self.held.is_empty() => Duration::ZERO,
                    true => half.saturating_sub(asked.elapsed()),
                    false if is_patient => Duration::ZERO,
                    false => limits::AGAIN,
                }
            }
            Err(error) => {
                tracing::debug!(topic = %self.topic, broker = %self.broker, %error, "no leases; trying again");
                self.shared.pull.doubt_route(&self.topic);
                self.shared.coordinator_failed(&self.broker, &error);
                limits::AGAIN
            }
        }
    }

    fn take(&mut self, reply: LeaseQueuesReply, wanted: &Wanted, asked: Instant) {
        let until = asked + Duration::from_millis(reply.lease_ms.into());
        let epochs: BTreeMap<QueueId, u64> = reply
            .leased
            .iter()
            .map(|it| (it.lease.queue, it.lease.epoch))
            .collect();
        // Lost: somebody else has it, or the group was reset and begins again.
        let lost = self.held.iter();
        let lost = lost.filter(|(queue, held)| epochs.get(queue) != Some(&held.epoch));
        for queue in lost.map(|(queue, _)| *queue).collect::<Vec<_>>() {
            self.held.remove(&queue);
            self.shared.progress.forget(&self.queue(queue));
        }
        for Leased { lease, committed } in reply.leased {
            let name = self.queue(lease.queue);
            // Ours all the time, as it turns out, though what was read was let go.
            let again = self.shared.progress.gap(&name);
            if again.is_some() && wanted.contains(&lease.queue) {
                self.held.remove(&lease.queue);
                self.shared.progress.forget(&name);
            }
            if self.held.contains_key(&lease.queue) {
                self.shared.progress.renew(&name, until);
            } else if wanted.contains(&lease.queue) {
                let progress = &self.shared.progress;
                let puller = Puller {
                    shared: Arc::clone(&self.shared),
                    hold: progress.begin(&name, lease.epoch, until, committed),
                    queue: name,
                    epoch: lease.epoch,
                    committed: again.flatten().or(committed),
                };
                let held = Held {
                    epoch: lease.epoch,
                    puller: Some(AbortOnDrop(tokio::spawn(puller.run()))),
                };
                self.held.insert(lease.queue, held);
            } else {
                self.to_release.push(lease);
            }
        }
    }
}
