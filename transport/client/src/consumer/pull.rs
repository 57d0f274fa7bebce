//! Pulling: the application says which queue, from where, and how long to wait.

use std::time::Duration;

use bytes::Bytes;
use quern_protocol::record::{RecordError, records};
use quern_protocol::{
    Code, CommitOffsets, Filter, GroupName, OffsetAt, OffsetRange, Pull, PullReply, QueryOffsets,
    QueueId, QueueOffset, QueuePosition, RecordHeader, Stall, Subscribe, TopicName,
};
use quern_quic::Subscription;

use crate::client::{self, Client};
use crate::consumer::MessageView;
use crate::error::{Error, Result};
use crate::limits;
use crate::routes::MessageQueue;

/// How to pull.
#[derive(Debug, Clone)]
pub struct PullOptions {
    /// Which messages. Default: all.
    pub filter: Filter,
    /// At most this many, 1 to 4,096. Default: 1,024.
    pub max_messages: u32,
    /// At most this many bytes, unless the first message alone is larger. Default: 1 MiB.
    pub max_bytes: u32,
    /// How long to wait for one, at most 30 s. Default: not at all.
    pub wait: Duration,
    /// Whether every consumer of the group takes all queues for itself, which the group may not allow. Default: no.
    pub broadcast: bool,
}

impl Default for PullOptions {
    fn default() -> Self {
        Self {
            filter: Filter::All,
            max_messages: limits::PULL_MESSAGES,
            max_bytes: limits::PULL_BYTES,
            wait: Duration::ZERO,
            broadcast: false,
        }
    }
}

/// What a pull brought.
#[derive(Debug, Clone)]
pub struct PullResult {
    /// In order.
    pub messages: Vec<MessageView>,
    /// Where to go on.
    pub next: QueueOffset,
    /// The queue's first message still there.
    pub min: QueueOffset,
    /// The queue's end.
    pub max: QueueOffset,
    /// The offset asked for lay outside the queue.
    pub moved: bool,
    /// The filter fails on a message, and delivery waits.
    pub stall: Option<Stall>,
}

/// Reads queues at offsets of the application's own.
///
/// ```
/// # quernstone::testing::run(async |client| {
/// use std::time::Duration;
/// use quern_client::{Message, PullOptions};
///
/// client.producer("shop").start().await?.send(Message::new("orders", "A7")).await?;
///
/// let consumer = client.pull_consumer();
/// let wait = PullOptions { wait: Duration::from_secs(1), ..PullOptions::default() };
/// let mut read = 0;
/// for queue in consumer.queues("orders").await? {
///     let (first, end) = consumer.offset_range(&queue).await?;
///     if first < end {
///         let pulled = consumer.pull(&queue, first, &wait).await?;
///         read += pulled.messages.len();
///         // Where a group goes on, if one shall: durable when this returns.
///         consumer.commit("audit", "orders", &[(queue, pulled.next)]).await?;
///     }
/// }
/// assert_eq!(read, 1);
/// # Ok(())
/// # });
/// ```
#[derive(Debug, Clone)]
pub struct PullConsumer(Client);

impl PullConsumer {
    pub(crate) fn new(client: Client) -> Self {
        Self(client)
    }

    /// The queues of a topic, by broker and number.
    pub async fn queues(&self, topic: &str) -> Result<Vec<MessageQueue>> {
        let topic = TopicName::new(topic)?;
        let route = self.0.0.routes.of(&topic, false).await?;
        let of_broker = |broker: &quern_protocol::BrokerRoute| {
            let name = broker.broker.clone();
            let topic = topic.clone();
            (0..broker.read_queues).map(move |queue| MessageQueue {
                topic: topic.clone(),
                broker: name.clone(),
                queue: QueueId(queue),
            })
        };
        Ok(route.iter().flat_map(of_broker).collect())
    }

    /// Reads a queue from an offset on.
    pub async fn pull(
        &self,
        queue: &MessageQueue,
        from: QueueOffset,
        options: &PullOptions,
    ) -> Result<PullResult> {
        self.pull_for(None, queue, from, options).await
    }

