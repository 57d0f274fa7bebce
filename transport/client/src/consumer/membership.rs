//! A member's life with its group: it joins at the coordinator, hears which queues it shall have, and has a
//! [`Holder`] for each broker see to their leases. When it ends, it gives everything back and leaves.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use quern_protocol::retry::retry_topic;
use quern_protocol::{
    BrokerEntry, BrokerName, BrokerRoute, Code, CommitOffsets, Filter, GroupName, GroupSetting,
    JoinGroup, JoinGroupReply, LeaseQueues, LeaseQueuesReply, LeaveGroup, Operation, QueueOffset,
    QueuePosition, ReadQueues, Selector, Share, Subscription, TopicName, group,
};
use quern_quic::Backoff;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::group::Flow;
use super::holder::{Holder, Wanted};
use super::local::LocalOffsets;
use super::progress::{Due, Progress};
use super::puller::{Batch, survives};
use super::questions::{Answering, Listening};
use super::{From, MessageView, PullConsumer};
use crate::client::Client;
use crate::connections::again_if_lost;
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::routes::MessageQueue;
use crate::tracer::{HandOut, Receiver};

const POISONED: &str =
    "no code that can panic runs under the locks of what a consumer's tasks share";

/// What all tasks of one consumer share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) pull: PullConsumer,
    pub(super) group: GroupName,
    pub(super) member: String,
    pub(super) subscriptions: Vec<(TopicName, Filter)>,
    pub(super) from: From,
    /// The ends of the queues there were at the start, for [`From::Last`].
    pub(super) ends: HashMap<MessageQueue, QueueOffset>,
    pub(super) progress: Progress,
    pub(super) batches: mpsc::Sender<Result<Batch>>,
    pub(super) flow: Flow,
    /// Where offsets are kept by one that has every queue to itself; `None` = by the brokers.
    pub(super) local: Option<LocalOffsets>,
    /// The queues this member shall have; `None` = it has not joined yet.
    pub(super) shares: watch::Sender<Option<Vec<MessageQueue>>>,
    /// Nothing is handed out.
    pub(super) suspended: watch::Sender<bool>,
    /// What is asked about a message it is given to try; `None` = the application takes messages itself.
    pub(super) listener: Mutex<Option<Listening>>,
    /// ms since 1970.
    pub(super) started_at: u64,
    /// The broker that coordinates the group, as far as this member knows.
    pub(super) coordinator: Mutex<Option<BrokerName>>,
    /// Of these brokers, what the group has given back is among what this member consumes.
    pub(super) retries_at: Mutex<HashSet<BrokerName>>,
    /// Rings when the coordinator is to be asked now: it may not be there any more, or there is more to consume.
    pub(super) anew: Notify,
}

impl Shared {
    pub(super) fn filter(&self, topic: &TopicName) -> Filter {
        let mut all = self.subscriptions.iter();
        let found = all.find(|(it, _)| it == topic);
        found.map_or(Filter::All, |(_, filter)| filter.clone())
    }

