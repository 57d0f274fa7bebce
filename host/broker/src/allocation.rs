//! Allocation: the group's strategy, a plugin, shares out the queues. What it answers is checked by the
//! runtime; when it fails, who has a queue keeps it if every queue has a living owner, otherwise
//! `averagely` decides.

use std::collections::BTreeSet;
use std::sync::Arc;

use quern_plugins::{GroupQueue, Kind, Member, Plugin, Request, Strategy, Worker};
use quern_protocol::{BrokerName, Code, QueueId, Selector, TopicName, WireError};

use crate::accepted::Accepted;
use crate::filters::refused;
use crate::groups::{Plan, Work};
use crate::{Broker, limits};

/// The strategies of one broker.
#[derive(Debug, Default)]
pub(crate) struct Allocation {
    bound: Accepted<Strategy>,
}

impl Allocation {
    /// Shares out the queues of a group, by its own strategy or else by the usual one; on a delivery
    /// thread.
    fn plan(
        &self,
        broker: &Broker,
        work: &Work,
        (own, usual): (&Arc<Plugin>, &Arc<Plugin>),
    ) -> Result<Plan, WireError> {
        let params = work.strategy.as_ref().map(|it| &it.params[..]);
        let strategy = self.strategy(own, params.unwrap_or_default())?;
        let failed = match share_out(broker, work, &strategy) {
            Ok(plan) => return Ok(plan),
            Err(failed) => failed,
        };
        tracing::warn!(group = %work.group, strategy = own.name(), failed, "a strategy failed");
        if let Some(kept) = kept(work) {
            let strategy = format!("nobody: queues stay where they are, for {failed}");
            return Ok(Plan { strategy, ..kept });
        }
        let usual = self.strategy(usual, &[])?;
        let mut plan = share_out(broker, work, &usual)
            .map_err(|error| WireError::new(Code::PLUGIN_FAILURE, error))?;
        plan.strategy = format!("{}, for {failed}", plan.strategy);
        Ok(plan)
    }

    fn strategy(
        &self,
        plugin: &Arc<Plugin>,
        params: &[(String, String)],
    ) -> Result<Strategy, WireError> {
        let asked = (plugin.id(), String::new(), params.to_vec());
        self.bound.known_or(asked, |_| {
            let bound = Strategy::bind(plugin, params);
            bound.map_err(|error| refused("", &error))
        })
    }
}

/// Shares out the queues of a group.
pub(crate) async fn plan(broker: &Arc<Broker>, work: Work) -> Result<Plan, WireError> {
    let kind = Kind::AllocationStrategy;
    let usual = broker.named_plugin(limits::STRATEGY, kind).await?;
    let own = match &work.strategy {
        Some(Selector { plugin, .. }) => broker.named_plugin(plugin, kind).await?,
        None => Arc::clone(&usual),
    };
    let with = Arc::clone(broker);
    let planning = move |_: &mut Worker| with.allocation.plan(&with, &work, (&own, &usual));
    broker.delivery.run(planning).await?
}

fn share_out(broker: &Broker, work: &Work, strategy: &Strategy) -> Result<Plan, String> {
    let plugin = strategy.plugin();
    let mut plan = Plan {
        strategy: format!("{} {}", plugin.name(), plugin.version()),
        ..Plan::default()
    };
    for (topic, brokers) in &work.topics {
        let members = work.members.iter();
        let members = members.map(|(id, zone, weight)| Member {
            id: id.clone(),
            zone: zone.clone(),
            weight: *weight,
        });
        let queues = brokers
            .iter()
            .flat_map(|(name, queues)| (0..*queues).map(move |queue| (name, QueueId(queue))));
        let queues = queues.map(|(name, queue)| GroupQueue {
            broker: name.to_string(),
            id: queue.0,
            zone: String::new(),
            owner: owner(work, topic, name, queue),
            lag: lag(broker, work, topic, name, queue),
        });
        let request = Request::new(
            work.group.as_str(),
            topic.as_str(),
            members.collect(),
            queues.collect(),
        );
        let owners = strategy.allocate(&request);
        let owners = owners.map_err(|fault| fault.to_string())?;
        let ids: Vec<&str> = request.members().collect();
        for ((name, queue), owner) in request.queues().zip(owners) {
            // Nobody is an answer, too.
            if let Some(owner) = owner
                && let Ok(name) = BrokerName::new(name)
            {
                let key = (topic.clone(), name, QueueId(queue));
                plan.owners.insert(key, ids[owner].to_owned());
            }
        }
    }
    Ok(plan)
}

fn owner(work: &Work, topic: &TopicName, broker: &BrokerName, queue: QueueId) -> Option<String> {
    let key = (topic.clone(), broker.clone(), queue);
    work.before.owners.get(&key).cloned()
}

/// Messages of a queue that the group has not consumed, where this broker has the queue.
fn lag(
    broker: &Broker,
    work: &Work,
    topic: &TopicName,
    of: &BrokerName,
    queue: QueueId,
) -> Option<u64> {
    if *of != broker.config.name {
        return None;
    }
    let topic = broker.state.topics.find(topic)?;
    let committed = broker.state.offsets.next(&work.group, topic.id, queue)?;
    let (min, max) = broker.store.range(topic.id, queue);
    Some(max.0 - committed.0.clamp(min.0, max.0))
}

/// The plan there was, if it gives every queue to somebody who is there.
fn kept(work: &Work) -> Option<Plan> {
    let ids: BTreeSet<&String> = work.members.iter().map(|(id, ..)| id).collect();
    let queues = work.topics.values().flat_map(|it| it.values());
    let queues: u64 = queues.map(|it| u64::from(*it)).sum();
    let is_whole = work.before.owners.len() as u64 == queues
        && work.before.owners.values().all(|owner| ids.contains(owner));
    is_whole.then(|| work.before.clone())
}
