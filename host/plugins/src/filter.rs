//! The worlds `filter` and `body-filter` at work: an instance and the subscriptions it has compiled.

use std::sync::Arc;

use wasmtime::component::ResourceAny;

use crate::batch::Flat;
use crate::bindings::body_filter::BodyFilter;
use crate::bindings::filter::Filter;
use crate::bindings::types;
use crate::error::Fault;
use crate::ids::ById;
use crate::instance::Instance;
use crate::limits;
use crate::plugin::{Guest, Plugin};

/// Parameters, as given.
pub(crate) type Params = Arc<Vec<(String, String)>>;
/// Expression and parameters, as given.
#[derive(Debug)]
pub(crate) struct Expression {
    pub(crate) id: u64,
    pub(crate) text: Box<str>,
    pub(crate) params: Params,
}

/// The two kinds of filter differ in what they are shown.
enum Exports {
    Filter(Filter),
    BodyFilter(BodyFilter),
}

/// An instance of one plugin, and the subscriptions it has compiled.
pub(crate) struct FilterInstance {
    instance: Instance<Exports>,
    /// By the expression's id.
    compiled: ById<ResourceAny>,
}

impl FilterInstance {
    pub(crate) fn new(plugin: &Plugin) -> Result<Self, Fault> {
        let instance = Instance::start(plugin, |store| match plugin.guest() {
            Guest::Filter(pre) => pre.instantiate(store).map(Exports::Filter),
            Guest::BodyFilter(pre) => pre.instantiate(store).map(Exports::BodyFilter),
            Guest::QueueSelector(_) | Guest::AllocationStrategy(_) => {
                wasmtime::bail!("it is no filter")
            }
        })?;
        Ok(Self {
            instance,
            compiled: ById::default(),
        })
    }

    /// For judging again what has been judged: nobody hears what the guest says besides.
    pub(crate) fn mute(plugin: &Plugin) -> Result<Self, Fault> {
        let mut it = Self::new(plugin)?;
        it.instance.mute();
        Ok(it)
    }

    /// The guest's own handle of a subscription, compiled on first use.
    pub(crate) fn compile(
        &mut self,
        plugin: &Plugin,
        expression: &Expression,
    ) -> Result<Result<ResourceAny, types::Refusal>, Fault> {
        if let Some(compiled) = self.compiled.get(&expression.id) {
            return Ok(Ok(*compiled));
        }
        if self.compiled.len() >= limits::SUBSCRIPTIONS {
            *self = Self::new(plugin)?;
        }
        let (text, params) = (&*expression.text, &*expression.params);
        let answer =
            self.instance
                .call(plugin, plugin.fuel().setup, |guest, store| match guest {
                    Exports::Filter(guest) => {
                        let subscription = guest.quern_plugin_filter().subscription();
                        subscription.call_compile(store, text, params)
                    }
                    Exports::BodyFilter(guest) => {
                        let subscription = guest.quern_plugin_body_filter().subscription();
                        subscription.call_compile(store, text, params)
                    }
                })?;
        if let Ok(compiled) = answer {
            self.compiled.insert(expression.id, compiled);
        }
        Ok(answer)
    }

    pub(crate) fn needs(
        &mut self,
        plugin: &Plugin,
        compiled: ResourceAny,
    ) -> Result<types::Needs, Fault> {
        self.instance
            .call(plugin, plugin.fuel().setup, |guest, store| match guest {
                Exports::Filter(guest) => {
                    let subscription = guest.quern_plugin_filter().subscription();
                    subscription.call_needs(store, compiled)
                }
                Exports::BodyFilter(guest) => {
                    let subscription = guest.quern_plugin_body_filter().subscription();
                    subscription.call_needs(store, compiled)
                }
            })
    }

    /// One call: verdict bits, the guest's own "no", or a fault after which this instance is dead; and the fuel it took.
    pub(crate) fn matches(
        &mut self,
        plugin: &Plugin,
        compiled: ResourceAny,
        batch: &Flat,
    ) -> (Result<Result<Vec<u32>, String>, Fault>, u64) {
        let (answer, spent) = self.ask(plugin, compiled, batch);
        plugin.called(batch.messages.len, spent);
        (answer, spent)
    }

    /// The same; nobody counts it.
    pub(crate) fn ask(
        &mut self,
        plugin: &Plugin,
        compiled: ResourceAny,
        batch: &Flat,
    ) -> (Result<Result<Vec<u32>, String>, Fault>, u64) {
        let fuel = batch.fuel(plugin.fuel());
        let answer = self
            .instance
            .call(plugin, fuel, |guest, store| match guest {
                Exports::Filter(guest) => {
                    let subscription = guest.quern_plugin_filter().subscription();
                    subscription.call_matches(store, compiled, &batch.messages)
                }
                Exports::BodyFilter(guest) => {
                    let subscription = guest.quern_plugin_body_filter().subscription();
                    let (ends, bytes) = (&batch.bodies.ends, &batch.bodies.bytes);
                    subscription.call_matches(store, compiled, &batch.messages, ends, bytes)
                }
            });
        let spent = fuel.saturating_sub(self.instance.fuel_left());
        (answer, spent)
    }
}
