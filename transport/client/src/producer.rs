//! Producing. One task per producer owns what is under way: it gathers messages into frames, gives
//! each frame a queue in turn, and hands every answer back.
//!
//! A message goes out at once while few frames of its topic are unanswered, or none if a time to linger was
//! set. Otherwise messages collect until an answer comes, 256 of them or 64 KiB are there, or that time is over. A frame's messages
//! share a queue, and frames take the write queues in turn: alone, messages are spread one by one;
//! under load, batch by batch.
//!
//! A message with an order key, and any message of a producer with a selector, leaves its queue open:
//! a plugin on the broker chooses it. Such frames of a topic go one at a time, so that messages keep
//! their order.
//!
//! Messages for later go by their times: those of one delay, or one moment, share frames, and those take
//! the queues in turn; no selector is asked.
//!
//! Frames for a queue carry numbers, so that one whose answer was lost can be sent again and is stored
//! once: `docs/decisions/0009-producers-number-by-themselves.md`.

mod job;
mod numbered;
mod numbers;
mod selected;
mod sent;
mod task;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use quern_protocol::{Code, Compression, Durability, GroupName, Message, Selector};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use self::job::{Answer, Job, Room};
use self::selected::Sender;
pub use self::sent::SendResult;
use self::task::{Destination, Task};
use crate::client::{self, Client};
use crate::error::{Error, Result};
use crate::tracer::{TracedSending, Tracer};
use crate::{limits, message_id};

/// Settings of a [`Producer`].
///
/// ```
/// # quernstone::testing::run(async |client| {
/// use std::time::Duration;
/// use quern_client::{Durability, Message};
///
/// let producer = client
///     .producer("shop")
///     .durability(Durability::Fast) // do not wait for the disk
///     .linger(Duration::from_millis(5))
///     .send_timeout(Duration::from_secs(10)) // outlasts a restart of the broker
///     .start()
///     .await?;
/// producer.send(Message::new("clicks", "one")).await?;
/// producer.flush().await;
/// # Ok(())
/// # });
/// ```
#[derive(Debug, Clone)]
pub struct ProducerBuilder {
    client: Client,
    group: String,
    linger: Option<Duration>,
    compression: Option<Compression>,
    compress_above: usize,
    in_flight: (usize, usize),
    selector: Option<Selector>,
    zone: String,
    durability: Option<Durability>,
    is_idempotent: bool,
    send_timeout: Option<Duration>,
}

impl ProducerBuilder {
    pub(crate) fn new(client: Client, group: &str) -> Self {
        Self {
            client,
            group: group.to_owned(),
            linger: None,
            compression: None,
            compress_above: limits::COMPRESS_ABOVE,
            in_flight: (limits::IN_FLIGHT, limits::IN_FLIGHT_BYTES),
            selector: None,
            zone: String::new(),
            durability: None,
            is_idempotent: true,
            send_timeout: None,
        }
    }

    /// Whether a send whose answer is lost is sent again, and recognised by the broker if it is stored
    /// already. Without, such a send ends at once with [`crate::ErrorKind::Unknown`]. A queue that a selector
    /// chooses is asked for first, and then the message is sent there; without, both are one request. Default: yes.
    #[must_use]
    pub fn idempotent(mut self, is_idempotent: bool) -> Self {
        self.is_idempotent = is_idempotent;
        self
    }

    /// How long a send may take with all its attempts: what is to outlast the restart of a broker
    /// needs more than that takes. Default: the client's request time-out.
    #[must_use]
    pub fn send_timeout(mut self, within: Duration) -> Self {
        self.send_timeout = Some(within);
        self
    }

    /// Who on the broker chooses the queue of each message. Default: nobody, the producer takes the
    /// queues in turn; for messages with an order key, `hash`.
    #[must_use]
    pub fn select(mut self, selector: Selector) -> Self {
        self.selector = Some(selector);
        self
    }

