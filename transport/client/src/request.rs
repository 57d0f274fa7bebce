//! Requests and replies: a message that is sent, and the reply of whoever consumes it, which comes back to this
//! client. How: `transport/protocol/src/request.rs`.
//!
//! Replies are fetched from the brokers that have requests of this client, for as long as it waits for one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use quern_protocol::request::{CORRELATION_ID, REPLY_TO, TTL};
use quern_protocol::{
    BrokerName, Code, FetchReplies, Message, Replied, Reply as Give, ReplyOutcome,
};
use quern_quic::Backoff;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::client::{Client, Shared};
use crate::consumer::MessageView;
use crate::error::{Error, Result};
use crate::letter::Letter;
use crate::producer::Producer;
use crate::{limits, message_id};

/// The reply to a request.
#[derive(Debug, Clone)]
pub struct Reply(Letter);

impl Reply {
    /// The body, decompressed if it was compressed.
    pub fn body(&self) -> &[u8] {
        self.0.body()
    }

    /// Empty = none.
    pub fn tag(&self) -> &str {
        self.0.block().tag()
    }

    /// A property.
    pub fn property(&self, name: &str) -> Option<&str> {
        self.0.block().property(name)
    }
}

/// What a client waits for.
#[derive(Debug)]
pub(crate) struct Requests {
    inbox: String,
    table: Mutex<Table>,
    late: AtomicU64,
}

#[derive(Debug, Default)]
struct Table {
    /// By correlation id; where each request is.
    waiting: HashMap<String, (BrokerName, oneshot::Sender<Reply>)>,
    /// Brokers replies are being fetched from.
    fetching: Vec<BrokerName>,
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            // Nobody else can guess where the replies are.
            inbox: format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..)),
            table: Mutex::default(),
            late: AtomicU64::new(0),
        }
    }
}

impl Requests {
    fn table(&self) -> MutexGuard<'_, Table> {
        let table = self.table.lock();
        table.expect("no code that can panic runs under the requests lock")
    }

    fn answered(&self, Replied { correlation, block }: Replied) {
        let waiting = self.table().waiting.remove(&correlation);
        let Some((_, asker)) = waiting else {
            self.late.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(correlation, "a reply nobody waits for any more");
            return;
        };
        match Letter::read(block.into()) {
            Ok(letter) => drop(asker.send(Reply(letter))),
            // Who asked hears that there was none in time.
            Err(error) => tracing::warn!(correlation, %error, "a reply that cannot be read"),
        }
    }
}

/// Nobody waits for this reply any more, however that came.
struct Asked<'a> {
    requests: &'a Requests,
    correlation: &'a str,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.requests.table().waiting.remove(self.correlation);
    }
}

impl Producer {
    /// Sends a message and waits for the reply of whoever consumes it, [`Client::reply`] (RocketMQ's `request`). An
    /// error of kind [`crate::ErrorKind::Timeout`] when there was none in time: then the request may have been
    /// consumed, or may be yet.
    ///
    /// A message for later is no request.
    ///
    /// ```
    /// # quernstone::testing::run(async |client| {
    /// use std::time::Duration;
    /// use quern_client::{Filter, Message};
    ///
    /// # client.admin().create_topic("prices", 1).await?;
    /// // Somewhere else:
    /// let mut consumer = client.consumer("pricing").subscribe("prices", Filter::All).start().await?;
    /// let replying = client.clone();
    /// tokio::spawn(async move {
    ///     let question = consumer.recv().await?;
    ///     replying.reply(&question, Message::new("", "42 EUR")).await?;
    ///     consumer.shutdown().await
    /// });
    ///
    /// let producer = client.producer("shop").start().await?;
    /// let price = producer.request(Message::new("prices", "A7"), Duration::from_secs(10)).await?;
    /// assert_eq!(price.body(), b"42 EUR");
    /// # Ok(())
    /// # });
    /// ```
    pub async fn request(&self, message: Message, timeout: Duration) -> Result<Reply> {
        if message.later().is_some() {
            let why = "a request is answered within its time: its message cannot be for later";
            return Err(Error::new(Code::BAD_MESSAGE, why));
        }
        let client = self.client();
        let requests = &client.0.requests;
        let correlation = message_id::next();
        let until = Instant::now() + timeout;
        let message = message.ask(&requests.inbox, &correlation, timeout);
        let sent = self.send(message).await?;
        let (asker, reply) = oneshot::channel();
        let broker = sent.queue().broker.clone();
        client.await_reply(&correlation, broker, asker);
        let _asked = Asked {
            requests,
            correlation: &correlation,
        };
        match tokio::time::timeout_at(until, reply).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(_)) => Err(Error::new(Code::BAD_MESSAGE, "the reply cannot be read")),
            Err(_) => Err(Error::new(
                Code::DEADLINE,
                format!(
                    "no reply to request {} within {} ms; it may have been consumed",
                    sent.message_id(),
                    timeout.as_millis()
                ),
            )),
        }
    }
}

