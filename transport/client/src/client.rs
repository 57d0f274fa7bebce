//! The client: name servers, trust, time-outs; what producers, consumers and administration share.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use quern_protocol::trace::TRACE_TOPIC;
use quern_protocol::{
    BrokerRoute, Code, DelayedMessage, EndTransaction, EndTransactionReply, GroupName,
    MessageHandle, Operation, RecallMessage, TopicName, limits,
};
use quern_quic::{Connector, DevAuthority, Door, NodeIdentity, Trust};

use crate::admin::Admin;
use crate::connections::{Connections, Live};
use crate::consumer::{ConsumerBuilder, PullConsumer, SimpleConsumerBuilder};
use crate::error::{Error, Result};
use crate::health::Health;
use crate::producer::ProducerBuilder;
use crate::request::Requests;
use crate::routes::Routes;
use crate::tracer::Tracer;
use crate::transaction::{TransactionProducerBuilder, TransactionState, UndecidedMessage};

const POISONED: &str = "no code that can panic runs under the consumers lock";

/// A client of one cluster. Cheap to clone; clones share connections.
#[derive(Debug, Clone)]
pub struct Client(pub(crate) Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) connections: Arc<Connections>,
    pub(crate) routes: Routes,
    pub(crate) health: Health,
    pub(crate) requests: Requests,
    pub(crate) within: Duration,
    id: String,
    /// Writes down what is sent and consumed, if it is to.
    pub(crate) tracer: Option<Arc<Tracer>>,
    /// Consumers started so far, by group.
    consumers: Mutex<HashMap<GroupName, u32>>,
}

/// Settings of a [`Client`].
///
/// ```
/// # quernstone::testing::run(async |client| {
/// use std::time::Duration;
/// use quern_client::Client;
///
/// # let broker = quernstone::testing::Broker::start().await?;
/// # let (name_server, trust) = (broker.node().namesrv_addr().ok_or("it has one")?, broker.node().trust());
/// let client = Client::builder()
///     .namesrv([name_server.to_string()]) // HOST:PORT each; any one of them is enough
///     .trust(trust) // or Trust::ca_file(…), Trust::pin(…); default: this user's development CA
///     .instance_name("billing-3")
///     .request_timeout(Duration::from_secs(5))
///     .build()
///     .await?;
/// assert!(client.id().ends_with("@billing-3"));
/// client.close().await;
/// # broker.shutdown().await?;
/// # Ok(())
/// # });
/// ```
#[derive(Debug, Clone)]
pub struct ClientBuilder {
    name_servers: Vec<String>,
    trust: Option<Trust>,
    identity: Option<NodeIdentity>,
    request_timeout: Duration,
    instance_name: Option<String>,
    unit_name: Option<String>,
    avoid_slow: bool,
    trace: Option<String>,
}

impl Client {
    /// Connects with the defaults: `quern://HOST:PORT`, several separated by commas.
    pub async fn connect(address: &str) -> Result<Self> {
        let address = address.strip_prefix("quern://").unwrap_or(address);
        Self::builder().namesrv([address]).build().await
    }

    /// A client with settings of its own.
    pub fn builder() -> ClientBuilder {
        ClientBuilder {
            name_servers: Vec::new(),
            trust: None,
            identity: None,
            request_timeout: Duration::from_secs(3),
            instance_name: None,
            unit_name: None,
            avoid_slow: false,
            trace: None,
        }
    }

    /// A producer. The group names it in metrics; any legal name will do.
    pub fn producer(&self, group: &str) -> ProducerBuilder {
        ProducerBuilder::new(self.clone(), group)
    }

    /// A producer of transactions. `check` is asked about those of the group whose end the broker does not know,
    /// those of other producers too: it looks up what became of the work.
    pub fn transaction_producer<C, F>(&self, group: &str, check: C) -> TransactionProducerBuilder
    where
        C: Fn(UndecidedMessage) -> F + Send + Sync + 'static,
        F: Future<Output = TransactionState> + Send + 'static,
    {
        TransactionProducerBuilder::new(self.clone(), group, check)
    }

    /// Reads queues where the application says; for connectors and tools.
    pub fn pull_consumer(&self) -> PullConsumer {
        PullConsumer::new(self.clone())
    }

    /// Where the messages lie that a group has given back too often.
    pub fn dead_letter_topic(&self, group: &str) -> Result<TopicName> {
        Ok(quern_protocol::retry::dead_letter_topic(&self::group(
            group,
        )?)?)
    }

    /// A consumer that goes on where its group has stopped.
    pub fn consumer(&self, group: &str) -> ConsumerBuilder {
        ConsumerBuilder::new(self.clone(), group)
    }