    fn receiver(&self) -> Receiver<'_> {
        Receiver {
            client: &self.client,
            group: &self.group,
            id: &self.member,
        }
    }

    /// The application gets a message: to be told of, if the client traces.
    pub(super) fn hand_out(&self, message: &MessageView) -> Option<HandOut> {
        HandOut::begin(self.receiver(), message, message.attempts())
    }

    /// The application does not consume a message that counted as consumed.
    pub(super) fn took_back(&self, message: &MessageView) {
        if let Some(hand_out) = HandOut::unseen(self.receiver(), message) {
            hand_out.end(false);
        }
    }

    /// How long a server is to hold a request, ms: for long, if it does that.
    pub(super) async fn hold(
        &self,
        address: &str,
        long: Duration,
        otherwise: Duration,
    ) -> Result<u32> {
        let live = self.client.0.connections.to(address).await?;
        let wait = match live.holds_long() {
            true => long,
            false => otherwise,
        };
        Ok(wait.as_millis() as u32)
    }

    /// A request that the broker may hold for `wait_ms`, and that says the same when it is said twice.
    pub(super) async fn held<O: Operation + Sync>(
        &self,
        address: &str,
        request: &O,
        wait_ms: u32,
    ) -> Result<O::Reply> {
        let within = self.client.0.within + Duration::from_millis(wait_ms.into());
        again_if_lost(|| async {
            let live = self.client.0.connections.to(address).await?;
            Ok(live.polls.call(request, Vec::new(), within).await?.0)
        })
        .await
    }

    pub(super) async fn lease(
        &self,
        broker: &BrokerName,
        request: &LeaseQueues,
    ) -> Result<LeaseQueuesReply> {
        let address = self.address(&request.topic, broker).await?;
        self.held(&address, request, request.wait_ms).await
    }

    async fn address(&self, topic: &TopicName, broker: &BrokerName) -> Result<String> {
        let route = self.client.0.routes.of(topic, false).await?;
        let found = route.iter().find(|it| it.broker == *broker);
        found.map(|it| it.address.clone()).ok_or_else(|| {
            let text = format!("broker \"{broker}\" does not serve topic \"{topic}\" any more");
            Error::new(Code::NO_ROUTE, text)
        })
    }

    pub(super) fn has_retries_at(&self, broker: &BrokerName) -> bool {
        self.retries_at.lock().expect(POISONED).contains(broker)
    }

    /// Has the coordinator asked anew if it was this broker that failed, and not the way to it.
    pub(super) fn coordinator_failed(&self, broker: &BrokerName, error: &Error) {
        let is_silent = matches!(error.kind(), ErrorKind::Connect | ErrorKind::Timeout);
        let coordinator = self.coordinator.lock().expect(POISONED);
        if is_silent
            && error.coded() != Code::NO_NAME_SERVER
            && coordinator.as_ref() == Some(broker)
        {
            self.anew.notify_one();
        }
    }

    /// How often a message is tried again before it is a dead letter, as the brokers have it.
    pub(super) async fn retries(&self) -> Result<u16> {
        let admin = self.client.admin();
        let settings = admin.change_group(self.group.as_str(), Vec::new()).await?;
        let mut settings = settings.into_iter().flat_map(|(_, it)| it);
        let retries = settings.find_map(|it| match it {
            GroupSetting::Retries(retries) => Some(retries),
            _ => None,
        });
        Ok(retries.unwrap_or(u16::MAX))
    }

    /// The commit of every few seconds. One that a broker does not hear comes again with the next; an error is one
    /// that will not go away.
    pub(super) async fn commit_consumed(&self) -> Result<()> {
        match self.commit(self.progress.due(|_| true)).await {
            Err(error) if survives(&error) => {
                tracing::warn!(%error, "not committed; trying again");
                Ok(())
            }
            other => other,
        }
    }

    /// Commits; durable when this returns. What is not ours any more is left to its new owner.
    pub(super) async fn commit(&self, due: Vec<Due>) -> Result<()> {
        if let Some(local) = &self.local {
            if !due.is_empty() {
                local.save(&due).await?;
            }
            due.iter().for_each(|due| self.progress.committed(due));
            return Ok(());
        }
        let mut by_broker: BTreeMap<(TopicName, BrokerName), Vec<Due>> = BTreeMap::new();
        for due in due {
            let place = (due.queue.topic.clone(), due.queue.broker.clone());
            by_broker.entry(place).or_default().push(due);
        }
        for ((topic, broker), due) in by_broker {
            let address = self.address(&topic, &broker).await?;
            match self.commit_at(&address, &topic, &due).await {
                Err(error) if error.coded() == Code::FENCED => {
                    for one in due {
                        match self.commit_at(&address, &topic, &[one]).await {
                            Err(error) if error.coded() == Code::FENCED => {
                                tracing::debug!(%error, "not committed: the queue has another owner");
                            }
                            other => other?,
                        }
                    }
                }
                other => other?,
            }
        }
        Ok(())
    }

    async fn commit_at(&self, address: &str, topic: &TopicName, due: &[Due]) -> Result<()> {
        let position = |due: &Due| QueuePosition {
            queue: due.queue.queue,
            offset: due.offset,
        };
        let request = CommitOffsets {
            group: self.group.clone(),
            topic: topic.clone(),
            offsets: due.iter().map(position).collect(),
            leases: due.iter().map(|due| due.lease).collect(),
        };
        self.client.call(address, &request).await?;
        due.iter().for_each(|due| self.progress.committed(due));
        Ok(())
    }
}

