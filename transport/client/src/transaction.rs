//! Transactions: a message that is delivered if, and only if, some work of the application's own is done.
//!
//! The message goes to the broker first, where it is in no queue. Then the work is done, and the message
//! committed or rolled back. If the application dies between, or its word is lost, the broker asks: any
//! producer of the same group that is alive, until one knows.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use quern_protocol::message::UNIQUE_KEY;
use quern_protocol::{
    Block, Code, Compression, Durability, EndTransaction, GroupName, Message, MessageHandle,
    PollTransactions, QueueId, QueueOffset, TopicName, TransactionCheck, TransactionEnd,
    TransactionOutcome,
};
use quern_quic::Backoff;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::Instant;

use crate::client::{self, Client};
use crate::error::{Error, Result};
use crate::letter::Letter;
use crate::limits;
use crate::producer::{Producer, ProducerBuilder};
use crate::routes::MessageQueue;
use crate::tracer::TracedTransaction;

/// What a producer knows of one of its transactions (RocketMQ's `LocalTransactionState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionState {
    /// The work is done: the message is to be delivered.
    Commit,
    /// It is not, and will not be.
    RollBack,
    /// Nobody can tell yet; the broker asks again later.
    Unknown,
}

/// A message whose transaction the broker asks about.
#[derive(Debug, Clone)]
pub struct UndecidedMessage {
    topic: TopicName,
    handle: MessageHandle,
    asked: u32,
    letter: Letter,
}

impl UndecidedMessage {
    fn block(&self) -> Block<'_> {
        self.letter.block()
    }

    /// Where it is to be delivered.
    pub fn topic(&self) -> &TopicName {
        &self.topic
    }

    /// What the transaction is known by.
    pub fn handle(&self) -> &MessageHandle {
        &self.handle
    }

    /// How often somebody was asked about it, this time included.
    pub fn asked(&self) -> u32 {
        self.asked
    }

    /// The id its producer gave it.
    pub fn message_id(&self) -> &str {
        self.property(UNIQUE_KEY).unwrap_or_default()
    }

    /// Empty = none.
    pub fn tag(&self) -> &str {
        self.block().tag()
    }

    /// Separated by spaces; empty = none.
    pub fn keys(&self) -> &str {
        self.block().keys()
    }

    /// A property, the system's included.
    pub fn property(&self, name: &str) -> Option<&str> {
        self.block().property(name)
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        self.letter.body()
    }
}

type Answer = Pin<Box<dyn Future<Output = TransactionState> + Send>>;
type Check = Arc<dyn Fn(UndecidedMessage) -> Answer + Send + Sync>;

/// Settings of a [`TransactionProducer`].
#[must_use = "it does nothing before it is started"]
pub struct TransactionProducerBuilder {
    client: Client,
    group: String,
    producer: ProducerBuilder,
    within: Duration,
    check: Check,
}

impl TransactionProducerBuilder {
    pub(crate) fn new<C, F>(client: Client, group: &str, check: C) -> Self
    where
        C: Fn(UndecidedMessage) -> F + Send + Sync + 'static,
        F: Future<Output = TransactionState> + Send + 'static,
    {
        Self {
            producer: client.producer(group),
            within: client.0.within,
            group: group.to_owned(),
            client,
            check: Arc::new(move |message| Box::pin(check(message))),
        }
    }

    /// How long sending a message, and ending its transaction, may take each with all attempts. Default: the
    /// client's request time-out.
    pub fn send_timeout(mut self, within: Duration) -> Self {
        self.producer = self.producer.send_timeout(within);
        self.within = within;
        self
    }

    /// How safe the message is before the work is begun. Its commit is always on the broker's disk. Default: as
    /// the topic says, and if it does not, the broker.
    pub fn durability(mut self, class: Durability) -> Self {
        self.producer = self.producer.durability(class);
        self
    }

    /// Compresses bodies, where that makes them smaller: see [`ProducerBuilder::compress`]. Default: no.
    pub fn compress(mut self, with: Compression) -> Self {
        self.producer = self.producer.compress(with);
        self
    }

