//! Allocation: the group's strategy, a plugin, shares out the queues. What it answers is checked by the
//! runtime; when it fails, who has a queue keeps it if every queue has a living owner, otherwise
//! `averagely` decides.
//!
//! A version on trial shares out the queues of whole groups, or is asked about them after the active one.

use std::collections::BTreeSet;
use std::sync::Arc;

use quern_plugins::{
    Fault, GroupQueue, Kind, Member, Plugin, Request, Strategy, SubscribeError, Worker,
};
use quern_protocol::{BrokerName, Code, QueueId, TopicName, TrialMove, WireError};

use crate::accepted::Accepted;
use crate::filters::refused;
use crate::groups::{Plan, Work};
use crate::health::{Asked, Case};
use crate::pool::Who;
use crate::shelf::Deciding;
use crate::trials::{self, SharedOut, Side, Tried};
use crate::trouble::Trouble;
use crate::{Broker, limits};

/// The strategies of one broker.
#[derive(Debug, Default)]
pub(crate) struct Allocation {
    bound: Accepted<Strategy>,
}

impl Allocation {
    fn strategy(
        &self,
        plugin: &Arc<Plugin>,
        params: &[(String, String)],
    ) -> Result<Strategy, SubscribeError> {
        let asked = (plugin.id(), String::new(), params.to_vec());
        self.bound
            .known_or(asked, |_| Strategy::bind(plugin, params))
    }
}

/// Shares out the queues of a group.
pub(crate) async fn plan(broker: &Arc<Broker>, work: Work) -> Result<Plan, WireError> {
    let (deciding, usual) = deciding(broker, &work).await?;
    let (with, who) = (Arc::clone(broker), Who::Group(work.group.clone()));
    let planning = move |_: &mut Worker| {
        let mut planning = Planning::new(&with, &work, usual);
        let plan = planning.plan(&deciding);
        (plan, planning.trouble)
    };
    let (plan, trouble) = broker.delivery.run(who, planning).await?;
    trouble.act(broker);
    plan
}

/// What a strategy in the shadow would make of queues as they are shared out.
pub(crate) async fn look(broker: &Arc<Broker>, work: Work) {
    let Ok((deciding, usual)) = deciding(broker, &work).await else {
        return;
    };
    let (with, who) = (Arc::clone(broker), Who::Group(work.group.clone()));
    let looking = move |_: &mut Worker| {
        let mut planning = Planning::new(&with, &work, usual);
        planning.shadow(&deciding, &work.before);
        planning.trouble
    };
    if let Ok(trouble) = broker.delivery.run(who, looking).await {
        trouble.act(broker);
    }
}

/// Who decides for a group, and who is the usual one.
async fn deciding(broker: &Arc<Broker>, work: &Work) -> Result<(Deciding, Arc<Plugin>), WireError> {
    let kind = Kind::AllocationStrategy;
    let usual = broker.deciding(limits::STRATEGY, kind).await?;
    let plugin = usual
        .usual
        .clone()
        .map_err(|(_, quarantined)| quarantined)?;
    match &work.strategy {
        Some(own) => Ok((broker.deciding(&own.plugin, kind).await?, plugin)),
        None => Ok((usual, plugin)),
    }
}

/// The queues of a group being shared out; on a delivery thread.
struct Planning<'a> {
    broker: &'a Broker,
    work: &'a Work,
    usual: Arc<Plugin>,
    trouble: Trouble,
}

/// Why a strategy shares nothing out.
enum Unplanned {
    /// The members' parameters are not accepted: they have to hear of it.
    Refused(WireError),
    Fault(Fault),
}

impl<'a> Planning<'a> {
    fn new(broker: &'a Broker, work: &'a Work, usual: Arc<Plugin>) -> Self {
        Self {
            broker,
            work,
            usual,
            trouble: Trouble::default(),
        }
    }

