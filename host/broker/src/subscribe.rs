//! `Subscribe`: the messages of a queue are sent as they come, as far as there is credit. Each look at the queue is one
//! that a pull would take: the same filters, the same threads, the same limits. What is looked up once for a pull is
//! looked up for every look, so a subscription hears of whatever changes as its next pull would have.
//!
//! Between two looks nothing is kept of the queue, and without credit none is taken: a consumer that is slow, or is
//! gone, costs no memory beyond the frame on its way to it.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use quern_protocol::frame::{Frame, Outgoing};
use quern_protocol::{
    Code, Kind, Lease, Permission, QueueOffset, Request, Subscribe, WireError, limits as wire,
};
use quern_quic::{Answers, Credit};
use tokio::time::sleep;

use crate::scan::{Scan, Scanned, look};
use crate::topics::Topic;
use crate::{Broker, filters, group_settings, limits, pull, reply};

/// A subscription, between two of its frames.
struct Subscription {
    broker: Arc<Broker>,
    request: Subscribe,
    credit: Arc<Credit>,
    /// All before is delivered or ruled out …
    next: QueueOffset,
    /// … and all before this the consumer knows to be.
    told: QueueOffset,
    /// The filter is not asked again before so long.
    stalled: Option<Duration>,
    is_checked: bool,
}

enum Step {
    More(Outgoing),
    Last(Outgoing),
}

/// Answers one frame, for as long as there is credit.
pub(crate) fn subscribe(broker: &Arc<Broker>, frame: &Frame, credit: Arc<Credit>) -> Answers {
    let error = match Request::decode(frame) {
        Ok(Request::Subscribe(request)) => return deliver(broker, request, credit),
        Ok(other) => {
            let text = format!("{} is answered by one frame", other.kind().name());
            WireError::new(Code::PROTOCOL, text)
        }
        Err(error) => error,
    };
    let refused = Outgoing::error(frame.kind, &error);
    Box::pin(stream::once(async { refused }))
}

fn deliver(broker: &Arc<Broker>, request: Subscribe, credit: Arc<Credit>) -> Answers {
    credit.grant(request.messages, request.bytes);
    let subscription = Subscription {
        broker: Arc::clone(broker),
        credit,
        next: request.from,
        told: request.from,
        stalled: None,
        is_checked: false,
        request,
    };
    let answers = stream::unfold(Some(subscription), |subscription| async {
        let mut subscription = subscription?;
        Some(match subscription.step().await {
            Ok(Step::More(delivery)) => (delivery.more(), Some(subscription)),
            Ok(Step::Last(delivery)) => (delivery, None),
            Err(error) => (Outgoing::error(Kind::Subscribe as u16, &error), None),
        })
    });
    Box::pin(answers)
}

impl Subscription {
    async fn step(&mut self) -> Result<Step, WireError> {
        let broker = Arc::clone(&self.broker);
        if !self.is_checked {
            self.check().await?;
        }
        if let Some(pause) = self.stalled.take() {
            sleep(pause).await;
        }
        loop {
            let topic = self.topic()?;
            // Registered before looking, or a message between look and wait would be missed.
            let waiter = broker.waits.enter(topic.id, self.request.queue);
            let mut bell = pin!(waiter.bell());
            bell.as_mut().enable();
            if broker.is_draining() {
                return self
                    .say(&topic, Scanned::nothing(self.next), false)
                    .map(Step::Last);
            }
            self.is_allowed(&topic)?;
            let (min, max) = broker.store.range(topic.id, self.request.queue);
            if !(min..=max).contains(&self.next) {
                let next = self.next.clamp(min, max);
                return self
                    .say(&topic, Scanned::nothing(next), true)
                    .map(Step::More);
            }
            let Some(credit) = self.credit.left() else {
                self.credit.some().await;
                continue;
            };
            if self.next < max {
                // Most of the time there is none under way, and its future is large.
                let scanned: Pin<Box<dyn Future<Output = _> + Send>> =
                    Box::pin(self.look(&topic, credit));
                let scanned = scanned.await?;
                if !scanned.records.is_empty() || scanned.stalled.is_some() {
                    return self.say(&topic, scanned, false).map(Step::More);
                }
                let advanced = scanned.next > self.next;
                self.next = scanned.next;
                if advanced {
                    continue;
                }
            }
            let is_untold = self.next > self.told;
            tokio::select! {
                () = bell => {}
                // What the filter leaves out is to be committed, too.
                () = sleep(limits::TELL_PROGRESS), if is_untold => {
                    return self.say(&topic, Scanned::nothing(self.next), false).map(Step::More);
                }
            }
        }
    }