    /// Starts the producer. From now on it is asked about transactions of its group, also those of
    /// producers that are gone.
    pub async fn start(self) -> Result<TransactionProducer> {
        let group = client::group(&self.group)?;
        let asker = Asker {
            client: self.client.clone(),
            group: group.clone(),
            check: self.check,
            within: self.within,
        };
        Ok(TransactionProducer {
            client: self.client,
            group,
            producer: self.producer.start().await?,
            within: self.within,
            _asked: Arc::new(Asked(tokio::spawn(asker.run()))),
        })
    }
}

/// Begins transactions, and is asked about those of its group. Cheap to clone; when the last clone is gone it
/// is asked no more.
///
/// ```
/// # quernstone::testing::run(async |client| {
/// use quern_client::{Message, TransactionState};
///
/// // Asked about transactions whose end the broker does not know: look up what became of the work.
/// let look_up = |undecided: quern_client::UndecidedMessage| async move {
///     println!("how did {} end?", undecided.keys());
///     TransactionState::Unknown
/// };
/// let producer = client.transaction_producer("shop", look_up).start().await?;
/// let message = Message::new("orders", "A7").key("order-42");
/// let sent = producer
///     .send(message, async |begun: &quern_client::Transaction| {
///         println!("{} is begun", begun.handle());
///         // The work: write to a database, say.
///         TransactionState::Commit
///     })
///     .await?;
/// assert!(sent.is_some());
///
/// // Or step by step: nobody sees the message before it is committed.
/// let transaction = producer.begin(Message::new("orders", "B2")).await?;
/// transaction.roll_back().await?;
/// # Ok(())
/// # });
/// ```
#[derive(Debug, Clone)]
pub struct TransactionProducer {
    client: Client,
    group: GroupName,
    producer: Producer,
    within: Duration,
    _asked: Arc<Asked>,
}

/// Ends with its producer.
#[derive(Debug)]
struct Asked(JoinHandle<()>);

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl TransactionProducer {
    /// Sends a message that is not delivered yet. When this returns the work may begin: whatever happens from
    /// now on, the transaction ends as the work did. An error means that it must not be begun; if it is
    /// [`crate::ErrorKind::Unknown`] the broker may have the message, and will ask about it.
    ///
    /// A message with an order key, or for later, cannot be of a transaction.
    pub async fn begin(&self, message: Message) -> Result<Transaction> {
        if message.later().is_some() {
            let why =
                "a message of a transaction is delivered when that is committed, not at a time";
            return Err(Error::new(Code::BAD_MESSAGE, why));
        }
        let tracer = self.client.0.tracer.clone();
        let traced = tracer.map(|tracer| {
            let (tag, keys) = message.labels();
            (tracer, tag.to_owned(), keys.to_owned())
        });
        let sent = self.producer.send(message.on_commit(self.group.clone()));
        let sent = sent.await?;
        let handle = sent.handle().cloned();
        let handle = handle.ok_or_else(|| Error::new(Code::INTERNAL, "a half has no handle"))?;
        let topic = sent.queue().topic.clone();
        Ok(Transaction {
            client: self.client.clone(),
            traced: traced.map(|(tracer, tag, keys)| TracedTransaction {
                tracer,
                group: self.group.clone(),
                topic: topic.clone(),
                message_id: sent.message_id().to_owned(),
                tag,
                keys,
                handle: handle.clone(),
                is_asked: false,
            }),
            topic,
            handle,
            message_id: sent.message_id().to_owned(),
            within: self.within,
        })
    }

    /// Sends a message, does the work, and ends the transaction as that says (RocketMQ's
    /// `sendMessageInTransaction`). Where the message is if it was committed.
    pub async fn send<F>(&self, message: Message, work: F) -> Result<Option<Committed>>
    where
        F: AsyncFnOnce(&Transaction) -> TransactionState,
    {
        let transaction = self.begin(message).await?;
        match work(&transaction).await {
            TransactionState::Commit => transaction.commit().await.map(Some),
            TransactionState::RollBack => transaction.roll_back().await.map(|()| None),
            TransactionState::Unknown => Ok(None),
        }
    }
}

