//! One guest at work: its memory, its fuel, and what it may ask of the host. An instance that
//! trapped is thrown away; nothing it did outlives it.

use std::collections::HashMap;
use std::sync::Arc;

use wasmtime::component::ResourceAny;
use wasmtime::{ResourceLimiter, Store, Trap};

use crate::bindings::FilterPlugin;
use crate::bindings::exports::quern::plugin::about::Description;
use crate::bindings::quern::plugin::host::{Host, Level};
use crate::bindings::quern::plugin::types;
use crate::error::{Cause, Fault};
use crate::limits;
use crate::plugin::{Identity, Plugin};

/// What a store of wasmtime carries for us.
pub(crate) struct State {
    identity: Identity,
    memory_refused: bool,
    lines: u32,
    counted: HashMap<String, u64>,
}

impl State {
    pub(crate) fn new(identity: Identity) -> Self {
        Self {
            identity,
            memory_refused: false,
            lines: 0,
            counted: HashMap::new(),
        }
    }
}

impl ResourceLimiter for State {
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let granted = desired <= limits::MEMORY;
        self.memory_refused |= !granted;
        Ok(granted)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= limits::TABLE)
    }
}

impl Host for State {
    fn log(&mut self, level: Level, line: String) {
        self.lines += 1;
        if self.lines > limits::LOG_LINES {
            return;
        }
        let line = &line[..line.floor_char_boundary(limits::LOG_LINE)];
        let Identity { name, version } = &self.identity;
        match level {
            Level::Debug => tracing::debug!(plugin = %name, %version, "{line}"),
            Level::Info => tracing::info!(plugin = %name, %version, "{line}"),
            Level::Warn => tracing::warn!(plugin = %name, %version, "{line}"),
            Level::Error => tracing::error!(plugin = %name, %version, "{line}"),
        }
    }

    fn count(&mut self, name: String, by: u32) {
        let known = self.counted.len() < limits::COUNTERS || self.counted.contains_key(&name);
        if known && name.len() <= limits::LOG_LINE {
            *self.counted.entry(name).or_default() += u64::from(by);
        }
    }
}

impl types::Host for State {}

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
            Err(error) => Err(fault(plugin, &error, &store)),
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

    /// Room for no more subscriptions: time for a new instance.
    pub(crate) fn is_worn(&self) -> bool {
        self.compiled.len() >= limits::SUBSCRIPTIONS
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
        let fuel = limits::FUEL_BATCH + u64::from(batch.len) * limits::FUEL_MESSAGE;
        refuel(&mut self.store, fuel);
        let subscription = self.guest.quern_plugin_filter().subscription();
        let answer = subscription.call_matches(&mut self.store, compiled, batch);
        let left = self.store.get_fuel().unwrap_or(0);
        plugin.called(batch.len, fuel.saturating_sub(left));
        answer.map_err(|error| fault(plugin, &error, &self.store))
    }
}

fn refuel(store: &mut Store<State>, fuel: u64) {
    store.data_mut().lines = 0;
    store
        .set_fuel(fuel)
        .expect("the engine is configured to count fuel");
}

/// What a failed call was, from the facts wasmtime and the limiter left.
fn fault(plugin: &Plugin, error: &wasmtime::Error, store: &Store<State>) -> Fault {
    let trap = error.downcast_ref::<Trap>();
    let (cause, message) = match trap {
        Some(Trap::OutOfFuel) => (
            Cause::Fuel,
            "used more computing than it is allowed, perhaps for ever".to_owned(),
        ),
        _ if store.data().memory_refused => (
            Cause::Memory,
            format!("asked for more than its {} bytes of memory", limits::MEMORY),
        ),
        Some(trap) => (Cause::Trap, format!("stopped with a trap: {trap}")),
        None => (Cause::Answer, format!("broke the contract: {error}")),
    };
    plugin.fault(cause, message)
}
