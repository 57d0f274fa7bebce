//! The route table: which broker serves which topic, and which brokers are alive. A pure state
//! machine: time comes in with every event, so every test can say when it is.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use quern_protocol::{
    BrokerEntry, BrokerName, BrokerRoute, Code, ConfirmBroker, PublishTopics, RegisterBroker,
    Route, TopicName, TopicQueues, WireError, being_deleted,
};

use crate::limits;

/// Time since the name server started.
pub(crate) type Now = Duration;
/// A connection, numbered by the listener.
pub(crate) type ConnectionId = u64;

#[derive(Debug)]
struct Registered {
    register: RegisterBroker,
    topics: HashMap<TopicName, TopicQueues>,
    /// And when each is gone, ms since 1970.
    being_deleted: HashMap<TopicName, u64>,
    connection: ConnectionId,
    last_heard: Now,
    /// When its connection was lost, unless it has come back.
    lost: Option<Now>,
}

impl Registered {
    fn fingerprint(&self) -> u64 {
        let being_deleted = self.being_deleted.iter();
        let being_deleted = being_deleted.map(|(topic, at)| (topic, *at));
        self.register
            .fingerprint(self.topics.values(), being_deleted)
    }

    /// When it is gone, unless it is heard before.
    fn gone_at(&self) -> Now {
        let silent = self.last_heard + limits::EXPIRY;
        let lost = self.lost.map(|at| at + limits::COME_BACK);
        lost.map_or(silent, |at| at.min(silent))
    }
}

/// All brokers this name server knows, by name.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    brokers: BTreeMap<BrokerName, Registered>,
    /// When silence is looked for next; `None` = there is nobody to be missed.
    look_at: Option<Now>,
}

impl Routes {
    /// A broker introduces itself, or comes back.
    pub(crate) fn register(
        &mut self,
        mut register: RegisterBroker,
        connection: ConnectionId,
        now: Now,
    ) -> Result<(), WireError> {
        let name = register.broker.clone();
        if register.topics.len().max(register.being_deleted.len()) > limits::TOPICS_PER_BROKER {
            return Err(too_many("topics of a broker", limits::TOPICS_PER_BROKER));
        }
        match self.brokers.get(&name) {
            Some(other) if other.lost.is_none() && other.register.address != register.address => {
                return Err(WireError::new(
                    Code::BROKER_NAME_TAKEN,
                    format!(
                        "a broker named \"{name}\" is registered at {} and alive; this one is at {}",
                        other.register.address, register.address
                    ),
                ));
            }
            None if self.brokers.len() >= limits::BROKERS => {
                return Err(too_many("brokers", limits::BROKERS));
            }
            Some(_) | None => {}
        }
        let topics = std::mem::take(&mut register.topics);
        let being_deleted = std::mem::take(&mut register.being_deleted);
        let registered = Registered {
            register,
            being_deleted: being_deleted.into_iter().collect(),
            topics: topics
                .into_iter()
                .map(|it| (it.topic.clone(), it))
                .collect(),
            connection,
            last_heard: now,
            lost: None,
        };
        self.brokers.insert(name, registered);
        self.look_earlier(now);
        Ok(())
    }

    /// False: this broker has to register first.
    pub(crate) fn heartbeat(
        &mut self,
        broker: &BrokerName,
        connection: ConnectionId,
        now: Now,
    ) -> bool {
        self.hear(broker, connection, now).is_some()
    }

    /// False: this broker has to register first, for something else is registered of it, or nothing. If not, its
    /// registration is this connection's from now on.
    pub(crate) fn confirm(
        &mut self,
        confirm: &ConfirmBroker,
        connection: ConnectionId,
        now: Now,
    ) -> bool {
        let Some(registered) = self.brokers.get_mut(&confirm.broker) else {
            return false;
        };
        if registered.fingerprint() != confirm.fingerprint {
            return false;
        }
        (registered.connection, registered.last_heard) = (connection, now);
        registered.lost = None;
        true
    }