/// How a member presents itself.
#[derive(Debug, Clone)]
pub(super) struct Presence {
    pub(super) zone: String,
    pub(super) weight: u32,
    pub(super) strategy: Option<Selector>,
}

pub(super) struct Membership {
    shared: Arc<Shared>,
    presence: Presence,
    generation: u64,
    /// As last known, and so the routes: name servers that are away do not end a membership.
    brokers: Vec<BrokerEntry>,
    /// When they were told; `None` = they may be others by now.
    brokers_at: Option<Instant>,
    routes: HashMap<TopicName, Vec<ReadQueues>>,
    coordinator: Option<BrokerEntry>,
    /// It leases queues to this member, and hears it by that.
    leases_here: bool,
    holders: HashMap<(TopicName, BrokerName), watch::Sender<Wanted>>,
    tasks: JoinSet<()>,
    /// What was said in full last, and to whom.
    said: Option<Said>,
    /// Address of the coordinator, once it knows this member.
    joined: watch::Sender<Option<String>>,
    /// Ends with the membership.
    answering: JoinSet<()>,
}

/// What a coordinator has heard in full.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    coordinator: String,
    fingerprint: u64,
}

impl Membership {
    pub(super) fn new(shared: Arc<Shared>, presence: Presence) -> Self {
        Self {
            shared,
            presence,
            generation: 0,
            brokers: Vec::new(),
            brokers_at: None,
            routes: HashMap::new(),
            coordinator: None,
            leases_here: false,
            holders: HashMap::new(),
            tasks: JoinSet::new(),
            said: None,
            joined: watch::Sender::new(None),
            answering: JoinSet::new(),
        }
    }