    /// The same for a group: a broker lets no group take more than its share of the disk, and does as the
    /// group wants with messages its filter fails on.
    pub async fn pull_for(
        &self,
        group: Option<&GroupName>,
        queue: &MessageQueue,
        from: QueueOffset,
        options: &PullOptions,
    ) -> Result<PullResult> {
        let broker = self.0.0.routes.broker(queue).await?;
        let request = Pull {
            group: group.cloned(),
            topic: queue.topic.clone(),
            queue: queue.queue,
            from,
            max_messages: options.max_messages,
            max_bytes: options.max_bytes,
            wait_ms: options.wait.as_millis().min(u128::from(u32::MAX)) as u32,
            filter: options.filter.clone(),
            broadcast: options.broadcast,
        };
        let live = self.0.live(&broker).await?;
        let within = options.wait + self.0.0.within.max(limits::POLL_SLACK);
        let (reply, body) = live.polls.call(&request, Vec::new(), within).await?;
        unpack(queue, reply, &body)
    }

    /// Has the messages of a queue sent from an offset on.
    pub(crate) async fn subscribe(
        &self,
        queue: &MessageQueue,
        request: &Subscribe,
    ) -> Result<Subscription> {
        let broker = self.0.0.routes.broker(queue).await?;
        self.0.live(&broker).await?.subscribe(request).await
    }

    /// A queue's first message and its end.
    pub async fn offset_range(&self, queue: &MessageQueue) -> Result<(QueueOffset, QueueOffset)> {
        let broker = self.0.0.routes.broker(queue).await?;
        let request = OffsetRange {
            topic: queue.topic.clone(),
            queue: queue.queue,
        };
        let reply = self.0.call(&broker.address, &request).await?;
        Ok((reply.min, reply.max))
    }

    /// The first message stored at or after a time, ms since 1970.
    pub async fn offset_at(&self, queue: &MessageQueue, stored_at: u64) -> Result<QueueOffset> {
        let broker = self.0.0.routes.broker(queue).await?;
        let request = OffsetAt {
            topic: queue.topic.clone(),
            queue: queue.queue,
            stored_at,
        };
        Ok(self.0.call(&broker.address, &request).await?.offset)
    }

    /// What a group has committed of a topic; queues it never did are absent.
    pub async fn committed(
        &self,
        group: &str,
        topic: &str,
    ) -> Result<Vec<(MessageQueue, QueueOffset)>> {
        let request = QueryOffsets {
            group: client::group(group)?,
            topic: TopicName::new(topic)?,
        };
        let route = self.0.0.routes.of(&request.topic, false).await?;
        let mut found = Vec::new();
        for broker in route.iter() {
            let reply = self.0.call(&broker.address, &request).await?;
            found.extend(reply.offsets.into_iter().map(|at| {
                let queue = MessageQueue {
                    topic: request.topic.clone(),
                    broker: broker.broker.clone(),
                    queue: at.queue,
                };
                (queue, at.offset)
            }));
        }
        Ok(found)
    }

    /// Commits where a group goes on in queues of one topic; durable when this returns. Members of the
    /// group that have these queues lose them, and begin again there.
    pub async fn commit(
        &self,
        group: &str,
        topic: &str,
        offsets: &[(MessageQueue, QueueOffset)],
    ) -> Result<()> {
        let group = client::group(group)?;
        let topic = TopicName::new(topic)?;
        let route = self.0.0.routes.of(&topic, false).await?;
        for broker in route.iter() {
            let of_broker = offsets.iter().filter(|(it, _)| it.broker == broker.broker);
            let offsets: Vec<QueuePosition> = of_broker
                .map(|(it, offset)| QueuePosition {
                    queue: it.queue,
                    offset: *offset,
                })
                .collect();
            if offsets.is_empty() {
                continue;
            }
            let request = CommitOffsets {
                group: group.clone(),
                topic: topic.clone(),
                offsets,
                leases: Vec::new(),
            };
            self.0.call(&broker.address, &request).await?;
        }
        Ok(())
    }

    pub(crate) fn doubt_route(&self, topic: &TopicName) {
        self.0.0.routes.doubt(topic);
    }
}

pub(super) fn unpack(queue: &MessageQueue, reply: PullReply, body: &Bytes) -> Result<PullResult> {
    let bad = |error: RecordError| Error::new(Code::BAD_CHECKSUM, error.to_string());
    let mut messages = Vec::with_capacity(reply.messages as usize);
    for record in records(body) {
        let record = record.map_err(bad)?;
        let header = RecordHeader::decode(&record).map_err(bad)?;
        messages.push(MessageView::new(queue.clone(), header, record)?);
    }
    Ok(PullResult {
        messages,
        next: reply.next,
        min: reply.min,
        max: reply.max,
        moved: reply.moved,
        stall: reply.stall,
    })
}
