//! Registration of brokers with name servers, and the routes clients ask for.

use serde::{Deserialize, Serialize};

use crate::fingerprint;
use crate::ids::{BrokerName, Epoch, TopicName};

/// A topic as one broker serves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicQueues {
    pub topic: TopicName,
    pub read_queues: u32,
    pub write_queues: u32,
}

/// A broker introduces itself with all its topics. Replaces whatever this name had registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterBroker {
    pub cluster: String,
    pub broker: BrokerName,
    /// `HOST:PORT` clients connect to.
    pub address: String,
    pub epoch: Epoch,
    /// Random per start: tells a restarted broker from an impostor with the same name.
    pub boot: u64,
    /// Queues of a topic this broker would create on the first send; `None` = it does not.
    pub auto_create_queues: Option<u32>,
    pub topics: Vec<TopicQueues>,
    /// Topics that are being deleted, and when each is gone, ms since 1970. Since version 2.
    pub being_deleted: Vec<(TopicName, u64)>,
}

impl RegisterBroker {
    pub(crate) fn says_more_than_version_1(&self) -> bool {
        !self.being_deleted.is_empty()
    }
}

impl RegisterBroker {
    /// A fingerprint of all it says, with these topics in place of its own, in any order.
    pub fn fingerprint<'a>(
        &self,
        topics: impl IntoIterator<Item = &'a TopicQueues>,
        being_deleted: impl IntoIterator<Item = (&'a TopicName, u64)>,
    ) -> u64 {
        let itself = (&self.cluster, &self.broker, &self.address);
        let itself = (itself, self.epoch, self.boot, self.auto_create_queues);
        let tables = (
            fingerprint::of_all(topics),
            fingerprint::of_all(being_deleted),
        );
        fingerprint::of(&(itself, tables))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterBrokerReply {
    /// How long the registration lives without a heartbeat, ms.
    pub expires_after_ms: u32,
}

/// Is this what is registered of the broker? A sign of life as well, and if so the registration goes on on this
/// connection, so that nothing is registered twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfirmBroker {
    pub broker: BrokerName,
    /// [`RegisterBroker::fingerprint`] of what it would register now.
    pub fingerprint: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfirmBrokerReply {
    /// False asks the broker to register again.
    pub registered: bool,
}

/// Topics created or deleted since the registration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishTopics {
    pub broker: BrokerName,
    pub topics: Vec<TopicQueues>,
    pub deleted: Vec<TopicName>,
    /// All that can still come back, as in [`RegisterBroker`]. Since version 2.
    pub being_deleted: Vec<(TopicName, u64)>,
}

impl PublishTopics {
    pub(crate) fn says_more_than_version_1(&self) -> bool {
        !self.being_deleted.is_empty()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishTopicsReply {
    /// False asks the broker to register again.
    pub registered: bool,
}

/// Who serves a topic?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    pub topic: TopicName,
    /// The asker wants to send: a topic that does not exist is routed to brokers that would create it.
    pub to_produce: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerRoute {
    pub cluster: String,
    pub broker: BrokerName,
    pub address: String,
    pub read_queues: u32,
    pub write_queues: u32,
    pub epoch: Epoch,
}

/// Brokers by name; never empty, an unknown topic is `NO_ROUTE`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteReply {
    pub brokers: Vec<BrokerRoute>,
}

/// Which brokers are alive?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brokers {}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerEntry {
    pub cluster: String,
    pub broker: BrokerName,
    pub address: String,
    pub epoch: Epoch,
    pub topics: u32,
    /// Since its last heartbeat, ms.
    pub silent_ms: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokersReply {
    pub brokers: Vec<BrokerEntry>,
}
