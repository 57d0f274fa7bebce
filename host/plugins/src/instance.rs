//! One guest at work: its memory and its fuel. What it does is said in the module of its kind; what
//! it costs, and what went wrong, is the same for all. An instance that trapped is thrown away;
//! nothing it did outlives it.

use wasmtime::{Store, Trap};

use crate::bindings::about::AboutPre;
use crate::bindings::about::exports::quern::plugin::about::Description;
use crate::error::{Cause, Fault};
use crate::host::State;
use crate::plugin::Plugin;

/// A running guest; `G` knows the functions it exports.
pub(crate) struct Instance<G> {
    store: Store<State>,
    guest: G,
}

impl<G> Instance<G> {
    pub(crate) fn start(
        plugin: &Plugin,
        instantiate: impl FnOnce(&mut Store<State>) -> wasmtime::Result<G>,
    ) -> Result<Self, Fault> {
        let mut store = plugin.store();
        refuel(&mut store, plugin.fuel().setup);
        match instantiate(&mut store) {
            Ok(guest) => Ok(Self { store, guest }),
            Err(error) if store.data().memory_refused => Err(fault(plugin, &error, &store)),
            Err(error) => Err(plugin.fault(Cause::Trap, format!("did not start: {error:#}"))),
        }
    }

    /// One call into the guest, with so much fuel. After a fault the instance is dead.
    pub(crate) fn call<T>(
        &mut self,
        plugin: &Plugin,
        fuel: u64,
        act: impl FnOnce(&G, &mut Store<State>) -> wasmtime::Result<T>,
    ) -> Result<T, Fault> {
        refuel(&mut self.store, fuel);
        let answer = act(&self.guest, &mut self.store);
        answer.map_err(|error| fault(plugin, &error, &self.store))
    }

    /// From now on nobody hears what it says or counts, or what it fails with.
    pub(crate) fn mute(&mut self) {
        self.store.data_mut().is_mute = true;
    }

    /// What is left of the fuel of the last call.
    pub(crate) fn fuel_left(&self) -> u64 {
        self.store.get_fuel().unwrap_or(0)
    }
}

/// Asks a plugin what it is, in an instance of its own.
pub(crate) fn describe(plugin: &Plugin) -> Result<Description, Fault> {
    let pre = AboutPre::new(plugin.pre().clone());
    let mut instance = Instance::start(plugin, |store| pre?.instantiate(store))?;
    instance.call(plugin, plugin.fuel().setup, |guest, store| {
        guest.quern_plugin_about().call_describe(store)
    })
}

fn refuel(store: &mut Store<State>, fuel: u64) {
    store.data_mut().begin_call();
    store
        .set_fuel(fuel)
        .expect("the engine is configured to count fuel");
}

/// What a failed call was, from the facts wasmtime, the limiter and the guest's last words left.
fn fault(plugin: &Plugin, error: &wasmtime::Error, store: &Store<State>) -> Fault {
    let (cause, message) = if store.get_fuel().is_ok_and(|left| left == 0) {
        (
            Cause::Fuel,
            "used more computing than it is allowed, perhaps for ever".to_owned(),
        )
    } else if store.data().memory_refused {
        (
            Cause::Memory,
            format!(
                "asked for more than its {} bytes of memory",
                plugin.class().memory
            ),
        )
    } else if error.is::<Trap>() {
        let message = match store.data().last_error() {
            Some(words) => format!("stopped: {words}"),
            None => format!("stopped with a trap: {}", error.root_cause()),
        };
        (Cause::Trap, message)
    } else {
        let reason = error.root_cause();
        (Cause::Answer, format!("broke the contract: {reason}"))
    };
    match store.data().is_mute {
        true => plugin.told(cause, message),
        false => plugin.fault(cause, message),
    }
}
