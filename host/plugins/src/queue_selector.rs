//! The world `queue-selector` at work: which queue does a message go to?

use std::sync::Arc;

use wasmtime::component::ResourceAny;

use crate::batch::Flat;
use crate::bindings::queue_selector::QueueSelector;
use crate::bindings::queue_selector::exports::quern::plugin::queue_selector as contract;
use crate::bindings::types;
use crate::error::{Cause, Fault};
use crate::filter::Params;
use crate::ids::ById;
use crate::instance::Instance;
use crate::limits;
use crate::order;
use crate::plugin::{Guest, Plugin};

/// A queue that takes messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteQueue {
    pub broker: String,
    pub id: u32,
    /// Where its broker stands; empty = unknown.
    pub zone: String,
    /// Moving average of its broker's appends; 0 = unknown.
    pub latency_us: u32,
    /// Requests that wait for its broker's log.
    pub backlog: u32,
}

/// The queues a selector chooses from, in the contract's order. Cheap to clone; a guest is told of
/// it once, so keep one while it is true.
#[derive(Debug, Clone)]
pub struct Route(Arc<[RouteQueue]>);

impl Route {
    /// Sorts them: by broker name as Java sorts, then by id.
    pub fn new(mut queues: Vec<RouteQueue>) -> Self {
        queues.sort_by(|left, right| {
            let names = order::compare(&left.broker, &right.broker);
            names.then(left.id.cmp(&right.id))
        });
        Self(queues.into())
    }

    /// What the indices of an answer mean.
    pub fn queues(&self) -> &[RouteQueue] {
        &self.0
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn lower(&self) -> Vec<contract::Queue> {
        let queues = self.0.iter().map(|queue| contract::Queue {
            broker: queue.broker.clone(),
            id: queue.id,
            zone: queue.zone.clone(),
            latency_us: queue.latency_us,
            backlog: queue.backlog,
        });
        queues.collect()
    }
}

/// A selector in a guest, and the route it was told last.
struct Opened {
    handle: ResourceAny,
    route: Option<Route>,
}

/// An instance of one plugin, and the selectors opened in it.
pub(crate) struct SelectorInstance {
    instance: Instance<QueueSelector>,
    /// By the id of the selector.
    opened: ById<Opened>,
}

impl SelectorInstance {
    pub(crate) fn new(plugin: &Plugin) -> Result<Self, Fault> {
        let instance = Instance::start(plugin, |store| match plugin.guest() {
            Guest::QueueSelector(pre) => pre.instantiate(store),
            _ => wasmtime::bail!("it is no queue selector"),
        })?;
        Ok(Self {
            instance,
            opened: ById::default(),
        })
    }

    /// The guest's own handle of a selector, opened on first use.
    pub(crate) fn open(
        &mut self,
        plugin: &Plugin,
        id: u64,
        params: &Params,
    ) -> Result<Result<ResourceAny, types::Refusal>, Fault> {
        if let Some(opened) = self.opened.get(&id) {
            return Ok(Ok(opened.handle));
        }
        if self.opened.len() >= limits::SUBSCRIPTIONS {
            *self = Self::new(plugin)?;
        }
        let answer = self
            .instance
            .call(plugin, plugin.fuel().setup, |guest, store| {
                let selector = guest.quern_plugin_queue_selector().selector();
                selector.call_open(store, params)
            })?;
        if let Ok(handle) = answer {
            let opened = Opened {
                handle,
                route: None,
            };
            self.opened.insert(id, opened);
        }
        Ok(answer)
    }

    pub(crate) fn needs(
        &mut self,
        plugin: &Plugin,
        handle: ResourceAny,
    ) -> Result<types::Needs, Fault> {
        self.instance
            .call(plugin, plugin.fuel().setup, |guest, store| {
                let selector = guest.quern_plugin_queue_selector().selector();
                selector.call_needs(store, handle)
            })
    }

    /// Tells an opened selector of the route, unless it knows it.
    pub(crate) fn route(&mut self, plugin: &Plugin, id: u64, route: &Route) -> Result<(), Fault> {
        let Some(opened) = self.opened.get_mut(&id) else {
            return Ok(());
        };
        if opened.route.as_ref().is_some_and(|known| known.is(route)) {
            return Ok(());
        }
        let handle = opened.handle;
        let fuel = plugin.fuel().setup + route.0.len() as u64 * plugin.fuel().message;
        self.instance.call(plugin, fuel, |guest, store| {
            let selector = guest.quern_plugin_queue_selector().selector();
            selector.call_route(store, handle, &route.lower())
        })?;
        opened.route = Some(route.clone());
        Ok(())
    }

    /// One call: an index for each message, the guest's own "no", or a fault after which this
    /// instance is dead.
    pub(crate) fn select(
        &mut self,
        plugin: &Plugin,
        handle: ResourceAny,
        batch: &Flat,
    ) -> Result<Result<Vec<u32>, String>, Fault> {
        let fuel = batch.fuel(plugin.fuel());
        let answer = self.instance.call(plugin, fuel, |guest, store| {
            let selector = guest.quern_plugin_queue_selector().selector();
            selector.call_select(store, handle, &batch.messages)
        });
        let spent = fuel.saturating_sub(self.instance.fuel_left());
        plugin.called(batch.messages.len, spent);
        answer
    }
}

/// One index a message, each within the route.
pub(crate) fn check_indices(
    plugin: &Plugin,
    messages: u32,
    queues: usize,
    indices: &[u32],
) -> Result<(), Fault> {
    if indices.len() != messages as usize {
        let have = indices.len();
        let message = format!("named {have} queues for {messages} messages");
        return Err(plugin.fault(Cause::Answer, message));
    }
    match indices.iter().find(|index| **index as usize >= queues) {
        None => Ok(()),
        Some(index) => Err(plugin.fault(
            Cause::Answer,
            format!("named queue number {index} of {queues}, counted from 0"),
        )),
    }
}
