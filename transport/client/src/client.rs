//! The client: name servers, trust, time-outs; what producers, consumers and administration share.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quern_protocol::{
    BrokerRoute, Code, DelayedHandle, DelayedMessage, GroupName, Operation, RecallMessage,
    TopicName,
};
use quern_quic::{Connector, DevAuthority, Door, NodeIdentity, Trust};

use crate::admin::Admin;
use crate::connections::{Connections, Live};
use crate::consumer::{ConsumerBuilder, PullConsumer};
use crate::error::{Error, Result};
use crate::producer::ProducerBuilder;
use crate::routes::Routes;

/// A client of one cluster. Cheap to clone; clones share connections.
#[derive(Debug, Clone)]
pub struct Client(pub(crate) Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) connections: Arc<Connections>,
    pub(crate) routes: Routes,
    pub(crate) within: Duration,
}

/// Settings of a [`Client`].
#[derive(Debug, Clone)]
pub struct ClientBuilder {
    name_servers: Vec<String>,
    trust: Option<Trust>,
    identity: Option<NodeIdentity>,
    request_timeout: Duration,
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
        }
    }

    /// A producer. The group names it in metrics; any legal name will do.
    pub fn producer(&self, group: &str) -> ProducerBuilder {
        ProducerBuilder::new(self.clone(), group)
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
    pub async fn recall(&self, topic: &str, handle: &DelayedHandle) -> Result<DelayedMessage> {
        let topic = TopicName::new(topic)?;
        let route = self.0.routes.of(&topic, false).await?;
        let broker = route.iter().find(|it| it.broker == handle.broker);
        let broker = broker.ok_or_else(|| {
            let text = format!("broker {} does not serve topic \"{topic}\"", handle.broker);
            Error::new(Code::NO_ROUTE, text)
        })?;
        let request = RecallMessage {
            topic: topic.clone(),
            position: handle.position,
        };
        Ok(self.call(&broker.address, &request).await?.message)
    }

    /// Topics, routes, brokers.
    pub fn admin(&self) -> Admin {
        Admin::new(self.clone())
    }

    /// Says goodbye to all servers. What is under way fails.
    pub async fn close(&self) {
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
        let client = Client(Arc::new(Shared {
            routes: Routes::new(name_servers, Arc::clone(&connections), within),
            connections,
            within,
        }));
        client.0.routes.brokers().await?;
        Ok(client)
    }
}

/// Checks a group's name.
pub(crate) fn group(name: &str) -> Result<GroupName> {
    Ok(GroupName::new(name)?)
}