    /// Where this producer stands, for selectors that care. Default: nobody knows.
    #[must_use]
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = zone.into();
        self
    }

    /// How safe a message is when its send is answered. A class the broker cannot give is refused with
    /// `Q-3008`. Default: as the topic says, and if it does not, the broker.
    #[must_use]
    pub fn durability(mut self, class: Durability) -> Self {
        self.durability = Some(class);
        self
    }

    /// Longest a message waits for company while others are unanswered. Default: none waits while fewer than four
    /// frames of its topic are unanswered, then 1 ms.
    #[must_use]
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = Some(linger);
        self
    }

    /// Compresses bodies, where that makes them smaller. They stay so in the log and on the way; consumers and filters
    /// see them as they were. Default: no.
    #[must_use]
    pub fn compress(mut self, with: Compression) -> Self {
        self.compression = Some(with);
        self
    }

    /// Smaller bodies go as they are (RocketMQ's `compressMsgBodyOverHowmuch`). Default: 1,024 bytes.
    #[must_use]
    pub fn compress_above(mut self, bytes: usize) -> Self {
        self.compress_above = bytes;
        self
    }

    /// So many messages and bytes may be unanswered; beyond, `send` waits when first polled (RocketMQ's
    /// `backPressureForAsyncSendNum` and `backPressureForAsyncSendSize`). At least one message may be, whatever its
    /// size. Default: 65,536 and 32 MiB.
    #[must_use]
    pub fn in_flight(mut self, messages: usize, bytes: usize) -> Self {
        self.in_flight = (messages, bytes);
        self
    }

    /// Starts the producer.
    pub async fn start(self) -> Result<Producer> {
        let group = client::group(&self.group)?;
        let tracer = self.client.0.tracer.clone();
        let sender = Sender {
            group: Some(group.clone()),
            zone: self.zone,
            durability: self.durability,
        };
        let (jobs, incoming) = mpsc::channel(limits::HANDED_OVER);
        let numbers = self.is_idempotent.then(Arc::default);
        let task = Task::new(self.client.clone(), self.linger, sender, numbers);
        tokio::spawn(task.run(incoming));
        Ok(Producer {
            client: self.client.clone(),
            jobs,
            tracer,
            group,
            room: Room::new(self.in_flight),
            compression: self.compression,
            compress_above: self.compress_above,
            lost: Arc::default(),
            within: self.send_timeout.unwrap_or(self.client.0.within),
            selector: self.selector.map(Arc::new),
            by_key: Arc::new(Selector::named("hash")),
        })
    }
}

/// Sends messages. Cheap to clone; clones share what is under way.
#[derive(Debug, Clone)]
pub struct Producer {
    client: Client,
    jobs: mpsc::Sender<Job>,
    tracer: Option<Arc<Tracer>>,
    group: GroupName,
    room: Room,
    compression: Option<Compression>,
    compress_above: usize,
    /// Messages nobody waited for that were not stored.
    lost: Arc<AtomicU64>,
    within: Duration,
    selector: Option<Arc<Selector>>,
    /// Chooses for messages with an order key if nobody else does.
    by_key: Arc<Selector>,
}

fn stopped() -> Error {
    Error::new(Code::INTERNAL, "the producer's task has stopped")
}

impl Producer {
    /// Sends a message. It is under way when this returns, in the order of the calls, unless too
    /// much is ([`ProducerBuilder::in_flight`]): then it waits its turn when first polled. The future
    /// resolves when the message is as durable as was asked for, or has waited too long for that: see
    /// [`SendResult::status`]. Dropped, the message is still sent.
    ///
    /// ```
    /// # quernstone::testing::run(async |client| {
    /// use quern_client::Message;
    ///
    /// let producer = client.producer("shop").start().await?;
    /// let one = Message::new("orders", r#"{"sku":"A7"}"#).tag("paid").key("order-42");
    /// let sent = producer.send(one).await?; // on the broker's disk
    /// println!("{} is at {} of {:?}", sent.message_id(), sent.offset().0, sent.queue());
    ///
    /// // Many at once share frames and syncs. Messages with one order key stay in order.
    /// let many: Vec<_> = (0..100)
    ///     .map(|i| producer.send(Message::new("orders", i.to_string()).order_by("customer-7")))
    ///     .collect();
    /// for sending in many {
    ///     sending.await?;
    /// }
    /// # Ok(())
    /// # });
    /// ```
    pub fn send(&self, message: Message) -> Sending {
        let (answer, answered) = oneshot::channel();
        let job = match self.prepare(message, Answer::To(answer)) {
            Ok(job) => job,
            Err(error) => return Sending(Stage::Refused(Some(error))),
        };
        // Straight to the task if both queues have room; else in turn.
        match self.try_hand_over(job) {
            None => Sending(Stage::UnderWay(answered)),
            Some(job) => {
                let producer = self.clone();
                let turn = Box::pin(async move {
                    producer.hand_over(job).await?;
                    answered.await.unwrap_or_else(|_| Err(stopped()))
                });
                Sending(Stage::Waiting(turn))
            }
        }
    }

