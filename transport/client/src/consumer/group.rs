//! A consumer of a group: takes its share of the queues of its topics, goes on where the group has
//! committed, and commits what the application has consumed.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quern_protocol::{Filter, QueueOffset, ReconsumeReply, Selector, TopicName};
use quern_quic::Backoff;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::broadcast::Broadcast;
use super::give_back::Giving;
use super::local::LocalOffsets;
use super::membership::{Membership, Presence, Shared};
use super::progress::{Hold, Progress, Threshold};
use super::puller::{Batch, survives};
use super::ready::Waiting;
use crate::client::{self, Client};
use crate::consumer::{MessageView, PullConsumer};
use crate::error::{Error, Result};
use crate::limits;
use crate::producer::now_ms;
use crate::routes::MessageQueue;
use crate::tracer::HandOut;

/// Where a group begins that has committed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// The first message still there.
    First,
    /// Only what comes once the consumer has started.
    Last,
    /// The first message stored at or after this time, ms since 1970.
    Time(u64),
    /// This offset in every queue, or the end that is nearer.
    Offset(u64),
}

/// Settings of a [`Consumer`].
///
/// ```
/// # quernstone::testing::run(async |client| {
/// use quern_client::{Filter, From, Selector};
///
/// # client.admin().create_topic("orders", 4).await?;
/// let mut consumer = client
///     .consumer("billing")
///     .subscribe("orders", Filter::sql("region = 'eu' AND amount > 100"))
///     .from(From::Last) // where the group has committed nothing
///     .allocate(Selector::named("sticky"))
///     .start()
///     .await?;
/// println!("{} has {:?}", consumer.member(), consumer.positions());
/// consumer.shutdown().await?;
/// # Ok(())
/// # });
/// ```
#[derive(Debug, Clone)]
pub struct ConsumerBuilder {
    by_priority: bool,
    client: Client,
    group: String,
    topics: Vec<(String, Filter)>,
    from: From,
    member: Option<String>,
    presence: Presence,
    flow: Flow,
    offsets: Option<PathBuf>,
}

/// How messages are read ahead and worked on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flow {
    pub(super) threshold: Threshold,
    /// A listener that takes longer for a message is not waited for.
    pub(super) consume_timeout: Duration,
    /// A queue whose message was not consumed in order stands still for so long.
    pub(super) suspend: Duration,
    /// Messages are asked for, not sent as they come.
    pub(super) pulls: bool,
}

impl Default for Flow {
    fn default() -> Self {
        Self {
            threshold: Threshold {
                messages: 1_000,
                bytes: 16 * 1024 * 1024,
                span: 2_000,
            },
            consume_timeout: Duration::from_secs(15 * 60),
            suspend: Duration::from_secs(1),
            pulls: false,
        }
    }
}

impl ConsumerBuilder {
    pub(crate) fn new(client: Client, group: &str) -> Self {
        Self {
            by_priority: false,
            client,
            group: group.to_owned(),
            topics: Vec::new(),
            from: From::First,
            member: None,
            presence: Presence {
                zone: String::new(),
                weight: 1,
                strategy: None,
            },
            flow: Flow::default(),
            offsets: None,
        }
    }

    /// Takes all queues, as every consumer does that broadcasts, and keeps its offsets in this file, which is
    /// replaced as a whole and used by one consumer at a time. Nothing is given back: a listener that
    /// does not consume a message is told of in the log, and that is all (RocketMQ's `BROADCASTING`).
    ///
    /// ```
    /// # quernstone::testing::run(async |client| {
    /// # use quern_client::Filter;
    /// # client.admin().create_topic("prices", 4).await?;
    /// # let dir = tempfile::tempdir()?;
    /// let file = dir.path().join("prices.offsets");
    /// let consumer = client
    ///     .consumer("price-caches")
    ///     .subscribe("prices", Filter::All)
    ///     .broadcast(file) // every consumer has every message
    ///     .start()
    ///     .await?;
    /// # consumer.shutdown().await?;
    /// # Ok(())
    /// # });
    /// ```
    #[must_use]
    pub fn broadcast(mut self, offsets: impl Into<PathBuf>) -> Self {
        self.offsets = Some(offsets.into());
        self
    }

    /// Messages of a queue, and bytes, that are read and not consumed: beyond, no more of it are read until half
    /// of them are (RocketMQ's `pullThresholdForQueue` and `pullThresholdSizeForQueue`). Other queues go on.
    /// Default: 1,000 and 16 MiB.
    #[must_use]
    pub fn pull_threshold(mut self, messages: usize, bytes: usize) -> Self {
        self.flow.threshold.messages = messages.max(1);
        self.flow.threshold.bytes = bytes.max(1);
        self
    }

