//! A plugin: a verified, compiled component with its kind, name, version and digest.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Engine, Store};

use crate::bindings::allocation_strategy::AllocationStrategyPre;
use crate::bindings::body_filter::BodyFilterPre;
use crate::bindings::filter::FilterPre;
use crate::bindings::queue_selector::QueueSelectorPre;
use crate::digest::Digest;
use crate::error::{Cause, Fault, LoadError};
use crate::host::State;
use crate::instance;
use crate::limits::{self, Class, Fuel};
use crate::logs::{Log, Logs};
use crate::metrics::{Metrics, Snapshot};

/// What a plugin decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Filter,
    BodyFilter,
    QueueSelector,
    AllocationStrategy,
}

impl Kind {
    pub const ALL: [Self; 4] = [
        Self::Filter,
        Self::BodyFilter,
        Self::QueueSelector,
        Self::AllocationStrategy,
    ];

    /// The interface of the contract that a plugin of this kind exports.
    pub fn interface(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::BodyFilter => "body-filter",
            Self::QueueSelector => "queue-selector",
            Self::AllocationStrategy => "allocation-strategy",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Filter => "filter",
            Self::BodyFilter => "body filter",
            Self::QueueSelector => "queue selector",
            Self::AllocationStrategy => "allocation strategy",
        })
    }
}

/// A component ready to be instantiated, by what it exports.
pub(crate) enum Guest {
    Filter(FilterPre<State>),
    BodyFilter(BodyFilterPre<State>),
    QueueSelector(QueueSelectorPre<State>),
    AllocationStrategy(AllocationStrategyPre<State>),
}

/// What a plugin calls itself.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) name: Arc<str>,
    pub(crate) version: Arc<str>,
}

/// Tells plugins, subscriptions and selectors of one process apart, where hashing what they are would
/// cost more than the guest's work.
pub(crate) fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A component that has passed verification.
pub struct Plugin {
    id: u64,
    identity: Identity,
    digest: Arc<str>,
    class: &'static Class,
    kind: Kind,
    calls_itself: String,
    summary: String,
    language: Option<String>,
    engine: Engine,
    pre: InstancePre<State>,
    guest: Guest,
    metrics: Arc<Metrics>,
    log: Arc<Log>,
    /// Instances of an earlier one are worth nothing.
    generation: Arc<AtomicU64>,
}

/// Counts how often instances have become worthless, of whatever plugin: workers look for them then.
static RETIREMENTS: AtomicU64 = AtomicU64::new(0);

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugin")
            .field("identity", &self.identity)
            .field("kind", &self.kind)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

impl Plugin {
    /// What is left to do with a compiled component: check what it imports and exports, and ask it
    /// what it is.
    pub(crate) fn link(
        (linker, logs): (&Linker<State>, &Logs),
        name: &str,
        digest: &Digest,
        class: &'static Class,
        component: &Component,
    ) -> Result<Self, LoadError> {
        let engine = linker.engine();
        check_imports(engine, component)?;
        let kind = kind_of(engine, component)?;
        let failed = |error: wasmtime::Error| LoadError::Export(format!("{error:#}"));
        let pre = linker.instantiate_pre(component).map_err(failed)?;
        let guest = match kind {
            Kind::Filter => FilterPre::new(pre.clone()).map(Guest::Filter),
            Kind::BodyFilter => BodyFilterPre::new(pre.clone()).map(Guest::BodyFilter),
            Kind::QueueSelector => QueueSelectorPre::new(pre.clone()).map(Guest::QueueSelector),
            Kind::AllocationStrategy => {
                AllocationStrategyPre::new(pre.clone()).map(Guest::AllocationStrategy)
            }
        };
        let mut plugin = Self {
            id: next_id(),
            identity: Identity {
                name: name.into(),
                version: "unknown".into(),
            },
            digest: digest.to_string().into(),
            class,
            kind,
            calls_itself: String::new(),
            summary: String::new(),
            language: None,
            engine: engine.clone(),
            pre,
            guest: guest.map_err(failed)?,
            metrics: Arc::default(),
            log: logs.of(name),
            generation: Arc::default(),
        };
        let about = instance::describe(&plugin)?;
        let named = [
            Some(&about.name),
            Some(&about.version),
            about.language.as_ref(),
        ];
        let too_long = named
            .into_iter()
            .flatten()
            .any(|it| it.len() > limits::NAME);
        if too_long || about.summary.len() > limits::WORDS {
            let message = format!(
                "name, version and language have at most {} bytes, a summary {}",
                limits::NAME,
                limits::WORDS
            );
            return Err(plugin.fault(Cause::Answer, message).into());
        }
        plugin.identity.version = about.version.into();
        plugin.calls_itself = about.name;
        plugin.summary = about.summary;
        plugin.language = about.language;
        Ok(plugin)
    }

    pub fn name(&self) -> &str {
        &self.identity.name
    }

