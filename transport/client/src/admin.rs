//! Topics, routes and brokers, for tools and set-up code.

use quern_protocol::{
    BrokerEntry, BrokerName, BrokerRoute, Code, CreateTopic, DeleteTopic, DescribeTopic,
    DescribeTopicReply, ListTopics, Status, StatusReply, TopicName, TopicSummary,
};

use crate::client::Client;
use crate::error::{Error, Result};

/// Administration of one cluster.
#[derive(Debug, Clone)]
pub struct Admin(Client);

impl Admin {
    pub(crate) fn new(client: Client) -> Self {
        Self(client)
    }

    /// Brokers that are alive.
    pub async fn brokers(&self) -> Result<Vec<BrokerEntry>> {
        self.0.0.routes.brokers().await
    }

    async fn some_broker(&self) -> Result<Vec<BrokerEntry>> {
        let brokers = self.brokers().await?;
        if brokers.is_empty() {
            return Err(Error::new(
                Code::NO_ROUTE,
                "no broker is registered with this name server",
            ));
        }
        Ok(brokers)
    }

    /// Creates a topic with this many queues on every broker. Returns the brokers that have it now;
    /// an error when it existed on all of them.
    pub async fn create_topic(&self, name: &str, queues: u32) -> Result<Vec<BrokerName>> {
        let request = CreateTopic {
            topic: TopicName::new(name)?,
            read_queues: queues,
            write_queues: queues,
        };
        let mut created = Vec::new();
        let mut existed = None;
        for broker in self.some_broker().await? {
            match self.0.call(&broker.address, &request).await {
                Ok(_) => created.push(broker.broker),
                Err(error) if error.coded() == Code::ALREADY_EXISTS => existed = Some(error),
                Err(error) => return Err(error),
            }
        }
        self.0.0.routes.forget(&request.topic);
        match existed {
            Some(error) if created.is_empty() => Err(error),
            _ => Ok(created),
        }
    }

    /// A topic on each broker that has it.
    pub async fn describe_topic(
        &self,
        name: &str,
    ) -> Result<Vec<(BrokerName, DescribeTopicReply)>> {
        let request = DescribeTopic {
            topic: TopicName::new(name)?,
        };
        let mut found = Vec::new();
        let mut missing = None;
        for broker in self.some_broker().await? {
            match self.0.call(&broker.address, &request).await {
                Ok(reply) => found.push((broker.broker, reply)),
                Err(error) if error.coded() == Code::NOT_FOUND => missing = Some(error),
                Err(error) => return Err(error),
            }
        }
        match missing {
            Some(error) if found.is_empty() => Err(error),
            _ => Ok(found),
        }
    }

    /// All topics of all brokers.
    pub async fn list_topics(&self) -> Result<Vec<(BrokerName, TopicSummary)>> {
        let mut all = Vec::new();
        for broker in self.brokers().await? {
            let reply = self.0.call(&broker.address, &ListTopics {}).await?;
            let topics = reply.topics.into_iter();
            all.extend(topics.map(|topic| (broker.broker.clone(), topic)));
        }
        all.sort_by(|a, b| (&a.1.topic, &a.0).cmp(&(&b.1.topic, &b.0)));
        Ok(all)
    }

    /// Deletes a topic everywhere; returns how many messages can no longer be read.
    pub async fn delete_topic(&self, name: &str) -> Result<u64> {
        let request = DeleteTopic {
            topic: TopicName::new(name)?,
        };
        let (mut messages, mut deleted, mut missing) = (0, false, None);
        for broker in self.some_broker().await? {
            match self.0.call(&broker.address, &request).await {
                Ok(reply) => {
                    messages += reply.messages;
                    deleted = true;
                }
                Err(error) if error.coded() == Code::NOT_FOUND => missing = Some(error),
                Err(error) => return Err(error),
            }
        }
        self.0.0.routes.forget(&request.topic);
        match missing {
            Some(error) if !deleted => Err(error),
            _ => Ok(messages),
        }
    }

    /// Who serves a topic.
    pub async fn route(&self, name: &str) -> Result<Vec<BrokerRoute>> {
        let topic = TopicName::new(name)?;
        self.0.0.routes.forget(&topic);
        let route = self.0.0.routes.of(&topic, false).await?;
        Ok(route.to_vec())
    }

    /// What the broker at an address says of itself.
    pub async fn status(&self, address: &str) -> Result<StatusReply> {
        self.0.call(address, &Status {}).await
    }
}
