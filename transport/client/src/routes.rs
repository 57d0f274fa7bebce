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
use crate::error::{Error, ErrorKind, Result};
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

/// What a name server said last.
#[derive(Debug)]
struct Known {
    route: Arc<Vec<BrokerRoute>>,
    /// From then on it holds only if nobody says otherwise.
    asked_again_at: Instant,
}

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

    /// Brokers that serve a topic; `to_produce` includes those that would create it. Brokers outlive name servers: while
    /// none of these answers, what was known last holds.
    pub(crate) async fn of(
        &self,
        topic: &TopicName,
        to_produce: bool,
    ) -> Result<Arc<Vec<BrokerRoute>>> {
        let key = (topic.clone(), to_produce);
        let is_known = match self.known.lock().expect(POISONED).get(&key) {
            Some(known) if Instant::now() < known.asked_again_at => {
                return Ok(Arc::clone(&known.route));
            }
            known => known.is_some(),
        };
        match self.ask_for_route(&key, is_known).await {
            Err(error) if error.coded() == Code::NO_NAME_SERVER => {
                let mut known = self.known.lock().expect(POISONED);
                let known = known.get_mut(&key).ok_or(error)?;
                let again_at = Instant::now() + limits::ROUTE_AGAIN;
                known.asked_again_at = known.asked_again_at.max(again_at);
                Ok(Arc::clone(&known.route))
            }
            answer => answer,
        }
    }

    /// The same as a name server has it now.
    pub(crate) async fn now(&self, topic: &TopicName) -> Result<Arc<Vec<BrokerRoute>>> {
        self.ask_for_route(&(topic.clone(), false), false).await
    }

    async fn ask_for_route(&self, key: &Key, is_known: bool) -> Result<Arc<Vec<BrokerRoute>>> {
        let ask = Route {
            topic: key.0.clone(),
            to_produce: key.1,
        };
        let answer = self.ask(&ask, self.patience(is_known)).await;
        let mut known = self.known.lock().expect(POISONED);
        match answer {
            Ok(reply) => {
                let route = Arc::new(reply.brokers);
                let now = Known {
                    route: Arc::clone(&route),
                    asked_again_at: Instant::now() + limits::ROUTE_AGE,
                };
                known.insert(key.clone(), now);
                Ok(route)
            }
            Err(error) => {
                if error.kind() == ErrorKind::NotFound {
                    known.remove(key);
                }
                Err(error)
            }
        }
    }

    /// How long an answer is waited for: not for long by who knows an older one.
    fn patience(&self, is_known: bool) -> Duration {
        match is_known {
            true => self.within.min(limits::ASK_AGAIN),
            false => self.within,
        }
    }

    /// Write queues of a topic, as far as is known without asking.
    pub(crate) fn write_queues(&self, topic: &TopicName) -> Option<usize> {
        let known = self.known.lock().expect(POISONED);
        let known = known.get(&(topic.clone(), true))?;
        Some(known.route.iter().map(|it| it.write_queues as usize).sum())
    }

    /// What is known of a topic may be wrong: it is asked for before it is used again.
    pub(crate) fn doubt(&self, topic: &TopicName) {
        let (now, mut known) = (Instant::now(), self.known.lock().expect(POISONED));
        for to_produce in [false, true] {
            if let Some(known) = known.get_mut(&(topic.clone(), to_produce)) {
                known.asked_again_at = now;
            }
        }
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
        Ok(self.ask(&Brokers {}, self.within).await?.brokers)
    }

    /// The same for who goes on with those it knows if nobody answers soon.
    pub(crate) async fn brokers_again(&self) -> Result<Vec<BrokerEntry>> {
        let within = self.patience(true);
        Ok(self.ask(&Brokers {}, within).await?.brokers)
    }

    /// Asks the preferred name server, and the next ones too as soon as it fails or hesitates: any
    /// one of them is enough.
    async fn ask<O: Operation + Sync>(&self, question: &O, within: Duration) -> Result<O::Reply> {
        let first = self.preferred.load(Ordering::Relaxed);
        let count = self.name_servers.len();
        let mut waiting = (0..count).map(|n| (first + n) % count);
        let mut asked = FuturesUnordered::new();
        let mut failures = Vec::new();
        loop {
            if let Some(index) = waiting.next() {
                asked.push(async move { (index, self.ask_one(index, question, within).await) });
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

    async fn ask_one<O: Operation + Sync>(
        &self,
        index: usize,
        question: &O,
        within: Duration,
    ) -> Result<O::Reply> {
        let until = Instant::now() + within;
        again_if_lost(|| async {
            let address = &self.name_servers[index];
            let connecting = self.connections.to_name_server(address);
            let connected = tokio::time::timeout_at(until, connecting).await;
            let live = connected.map_err(|_| no_answer(within))??;
            // No other end of this time may come before the call's own: that is what gives the connection up.
            let left = until.saturating_duration_since(Instant::now());
            match live.connection.call(question, Vec::new(), left).await {
                Err(CallError::Deadline(_)) => {
                    live.give_up();
                    Err(no_answer(within))
                }
                answer => Ok(answer?.0),
            }
        })
        .await
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

fn no_answer(within: Duration) -> Error {
    let text = format!("no answer within {} ms", within.as_millis());
    Error::new(Code::DEADLINE, text)
}