    /// What the author calls it; whoever loads it may call it otherwise.
    pub(crate) fn calls_itself(&self) -> &str {
        &self.calls_itself
    }

    /// The author's own version.
    pub fn version(&self) -> &str {
        &self.identity.version
    }

    /// SHA-256 of the component, hex.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// What it decides: read from what it exports, so that nothing can contradict it.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What it does, in its author's words.
    pub fn summary(&self) -> &str {
        &self.summary
    }

    /// The expression language consumers name to get this plugin.
    pub fn language(&self) -> Option<&str> {
        self.language.as_deref()
    }

    pub fn metrics(&self) -> Snapshot {
        self.metrics.snapshot()
    }

    /// What the guest counted for itself, by name.
    pub fn counters(&self) -> Vec<(String, u64)> {
        self.metrics.counters()
    }

    /// What it may have.
    pub(crate) fn class(&self) -> &'static Class {
        self.class
    }

    /// What its calls may cost.
    pub(crate) fn fuel(&self) -> &'static Fuel {
        &self.class.fuel
    }

    pub(crate) fn pre(&self) -> &InstancePre<State> {
        &self.pre
    }

    pub(crate) fn guest(&self) -> &Guest {
        &self.guest
    }

    /// Nobody asks it for now: workers let its instances go, and what those hold, when they work next. Who asks
    /// it all the same gets an answer from a fresh one.
    pub fn retire(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
        RETIREMENTS.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn generation(&self) -> &Arc<AtomicU64> {
        &self.generation
    }

    pub(crate) fn retirements() -> u64 {
        RETIREMENTS.load(Ordering::Relaxed)
    }

    /// Tells it from all others this process has loaded.
    pub fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn called(&self, messages: u32, fuel: u64) {
        self.metrics.calls.fetch_add(1, Ordering::Relaxed);
        self.metrics
            .messages
            .fetch_add(messages.into(), Ordering::Relaxed);
        self.metrics.fuel.fetch_add(fuel, Ordering::Relaxed);
    }

    /// Its verdicts on so many messages were known.
    pub fn remembered(&self, messages: u64) {
        if messages > 0 {
            let remembered = &self.metrics.remembered;
            remembered.fetch_add(messages, Ordering::Relaxed);
        }
    }

    /// The number of a batch of messages to be judged, counted from 1.
    pub(crate) fn next_batch(&self) -> u64 {
        self.metrics.batches.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn delivered(&self, messages: u32) {
        let delivered = &self.metrics.delivered;
        delivered.fetch_add(messages.into(), Ordering::Relaxed);
    }

    /// Counts and names what went wrong.
    pub(crate) fn fault(&self, cause: Cause, message: String) -> Fault {
        self.metrics.fault(cause);
        self.told(cause, message)
    }

    /// Names what went wrong where nobody is harmed by it.
    pub(crate) fn told(&self, cause: Cause, message: String) -> Fault {
        Fault {
            code: cause.code(),
            plugin: Arc::clone(&self.identity.name),
            version: Arc::clone(&self.identity.version),
            message,
        }
    }

    /// A fresh store for one instance.
    pub(crate) fn store(&self) -> Store<State> {
        let state = State::new(
            self.identity.clone(),
            self.class.memory,
            Arc::clone(&self.metrics),
            Arc::clone(&self.log),
        );
        let mut store = Store::new(&self.engine, state);
        store.limiter(|state| state);
        store.set_hostcall_fuel(limits::ANSWER);
        store
    }
}

const ALLOWED: [&str; 2] = ["quern:plugin/types@0.1.0", "quern:plugin/host@0.1.0"];

fn check_imports(engine: &Engine, component: &Component) -> Result<(), LoadError> {
    for (name, item) in component.component_type().imports(engine) {
        let is_type = matches!(item.ty, ComponentItem::Type(_));
        if !is_type && !ALLOWED.contains(&name) {
            return Err(LoadError::Import(name.to_owned()));
        }
    }
    Ok(())
}

/// The one kind whose interface a component exports.
fn kind_of(engine: &Engine, component: &Component) -> Result<Kind, LoadError> {
    let mut found = None;
    for (name, _) in component.component_type().exports(engine) {
        let interface = name
            .strip_prefix("quern:plugin/")
            .and_then(|rest| rest.split_once('@'));
        let Some((interface, version)) = interface else {
            continue;
        };
        let kind = Kind::ALL.iter().find(|kind| kind.interface() == interface);
        let Some(kind) = kind else { continue };
        if !version.starts_with("0.1.") {
            return Err(LoadError::Export(format!(
                "it is made for contract {version}; this version speaks 0.1"
            )));
        }
        if let Some(other) = found.replace(*kind) {
            return Err(LoadError::Export(format!(
                "it is a {other} and a {kind}; a plugin is one of them"
            )));
        }
    }
    found.ok_or_else(|| {
        LoadError::Export(
            "none of filter, body-filter, queue-selector, allocation-strategy".to_owned(),
        )
    })
}