/// A message that is not delivered yet. Dropped, its end is not known: the broker will ask for it.
#[derive(Debug)]
#[must_use = "commit it or roll it back; dropped, the broker has to ask how it ended"]
pub struct Transaction {
    client: Client,
    topic: TopicName,
    handle: MessageHandle,
    message_id: String,
    within: Duration,
    traced: Option<TracedTransaction>,
}

/// Where a committed message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Topic, broker and queue.
    pub queue: MessageQueue,
    /// Its place there.
    pub offset: QueueOffset,
}

impl Transaction {
    /// What it is known by: `quern tx ls` shows it.
    pub fn handle(&self) -> &MessageHandle {
        &self.handle
    }

    /// The message's.
    pub fn message_id(&self) -> &str {
        &self.message_id
    }

    /// Delivers the message; durable when this returns. Saying it again is harmless. `Q-3021` when it has ended
    /// otherwise; an error of another kind leaves the end to the broker's question.
    pub async fn commit(mut self) -> Result<Committed> {
        match self.end(TransactionEnd::Commit).await? {
            TransactionOutcome::Committed { queue, offset } => {
                self.is_over(TransactionEnd::Commit);
                Ok(Committed {
                    queue: self.queue(queue),
                    offset,
                })
            }
            other => Err(ended(&self.handle, other)),
        }
    }

    /// The message is never delivered; as [`Self::commit`] otherwise.
    pub async fn roll_back(mut self) -> Result<()> {
        match self.end(TransactionEnd::RollBack).await? {
            TransactionOutcome::RolledBack => {
                self.is_over(TransactionEnd::RollBack);
                Ok(())
            }
            other => Err(ended(&self.handle, other)),
        }
    }

    fn is_over(&mut self, end: TransactionEnd) {
        if let Some(traced) = self.traced.take() {
            traced.ended(end);
        }
    }

    fn queue(&self, queue: QueueId) -> MessageQueue {
        MessageQueue {
            topic: self.topic.clone(),
            broker: self.handle.broker.clone(),
            queue,
        }
    }

    async fn end(&self, end: TransactionEnd) -> Result<TransactionOutcome> {
        let request = EndTransaction {
            topic: self.topic.clone(),
            position: self.handle.position,
            message_id: self.message_id.clone(),
            end: Some(end),
        };
        let until = Instant::now() + self.within;
        end_until(&self.client, &self.handle, &request, until).await
    }
}

fn ended(handle: &MessageHandle, outcome: TransactionOutcome) -> Error {
    let how = match outcome {
        TransactionOutcome::Undecided => "is still open".to_owned(),
        TransactionOutcome::Committed { queue, offset } => {
            format!("is committed: its message is in queue {queue} at {offset}")
        }
        TransactionOutcome::RolledBack => "is rolled back".to_owned(),
        TransactionOutcome::Parked { .. } => "is set aside: nobody could say in time".to_owned(),
    };
    Error::new(Code::OTHER_OUTCOME, format!("transaction {handle} {how}"))
}

/// Ends a transaction with as many attempts as there is time for: the broker takes the same end any number of
/// times.
async fn end_until(
    client: &Client,
    handle: &MessageHandle,
    request: &EndTransaction,
    until: Instant,
) -> Result<TransactionOutcome> {
    let mut pause = limits::AGAIN / 10;
    loop {
        let error = match client.end_transaction(handle, request).await {
            Ok(reply) => return Ok(reply.outcome),
            Err(error) => error,
        };
        let is_over = Instant::now() + pause >= until;
        if is_over || !(error.is_retryable() || error.is_worth_another_route()) {
            return Err(error);
        }
        client.0.routes.doubt(&request.topic);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(limits::AGAIN);
    }
}