    /// What is wrong with it is told at once, not when the first message comes.
    async fn check(&mut self) -> Result<(), WireError> {
        self.is_checked = true;
        if self.request.epoch.is_some() && self.request.group.is_none() {
            let text = "a subscription that names a lease names the group that has it";
            return Err(reply::bad_request(text));
        }
        if let Some(beyond) = self.request.filter.beyond_limits() {
            return Err(reply::bad_request(beyond));
        }
        if self.broker.is_draining() {
            return Err(reply::going_away());
        }
        let topic = self.topic()?;
        self.is_allowed(&topic)?;
        let (request, group) = (&self.request, self.request.group.as_ref());
        let view = self
            .broker
            .view(&request.filter, group, (&topic, request.queue));
        filters::judge(&self.broker, &view, group).await?;
        Ok(())
    }

    fn topic(&self) -> Result<Arc<Topic>, WireError> {
        let (broker, queue) = (&self.broker, self.request.queue);
        let topic = broker.topic(&self.request.topic)?;
        reply::topic_is_open(broker, &topic, "read", Permission::can_read)?;
        reply::queue_exists(&topic, queue, topic.has_read_queue(queue))?;
        Ok(topic)
    }

    /// Whether the group consumes, and has the queue by this lease.
    fn is_allowed(&self, topic: &Topic) -> Result<(), WireError> {
        let Some(group) = &self.request.group else {
            return Ok(());
        };
        group_settings::is_open(&self.broker, group)?;
        group_settings::may_have(&self.broker, group, &topic.name)?;
        let Some(epoch) = self.request.epoch else {
            // Nobody's lease: all queues are read by every consumer of the group.
            return group_settings::may_broadcast(&self.broker, group);
        };
        let queue = self.request.queue;
        let leases = &self.broker.state.leases;
        match leases.is_valid(group, topic.id, Lease { queue, epoch }) {
            true => Ok(()),
            false => Err(WireError::new(
                Code::FENCED,
                format!(
                    "queue {queue} of topic \"{}\" is not this member's of group \"{group}\" any more",
                    topic.name
                ),
            )),
        }
    }

    async fn look(
        &self,
        topic: &Arc<Topic>,
        (messages, bytes): (usize, usize),
    ) -> Result<Scanned, WireError> {
        let (request, group) = (&self.request, self.request.group.as_ref());
        let view = self
            .broker
            .view(&request.filter, group, (topic, request.queue));
        let chain = filters::judge(&self.broker, &view, group).await?;
        let scan = Scan {
            view,
            reader: request.group.clone(),
            topic: Arc::clone(topic),
            from: self.next,
            max_messages: messages.min(wire::PULL_MESSAGES as usize),
            max_bytes: bytes.min(limits::DELIVERY_BYTES),
        };
        look(&self.broker, &scan, chain).await
    }

    fn say(&mut self, topic: &Topic, scanned: Scanned, moved: bool) -> Result<Outgoing, WireError> {
        let bytes = scanned.records.iter().map(bytes::Bytes::len).sum();
        self.credit.spend(scanned.records.len(), bytes);
        (self.next, self.told) = (scanned.next, scanned.next);
        let place = (topic.id, self.request.queue);
        let (delivery, stalled) = pull::answer::<Subscribe>(&self.broker, place, scanned, moved)?;
        self.stalled = stalled;
        Ok(delivery)
    }
}