    /// How many offsets may lie between the oldest message of a queue that is not consumed and the newest that
    /// was read: beyond, no more of the queue are read, so that one message that is stuck does not let the
    /// commit fall behind without end (`consumeConcurrentlyMaxSpan`). Default: 2,000.
    #[must_use]
    pub fn max_span(mut self, offsets: u64) -> Self {
        self.flow.threshold.span = offsets.max(1);
        self
    }

    /// A message that [`Consumer::listen`]'s listener works on for so long is given back, and the work dropped
    /// (`consumeTimeout`). Default: 15 min.
    #[must_use]
    pub fn consume_timeout(mut self, time: Duration) -> Self {
        self.flow.consume_timeout = time;
        self
    }

    /// So long a queue stands still whose message [`Consumer::listen_orderly`]'s listener did not consume
    /// (`suspendCurrentQueueTimeMillis`). Default: 1 s.
    #[must_use]
    pub fn suspend_time(mut self, time: Duration) -> Self {
        self.flow.suspend = time;
        self
    }

    /// Asks for messages again and again (long polling), as older releases did, instead of having them sent as they
    /// come. What is delivered is the same; it costs a request for each batch. Brokers that know no subscriptions are
    /// polled by themselves.
    #[must_use]
    pub fn polling(mut self) -> Self {
        self.flow.pulls = true;
        self
    }

    /// Adds a topic, and which of its messages. All members of a group subscribe to the same.
    #[must_use]
    pub fn subscribe(mut self, topic: &str, filter: impl Into<Filter>) -> Self {
        self.topics.push((topic.to_owned(), filter.into()));
        self
    }

    /// Where to begin where the group has committed nothing. Default: the first message.
    #[must_use]
    pub fn from(mut self, from: From) -> Self {
        self.from = from;
        self
    }

    /// Who shares out the queues among the members, a plugin: `averagely`, `averagely-by-circle`,
    /// `by-config`, `by-machine-room`, `machine-room-nearby`, `consistent-hash` or `sticky`. The same in
    /// all members. Default: `averagely`.
    #[must_use]
    pub fn allocate(mut self, strategy: Selector) -> Self {
        self.presence.strategy = Some(strategy);
        self
    }

    /// Where this member stands, for strategies that care. Default: nobody knows.
    #[must_use]
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.presence.zone = zone.into();
        self
    }

    /// Hands out more of what is urgent ([`quern_protocol::Message::priority`]) while there is some, and something of the
    /// rest: twice as much for each level. The order within a queue holds. Not with
    /// [`Consumer::listen_orderly`], which has all queues go on side by side. Default: in the order read.
    #[must_use]
    pub fn by_priority(mut self) -> Self {
        self.by_priority = true;
        self
    }

    /// How much this member can do beside others, for strategies that care. Default: 1.
    #[must_use]
    pub fn weight(mut self, weight: u32) -> Self {
        self.presence.weight = weight;
        self
    }

    /// This member's id, unique in its group. Default: the client's id ([`Client::id`]), with a number
    /// from the client's second consumer of the group on.
    #[must_use]
    pub fn member(mut self, id: impl Into<String>) -> Self {
        self.member = Some(id.into());
        self
    }

    pub(super) fn is_broadcast(&self) -> bool {
        self.offsets.is_some()
    }

    /// Joins the group and begins to take messages. An error when the topics are not there, or other
    /// members want something else (`Q-2008`).
    pub async fn start(self) -> Result<Consumer> {
        let group = client::group(&self.group)?;
        let topics = self.topics.into_iter();
        let topics = topics.map(|(topic, filter)| Ok((TopicName::new(topic)?, filter)));
        let subscriptions = topics.collect::<Result<Vec<_>>>()?;
        let pull = self.client.pull_consumer();
        let local = match self.offsets {
            None => None,
            Some(path) => {
                let opened = tokio::task::spawn_blocking(|| LocalOffsets::open(path));
                Some(opened.await.unwrap_or_else(|_| Err(ended()))?)
            }
        };
        let (batches, received) = mpsc::channel(limits::BATCHES);
        let shared = Arc::new(Shared {
            ends: match self.from {
                From::Last => ends(&pull, &subscriptions).await?,
                _ => HashMap::new(),
            },
            pull,
            member: match self.member {
                Some(member) => member,
                None => self.client.member_id(&group),
            },
            client: self.client,
            group,
            subscriptions,
            from: self.from,
            progress: Progress::default(),
            batches,
            flow: self.flow,
            local,
            shares: watch::Sender::new(None),
            suspended: watch::Sender::new(false),
            listener: Mutex::new(None),
            started_at: now_ms(),
            coordinator: Mutex::default(),
            retries_at: Mutex::default(),
            anew: Notify::new(),
        });
        let (started, start) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let membership = match &shared.local {
            Some(_) => {
                let broadcast = Broadcast {
                    shared: Arc::clone(&shared),
                };
                tokio::spawn(broadcast.run(started, stopped))
            }
            None => {
                let membership = Membership::new(Arc::clone(&shared), self.presence);
                tokio::spawn(membership.run(started, stopped))
            }
        };
        let consumer = Consumer {
            membership,
            stop: Some(stop),
            shared,
            received,
            ready: Waiting::new(self.by_priority),
            at_work: None,
            committed_at: Instant::now(),
        };
        start.await.unwrap_or_else(|_| Err(ended()))?;
        Ok(consumer)
    }
}