    /// False: this broker has to register first.
    pub(crate) fn publish(
        &mut self,
        news: PublishTopics,
        connection: ConnectionId,
        now: Now,
    ) -> bool {
        let Some(registered) = self.hear(&news.broker, connection, now) else {
            return false;
        };
        let being_deleted = news.being_deleted.into_iter();
        registered.being_deleted = being_deleted.take(limits::TOPICS_PER_BROKER).collect();
        for name in &news.deleted {
            registered.topics.remove(name);
        }
        for it in news.topics {
            if registered.topics.len() < limits::TOPICS_PER_BROKER {
                registered.topics.insert(it.topic.clone(), it);
            }
        }
        true
    }

    fn hear(
        &mut self,
        broker: &BrokerName,
        connection: ConnectionId,
        now: Now,
    ) -> Option<&mut Registered> {
        let registered = self.brokers.get_mut(broker)?;
        // Another connection has registered under this name since.
        if registered.connection != connection {
            return None;
        }
        registered.last_heard = now;
        Some(registered)
    }

    /// Forgets the broker of a connection that it has ended.
    pub(crate) fn disconnect(&mut self, connection: ConnectionId) -> Option<BrokerName> {
        self.forget(|registered| registered.connection == connection)
            .pop()
    }

    /// A connection is lost: its broker may come back on another one, for a while.
    pub(crate) fn lose(&mut self, connection: ConnectionId, now: Now) -> Option<BrokerName> {
        let mut brokers = self.brokers.iter_mut();
        let (name, lost) = brokers.find(|(_, it)| it.connection == connection)?;
        lost.lost = Some(now);
        let name = name.clone();
        self.look_earlier(now);
        Some(name)
    }

    /// When silence is to be looked for, by [`Self::expire`]: half of a broker's time before it could be over, and from
    /// then on often, so that this name server would notice if it slept itself meanwhile.
    pub(crate) fn look_at(&self) -> Option<Now> {
        self.look_at
    }

    fn next_look(&self, now: Now) -> Option<Now> {
        let gone_at = self.brokers.values().map(Registered::gone_at).min()?;
        let early = gone_at.saturating_sub(limits::EXPIRY / 2);
        Some(early.max(now + limits::SWEEP).min(gone_at))
    }

    /// Only earlier than was meant: by how late a look is, this name server knows that it slept.
    fn look_earlier(&mut self, now: Now) {
        let (meant, next) = (self.look_at, self.next_look(now));
        self.look_at = meant.into_iter().chain(next).min();
    }

    /// Forgets brokers that have been lost or silent for too long. What this name server has slept itself, because
    /// its process or machine stood still, is nobody's silence.
    pub(crate) fn expire(&mut self, now: Now) -> Vec<BrokerName> {
        let late = self.look_at.map_or(Now::ZERO, |at| now.saturating_sub(at));
        if late >= limits::COME_BACK {
            for registered in self.brokers.values_mut() {
                registered.last_heard = (registered.last_heard + late).min(now);
                registered.lost = registered.lost.map(|at| (at + late).min(now));
            }
        }
        let gone = self.forget(|registered| registered.gone_at() <= now);
        self.look_at = self.next_look(now);
        gone
    }

    fn forget(&mut self, gone: impl Fn(&Registered) -> bool) -> Vec<BrokerName> {
        let mut forgotten = Vec::new();
        self.brokers.retain(|name, registered| {
            let gone = gone(registered);
            if gone {
                forgotten.push(name.clone());
            }
            !gone
        });
        forgotten
    }