    /// Takes a message for later back, so that it is never delivered; returns what it was. An error with
    /// [`Code::NOT_FOUND`] when it does not wait any more: it was delivered, or taken back before.
    ///
    /// ```
    /// # quernstone::testing::run(async |client| {
    /// use std::time::Duration;
    /// use quern_client::Message;
    ///
    /// let producer = client.producer("shop").start().await?;
    /// let reminder = Message::new("reminders", "pay!").delay(Duration::from_secs(3600));
    /// let sent = producer.send(reminder).await?;
    /// // The customer has paid.
    /// let handle = sent.handle().ok_or("it waits")?;
    /// client.recall("reminders", handle).await?;
    /// # Ok(())
    /// # });
    /// ```
    pub async fn recall(&self, topic: &str, handle: &MessageHandle) -> Result<DelayedMessage> {
        let topic = TopicName::new(topic)?;
        let address = self.address(&topic, handle).await?;
        let request = RecallMessage {
            topic,
            position: handle.position,
        };
        Ok(self.call(&address, &request).await?.message)
    }

    /// Of the broker that has a message that waits.
    async fn address(&self, topic: &TopicName, handle: &MessageHandle) -> Result<String> {
        let route = self.0.routes.of(topic, false).await?;
        let broker = route.iter().find(|it| it.broker == handle.broker);
        let broker = broker.ok_or_else(|| {
            let text = format!("broker {} does not serve topic \"{topic}\"", handle.broker);
            Error::new(Code::NO_ROUTE, text)
        })?;
        Ok(broker.address.clone())
    }

    pub(crate) async fn end_transaction(
        &self,
        handle: &MessageHandle,
        request: &EndTransaction,
    ) -> Result<EndTransactionReply> {
        let address = self.address(&request.topic, handle).await?;
        self.call(&address, request).await
    }

    /// A consumer that shares queues with others of its group, and says of each message when it is consumed
    /// (pop).
    pub fn simple_consumer(&self, group: &str) -> SimpleConsumerBuilder {
        SimpleConsumerBuilder::new(self.clone(), group)
    }

    /// Topics, routes, brokers.
    pub fn admin(&self) -> Admin {
        Admin::new(self.clone())
    }

    /// What servers know this client by: `ip@instanceName`, or `ip@instanceName@unitName`.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// The id of a new member of a group: this client's, with a number from the second on.
    pub(crate) fn member_id(&self, group: &GroupName) -> String {
        let mut consumers = self.0.consumers.lock().expect(POISONED);
        let count = consumers.entry(group.clone()).or_default();
        *count += 1;
        match *count {
            1 => self.0.id.clone(),
            n => format!("{}#{n}", self.0.id),
        }
    }

    /// Says goodbye to all servers. What is under way fails.
    pub async fn close(&self) {
        if let Some(tracer) = &self.0.tracer {
            tracer.flush().await;
        }
        self.0.connections.close().await;
    }

    pub(crate) async fn live(&self, broker: &BrokerRoute) -> Result<Live> {
        self.0.connections.to(&broker.address).await
    }

    /// One request to one broker, on a stream of its own.
    pub(crate) async fn call<O: Operation + Sync>(
        &self,
        address: &str,
        operation: &O,
    ) -> Result<O::Reply> {
        self.call_with(address, operation, Vec::new(), self.0.within)
            .await
    }

    /// The same, with the records that the answer brings.
    pub(crate) async fn records<O: Operation + Sync>(
        &self,
        address: &str,
        operation: &O,
    ) -> Result<(O::Reply, Bytes)> {
        let live = self.0.connections.to(address).await?;
        let call = live.connection.call(operation, Vec::new(), self.0.within);
        Ok(call.await?)
    }

    /// The same with a body, and a time of its own.
    pub(crate) async fn call_with<O: Operation + Sync>(
        &self,
        address: &str,
        operation: &O,
        body: Vec<Bytes>,
        within: Duration,
    ) -> Result<O::Reply> {
        let live = self.0.connections.to(address).await?;
        Ok(live.connection.call(operation, body, within).await?.0)
    }
}

impl ClientBuilder {
    /// Name servers, `HOST:PORT` each; any one of them is enough. A text may name several,
    /// separated by `,` or `;`. Default: `127.0.0.1:9876`.
    #[must_use]
    pub fn namesrv<S: AsRef<str>>(mut self, addresses: impl IntoIterator<Item = S>) -> Self {
        for text in addresses {
            let parts = text.as_ref().split([',', ';']).map(str::trim);
            let parts = parts.filter(|part| !part.is_empty());
            self.name_servers.extend(parts.map(str::to_owned));
        }
        self
    }

    /// Whom to believe. Default: this user's development CA.
    #[must_use]
    pub fn trust(mut self, trust: Trust) -> Self {
        self.trust = Some(trust);
        self
    }