/// Takes the brokers' questions, and gives the application's answers.
#[derive(Clone)]
struct Asker {
    client: Client,
    group: GroupName,
    check: Check,
    within: Duration,
}

impl Asker {
    /// Listens to every broker there is; for ever.
    async fn run(self) {
        let mut listening: HashMap<String, Listening> = HashMap::new();
        loop {
            if let Ok(brokers) = self.client.0.routes.brokers().await {
                listening.retain(|address, it| {
                    !it.0.is_finished() && brokers.iter().any(|broker| broker.address == *address)
                });
                for broker in brokers {
                    let (asker, name) = (self.clone(), broker.broker);
                    let address = broker.address.clone();
                    listening.entry(broker.address).or_insert_with(|| {
                        let listens = async move {
                            let mut backoff = Backoff::new();
                            loop {
                                tokio::time::sleep(backoff.next(fastrand::f64())).await;
                                if asker.listen(&address, &name).await.is_ok() {
                                    backoff = Backoff::new();
                                }
                            }
                        };
                        Listening(tokio::spawn(listens).abort_handle())
                    });
                }
            }
            tokio::time::sleep(limits::BROKERS_AGE).await;
        }
    }

    /// One question of one broker, which may hold it for long.
    async fn listen(&self, address: &str, broker: &quern_protocol::BrokerName) -> Result<()> {
        let request = PollTransactions {
            group: self.group.clone(),
            messages: limits::CHECKS as u32,
            wait_ms: limits::POLL.as_millis() as u32,
        };
        let live = self.client.0.connections.to(address).await?;
        let within = limits::POLL + self.client.0.within;
        let (reply, _) = live.polls.call(&request, Vec::new(), within).await?;
        let answers = reply.checks.into_iter().map(|it| self.answer(broker, it));
        let mut answers = futures_util::stream::iter(answers).buffer_unordered(limits::CHECKS);
        while let Some(answered) = answers.next().await {
            if let Err(error) = answered {
                tracing::warn!(%error, "a broker does not take how a transaction ended; it will ask again");
            }
        }
        Ok(())
    }

    async fn answer(
        &self,
        broker: &quern_protocol::BrokerName,
        check: TransactionCheck,
    ) -> Result<()> {
        let message = UndecidedMessage {
            topic: check.topic,
            handle: MessageHandle {
                broker: broker.clone(),
                position: check.position,
            },
            asked: check.asked,
            letter: Letter::read(check.block.into())?,
        };
        let mut request = EndTransaction {
            topic: message.topic.clone(),
            position: check.position,
            message_id: message.message_id().to_owned(),
            end: None,
        };
        let handle = message.handle.clone();
        let traced = self.traced(&message);
        let state = AssertUnwindSafe((self.check)(message)).catch_unwind().await;
        let end = match state {
            Ok(TransactionState::Commit) => TransactionEnd::Commit,
            Ok(TransactionState::RollBack) => TransactionEnd::RollBack,
            Ok(TransactionState::Unknown) => return Ok(()),
            Err(_) => {
                tracing::error!(%handle, "the check of a transaction panicked; it will be asked again");
                return Ok(());
            }
        };
        request.end = Some(end);
        let until = Instant::now() + self.within;
        let outcome = end_until(&self.client, &handle, &request, until).await?;
        if let Some(traced) = traced.filter(|_| outcome.end() == Some(end)) {
            traced.ended(end);
        }
        Ok(())
    }

    fn traced(&self, message: &UndecidedMessage) -> Option<TracedTransaction> {
        Some(TracedTransaction {
            tracer: self.client.0.tracer.clone()?,
            group: self.group.clone(),
            topic: message.topic.clone(),
            message_id: message.message_id().to_owned(),
            tag: message.tag().to_owned(),
            keys: message.keys().to_owned(),
            handle: message.handle.clone(),
            is_asked: true,
        })
    }
}

/// Ends when nobody wants it any more.
struct Listening(AbortHandle);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}
