//! Which brokers serve a topic, asked of any name server and remembered for a while.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use quern_protocol::{
    BrokerEntry, BrokerName, BrokerRoute, Brokers, Code, Operation, QueueId, Route, TopicName,
};
use quern_quic::CallError;
use tokio::time::Instant;

use crate::connections::{Connections, again_if_lost};
use crate::error::{Error, Result};
use crate::limits;

/// One queue of a topic, on one broker.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageQueue {
    /// The topic.
    pub topic: TopicName,
    /// The broker that has it.
    pub broker: BrokerName,
    /// Its number there.
    pub queue: QueueId,
}

type Key = (TopicName, bool);
type Known = (Instant, Arc<Vec<BrokerRoute>>);

/// The routes one client knows.
#[derive(Debug)]
pub(crate) struct Routes {
    name_servers: Vec<String>,
    /// The one that answered last.
    preferred: AtomicUsize,
    connections: Arc<Connections>,
    within: Duration,
    known: Mutex<HashMap<Key, Known>>,
}

const POISONED: &str = "no code that can panic runs under the routes lock";

impl Routes {
    pub(crate) fn new(
        name_servers: Vec<String>,
        connections: Arc<Connections>,
        within: Duration,
    ) -> Self {
        Self {
            name_servers,
            preferred: AtomicUsize::new(0),
            connections,
            within,
            known: Mutex::default(),
        }
    }

    /// Those that were given.
    pub(crate) fn name_servers(&self) -> &[String] {
        &self.name_servers
    }

    /// Brokers that serve a topic; `to_produce` includes those that would create it.
    pub(crate) async fn of(
        &self,
        topic: &TopicName,
        to_produce: bool,
    ) -> Result<Arc<Vec<BrokerRoute>>> {
        let key = (topic.clone(), to_produce);
        if let Some((asked, route)) = self.known.lock().expect(POISONED).get(&key)
            && asked.elapsed() < limits::ROUTE_AGE
        {
            return Ok(Arc::clone(route));
        }
        let ask = Route {
            topic: topic.clone(),
            to_produce,
        };
        let route = Arc::new(self.ask(&ask).await?.brokers);
        let known = (Instant::now(), Arc::clone(&route));
        self.known.lock().expect(POISONED).insert(key, known);
        Ok(route)
    }

    /// Write queues of a topic, as far as is known without asking.
    pub(crate) fn write_queues(&self, topic: &TopicName) -> Option<usize> {
        let known = self.known.lock().expect(POISONED);
        let (_, route) = known.get(&(topic.clone(), true))?;
        Some(route.iter().map(|it| it.write_queues as usize).sum())
    }

    /// What is known of a topic was wrong.
    pub(crate) fn forget(&self, topic: &TopicName) {
        let mut known = self.known.lock().expect(POISONED);
        known.retain(|(of, _), _| of != topic);
    }

    /// The broker of a name that serves a topic.
    pub(crate) async fn broker(&self, queue: &MessageQueue) -> Result<BrokerRoute> {
        let route = self.of(&queue.topic, false).await?;
        let found = route.iter().find(|it| it.broker == queue.broker).cloned();
        found.ok_or_else(|| {
            Error::new(
                Code::NO_ROUTE,
                format!(
                    "topic \"{}\" has no route to broker \"{}\"",
                    queue.topic, queue.broker
                ),
            )
        })
    }

    /// The address of this machine that the name server asked last is reached from.
    pub(crate) async fn local_ip(&self) -> Option<IpAddr> {
        let preferred = self.preferred.load(Ordering::Relaxed);
        let address = &self.name_servers[preferred];
        let live = self.connections.to_name_server(address).await;
        live.ok()?.connection.local_ip()
    }

    pub(crate) async fn brokers(&self) -> Result<Vec<BrokerEntry>> {
        Ok(self.ask(&Brokers {}).await?.brokers)
    }

    /// Asks the preferred name server, and the next ones too as soon as it fails or hesitates: any
    /// one of them is enough.
    async fn ask<O: Operation + Sync>(&self, question: &O) -> Result<O::Reply> {
        let first = self.preferred.load(Ordering::Relaxed);
        let count = self.name_servers.len();
        let mut waiting = (0..count).map(|n| (first + n) % count);
        let mut asked = FuturesUnordered::new();
        let mut failures = Vec::new();
        loop {
            if let Some(index) = waiting.next() {
                asked.push(async move { (index, self.ask_one(index, question).await) });
            }
            let hesitation = tokio::time::sleep(limits::NEXT_NAME_SERVER);
            tokio::select! {
                answer = asked.next() => match answer {
                    Some((index, Ok(reply))) => {
                        self.preferred.store(index, Ordering::Relaxed);
                        return Ok(reply);
                    }
                    Some((index, Err(error))) => failures.push((index, error)),
                    None => return Err(self.nobody_answered(failures)),
                },
                () = hesitation, if waiting.len() > 0 => {}
            }
        }
    }

    async fn ask_one<O: Operation + Sync>(&self, index: usize, question: &O) -> Result<O::Reply> {
        let until = Instant::now() + self.within;
        again_if_lost(|| async {
            let address = &self.name_servers[index];
            let connecting = self.connections.to_name_server(address);
            let connected = tokio::time::timeout_at(until, connecting).await;
            let live = connected.map_err(|_| self.silent())??;
            // No other end of this time may come before the call's own: that is what gives the connection up.
            let left = until.saturating_duration_since(Instant::now());
            match live.connection.call(question, Vec::new(), left).await {
                Err(CallError::Deadline(_)) => {
                    live.give_up();
                    Err(self.silent())
                }
                answer => Ok(answer?.0),
            }
        })
        .await
    }

    fn silent(&self) -> Error {
        Error::new(
            Code::DEADLINE,
            format!("no answer within {} ms", self.within.as_millis()),
        )
    }

    /// An answer that is a "no" counts more than silence.
    fn nobody_answered(&self, failures: Vec<(usize, Error)>) -> Error {
        let silent = |error: &Error| {
            [Code::CONNECT, Code::DEADLINE, Code::CONNECTION_LOST].contains(&error.coded())
        };
        if let Some((_, no)) = failures.iter().find(|(_, error)| !silent(error)) {
            return no.clone();
        }
        let reasons = failures
            .iter()
            .map(|(index, error)| format!("{}: {}", self.name_servers[*index], error.message()));
        let reasons: Vec<String> = reasons.collect();
        Error::new(
            Code::NO_NAME_SERVER,
            format!("no name server answered ({})", reasons.join("; ")),
        )
    }
}