    /// Brokers that serve a topic; for producers also those that would create it.
    pub(crate) fn route(&self, ask: &Route) -> Result<Vec<BrokerRoute>, WireError> {
        let mut found = self.collect(|it| {
            let queues = it.topics.get(&ask.topic)?;
            Some((queues.read_queues, queues.write_queues))
        });
        if found.is_empty()
            && let Some(gone_at) = self.being_deleted(&ask.topic)
        {
            // Nor is it made anew by its next message: who sends it may not know.
            return Err(being_deleted(&ask.topic, gone_at));
        }
        if found.is_empty() && ask.to_produce {
            found = self.collect(|it| {
                let queues = it.register.auto_create_queues?;
                Some((queues, queues))
            });
        }
        if found.is_empty() {
            return Err(no_route(&ask.topic, self.brokers.len()));
        }
        Ok(found)
    }

    /// When the last broker that has it lets a topic go.
    fn being_deleted(&self, topic: &TopicName) -> Option<u64> {
        let brokers = self.brokers.values();
        brokers
            .filter_map(|it| it.being_deleted.get(topic).copied())
            .max()
    }

    fn collect(&self, queues: impl Fn(&Registered) -> Option<(u32, u32)>) -> Vec<BrokerRoute> {
        let of = |it: &Registered| {
            let (read_queues, write_queues) = queues(it)?;
            Some(BrokerRoute {
                cluster: it.register.cluster.clone(),
                broker: it.register.broker.clone(),
                address: it.register.address.clone(),
                read_queues,
                write_queues,
                epoch: it.register.epoch,
            })
        };
        self.brokers.values().filter_map(of).collect()
    }

    pub(crate) fn brokers(&self, now: Now) -> Vec<BrokerEntry> {
        let entry = |it: &Registered| BrokerEntry {
            cluster: it.register.cluster.clone(),
            broker: it.register.broker.clone(),
            address: it.register.address.clone(),
            epoch: it.register.epoch,
            topics: it.topics.len() as u32,
            silent_ms: now.saturating_sub(it.last_heard).as_millis() as u32,
        };
        self.brokers.values().map(entry).collect()
    }
}

fn too_many(what: &str, max: usize) -> WireError {
    WireError::new(
        Code::RETRY_AFTER,
        format!("this name server keeps at most {max} {what}"),
    )
    .after_ms(10_000)
}

