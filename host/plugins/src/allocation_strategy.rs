//! The world `allocation-strategy` at work: who of a group consumes which queue? Every request gets
//! a fresh instance, so that an answer cannot rest on what was asked before.

use std::sync::Arc;

use crate::bindings::allocation_strategy::AllocationStrategy;
use crate::bindings::allocation_strategy::exports::quern::plugin::allocation_strategy as contract;
use crate::error::{Cause, Fault, SubscribeError, cut};
use crate::filter::Params;
use crate::instance::Instance;
use crate::order;
use crate::plugin::{Guest, Kind, Plugin};
use crate::worker::{refused, wrong_kind};

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub id: String,
    /// Where it stands; empty = unknown.
    pub zone: String,
    pub weight: u32,
}

/// A queue that somebody shall consume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupQueue {
    pub broker: String,
    pub id: u32,
    /// Where its broker stands; empty = unknown.
    pub zone: String,
    /// Id of today's owner.
    pub owner: Option<String>,
    /// Messages not yet consumed, where that is known.
    pub lag: Option<u64>,
}

/// Members and queues, in the contract's order.
#[derive(Debug, Clone)]
pub struct Request {
    flat: contract::Request,
}

const NOBODY: u32 = u32::MAX;

impl Request {
    /// Sorts both: members by id, queues by broker name and id, as Java sorts. An owner that is no
    /// member any more owns nothing.
    pub fn new(
        group: &str,
        topic: &str,
        mut members: Vec<Member>,
        mut queues: Vec<GroupQueue>,
    ) -> Self {
        members.sort_by(|left, right| order::compare(&left.id, &right.id));
        queues.sort_by(|left, right| {
            let names = order::compare(&left.broker, &right.broker);
            names.then(left.id.cmp(&right.id))
        });
        let index = |owner: Option<String>| {
            let found = members
                .iter()
                .position(|member| Some(&member.id) == owner.as_ref());
            found.map_or(NOBODY, |index| index as u32)
        };
        let queues = queues.into_iter().map(|queue| contract::Queue {
            broker: queue.broker,
            id: queue.id,
            zone: queue.zone,
            owner: index(queue.owner),
            lag: queue
                .lag
                .map_or(-1, |lag| i64::try_from(lag).unwrap_or(i64::MAX)),
        });
        let queues = queues.collect();
        let members = members.into_iter().map(|member| contract::Member {
            id: member.id,
            zone: member.zone,
            weight: member.weight,
        });
        Self {
            flat: contract::Request {
                group: group.to_owned(),
                topic: topic.to_owned(),
                members: members.collect(),
                queues,
            },
        }
    }

    /// Ids of the members, in the order an answer counts them.
    pub fn members(&self) -> impl ExactSizeIterator<Item = &str> {
        self.flat.members.iter().map(|member| member.id.as_str())
    }

    /// Broker and id of the queues, in the order of an answer.
    pub fn queues(&self) -> impl ExactSizeIterator<Item = (&str, u32)> {
        let queues = self.flat.queues.iter();
        queues.map(|queue| (queue.broker.as_str(), queue.id))
    }
}

/// A strategy whose parameters its plugin has accepted.
#[derive(Debug, Clone)]
pub struct Strategy {
    plugin: Arc<Plugin>,
    params: Params,
}

impl Strategy {
    /// Has the plugin look at the parameters.
    pub fn bind(plugin: &Arc<Plugin>, params: &[(String, String)]) -> Result<Self, SubscribeError> {
        if plugin.kind() != Kind::AllocationStrategy {
            return Err(wrong_kind(plugin, "an allocation strategy"));
        }
        let params: Params = Arc::new(params.to_vec());
        let answer = start(plugin)?.call(plugin, plugin.fuel().setup, |guest, store| {
            let strategy = guest.quern_plugin_allocation_strategy();
            strategy.call_check(store, &params)
        })?;
        match answer {
            Ok(()) => Ok(Self {
                plugin: Arc::clone(plugin),
                params,
            }),
            Err(refusal) => Err(SubscribeError::Refused(refused("", &params, refusal))),
        }
    }

    pub fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    /// The owner of each queue, an index into the request's members; `None` = nobody, on purpose.
    pub fn allocate(&self, request: &Request) -> Result<Vec<Option<usize>>, Fault> {
        let plugin = &self.plugin;
        let (members, queues) = (request.flat.members.len(), request.flat.queues.len());
        let fuel = plugin.fuel().setup + (members + queues) as u64 * plugin.fuel().message;
        let mut instance = start(plugin)?;
        let answer = instance.call(plugin, fuel, |guest, store| {
            let strategy = guest.quern_plugin_allocation_strategy();
            strategy.call_allocate(store, &request.flat, &self.params)
        });
        let spent = fuel.saturating_sub(instance.fuel_left());
        plugin.called(u32::try_from(queues).unwrap_or(u32::MAX), spent);
        let owners = answer?.map_err(|said| {
            let message = format!("cannot allocate: {}", cut(said));
            plugin.fault(Cause::Failure, message)
        })?;
        check_owners(plugin, members, queues, &owners)?;
        let index = |owner: u32| (owner != NOBODY).then_some(owner as usize);
        Ok(owners.into_iter().map(index).collect())
    }
}

fn start(plugin: &Plugin) -> Result<Instance<AllocationStrategy>, Fault> {
    Instance::start(plugin, |store| match plugin.guest() {
        Guest::AllocationStrategy(pre) => pre.instantiate(store),
        _ => wasmtime::bail!("it is no allocation strategy"),
    })
}

/// One owner a queue, each a member or nobody.
fn check_owners(
    plugin: &Plugin,
    members: usize,
    queues: usize,
    owners: &[u32],
) -> Result<(), Fault> {
    if owners.len() != queues {
        let have = owners.len();
        let message = format!("named {have} owners for {queues} queues");
        return Err(plugin.fault(Cause::Answer, message));
    }
    let beyond = |owner: &&u32| **owner != NOBODY && **owner as usize >= members;
    match owners.iter().find(beyond) {
        None => Ok(()),
        Some(owner) => Err(plugin.fault(
            Cause::Answer,
            format!("named member number {owner} of {members}, counted from 0"),
        )),
    }
}