    fn params(&self) -> &'a [(String, String)] {
        let strategy = self.work.strategy.as_ref();
        strategy.map(|it| &it.params[..]).unwrap_or_default()
    }

    fn plan(&mut self, deciding: &Deciding) -> Result<Plan, WireError> {
        if let Some((tried, plugin)) = &deciding.on_trial
            && tried.side(self.work.group.as_str()) == Side::Canary
            && let Some(plan) = self.on_trial(tried, plugin)
        {
            let shared_out = SharedOut {
                queues: queues(self.work).count() as u64,
                moved: 0,
                moves: Vec::new(),
            };
            let trials = &self.broker.trials;
            trials.shared_out(tried, &self.work.group, shared_out);
            return Ok(plan);
        }
        let own = match &deciding.usual {
            Ok(plugin) => plugin,
            Err((version, quarantined)) => {
                return self.fall_back(&version.to_string(), &quarantined.to_string());
            }
        };
        match self.ask(own, self.params()) {
            Ok(plan) => {
                self.note(own.name(), None);
                self.shadow(deciding, &plan);
                Ok(plan)
            }
            Err(Unplanned::Refused(error)) => Err(error),
            Err(Unplanned::Fault(fault)) => {
                self.note(own.name(), Some(&fault));
                self.fall_back(own.name(), &format!("Q-{} {fault}", fault.code))
            }
        }
    }

    fn ask(&self, plugin: &Arc<Plugin>, params: &[(String, String)]) -> Result<Plan, Unplanned> {
        let strategy = self.broker.allocation.strategy(plugin, params);
        let strategy = strategy.map_err(|error| match error {
            SubscribeError::Fault(fault) => Unplanned::Fault(fault),
            SubscribeError::Refused(_) => Unplanned::Refused(refused("", &error)),
        })?;
        share_out(self.broker, self.work, &strategy).map_err(Unplanned::Fault)
    }

    /// `None` = the active one has to decide.
    fn on_trial(&mut self, tried: &Tried, plugin: &Arc<Plugin>) -> Option<Plan> {
        let why = match self.ask(plugin, self.params()) {
            Ok(plan) => return Some(plan),
            Err(Unplanned::Refused(error)) => trials::cannot(&error),
            Err(Unplanned::Fault(fault)) => {
                tracing::warn!(group = %self.work.group, %fault, "a strategy on trial failed");
                if !self.broker.trials.failed(tried, [self.case()]) {
                    return None;
                }
                format!(
                    "{}, last with Q-{} {fault}",
                    trials::TOO_MANY_FAULTS,
                    fault.code
                )
            }
        };
        self.trouble.trial_is_over = Some((tried.clone(), why));
        None
    }

    /// What would move if the version on trial had shared the queues out.
    fn shadow(&mut self, deciding: &Deciding, active: &Plan) {
        let Some((tried, plugin)) = &deciding.on_trial else {
            return;
        };
        if tried.side(self.work.group.as_str()) != Side::Shadowed {
            return;
        }
        let Some(by_trial) = self.on_trial(tried, plugin) else {
            return;
        };
        let (mut all, mut moved, mut moves) = (0, 0, Vec::new());
        for key in queues(self.work) {
            all += 1;
            let [active, trial] = [active, &by_trial].map(|it| it.owners.get(&key).cloned());
            if active == trial {
                continue;
            }
            moved += 1;
            let (topic, broker, queue) = key;
            if moves.len() < limits::MOVES {
                moves.push(TrialMove::Queue {
                    group: self.work.group.clone(),
                    topic,
                    broker,
                    queue,
                    active,
                    trial,
                });
            }
        }
        let shared_out = SharedOut {
            queues: all,
            moved,
            moves,
        };
        let trials = &self.broker.trials;
        trials.shared_out(tried, &self.work.group, shared_out);
    }

    fn case(&self) -> Case {
        Case::Generation(self.work.group.clone(), self.work.generation)
    }

    fn note(&mut self, plugin: &str, fault: Option<&Fault>) {
        let case = fault.map(|_| self.case());
        let asked = Asked {
            messages: 1,
            at_fault: case.as_slice(),
            fault,
            now: self.broker.store.steady_ms(),
        };
        self.trouble.asked(self.broker, plugin, None, &asked);
    }

    /// The strategy has failed, or nobody stands in for it.
    fn fall_back(&self, strategy: &str, why: &str) -> Result<Plan, WireError> {
        let (broker, work) = (self.broker, self.work);
        tracing::warn!(group = %work.group, strategy, why, "a strategy failed");
        if let Some(kept) = kept(work) {
            broker.health.stood_in(strategy, |it| it.kept += 1);
            let strategy = format!("nobody: queues stay where they are, for {why}");
            return Ok(Plan { strategy, ..kept });
        }
        let mut plan = self.ask(&self.usual, &[]).map_err(|error| match error {
            Unplanned::Refused(error) => error,
            Unplanned::Fault(fault) => WireError::new(Code::PLUGIN_FAILURE, fault.to_string()),
        })?;
        broker.health.stood_in(strategy, |it| it.averagely += 1);
        plan.strategy = format!("{}, for {why}", plan.strategy);
        Ok(plan)
    }
}

/// All queues of a group.
fn queues(work: &Work) -> impl Iterator<Item = (TopicName, BrokerName, QueueId)> {
    work.topics.iter().flat_map(|(topic, brokers)| {
        brokers.iter().flat_map(move |(broker, queues)| {
            (0..*queues).map(move |queue| (topic.clone(), broker.clone(), QueueId(queue)))
        })
    })
}

fn share_out(broker: &Broker, work: &Work, strategy: &Strategy) -> Result<Plan, Fault> {
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
        let owners = strategy.allocate(&request)?;
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
    Some(broker.store.count(topic.id, queue, committed))
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