async fn ends(
    pull: &PullConsumer,
    subscriptions: &[(TopicName, Filter)],
) -> Result<HashMap<MessageQueue, QueueOffset>> {
    let mut ends = HashMap::new();
    for (topic, _) in subscriptions {
        for queue in pull.queues(topic.as_str()).await? {
            let (_, end) = pull.offset_range(&queue).await?;
            ends.insert(queue, end);
        }
    }
    Ok(ends)
}

fn ended() -> Error {
    Error::new(
        quern_protocol::Code::INTERNAL,
        "the consumer's task has stopped",
    )
}

/// A message, and by which lease it was read.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) message: MessageView,
    pub(super) hold: Hold,
    /// Behind it, and behind what the filter left out after it.
    pub(super) next: QueueOffset,
}

impl Ready {
    /// Whether it may be handed out; it is taken for handed out then.
    pub(super) fn hand(&self, progress: &Progress) -> bool {
        let (queue, offset) = (self.message.queue(), self.message.offset());
        progress.hand(queue, self.hold, offset, self.next)
    }
}

/// A message the application has.
#[derive(Debug)]
struct AtWork {
    queue: MessageQueue,
    offset: QueueOffset,
    traced: Option<HandOut>,
    /// If it is given back.
    giving: Giving,
}

impl AtWork {
    fn is(&self, message: &MessageView) -> bool {
        self.queue == *message.queue() && self.offset == message.offset()
    }

    fn end(&self, is_consumed: bool) {
        if let Some(traced) = &self.traced {
            traced.end(is_consumed);
        }
    }
}

/// Receives the messages of a group, as one of its members. Dropped, it stops without committing, and the
/// group misses it a second later.
#[derive(Debug)]
pub struct Consumer {
    pub(super) shared: Arc<Shared>,
    received: mpsc::Receiver<Result<Batch>>,
    ready: Waiting,
    /// The message the application has.
    at_work: Option<AtWork>,
    pub(super) committed_at: Instant,
    membership: JoinHandle<()>,
    stop: Option<oneshot::Sender<()>>,
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.membership.abort();
    }
}

impl Consumer {
    /// The next message, waiting for one. What was received before counts as consumed and is
    /// committed every 5 s. A queue that goes to another member goes once its last message counts as
    /// consumed. An error is of one queue; the others go on.
    ///
    /// ```
    /// # quernstone::testing::run(async |client| {
    /// use quern_client::{Filter, Message};
    ///
    /// let producer = client.producer("shop").start().await?;
    /// producer.send(Message::new("orders", "A7").tag("paid")).await?;
    ///
    /// let mut consumer = client
    ///     .consumer("billing")
    ///     .subscribe("orders", Filter::tag("paid || refunded"))
    ///     .start()
    ///     .await?;
    /// let message = consumer.recv().await?;
    /// assert_eq!(message.body(), b"A7");
    /// consumer.shutdown().await?; // commits, and gives the queues back
    /// # Ok(())
    /// # });
    /// ```
    pub async fn recv(&mut self) -> Result<MessageView> {
        if let Some(at_work) = self.at_work.take() {
            self.shared.progress.done(&at_work.queue);
            at_work.end(true);
        }
        loop {
            if self.committed_at.elapsed() >= limits::COMMIT {
                self.committed_at = Instant::now();
                self.shared.commit_consumed().await?;
            }
            let commit_at = self.committed_at + limits::COMMIT;
            if let Ok(ready) = tokio::time::timeout_at(commit_at, self.ready()).await {
                let message = ready?.message;
                self.at_work = Some(AtWork {
                    queue: message.queue().clone(),
                    offset: message.offset(),
                    giving: Giving::new(),
                    traced: self.shared.hand_out(&message),
                });
                return Ok(message);
            }
        }
    }

    /// The next message that may be handed out, and is now. Nothing is lost when it is not waited for.
    pub(super) async fn ready(&mut self) -> Result<Ready> {
        loop {
            let ready = self.read().await?;
            if ready.hand(&self.shared.progress) {
                return Ok(ready);
            }
        }
    }

