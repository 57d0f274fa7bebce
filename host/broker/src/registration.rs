//! Keeps this broker known to one name server: registers, tells of new topics at once, sends a
//! heartbeat every second, and starts again whenever the name server has forgotten. A table of topics that
//! the name server has already is not sent again: now and then, and after a lost connection, its fingerprint is
//! compared.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use quern_protocol::{
    Code, ConfirmBroker, Heartbeat, Hello, PublishTopics, RegisterBroker, Role, TopicName,
    TopicQueues,
};
use quern_quic::{Backoff, CallError, CloseReason, ConnectError, Connection, Connector};
use tokio::sync::watch;

use crate::{Broker, limits};

/// The task of one name server.
pub(crate) struct Registration {
    broker: Weak<Broker>,
    connector: Connector,
    address: String,
    topics_version: watch::Receiver<u64>,
    boot: u64,
    /// It has registered in this process' life.
    has_registered: bool,
    /// The name server compares fingerprints; those of earlier releases do not.
    confirms: bool,
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Call(#[from] CallError),
}

/// Why a registration ended without an error.
enum End {
    BrokerGone,
    Forgotten,
}

impl Registration {
    pub(crate) fn new(broker: &Arc<Broker>, connector: &Connector, address: &str) -> Self {
        Self {
            broker: Arc::downgrade(broker),
            connector: connector.clone(),
            address: address.to_owned(),
            topics_version: broker.topics_version.subscribe(),
            boot: fastrand::u64(..),
            has_registered: false,
            confirms: true,
        }
    }

    pub(crate) async fn run(mut self) {
        let mut backoff = Backoff::new();
        let mut complained = false;
        loop {
            tokio::time::sleep(backoff.next(fastrand::f64())).await;
            let since = self.steady_ms();
            let end = self.once().await;
            backoff.healthy(Duration::from_millis(
                self.steady_ms().saturating_sub(since),
            ));
            match end {
                Ok(End::BrokerGone) => return,
                Ok(End::Forgotten) => {
                    tracing::info!(namesrv = %self.address, "name server has forgotten this broker; registering again");
                    complained = false;
                }
                Err(error) => {
                    // Once per outage: the back-off would fill the log.
                    if !complained {
                        tracing::warn!(namesrv = %self.address, %error, "not registered; trying again");
                        complained = true;
                    }
                }
            }
        }
    }

    /// One connection, from greeting to its end.
    async fn once(&mut self) -> Result<End, Failed> {
        let connection = self.connector.connect(&self.address).await?;
        let end = self.serve(&connection).await;
        self.is_published(None);
        // Said goodbye to, the name server lets the routes go at once; one that stays only begins anew.
        let reason = match end {
            Ok(End::BrokerGone) => CloseReason::Bye,
            Ok(End::Forgotten) | Err(_) => CloseReason::Limit,
        };
        connection.close(reason, "begins anew");
        end
    }

    async fn serve(&mut self, connection: &Connection) -> Result<End, Failed> {
        connection.hello(&Hello::new(Role::Broker)).await?;
        let mut version = *self.topics_version.borrow_and_update();
        let Some((register, mut known)) = self.introduction() else {
            return Ok(End::BrokerGone);
        };
        self.introduce(connection, &register).await?;
        self.is_published(Some(version));
        let name = register.broker;
        let mut ticks = tokio::time::interval(limits::HEARTBEAT);
        let mut confirmed_ms = self.steady_ms();
        loop {
            let changed = tokio::select! {
                changed = self.topics_version.changed() => changed.is_ok(),
                _ = ticks.tick() => false,
            };
            if changed {
                version = *self.topics_version.borrow_and_update();
            }
            let Some(topics) = self.topics() else {
                return Ok(End::BrokerGone);
            };
            let is_due = self.steady_ms().saturating_sub(confirmed_ms) >= limits::CONFIRM;
            let registered = if changed {
                let Some(broker) = self.broker.upgrade() else {
                    return Ok(End::BrokerGone);
                };
                let news = PublishTopics {
                    being_deleted: being_deleted(&broker),
                    ..differences(&name, &known, &topics)
                };
                drop(broker);
                known = topics;
                let registered = call(connection, &news).await?.registered;
                self.is_published(Some(version));
                registered
            } else if is_due && self.confirms {
                let Some((register, topics)) = self.introduction() else {
                    return Ok(End::BrokerGone);
                };
                known = topics;
                confirmed_ms = self.steady_ms();
                self.introduce(connection, &register).await?;
                self.is_published(Some(version));
                true
            } else {
                let beat = Heartbeat {
                    broker: Some(name.clone()),
                };
                call(connection, &beat).await?.registered
            };
            if !registered {
                return Ok(End::Forgotten);
            }
        }
    }