    fn traced(&self) -> Option<TracedSending> {
        Some(TracedSending {
            tracer: self.tracer.clone()?,
            group: self.group.clone(),
            begun: Instant::now(),
        })
    }

    /// Gives the job back when there is no room.
    fn try_hand_over(&self, mut job: Job) -> Option<Job> {
        let room = Arc::clone(&self.room.bytes);
        match room.try_acquire_many_owned(self.room.cost(&job)) {
            Ok(room) => job.room = Some(room),
            Err(_) => return Some(job),
        }
        let refused = self.jobs.try_send(job).err()?;
        Some(match refused {
            mpsc::error::TrySendError::Full(mut job)
            | mpsc::error::TrySendError::Closed(mut job) => {
                job.room = None;
                job
            }
        })
    }

    async fn hand_over(&self, mut job: Job) -> Result<()> {
        let room = Arc::clone(&self.room.bytes);
        let room = room.acquire_many_owned(self.room.cost(&job));
        job.room = Some(room.await.map_err(|_| stopped())?);
        self.jobs.send(job).await.map_err(|_| stopped())
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Waits until everything sent so far has its answer.
    pub async fn flush(&self) {
        let _everything = self.room.bytes.acquire_many(self.room.all).await;
    }

    /// Sends a message whose fate nobody waits for (RocketMQ's `sendOneway`): metrics, say. This resolves once it is
    /// on its way; it waits only while too much is. Unlike with RocketMQ it is sent again like any other while its
    /// time lasts; what is not stored then is logged, and counted in [`Self::lost`].
    pub async fn send_one_way(&self, message: Message) -> Result<()> {
        let answer = Answer::Counted(Arc::clone(&self.lost));
        self.hand_over(self.prepare(message, answer)?).await
    }

    /// Messages sent one way that were not stored, or of which that is not known.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn prepare(&self, message: Message, answer: Answer) -> Result<Job> {
        let later = message.later().cloned();
        let selector = match &self.selector {
            _ if later.is_some() || message.has_priority().is_some() => None,
            Some(selector) => Some(Arc::clone(selector)),
            None => message.is_ordered().then(|| Arc::clone(&self.by_key)),
        };
        let destination = Destination {
            topic: message.topic()?,
            selector,
            later,
            priority: message.has_priority(),
        };
        let id = message_id::next();
        let is_worth_it = message.body().len() >= self.compress_above;
        let compression = self.compression.filter(|_| is_worth_it);
        let block = message.encode_with(&id, now_ms(), compression)?;
        Ok(Job {
            destination,
            id,
            block,
            deadline: Instant::now() + self.within,
            attempts: 0,
            answer,
            traced: self.traced(),
            room: None,
        })
    }
}

/// By this machine's clock, ms since 1970.
pub(crate) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |since| since.as_millis() as u64)
}

/// A message on its way; see [`Producer::send`].
#[must_use = "the outcome is known when this resolves"]
pub struct Sending(Stage);

type Turn = Pin<Box<dyn Future<Output = Result<SendResult>> + std::marker::Send>>;

enum Stage {
    Refused(Option<Error>),
    UnderWay(oneshot::Receiver<Result<SendResult>>),
    Waiting(Turn),
}

impl Future for Sending {
    type Output = Result<SendResult>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Stage::Refused(error) => Poll::Ready(Err(error.take().unwrap_or_else(stopped))),
            Stage::UnderWay(answered) => {
                let answer = ready!(Pin::new(answered).poll(context));
                Poll::Ready(answer.unwrap_or_else(|_| Err(stopped())))
            }
            Stage::Waiting(turn) => turn.as_mut().poll(context),
        }
    }
}
