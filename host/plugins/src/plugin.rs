//! A plugin: a verified, compiled component with its name, version and digest.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, Store};

use crate::bindings::FilterPluginPre;
use crate::error::{Cause, Fault, LoadError};
use crate::host::State;
use crate::instance::Instance;
use crate::limits;
use crate::metrics::{Metrics, Snapshot};

/// What a plugin calls itself.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) name: Arc<str>,
    pub(crate) version: Arc<str>,
}

/// A component that has passed verification.
pub struct Plugin {
    identity: Identity,
    digest: Arc<str>,
    language: Option<String>,
    engine: Engine,
    pub(crate) pre: FilterPluginPre<State>,
    metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin")
            .field("identity", &self.identity)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

impl Plugin {
    /// Verifies and compiles; asks the guest to describe itself.
    pub(crate) fn load(
        engine: &Engine,
        linker: &Linker<State>,
        name: &str,
        bytes: &[u8],
    ) -> Result<Self, LoadError> {
        if bytes.len() > limits::COMPONENT {
            return Err(LoadError::TooLarge {
                len: bytes.len(),
                max: limits::COMPONENT,
            });
        }
        let component = Component::new(engine, bytes)
            .map_err(|error| LoadError::Component(format!("{error:#}")))?;
        check_imports(engine, &component)?;
        let pre = linker
            .instantiate_pre(&component)
            .and_then(FilterPluginPre::new)
            .map_err(|error| LoadError::Export(format!("{error:#}")))?;
        let mut plugin = Self {
            identity: Identity {
                name: name.into(),
                version: "unknown".into(),
            },
            digest: digest(bytes).into(),
            language: None,
            engine: engine.clone(),
            pre,
            metrics: Arc::default(),
        };
        let about = Instance::describe(&plugin)?;
        let named = [Some(&about.version), about.language.as_ref()];
        if named
            .into_iter()
            .flatten()
            .any(|it| it.len() > limits::NAME)
        {
            let message = format!("version and language have at most {} bytes", limits::NAME);
            return Err(plugin.fault(Cause::Answer, message).into());
        }
        plugin.identity.version = about.version.into();
        plugin.language = about.language;
        Ok(plugin)
    }

    pub fn name(&self) -> &str {
        &self.identity.name
    }

    /// The author's own version.
    pub fn version(&self) -> &str {
        &self.identity.version
    }

    /// SHA-256 of the component, hex.
    pub fn digest(&self) -> &str {
        &self.digest
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

    pub(crate) fn shared_digest(&self) -> Arc<str> {
        Arc::clone(&self.digest)
    }

    pub(crate) fn called(&self, messages: u32, fuel: u64) {
        self.metrics.calls.fetch_add(1, Ordering::Relaxed);
        self.metrics
            .messages
            .fetch_add(messages.into(), Ordering::Relaxed);
        self.metrics.fuel.fetch_add(fuel, Ordering::Relaxed);
    }

    /// Counts and names what went wrong.
    pub(crate) fn fault(&self, cause: Cause, message: String) -> Fault {
        self.metrics.fault(cause);
        Fault {
            code: cause.code(),
            plugin: Arc::clone(&self.identity.name),
            version: Arc::clone(&self.identity.version),
            message,
        }
    }

    /// A fresh store for one instance.
    pub(crate) fn store(&self) -> Store<State> {
        let state = State::new(self.identity.clone(), Arc::clone(&self.metrics));
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

fn digest(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let mut hex = String::with_capacity(64);
    for byte in digest.as_ref() {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}
