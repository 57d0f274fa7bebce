//! One guest at work: its memory, its fuel, its subscriptions. An instance that trapped is thrown
//! away; nothing it did outlives it.

use std::collections::HashMap;
use std::sync::Arc;

use wasmtime::component::ResourceAny;
use wasmtime::{Store, Trap};

use crate::bindings::FilterPlugin;
use crate::bindings::exports::quern::plugin::about::Description;
use crate::bindings::quern::plugin::types;
use crate::error::{Cause, Fault};
use crate::host::State;
use crate::limits;
use crate::plugin::Plugin;

/// Expression and parameters, as given.
pub(crate) type Expression = (Arc<str>, Arc<Vec<(String, String)>>);

/// An instance of one plugin, and the subscriptions it has compiled.
pub(crate) struct Instance {
    store: Store<State>,
    guest: FilterPlugin,
    compiled: HashMap<Expression, ResourceAny>,
}

impl Instance {
    pub(crate) fn new(plugin: &Plugin) -> Result<Self, Fault> {
        let mut store = plugin.store();
        refuel(&mut store, limits::FUEL_SETUP);
        match plugin.pre.instantiate(&mut store) {
            Ok(guest) => Ok(Self {
                store,
                guest,
                compiled: HashMap::new(),
            }),
            Err(error) if store.data().memory_refused => Err(fault(plugin, &error, &store)),
            Err(error) => Err(plugin.fault(Cause::Trap, format!("did not start: {error:#}"))),
        }
    }

    /// Asks a plugin what it is, in an instance of its own.
    pub(crate) fn describe(plugin: &Plugin) -> Result<Description, Fault> {
        let mut instance = Self::new(plugin)?;
        refuel(&mut instance.store, limits::FUEL_SETUP);
        let about = instance.guest.quern_plugin_about();
        let answer = about.call_describe(&mut instance.store);
        answer.map_err(|error| fault(plugin, &error, &instance.store))
    }

    /// The guest's own handle of a subscription, compiled on first use.
    pub(crate) fn compile(
        &mut self,
        plugin: &Plugin,
        expression: &Expression,
    ) -> Result<Result<ResourceAny, types::Refusal>, Fault> {
        if let Some(compiled) = self.compiled.get(expression) {
            return Ok(Ok(*compiled));
        }
        if self.compiled.len() >= limits::SUBSCRIPTIONS {
            *self = Self::new(plugin)?;
        }
        refuel(&mut self.store, limits::FUEL_SETUP);
        let subscription = self.guest.quern_plugin_filter().subscription();
        let answer = subscription.call_compile(&mut self.store, &expression.0, &expression.1);
        match answer {
            Ok(Ok(compiled)) => {
                self.compiled.insert(expression.clone(), compiled);
                Ok(Ok(compiled))
            }
            Ok(Err(refusal)) => Ok(Err(refusal)),
            Err(error) => Err(fault(plugin, &error, &self.store)),
        }
    }

    pub(crate) fn needs(
        &mut self,
        plugin: &Plugin,
        compiled: ResourceAny,
    ) -> Result<types::Needs, Fault> {
        refuel(&mut self.store, limits::FUEL_SETUP);
        let subscription = self.guest.quern_plugin_filter().subscription();
        let answer = subscription.call_needs(&mut self.store, compiled);
        answer.map_err(|error| fault(plugin, &error, &self.store))
    }

    /// One call: verdict bits, the guest's own "no", or a fault after which this instance is dead.
    pub(crate) fn matches(
        &mut self,
        plugin: &Plugin,
        compiled: ResourceAny,
        batch: &types::Batch,
    ) -> Result<Result<Vec<u32>, String>, Fault> {
        let fuel = limits::FUEL_BATCH
            + u64::from(batch.len) * limits::FUEL_MESSAGE
            + batch.text.len() as u64 * limits::FUEL_BYTE;
        refuel(&mut self.store, fuel);
        let subscription = self.guest.quern_plugin_filter().subscription();
        let answer = subscription.call_matches(&mut self.store, compiled, batch);
        let left = self.store.get_fuel().unwrap_or(0);
        plugin.called(batch.len, fuel.saturating_sub(left));
        answer.map_err(|error| fault(plugin, &error, &self.store))
    }
}

fn refuel(store: &mut Store<State>, fuel: u64) {
    store.data_mut().begin_call();
    store
        .set_fuel(fuel)
        .expect("the engine is configured to count fuel");
}

/// What a failed call was, from the facts wasmtime and the limiter left.
fn fault(plugin: &Plugin, error: &wasmtime::Error, store: &Store<State>) -> Fault {
    let (cause, message) = if store.get_fuel().is_ok_and(|left| left == 0) {
        (
            Cause::Fuel,
            "used more computing than it is allowed, perhaps for ever".to_owned(),
        )
    } else if store.data().memory_refused {
        (
            Cause::Memory,
            format!("asked for more than its {} bytes of memory", limits::MEMORY),
        )
    } else if error.is::<Trap>() {
        let trap = error.root_cause();
        (Cause::Trap, format!("stopped with a trap: {trap}"))
    } else {
        let reason = error.root_cause();
        (Cause::Answer, format!("broke the contract: {reason}"))
    };
    plugin.fault(cause, message)
}