    /// Tells how the first join went, and ends when it is told to, or that went wrong.
    pub(super) async fn run(
        mut self,
        started: oneshot::Sender<Result<()>>,
        mut stop: oneshot::Receiver<()>,
    ) {
        let answering = Answering::new(&self.shared, &self.presence, self.joined.subscribe());
        self.answering.spawn(answering.run());
        let mut started = Some(started);
        let mut backoff = Backoff::new();
        let shared = Arc::clone(&self.shared);
        loop {
            let began = Instant::now();
            let joined = tokio::select! {
                joined = self.join() => Some(joined),
                () = shared.anew.notified(), if started.is_none() => None,
                _ = &mut stop => break,
            };
            let Some(joined) = joined else {
                self.brokers_at = None;
                continue;
            };
            let pause = match joined {
                Ok(reply) => {
                    self.generation = reply.generation;
                    self.share_out(&reply.shares);
                    if let Some(started) = started.take() {
                        let _ = started.send(Ok(()));
                    }
                    backoff.healthy(began.elapsed());
                    Duration::ZERO
                }
                Err(error) => {
                    if let Some(started) = started.take() {
                        let _ = started.send(Err(error));
                        return;
                    }
                    tracing::warn!(group = %self.shared.group, %error, "not heard by the group's coordinator; trying again");
                    self.brokers_at = None;
                    self.generation = 0;
                    self.said = None;
                    backoff.next(fastrand::f64())
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = &mut stop => break,
            }
        }
        self.end().await;
    }

    async fn join(&mut self) -> Result<JoinGroupReply> {
        self.learn().await?;
        let coordinator = self.coordinator().await?;
        let request = JoinGroup {
            group: self.shared.group.clone(),
            member: self.shared.member.clone(),
            zone: self.presence.zone.clone(),
            weight: self.presence.weight,
            strategy: self.presence.strategy.clone(),
            subscriptions: self.subscriptions(),
            generation: self.generation,
            wait_ms: self.wait_ms(&coordinator).await?,
            again: None,
        };
        let fingerprint = request.fingerprint();
        let said = Said {
            coordinator,
            fingerprint,
        };
        let asked = Instant::now();
        let wait = Duration::from_millis(request.wait_ms.into());
        let joined = self.say(said, &request).await?;
        if request.generation != 0 && asked.elapsed() < wait {
            self.doubt_routes();
        }
        Ok(joined)
    }

    /// There is news of the group: others may know more of its topics than this member.
    fn doubt_routes(&self) {
        let shared = &self.shared;
        let topics = shared.subscriptions.iter().map(|(topic, _)| topic);
        for topic in topics.chain(&retry_topic(&shared.group).ok()) {
            shared.client.0.routes.doubt(topic);
        }
    }

    /// Says it by its fingerprint alone, if it was said in full before.
    async fn say(&mut self, said: Said, request: &JoinGroup) -> Result<JoinGroupReply> {
        if self.said.as_ref() == Some(&said) {
            match self.join_again(&said, request).await {
                // It has forgotten this member, or is of a release that remembers none.
                Err(error) if is_to_say_all(&error) => self.said = None,
                joined => return joined,
            }
        }
        let wait_ms = request.wait_ms;
        let joined = self
            .shared
            .held(&said.coordinator, request, wait_ms)
            .await?;
        self.joined.send_if_modified(|known| {
            let is_other = known.as_ref() != Some(&said.coordinator);
            *known = Some(said.coordinator.clone());
            is_other
        });
        self.said = Some(said);
        Ok(joined)
    }

    /// How long the coordinator may hold the request. One that leases no queue to this member hears of it by this alone.
    async fn wait_ms(&self, coordinator: &str) -> Result<u32> {
        match self.leases_here {
            true => {
                let shared = &self.shared;
                shared.hold(coordinator, limits::HELD, limits::RENEW).await
            }
            false => Ok(limits::RENEW.as_millis() as u32),
        }
    }

    /// A sign of life that says by its fingerprint what was said before.
    async fn join_again(&self, said: &Said, full: &JoinGroup) -> Result<JoinGroupReply> {
        let request = JoinGroup {
            group: full.group.clone(),
            member: full.member.clone(),
            zone: String::new(),
            weight: 0,
            strategy: None,
            subscriptions: Vec::new(),
            generation: full.generation,
            wait_ms: full.wait_ms,
            again: Some(said.fingerprint),
        };
        let shared = &self.shared;
        shared
            .held(&said.coordinator, &request, request.wait_ms)
            .await
    }

    /// Learns what may have changed of brokers and queues, asking for all of it at once. What a name server that is away
    /// does not tell stays as it was. What the group has given back comes to its members as well, once there is some.
    async fn learn(&mut self) -> Result<()> {
        let (shared, now) = (Arc::clone(&self.shared), Instant::now());
        let routes = &shared.client.0.routes;
        let is_fresh = |at: Instant| now - at < limits::BROKERS_AGE;
        let is_fresh = self.brokers_at.is_some_and(is_fresh);
        let is_first = self.brokers.is_empty();
        let brokers = async {
            match is_fresh {
                true => None,
                false if is_first => Some(routes.brokers().await),
                false => Some(routes.brokers_again().await),
            }
        };
        let retries = retry_topic(&shared.group).ok();
        let topics = shared.subscriptions.iter().map(|(topic, _)| topic);
        let asked = topics.chain(&retries);
        let asked = asked.map(|topic| async move { (topic, routes.of(topic, false).await) });
        let (brokers, found) = tokio::join!(brokers, join_all(asked));
        match brokers {
            Some(Ok(brokers)) => (self.brokers, self.brokers_at) = (brokers, Some(now)),
            Some(Err(error)) if is_first => return Err(error),
            Some(Err(_)) | None => {}
        }
        for (topic, route) in found {
            match route {
                Ok(route) => drop(self.routes.insert(topic.clone(), read_queues(&route))),
                Err(_) if self.routes.contains_key(topic) || Some(topic) == retries.as_ref() => {}
                Err(error) => return Err(error),
            }
        }
        let retries = retries.and_then(|it| self.routes.get(&it));
        let retries_at = retries.iter().flat_map(|it| it.iter());
        let retries_at = retries_at.map(|it| it.broker.clone()).collect();
        *shared.retries_at.lock().expect(POISONED) = retries_at;
        Ok(())
    }

    /// Address of the coordinator among the brokers there are.
    async fn coordinator(&mut self) -> Result<String> {
        let names = self.brokers.iter().map(|it| &it.broker);
        let chosen = group::coordinator(&self.shared.group, names);
        let mut brokers = self.brokers.iter();
        let chosen = brokers.find(|it| Some(&it.broker) == chosen);
        let chosen = chosen.cloned().ok_or_else(|| {
            let text = "no broker is registered with this name server";
            Error::new(Code::NO_ROUTE, text)
        })?;
        *self.shared.coordinator.lock().expect(POISONED) = Some(chosen.broker.clone());
        let before = self.coordinator.replace(chosen.clone());
        if let Some(before) = before.filter(|it| it.broker != chosen.broker) {
            // It may be gone, and if not it would miss this member by itself.
            (self.generation, self.leases_here) = (0, false);
            self.leave(&before).await;
        }
        Ok(chosen.address)
    }

    fn subscriptions(&self) -> Vec<Subscription> {
        let wanted = self.shared.subscriptions.iter();
        let wanted = wanted.map(|(topic, filter)| (topic.clone(), filter.clone()));
        let retries = retry_topic(&self.shared.group).ok();
        let retries = retries.filter(|it| self.routes.contains_key(it));
        let all = wanted.chain(retries.map(|it| (it, Filter::All)));
        let subscription = |(topic, filter)| Subscription {
            route: self.routes.get(&topic).cloned().unwrap_or_default(),
            topic,
            filter,
        };
        all.map(subscription).collect()
    }

    /// Tells the holders what each shall have.
    fn share_out(&mut self, shares: &[Share]) {
        let coordinator = self.coordinator.as_ref().map(|it| &it.broker);
        self.leases_here = shares.iter().any(|it| Some(&it.broker) == coordinator);
        let mut wanted: HashMap<(TopicName, BrokerName), Wanted> = HashMap::new();
        let mut queues = Vec::new();
        for share in shares {
            let place = (share.topic.clone(), share.broker.clone());
            wanted.entry(place).or_default().extend(&share.queues);
            queues.extend(share.queues.iter().map(|queue| MessageQueue {
                topic: share.topic.clone(),
                broker: share.broker.clone(),
                queue: *queue,
            }));
        }
        for (place, holder) in &self.holders {
            let now = wanted.remove(place).unwrap_or_default();
            holder.send_if_modified(|wanted| {
                let is_other = *wanted != now;
                *wanted = now;
                is_other
            });
        }
        for (place, wanted) in wanted {
            let (sender, receiver) = watch::channel(wanted);
            let (topic, broker) = place.clone();
            let holder = Holder::new(&self.shared, topic, broker, receiver);
            self.tasks.spawn(holder.run());
            self.holders.insert(place, sender);
        }
        self.shared.shares.send_replace(Some(queues));
    }

    /// Gives everything back, as far as the application is done with it.
    async fn end(mut self) {
        self.holders.clear();
        self.answering.abort_all();
        let given_back = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(limits::GIVE_BACK, given_back)
            .await
            .is_err()
        {
            tracing::warn!(group = %self.shared.group, "some queues are not given back; their leases will run out");
        }
        if let Some(coordinator) = self.coordinator.take() {
            self.leave(&coordinator).await;
        }
    }

    async fn leave(&self, coordinator: &BrokerEntry) {
        let request = LeaveGroup {
            group: self.shared.group.clone(),
            member: self.shared.member.clone(),
        };
        let left = self.shared.client.call(&coordinator.address, &request);
        if let Ok(Err(error)) = tokio::time::timeout(limits::GIVE_BACK, left).await {
            tracing::debug!(%error, "the coordinator did not hear this member leave");
        }
    }
}

fn is_to_say_all(error: &Error) -> bool {
    matches!(error.coded(), Code::UNKNOWN_MEMBER | Code::UNSUPPORTED)
}

fn read_queues(route: &[BrokerRoute]) -> Vec<ReadQueues> {
    let queues = route.iter().map(|it| ReadQueues {
        broker: it.broker.clone(),
        queues: it.read_queues,
    });
    queues.collect()
}