fn no_route(topic: &TopicName, brokers: usize) -> WireError {
    let text = match brokers {
        0 => format!("topic \"{topic}\" has no route: no broker is registered here"),
        1 => format!(
            "topic \"{topic}\" has no route: the one broker registered here does not serve it. Create it: quern topic create {topic}"
        ),
        n => format!(
            "topic \"{topic}\" has no route: none of {n} brokers registered here serves it. Create it: quern topic create {topic}"
        ),
    };
    WireError::new(Code::NO_ROUTE, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quern_protocol::Epoch;

    fn topic(name: &str) -> TopicQueues {
        TopicQueues {
            topic: TopicName::new(name).unwrap(),
            read_queues: 8,
            write_queues: 4,
        }
    }

    fn broker(name: &str, topics: &[&str]) -> RegisterBroker {
        RegisterBroker {
            cluster: "c".to_owned(),
            broker: BrokerName::new(name).unwrap(),
            address: format!("{name}:10911"),
            epoch: Epoch(1),
            boot: 1,
            auto_create_queues: (name == "auto").then_some(2),
            topics: topics.iter().map(|name| topic(name)).collect(),
            being_deleted: Vec::new(),
        }
    }

    fn route(routes: &Routes, topic: &str, to_produce: bool) -> Result<Vec<String>, u16> {
        let ask = Route {
            topic: TopicName::new(topic).unwrap(),
            to_produce,
        };
        match routes.route(&ask) {
            Ok(found) => Ok(found.iter().map(|it| it.broker.to_string()).collect()),
            Err(error) => Err(error.code),
        }
    }

    const NO: Result<Vec<String>, u16> = Err(Code::NO_ROUTE.number);

    fn names(names: &[&str]) -> Result<Vec<String>, u16> {
        Ok(names.iter().map(|&name| name.to_owned()).collect())
    }

    /// Looks as a name server does that is awake all the time; who goes, and when.
    fn sweep(routes: &mut Routes, until: Now) -> Vec<(Now, String)> {
        let mut gone = Vec::new();
        while let Some(now) = routes.look_at().filter(|it| *it <= until) {
            let names = routes.expire(now).into_iter();
            gone.extend(names.map(|it| (now, it.to_string())));
        }
        gone
    }

    fn confirm(of: &RegisterBroker) -> ConfirmBroker {
        let being_deleted = of.being_deleted.iter().map(|(topic, at)| (topic, *at));
        ConfirmBroker {
            broker: of.broker.clone(),
            fingerprint: of.fingerprint(&of.topics, being_deleted),
        }
    }

    #[test]
    fn a_table_is_confirmed_by_its_fingerprint_however_it_came_about() {
        let mut routes = Routes::default();
        let zero = Duration::ZERO;
        let all = broker("a", &["t", "u", "v"]);
        assert!(!routes.confirm(&confirm(&all), 1, zero), "nobody knows it");
        routes.register(broker("a", &["u", "w"]), 1, zero).unwrap();
        assert!(!routes.confirm(&confirm(&all), 1, zero));
        let news = PublishTopics {
            broker: all.broker.clone(),
            topics: vec![topic("v"), topic("t")],
            deleted: vec![TopicName::new("w").unwrap()],
            being_deleted: Vec::new(),
        };
        assert!(routes.publish(news, 1, zero));
        assert!(routes.confirm(&confirm(&all), 1, zero));
        let mut others = [all.clone(), all.clone(), all.clone(), all.clone()];
        others[0].topics[1].read_queues += 1;
        others[1].boot += 1;
        others[2].address = "elsewhere:1".to_owned();
        others[3]
            .being_deleted
            .push((TopicName::new("w").unwrap(), 1));
        for other in others {
            assert!(!routes.confirm(&confirm(&other), 2, zero), "{other:?}");
        }
        assert!(routes.heartbeat(&all.broker, 1, zero), "still its own");
    }

    #[test]
    fn a_lost_broker_may_come_back_for_a_moment_and_goes_then() {
        let ms = Duration::from_millis;
        let mut routes = Routes::default();
        let all = broker("a", &["t"]);
        routes.register(all.clone(), 1, ms(0)).unwrap();
        assert_eq!(routes.lose(1, ms(100)), Some(all.broker.clone()));
        assert_eq!(sweep(&mut routes, ms(1_050)), []);
        assert_eq!(route(&routes, "t", false), names(&["a"]), "no flap");
        assert!(routes.confirm(&confirm(&all), 2, ms(1_050)));
        assert_eq!(sweep(&mut routes, ms(3_000)), []);
        assert_eq!(routes.lose(1, ms(3_000)), None, "it has come back");

        routes.lose(2, ms(3_000));
        // Its name is free for who comes from elsewhere.
        let mut other = all.clone();
        other.address = "elsewhere:1".to_owned();
        routes.register(other, 3, ms(3_100)).unwrap();
        routes.lose(3, ms(3_200));
        let gone = sweep(&mut routes, ms(5_000));
        assert_eq!(gone, [(ms(4_200), "a".to_owned())]);
        assert_eq!(routes.look_at(), None, "there is nobody to be missed");
        assert_eq!(route(&routes, "t", false), NO);
        assert!(!routes.confirm(&confirm(&all), 4, ms(5_000)));
    }

    #[test]
    fn a_name_server_that_stood_still_has_missed_nobody() {
        let s = Duration::from_secs;
        let mut routes = Routes::default();
        routes.register(broker("a", &["t"]), 1, s(0)).unwrap();
        assert_eq!(sweep(&mut routes, s(1)), []);
        assert!(routes.expire(s(60)).is_empty());
        // What is done before the look does not hide that it is late.
        routes.lose(1, s(80));
        assert!(routes.expire(s(80)).is_empty());
        routes.lose(1, s(80));
        assert!(routes.expire(s(90)).is_empty());
        assert_eq!(sweep(&mut routes, s(100)).len(), 1);
    }

    #[test]
    fn a_topic_is_routed_to_the_living_brokers_that_serve_it() {
        let s = Duration::from_secs;
        let mut routes = Routes::default();
        assert_eq!(route(&routes, "t", true), NO);
        routes.register(broker("a", &["t"]), 1, s(0)).unwrap();
        routes.register(broker("b", &["t", "u"]), 2, s(0)).unwrap();
        assert_eq!(route(&routes, "t", false), names(&["a", "b"]));
        assert_eq!(route(&routes, "u", false), names(&["b"]));

        // Silence.
        let a = BrokerName::new("a").unwrap();
        assert!(routes.heartbeat(&a, 1, s(9)));
        assert_eq!(sweep(&mut routes, s(10)), [(s(10), "b".to_owned())]);
        assert_eq!(route(&routes, "u", false), NO);
        // An end.
        assert_eq!(routes.disconnect(1), Some(a.clone()));
        assert_eq!(route(&routes, "t", false), NO);
        assert!(!routes.heartbeat(&a, 1, s(11)));
    }

    #[test]
    fn news_of_topics_change_the_route_at_once() {
        let mut routes = Routes::default();
        let zero = Duration::ZERO;
        routes.register(broker("a", &["t"]), 1, zero).unwrap();
        let news = PublishTopics {
            broker: BrokerName::new("a").unwrap(),
            topics: vec![topic("u")],
            deleted: vec![TopicName::new("t").unwrap()],
            being_deleted: vec![(TopicName::new("t").unwrap(), 1)],
        };
        assert!(routes.publish(news.clone(), 1, zero));
        assert_eq!(route(&routes, "u", false), names(&["a"]));
        // Not even by who would make it anew, until it is gone or some broker has it again.
        routes.register(broker("auto", &[]), 2, zero).unwrap();
        let deleted = Err(Code::TOPIC_DELETED.number);
        assert_eq!(route(&routes, "t", true), deleted);
        assert_eq!(route(&routes, "t", false), deleted);
        let gone = PublishTopics {
            topics: Vec::new(),
            being_deleted: Vec::new(),
            ..news
        };
        assert!(routes.publish(gone, 1, zero));
        assert_eq!(route(&routes, "t", false), NO);
        assert_eq!(route(&routes, "t", true), names(&["auto"]));
    }

    #[test]
    fn only_producers_are_sent_to_brokers_that_create_topics() {
        let mut routes = Routes::default();
        let zero = Duration::ZERO;
        routes.register(broker("a", &[]), 1, zero).unwrap();
        routes.register(broker("auto", &[]), 2, zero).unwrap();
        assert_eq!(route(&routes, "new", true), names(&["auto"]));
        assert_eq!(route(&routes, "new", false), NO);
    }

    #[test]
    fn a_name_belongs_to_one_address_while_that_is_alive() {
        let s = Duration::from_secs;
        let mut routes = Routes::default();
        routes.register(broker("a", &[]), 1, s(0)).unwrap();
        let mut other = broker("a", &[]);
        other.address = "elsewhere:1".to_owned();
        let error = routes.register(other.clone(), 2, s(1)).unwrap_err();
        assert!(error.is(Code::BROKER_NAME_TAKEN), "{error}");
        // The same broker restarted: the old connection is heard no more.
        routes.register(broker("a", &[]), 3, s(2)).unwrap();
        let a = BrokerName::new("a").unwrap();
        assert!(!routes.heartbeat(&a, 1, s(3)));
        assert_eq!(routes.disconnect(1), None);
        sweep(&mut routes, s(20));
        routes.register(other, 4, s(20)).unwrap();
    }
}