    /// Registers, unless what is registered is the same.
    async fn introduce(
        &mut self,
        connection: &Connection,
        register: &RegisterBroker,
    ) -> Result<(), CallError> {
        let topics = register.topics.len();
        if self.has_registered && self.confirms && self.confirm(connection, register).await? {
            tracing::debug!(namesrv = %self.address, topics, "registered as it is");
            return Ok(());
        }
        call(connection, register).await?;
        self.has_registered = true;
        tracing::info!(namesrv = %self.address, topics, "registered");
        Ok(())
    }

    async fn confirm(
        &mut self,
        connection: &Connection,
        register: &RegisterBroker,
    ) -> Result<bool, CallError> {
        let being_deleted = register.being_deleted.iter();
        let being_deleted = being_deleted.map(|(topic, at)| (topic, *at));
        let confirm = ConfirmBroker {
            broker: register.broker.clone(),
            fingerprint: register.fingerprint(&register.topics, being_deleted),
        };
        match call(connection, &confirm).await {
            Ok(reply) => Ok(reply.registered),
            Err(CallError::Remote(error)) if error.is(Code::UNSUPPORTED) => {
                self.confirms = false;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// This name server knows the topics of that version; `None` = it does not know this broker any more.
    fn is_published(&self, version: Option<u64>) {
        let Some(broker) = self.broker.upgrade() else {
            return;
        };
        broker.published.send_modify(|known| match version {
            Some(version) => drop(known.insert(self.address.clone(), version)),
            None => drop(known.remove(&self.address)),
        });
    }

    fn steady_ms(&self) -> u64 {
        self.broker
            .upgrade()
            .map_or(0, |broker| broker.store.steady_ms())
    }

    /// The broker's topics; `None` once it drains, which ends the registration.
    fn topics(&self) -> Option<HashMap<TopicName, TopicQueues>> {
        let broker = self.broker.upgrade()?;
        if broker.is_draining() {
            return None;
        }
        let topics = broker.state.topics.list();
        let topics = topics.iter().map(|topic| TopicQueues {
            topic: topic.name.clone(),
            read_queues: topic.read_queues,
            write_queues: topic.write_queues,
        });
        Some(topics.map(|it| (it.topic.clone(), it)).collect())
    }

    fn introduction(&self) -> Option<(RegisterBroker, HashMap<TopicName, TopicQueues>)> {
        let topics = self.topics()?;
        let broker = self.broker.upgrade()?;
        let register = RegisterBroker {
            cluster: broker.config.cluster.clone(),
            broker: broker.config.name.clone(),
            address: broker.config.advertise.clone(),
            epoch: broker.store.epoch(),
            boot: self.boot,
            auto_create_queues: broker.config.auto_create_queues,
            topics: topics.values().cloned().collect(),
            being_deleted: being_deleted(&broker),
        };
        Some((register, topics))
    }
}

async fn call<O: quern_protocol::Operation + Sync>(
    connection: &Connection,
    operation: &O,
) -> Result<O::Reply, CallError> {
    let within: Duration = limits::NAME_SERVER_ANSWER;
    let (reply, _) = connection.call(operation, Vec::new(), within).await?;
    Ok(reply)
}

/// Topics that can still come back, and until when.
fn being_deleted(broker: &Broker) -> Vec<(TopicName, u64)> {
    let topics = broker.state.topics.being_deleted().into_iter();
    topics.map(|(it, at)| (it.name.clone(), at)).collect()
}

fn differences(
    broker: &quern_protocol::BrokerName,
    before: &HashMap<TopicName, TopicQueues>,
    now: &HashMap<TopicName, TopicQueues>,
) -> PublishTopics {
    PublishTopics {
        broker: broker.clone(),
        topics: now
            .values()
            .filter(|it| before.get(&it.topic) != Some(it))
            .cloned()
            .collect(),
        deleted: before
            .keys()
            .filter(|name| !now.contains_key(*name))
            .cloned()
            .collect(),
        being_deleted: Vec::new(),
    }
}