impl Client {
    /// Replies to a message that is a request ([`MessageView::is_request`]). The topic of `with` means nothing; it has
    /// no order key and is not for later. [`ReplyOutcome::Late`] when nobody waits for it any more.
    pub async fn reply(&self, to: &MessageView, with: Message) -> Result<ReplyOutcome> {
        let text = |name| to.property(name).unwrap_or_default().to_owned();
        if !to.is_request() {
            let why = format!("message {} asks for no reply", to.message_id());
            return Err(Error::new(Code::BAD_REQUEST, why));
        }
        let ttl: u64 = text(TTL).parse().unwrap_or(0);
        let request = Give {
            inbox: text(REPLY_TO),
            correlation: text(CORRELATION_ID),
            until: to.stored_at().saturating_add(ttl),
        };
        let block = with.encode(&message_id::next(), crate::producer::now_ms())?;
        let broker = self.0.routes.broker(to.queue()).await?;
        let reply = self.call_with(&broker.address, &request, vec![block], self.0.within);
        Ok(reply.await?.outcome)
    }

    /// Replies that came when nobody waited for them any more, as far as this client knows.
    pub fn late_replies(&self) -> u64 {
        self.0.requests.late.load(Ordering::Relaxed)
    }

    fn await_reply(&self, correlation: &str, broker: BrokerName, asker: oneshot::Sender<Reply>) {
        let mut table = self.0.requests.table();
        let waits = (broker.clone(), asker);
        table.waiting.insert(correlation.to_owned(), waits);
        if !table.fetching.contains(&broker) {
            table.fetching.push(broker.clone());
            tokio::spawn(fetch(Arc::downgrade(&self.0), broker));
        }
    }
}

/// Fetches from a broker for as long as a reply is waited for that may be there.
async fn fetch(shared: Weak<Shared>, broker: BrokerName) {
    let mut backoff = Backoff::new();
    loop {
        let Some(shared) = shared.upgrade() else {
            return;
        };
        {
            let mut table = shared.requests.table();
            if !table.waiting.values().any(|(at, _)| *at == broker) {
                table.fetching.retain(|it| *it != broker);
                return;
            }
        }
        let client = Client(shared);
        match fetch_once(&client, &broker).await {
            Ok(replies) => {
                backoff = Backoff::new();
                for replied in replies {
                    client.0.requests.answered(replied);
                }
            }
            Err(error) => {
                tracing::debug!(%broker, %error, "replies are not fetched; trying again");
                tokio::time::sleep(backoff.next(fastrand::f64())).await;
            }
        }
    }
}

async fn fetch_once(client: &Client, broker: &BrokerName) -> Result<Vec<Replied>> {
    let brokers = client.0.routes.brokers().await?;
    let found = brokers.into_iter().find(|it| it.broker == *broker);
    let gone = || Error::new(Code::NO_ROUTE, format!("nobody knows broker {broker}"));
    let address = found.ok_or_else(gone)?.address;
    let live = client.0.connections.to(&address).await?;
    let request = FetchReplies {
        inbox: client.0.requests.inbox.clone(),
        wait_ms: limits::FETCH_REPLIES.as_millis() as u32,
    };
    let within = limits::FETCH_REPLIES + client.0.within;
    let (reply, _) = live.polls.call(&request, Vec::new(), within).await?;
    Ok(reply.replies)
}
