//! Brokers that failed of late, or took long: a producer takes others while there are some (RocketMQ's latency fault
//! avoidance, with its detector).
//!
//! One that failed is left alone for a second, twice as long each time, up to half a minute; then it is asked for a
//! heartbeat, and no message is risked on it before it answers. One that was slow is left alone, if the
//! application wants that, for 20 times as long as it took, up to five minutes, and then simply gets messages again.
//! One that refuses messages of a topic, because the topic is closed there or its disk is full, gets none of the topic
//! for a second; when all have refused, the send is told.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use quern_protocol::{BrokerName, BrokerRoute, Heartbeat, TopicName};
use tokio::time::Instant;

use crate::client::Client;
use crate::limits;

/// What one client knows of the health of brokers. Those it has nothing against are not in it.
#[derive(Debug)]
pub(crate) struct Health {
    avoids_slow: bool,
    avoided: Mutex<HashMap<BrokerName, Avoided>>,
    /// Until when a broker is asked for nothing of a topic it has refused.
    refused: Mutex<HashMap<(TopicName, BrokerName), Instant>>,
}

#[derive(Debug, Clone, Copy)]
struct Avoided {
    until: Instant,
    /// In a row; 0 = it was only slow.
    failures: u32,
    is_asked: bool,
}

const POISONED: &str = "no code that can panic runs under the health lock";

impl Health {
    pub(crate) fn new(avoids_slow: bool) -> Self {
        Self {
            avoids_slow,
            avoided: Mutex::default(),
            refused: Mutex::default(),
        }
    }

    fn avoided(&self) -> MutexGuard<'_, HashMap<BrokerName, Avoided>> {
        self.avoided.lock().expect(POISONED)
    }

    /// It did not answer, or there was no connection. Many sends may find out at once: that is one failure.
    pub(crate) fn failed(&self, broker: &BrokerName) {
        let (mut avoided, now) = (self.avoided(), Instant::now());
        let known = avoided.get(broker).filter(|it| it.failures > 0);
        if known.is_some_and(|it| it.until > now) {
            return;
        }
        let failures = known.map_or(0, |it| it.failures);
        let pause = limits::AVOID_FAILED * 2u32.saturating_pow(failures.min(8));
        let it = Avoided {
            until: now + pause.min(limits::AVOID_FAILED_MOST),
            failures: failures.saturating_add(1),
            is_asked: false,
        };
        avoided.insert(broker.clone(), it);
    }

    /// It answered, after so long.
    pub(crate) fn answered(&self, broker: &BrokerName, took: Duration) {
        let mut avoided = self.avoided();
        if took < limits::SLOW || !self.avoids_slow {
            avoided.remove(broker);
            return;
        }
        let pause = (took * 20).min(limits::AVOID_SLOW_MOST);
        let it = Avoided {
            until: Instant::now() + pause,
            failures: 0,
            is_asked: false,
        };
        avoided.insert(broker.clone(), it);
    }

    fn refused(&self) -> MutexGuard<'_, HashMap<(TopicName, BrokerName), Instant>> {
        self.refused.lock().expect(POISONED)
    }

    /// A broker took nothing for this topic.
    pub(crate) fn has_refused(&self, topic: &TopicName, broker: &BrokerName) {
        let (mut refused, now) = (self.refused(), Instant::now());
        refused.retain(|_, until| *until > now);
        let until = now + limits::AVOID_REFUSED;
        refused.insert((topic.clone(), broker.clone()), until);
    }

    /// Those of a route that have refused nothing of the topic of late, if any of them can be written to.
    fn open<'a>(
        &self,
        topic: &TopicName,
        route: &'a [BrokerRoute],
    ) -> Option<Cow<'a, [BrokerRoute]>> {
        let (refused, now) = (self.refused(), Instant::now());
        let is_open = |broker: &BrokerRoute| {
            let until = refused.get(&(topic.clone(), broker.broker.clone()));
            until.is_none_or(|until| *until <= now)
        };
        let open = match refused.is_empty() {
            true => Cow::Borrowed(route),
            false => route.iter().filter(|it| is_open(it)).cloned().collect(),
        };
        open.iter().any(|it| it.write_queues > 0).then_some(open)
    }

    /// Whether any broker of a route might take what another has refused.
    pub(crate) fn is_open(&self, topic: &TopicName, route: &[BrokerRoute]) -> bool {
        self.open(topic, route).is_some()
    }

    /// The brokers of a topic's route that there is nothing against; all of them, if there is something against all.
    /// One whose time is over after it failed is asked whether it is back.
    pub(crate) fn preferred<'a>(
        &self,
        client: &Client,
        topic: &TopicName,
        route: &'a [BrokerRoute],
    ) -> Cow<'a, [BrokerRoute]> {
        let open = self.open(topic, route).unwrap_or(Cow::Borrowed(route));
        self.healthy(client, &open).map_or(open, Cow::Owned)
    }

    /// `None` = as many as there are, or none that can be written to.
    fn healthy(&self, client: &Client, route: &[BrokerRoute]) -> Option<Vec<BrokerRoute>> {
        let (mut avoided, now) = (self.avoided(), Instant::now());
        if avoided.is_empty() {
            return None;
        }
        let good = route.iter().filter(|broker| {
            let Some(it) = avoided.get_mut(&broker.broker) else {
                return true;
            };
            let is_over = it.until <= now;
            if it.failures > 0 && is_over && !it.is_asked {
                it.is_asked = true;
                tokio::spawn(ask(client.clone(), (*broker).clone()));
            }
            it.failures == 0 && is_over
        });
        let good: Vec<_> = good.cloned().collect();
        good.iter().any(|it| it.write_queues > 0).then_some(good)
    }
}

async fn ask(client: Client, broker: BrokerRoute) {
    let beat = async {
        let live = client.live(&broker).await.ok()?;
        let call =
            live.connection
                .call(&Heartbeat { broker: None }, Vec::new(), limits::ASK_HEALTH);
        call.await.ok()
    };
    let began = Instant::now();
    match tokio::time::timeout(limits::ASK_HEALTH, beat).await {
        Ok(Some(_)) => client.0.health.answered(&broker.broker, began.elapsed()),
        Ok(None) | Err(_) => client.0.health.failed(&broker.broker),
    }
}
