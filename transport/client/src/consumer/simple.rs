//! The simple consumer: takes messages of a group wherever there are some (pop), and says of each when it is
//! consumed. Nothing is owned, so any number of them share a queue; a message that is not acknowledged in
//! time is given to another.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use quern_protocol::record::records;
use quern_protocol::{
    AckPopped, BrokerName, Code, Filter, GroupName, HidePopped, Pop, PopReply, Receipt,
    RecordHeader, TopicName,
};
use quern_quic::{Backoff, CallError, Connection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::{self, Client};
use crate::consumer::MessageView;
use crate::error::{Error, Result};
use crate::limits;
use crate::routes::MessageQueue;
use crate::tracer::{HandOut, Receiver};

/// Settings of a [`SimpleConsumer`].
#[derive(Debug, Clone)]
#[must_use = "it does nothing before it is started"]
pub struct SimpleConsumerBuilder {
    client: Client,
    group: String,
    subscriptions: Vec<(String, Filter)>,
    invisible: Duration,
    batch: u32,
    in_order: bool,
    from_first: bool,
}

impl SimpleConsumerBuilder {
    pub(crate) fn new(client: Client, group: &str) -> Self {
        Self {
            client,
            group: group.to_owned(),
            subscriptions: Vec::new(),
            invisible: Duration::from_secs(30),
            batch: 32,
            in_order: false,
            from_first: true,
        }
    }

    /// Takes messages of this topic; may be called for several.
    pub fn subscribe(mut self, topic: &str, filter: Filter) -> Self {
        self.subscriptions.push((topic.to_owned(), filter));
        self
    }

    /// So long a message is hidden from the rest of the group, 10 ms to 12 h; see
    /// [`Delivery::extend`]. Default: 30 s.
    pub fn invisible(mut self, time: Duration) -> Self {
        self.invisible = time;
        self
    }

    /// At most so many at once, 1 to 256. Default: 32.
    pub fn batch(mut self, messages: u32) -> Self {
        self.batch = messages;
        self
    }

    /// Nothing of a queue is given to anybody of the group while something of it is not acknowledged, so
    /// messages are consumed in order. The same for all consumers of the group. Default: no.
    pub fn in_order(mut self) -> Self {
        self.in_order = true;
        self
    }

    /// A group that has consumed nothing of a queue begins at its end. Default: at its first message.
    pub fn from_last(mut self) -> Self {
        self.from_first = false;
        self
    }

    /// Starts the consumer. The brokers are those that have the topics now and later.
    pub async fn start(self) -> Result<SimpleConsumer> {
        if self.subscriptions.is_empty() {
            let why = "a consumer subscribes to a topic at least";
            return Err(Error::new(Code::BAD_CONFIG, why));
        }
        let mut pops = Vec::with_capacity(self.subscriptions.len());
        for (topic, filter) in self.subscriptions {
            let pop = Pop {
                group: client::group(&self.group)?,
                topic: TopicName::new(&topic)?,
                queue: None,
                max_messages: self.batch,
                max_bytes: limits::PULL_BYTES,
                invisible_ms: u32::try_from(self.invisible.as_millis()).unwrap_or(u32::MAX),
                wait_ms: limits::POLL.as_millis() as u32,
                in_order: self.in_order,
                from_first: self.from_first,
                filter,
                attempt: None,
            };
            // Told at once, not by the first message.
            self.client.0.routes.of(&pop.topic, false).await?;
            pops.push(pop);
        }
        let (batches, taken) = mpsc::channel(limits::TAKEN);
        let mut tasks = JoinSet::new();
        for pop in pops {
            let taker = Taker {
                client: self.client.clone(),
                pop,
                batches: batches.clone(),
            };
            tasks.spawn(taker.run());
        }
        Ok(SimpleConsumer {
            taken,
            ready: Vec::new(),
            _tasks: tasks,
        })
    }
}

/// Takes messages; see the module. Dropped, it takes no more; what it has not acknowledged comes again.
///
/// ```
/// # quernstone::testing::run(async |client| {
/// use std::time::Duration;
/// use quern_client::{Filter, Message};
///
/// client.producer("shop").start().await?.send(Message::new("orders", "A7")).await?;
///
/// let mut consumer = client
///     .simple_consumer("billing")
///     .subscribe("orders", Filter::All)
///     .invisible(Duration::from_secs(60)) // to the others, while this one works on it
///     .start()
///     .await?;
/// let mut delivery = consumer.receive().await?;
/// delivery.extend(Duration::from_secs(120)).await?; // the work takes longer
/// delivery.ack().await?; // or nack(after)
/// # Ok(())
/// # });
/// ```
#[derive(Debug)]
pub struct SimpleConsumer {
    taken: mpsc::Receiver<Taken>,
    /// The last taken first.
    ready: Vec<Delivery>,
    _tasks: JoinSet<()>,
}

impl SimpleConsumer {
    /// The next message, waiting for one. An error is of one broker or topic; the others go on.
    pub async fn receive(&mut self) -> Result<Delivery> {
        loop {
            while let Some(delivery) = self.ready.pop() {
                // One that lay here for too long is somebody else's by now.
                if delivery.until > Instant::now() {
                    return Ok(delivery.handed_out());
                }
            }
            let taken = self.taken.recv().await;
            let stopped = || Error::new(Code::INTERNAL, "the consumer's tasks have stopped");
            self.ready = taken.ok_or_else(stopped)?.batch?;
            self.ready.reverse();
        }
    }

    /// All messages, one after the other.
    pub fn stream(&mut self) -> impl Stream<Item = Result<Delivery>> {
        futures_util::stream::unfold(self, |this| async {
            let next = this.receive().await;
            Some((next, this))
        })
    }
}

/// A message that was given to this consumer for a while.
#[derive(Debug, Clone)]
pub struct Delivery {
    client: Client,
    group: GroupName,
    message: MessageView,
    receipt: Receipt,
    attempts: u16,
    until: Instant,
    traced: Option<Arc<HandOut>>,
}

impl Delivery {
    /// The application gets it.
    fn handed_out(mut self) -> Self {
        let to = Receiver {
            client: &self.client,
            group: &self.group,
            id: self.client.id(),
        };
        self.traced = HandOut::begin(to, &self.message, self.attempts).map(Arc::new);
        self
    }

    fn end(&self, is_consumed: bool) {
        if let Some(traced) = &self.traced {
            traced.end(is_consumed);
        }
    }

    /// The message.
    pub fn message(&self) -> &MessageView {
        &self.message
    }

    /// How often it was given to somebody before.
    pub fn attempts(&self) -> u16 {
        self.attempts
    }

    /// It is consumed, and never given again; durable when this returns. `Q-3003` when its time was over
    /// and somebody else was given it.
    pub async fn ack(self) -> Result<()> {
        self.tell(None).await?;
        self.end(true);
        Ok(())
    }

    /// It is given again after so long, to anybody of the group.
    pub async fn nack(self, delay: Duration) -> Result<()> {
        self.tell(Some(delay)).await?;
        self.end(false);
        Ok(())
    }

    /// The work takes longer: it stays hidden for so long from now on.
    pub async fn extend(&mut self, time: Duration) -> Result<()> {
        let asked = Instant::now();
        self.tell(Some(time)).await?;
        self.until = asked + time;
        Ok(())
    }

    /// Says once that it is consumed, or is to be hidden for so long from now on. Returns what is of no
    /// worth any more.
    async fn say(&self, hide: Option<Duration>) -> Result<Vec<Receipt>> {
        let queue = self.message.queue();
        let broker = self.client.0.routes.broker(queue).await?;
        let (group, topic) = (self.group.clone(), queue.topic.clone());
        let receipts = vec![self.receipt];
        Ok(match hide {
            None => {
                let request = AckPopped {
                    group,
                    topic,
                    receipts,
                };
                self.client.call(&broker.address, &request).await?.stale
            }
            Some(time) => {
                let request = HidePopped {
                    group,
                    topic,
                    receipts,
                    invisible_ms: u32::try_from(time.as_millis()).unwrap_or(u32::MAX),
                };
                self.client.call(&broker.address, &request).await?.stale
            }
        })
    }

    /// Says it until it is heard, or its time is over.
    async fn tell(&self, hide: Option<Duration>) -> Result<()> {
        let until = Instant::now() + self.client.0.within;
        let (mut pause, mut is_again) = (limits::AGAIN / 10, false);
        let queue = self.message.queue();
        loop {
            let error = match self.say(hide).await {
                // The answer to the first time was lost.
                Ok(stale) if stale.is_empty() || is_again => return Ok(()),
                Ok(_) => {
                    let why = format!(
                        "message {} of queue {} was not acknowledged in time: it is somebody else's",
                        self.receipt.offset, queue.queue
                    );
                    return Err(Error::new(Code::FENCED, why));
                }
                Err(error) => error,
            };
            let is_lost = error.is_retryable() || error.is_worth_another_route();
            if !is_lost || Instant::now() + pause >= until {
                return Err(error);
            }
            is_again = true;
            self.client.0.routes.doubt(&queue.topic);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(limits::AGAIN);
        }
    }
}

/// Messages of one broker. It is asked for more when the application has these.
#[derive(Debug)]
struct Taken {
    batch: Result<Vec<Delivery>>,
    _room: OwnedSemaphorePermit,
}

/// Under which number messages are asked for.
struct Attempt {
    number: u64,
    /// A broker of an earlier release, which knows no attempts. Behind another connection may be a later one.
    is_unknown_over: Option<Connection>,
}

impl Attempt {
    fn new() -> Self {
        Self {
            number: fastrand::u64(..),
            is_unknown_over: None,
        }
    }

    fn over(&self, connection: &Connection) -> Option<u64> {
        let unknown = self.is_unknown_over.as_ref();
        let is_known = !unknown.is_some_and(|it| it.is(connection));
        is_known.then_some(self.number)
    }
}

/// Takes messages of one topic from the brokers that have it.
struct Taker {
    client: Client,
    pop: Pop,
    batches: mpsc::Sender<Taken>,
}

impl Taker {
    async fn run(self) {
        let this = Arc::new(self);
        let mut brokers: Vec<BrokerName> = Vec::new();
        let mut tasks = JoinSet::new();
        loop {
            // One that is over has lost its broker, or the consumer is gone.
            while let Some(ended) = tasks.try_join_next() {
                let ended: BrokerName = match ended {
                    Ok(name) => name,
                    Err(_) => continue,
                };
                brokers.retain(|it| *it != ended);
            }
            let route = this.client.0.routes.of(&this.pop.topic, false).await;
            for broker in route.iter().flat_map(|it| it.iter()) {
                if !brokers.contains(&broker.broker) {
                    brokers.push(broker.broker.clone());
                    tasks.spawn(Arc::clone(&this).of_broker(broker.broker.clone()));
                }
            }
            if this.batches.is_closed() {
                return;
            }
            tokio::time::sleep(limits::RENEW).await;
        }
    }

    /// Takes from one broker while it has the topic.
    async fn of_broker(self: Arc<Self>, broker: BrokerName) -> BrokerName {
        let (mut backoff, mut attempt) = (Backoff::new(), Attempt::new());
        let room = Arc::new(Semaphore::new(1));
        // What waits here is hidden from the others, so it is no more than one batch.
        while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
            tokio::time::sleep(backoff.next(fastrand::f64())).await;
            let batch = match self.take(&broker, &mut attempt).await {
                Ok(None) => return broker,
                Ok(Some(taken)) => {
                    backoff = Backoff::new();
                    attempt.number = fastrand::u64(..);
                    if taken.is_empty() {
                        continue;
                    }
                    Ok(taken)
                }
                Err(error) if error.is_retryable() || error.is_worth_another_route() => {
                    tracing::debug!(%error, %broker, "nothing is taken; trying again");
                    self.client.0.routes.doubt(&self.pop.topic);
                    continue;
                }
                Err(error) => Err(error),
            };
            let taken = Taken {
                batch,
                _room: permit,
            };
            if self.batches.send(taken).await.is_err() {
                return broker;
            }
        }
        broker
    }

    /// `None` = it does not have the topic any more. What an answer brought that was lost, the next under the same
    /// number of an attempt brings.
    async fn take(
        &self,
        broker: &BrokerName,
        attempt: &mut Attempt,
    ) -> Result<Option<Vec<Delivery>>> {
        let route = self.client.0.routes.of(&self.pop.topic, false).await?;
        let Some(route) = route.iter().find(|it| it.broker == *broker).cloned() else {
            return Ok(None);
        };
        let live = self.client.live(&route).await?;
        let within = limits::POLL + self.client.0.within.max(limits::POLL_SLACK);
        let mut pop = Pop {
            attempt: attempt.over(&live.connection),
            ..self.pop.clone()
        };
        let mut answer = live.polls.call(&pop, Vec::new(), within).await;
        if let (Err(CallError::Remote(error)), Some(_)) = (&answer, pop.attempt)
            && error.is(Code::UNSUPPORTED)
        {
            attempt.is_unknown_over = Some(live.connection.clone());
            pop.attempt = None;
            answer = live.polls.call(&pop, Vec::new(), within).await;
        }
        let (reply, body) = answer?;
        if let (Some(stall), true) = (&reply.stall, reply.messages.is_empty()) {
            let why = format!("{} at offset {}", stall.message, stall.offset);
            let code = Code::find(stall.code).copied().unwrap_or(Code::INTERNAL);
            tokio::time::sleep(Duration::from_millis(stall.retry_ms.into())).await;
            return Err(Error::new(code, why));
        }
        self.unpack(broker, reply, &body).map(Some)
    }

    fn unpack(&self, broker: &BrokerName, reply: PopReply, body: &Bytes) -> Result<Vec<Delivery>> {
        let until = Instant::now() + Duration::from_millis(self.pop.invisible_ms.into());
        let mut messages = reply.messages.into_iter();
        let mut deliveries = Vec::with_capacity(messages.len());
        for record in records(body) {
            let bad = |error: quern_protocol::record::RecordError| {
                Error::new(Code::BAD_CHECKSUM, error.to_string())
            };
            let record = record.map_err(bad)?;
            let header = RecordHeader::decode(&record).map_err(bad)?;
            let short = || Error::new(Code::PROTOCOL, "a broker gave a message without a receipt");
            let popped = messages.next().ok_or_else(short)?;
            let queue = MessageQueue {
                topic: self.pop.topic.clone(),
                broker: broker.clone(),
                queue: popped.receipt.queue,
            };
            deliveries.push(Delivery {
                client: self.client.clone(),
                group: self.pop.group.clone(),
                message: MessageView::new(queue, header, record)?,
                receipt: popped.receipt,
                attempts: popped.attempts,
                until,
                traced: None,
            });
        }
        Ok(deliveries)
    }
}