    /// The next message that was read; whether it may be handed out is another question. Nothing is lost when it
    /// is not waited for.
    pub(super) async fn read(&mut self) -> Result<Ready> {
        loop {
            self.goes_on().await;
            while self.ready.may_be_overtaken()
                && let Ok(batch) = self.received.try_recv()
            {
                self.unpack(batch?);
            }
            if let Some(ready) = self.ready.pop() {
                return Ok(ready);
            }
            // The sender is in `shared`, which is ours.
            let batch = self.received.recv().await.ok_or_else(ended)?;
            self.unpack(batch?);
        }
    }

    fn unpack(&mut self, batch: Batch) {
        let (queue, hold, next) = (&batch.queue, batch.hold, batch.next);
        if batch.messages.is_empty() && !self.ready.pass(queue, hold, next) {
            // What the filter left out is consumed.
            self.shared.progress.pass(queue, hold, next);
        }
        let last = batch.messages.len().saturating_sub(1);
        for (index, message) in batch.messages.into_iter().enumerate() {
            self.ready.push(Ready {
                hold: batch.hold,
                next: match index == last {
                    true => batch.next,
                    false => message.offset().plus(1),
                },
                message,
            });
        }
    }

    /// Gives a message back: it comes again to some member of the group later, the later the more often
    /// it was given back, and becomes a dead letter when that was too often. It counts as consumed like
    /// any other. The reason is for whoever looks into it. It is said until a broker answers or the request
    /// time-out is over; a message given back once comes again once.
    ///
    /// ```
    /// # quernstone::testing::run(async |client| {
    /// # use quern_client::{Filter, Message};
    /// # client.producer("shop").start().await?.send(Message::new("orders", "A7")).await?;
    /// # let builder = client.consumer("billing").subscribe("orders", Filter::All);
    /// # let mut consumer = builder.start().await?;
    /// let message = consumer.recv().await?;
    /// let fate = consumer.give_back(&message, "the card was declined").await?;
    /// println!("it comes again: {fate:?}");
    /// # consumer.shutdown().await?;
    /// # Ok(())
    /// # });
    /// ```
    pub async fn give_back(&self, message: &MessageView, reason: &str) -> Result<ReconsumeReply> {
        let at_work = self.at_work.as_ref().filter(|it| it.is(message));
        let anew = Giving::new();
        let giving = at_work.map_or(&anew, |it| &it.giving);
        let until = Instant::now() + self.shared.client.0.within;
        let mut backoff = Backoff::new();
        let given = loop {
            let said = self.shared.give_back(message, (reason, None), giving);
            let error = match said.await {
                Ok(given) => break given,
                Err(error) => error,
            };
            if !survives(&error) || Instant::now() >= until {
                return Err(error);
            }
            self.shared.pull.doubt_route(&message.queue().topic);
            tokio::time::sleep(backoff.next(fastrand::f64())).await;
        };
        match at_work {
            Some(at_work) => at_work.end(false),
            None => self.shared.took_back(message),
        }
        Ok(given)
    }

    /// Counts what was received so far as consumed and commits it; durable when this returns.
    pub async fn commit(&mut self) -> Result<()> {
        if let Some(at_work) = self.at_work.take() {
            at_work.end(true);
        }
        self.shared.progress.all_done();
        self.committed_at = Instant::now();
        self.shared.commit(self.shared.progress.due(|_| true)).await
    }

    /// This member's id.
    pub fn member(&self) -> &str {
        &self.shared.member
    }

    /// The queues this member has, and the next message of each that is not consumed; `None` = it has not
    /// begun to read it.
    pub fn positions(&self) -> Vec<(MessageQueue, Option<QueueOffset>)> {
        self.shared.progress.positions()
    }

    /// Waits until this member has all the queues it shall have. Returns each with its end, as it is now.
    pub async fn ends(&self) -> Result<Vec<(MessageQueue, QueueOffset)>> {
        let mut shares = self.shared.shares.subscribe();
        loop {
            let wanted = shares.borrow_and_update().clone();
            let held = self.positions();
            let has = |queue: &MessageQueue| held.iter().any(|(it, _)| it == queue);
            if let Some(wanted) = wanted.filter(|wanted| wanted.iter().all(has)) {
                let mut ends = Vec::with_capacity(wanted.len());
                for queue in wanted {
                    let (_, end) = self.shared.pull.offset_range(&queue).await?;
                    ends.push((queue, end));
                }
                return Ok(ends);
            }
            let _ = tokio::time::timeout(limits::LOOK, shares.changed()).await;
        }
    }

    /// Commits what was received, gives the queues back and leaves the group.
    pub async fn shutdown(mut self) -> Result<()> {
        self.received.close();
        let mut committed = self.commit().await;
        let mut backoff = Backoff::new();
        let until = Instant::now() + limits::GIVE_BACK;
        while committed.as_ref().is_err_and(survives) && Instant::now() < until {
            tokio::time::sleep(backoff.next(fastrand::f64())).await;
            committed = self.commit().await;
        }
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        let _ = (&mut self.membership).await;
        committed
    }
}