    /// A certificate of this client's own. Default: none.
    #[must_use]
    pub fn identity(mut self, identity: NodeIdentity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// How long one request may take. Default: 3 s.
    #[must_use]
    pub fn request_timeout(mut self, within: Duration) -> Self {
        self.request_timeout = within;
        self
    }

    /// Tells apart several clients of one machine (RocketMQ's `instanceName`). Default: the process id, `#`
    /// and 8 random digits.
    #[must_use]
    pub fn instance_name(mut self, name: impl Into<String>) -> Self {
        self.instance_name = Some(name.into());
        self
    }

    /// A name for where this client stands, the last part of its id (RocketMQ's `unitName`). Default: none.
    #[must_use]
    pub fn unit_name(mut self, name: impl Into<String>) -> Self {
        self.unit_name = Some(name.into());
        self
    }

    /// Writes down who sends each message, and what listeners say of it, to a topic of its own; [`Admin::records_of`]
    /// reads it. What cannot be written is dropped: it holds up nobody. Default: not.
    #[must_use]
    pub fn trace(self) -> Self {
        self.trace_to(TRACE_TOPIC)
    }

    /// The same to this topic.
    #[must_use]
    pub fn trace_to(mut self, topic: impl Into<String>) -> Self {
        self.trace = Some(topic.into());
        self
    }

    /// Leaves brokers alone for a while that took longer than 500 ms to answer a send, while there are others
    /// (RocketMQ's `sendLatencyFaultEnable`). Those that fail are left alone in any case. Default: no.
    #[must_use]
    pub fn avoid_slow(mut self, avoids: bool) -> Self {
        self.avoid_slow = avoids;
        self
    }

    /// Connects to a name server.
    pub async fn build(self) -> Result<Client> {
        let mut name_servers = self.name_servers;
        if name_servers.is_empty() {
            name_servers.push("127.0.0.1:9876".to_owned());
        }
        if self.request_timeout.is_zero() {
            return Err(Error::new(Code::BAD_CONFIG, "request_timeout is zero"));
        }
        let trust = match self.trust {
            Some(trust) => trust,
            None => DevAuthority::open()?.trust(),
        };
        let connector = Connector::new(trust, self.identity, Door::Client)?;
        let connections = Arc::new(Connections::new(connector));
        let within = self.request_timeout;
        let routes = || Routes::new(name_servers.clone(), Arc::clone(&connections), within);
        let known = routes();
        known.brokers().await?;
        let ip = known.local_ip().await;
        let id = id(ip, self.instance_name, self.unit_name)?;
        let client = |routes, tracer| {
            Client(Arc::new(Shared {
                routes,
                health: Health::new(self.avoid_slow),
                requests: Requests::default(),
                connections: Arc::clone(&connections),
                within,
                id: id.clone(),
                tracer,
                consumers: Mutex::default(),
            }))
        };
        let tracer = match self.trace {
            None => None,
            Some(topic) => {
                let topic = TopicName::new(topic)?;
                Some(Arc::new(Tracer::start(client(routes(), None), topic)))
            }
        };
        Ok(client(known, tracer))
    }
}

/// The id of a client, of RocketMQ's parts.
fn id(ip: Option<IpAddr>, instance: Option<String>, unit: Option<String>) -> Result<String> {
    let ip = ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let random = || format!("{}#{:08x}", std::process::id(), fastrand::u32(..));
    let instance = instance.unwrap_or_else(random);
    let unit = unit.map(|unit| format!("@{unit}")).unwrap_or_default();
    let id = format!("{ip}@{instance}{unit}");
    // Room for a number.
    let is_id = id.len() <= limits::NAME - 8 && !id.contains(char::is_control);
    match is_id && !instance.is_empty() && unit != "@" {
        true => Ok(id),
        false => Err(Error::new(
            Code::BAD_CONFIG,
            format!(
                "instance_name and unit_name make {id:?} of this client's id: each has 1 or more characters, none of them a control character, and all of it at most {} bytes",
                limits::NAME - 8
            ),
        )),
    }
}

/// Checks a group's name.
pub(crate) fn group(name: &str) -> Result<GroupName> {
    Ok(GroupName::new(name)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_the_parts_rocketmq_gives_it() {
        let ip = Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7)));
        let of = |instance: Option<&str>, unit: Option<&str>| {
            id(ip, instance.map(str::to_owned), unit.map(str::to_owned))
        };
        assert_eq!(of(Some("billing"), None).unwrap(), "10.0.0.7@billing");
        assert_eq!(
            of(Some("billing"), Some("eu")).unwrap(),
            "10.0.0.7@billing@eu"
        );
        let (one, other) = (of(None, None).unwrap(), of(None, None).unwrap());
        assert!(one.starts_with(&format!("10.0.0.7@{}#", std::process::id())));
        assert_ne!(one, other);
        for (instance, unit) in [("", None), ("a", Some("")), ("a\n", None)] {
            let error = of(Some(instance), unit).unwrap_err();
            assert_eq!(error.coded(), Code::BAD_CONFIG);
        }
        assert!(of(Some(&"a".repeat(127)), None).is_err());
    }
}
