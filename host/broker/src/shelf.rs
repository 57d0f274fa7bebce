//! The shelf: every plugin this broker can ask, by the name it is asked for. Built-in ones, those of the
//! configuration, and versions of those taken in; each loaded when it is first meant.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use quern_plugins::{BuiltIn, Digest, Kind, Plugin, Runtime};
use quern_protocol::{Code, PluginName, PluginRef, PluginTrial, WireError};

use crate::plugins::{Meant, Plugins};
use crate::trials::{self, Tried};
use crate::{Broker, reply};

/// See the module.
#[derive(Debug)]
pub(crate) struct Shelf {
    runtime: Runtime,
    /// Of the configuration.
    more: Vec<Arc<Plugin>>,
    loaded: Mutex<HashMap<(PluginName, u32), Arc<Plugin>>>,
}

/// Who decides where somebody names a selector or a strategy.
#[derive(Debug)]
pub(crate) struct Deciding {
    /// `Err` = nobody: this version is quarantined, and none stands in.
    pub(crate) usual: Result<Arc<Plugin>, (PluginRef, WireError)>,
    pub(crate) on_trial: Option<(Tried, Arc<Plugin>)>,
}

/// A plugin that is there, or where it has to be taken from.
#[derive(Debug, Clone)]
pub(crate) enum Found {
    Loaded(Arc<Plugin>),
    BuiltIn(&'static BuiltIn),
    Version(Meant),
}

impl Shelf {
    pub(crate) fn new(runtime: &Runtime, more: &[Arc<Plugin>]) -> Self {
        Self {
            runtime: runtime.clone(),
            more: more.to_vec(),
            loaded: Mutex::default(),
        }
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Those that somebody has used.
    pub(crate) fn in_use(&self) -> Vec<Arc<Plugin>> {
        let mut plugins = self.runtime.built_ins_in_use();
        plugins.extend_from_slice(&self.more);
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        plugins.extend(loaded.values().cloned());
        plugins
    }

    /// The plugin of a version, if somebody has used it.
    pub(crate) fn loaded(&self, name: &PluginName, version: u32) -> Option<Arc<Plugin>> {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.get(&(name.clone(), version)).cloned()
    }

    /// Lets a version go; who asks it at this moment is still answered.
    pub(crate) fn forget(&self, name: &PluginName, version: u32) {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plugin) = loaded.remove(&(name.clone(), version)) {
            plugin.retire();
        }
    }

    /// Who is meant by `geo`, `geo@3` or a built-in's name; `None` = there is no such plugin.
    pub(crate) fn find(
        &self,
        plugins: &Plugins,
        named: &PluginRef,
    ) -> Option<Result<Found, WireError>> {
        if named.version.is_none() {
            let name = named.name.as_str();
            if let Some(built_in) = Runtime::built_ins().iter().find(|it| it.name == name) {
                return Some(Ok(self.built_in(built_in)));
            }
            if let Some(plugin) = self.more.iter().find(|it| it.name() == name) {
                return Some(Ok(Found::Loaded(Arc::clone(plugin))));
            }
        }
        let meant = plugins.meant(named)?;
        Some(
            meant.map(|meant| match self.loaded(&meant.name, meant.version) {
                Some(plugin) => Found::Loaded(plugin),
                None => Found::Version(meant),
            }),
        )
    }

    /// Who speaks an expression language.
    pub(crate) fn speaker(&self, plugins: &Plugins, language: &str) -> Result<Found, WireError> {
        let mut built_ins = Runtime::built_ins().iter();
        if let Some(built_in) = built_ins.find(|it| it.language == Some(language)) {
            return Ok(self.built_in(built_in));
        }
        let mut more = self.more.iter();
        if let Some(plugin) = more.find(|it| it.language() == Some(language)) {
            return Ok(Found::Loaded(Arc::clone(plugin)));
        }
        let named = plugins.speaker(language).map(PluginRef::active);
        let found = named.and_then(|named| self.find(plugins, &named));
        found.unwrap_or_else(|| {
            let text = format!(
                "no plugin of this broker speaks {language:?}; TAG and SQL92 are always there"
            );
            Err(WireError::new(Code::LANGUAGE_UNKNOWN, text))
        })
    }

    fn built_in(&self, built_in: &'static BuiltIn) -> Found {
        match self.runtime.built_in_in_use(built_in.name) {
            Some(plugin) => Found::Loaded(plugin),
            None => Found::BuiltIn(built_in),
        }
    }

    /// The version that a name has on trial.
    pub(crate) fn on_trial(
        &self,
        plugins: &Plugins,
        name: &PluginName,
    ) -> Option<(PluginTrial, Found)> {
        let (trial, meant) = plugins.on_trial(name)?;
        let found = match self.loaded(&meant.name, meant.version) {
            Some(plugin) => Found::Loaded(plugin),
            None => Found::Version(meant),
        };
        Some((trial, found))
    }

    /// A version as administrators mean it: quarantined or not; `None` = it is not there.
    pub(crate) fn exactly(
        &self,
        plugins: &Plugins,
        name: &PluginName,
        version: u32,
    ) -> Option<Found> {
        let meant = plugins.exactly(name, version)?;
        Some(match self.loaded(name, version) {
            Some(plugin) => Found::Loaded(plugin),
            None => Found::Version(meant),
        })
    }

    /// Blocks while it is read, and perhaps compiled.
    pub(crate) fn load(&self, found: Found) -> Result<Arc<Plugin>, WireError> {
        let meant = match found {
            Found::Loaded(plugin) => return Ok(plugin),
            Found::BuiltIn(built_in) => {
                let loaded = self.runtime.built_in(built_in.name);
                let loaded = loaded.ok_or_else(|| reply::no_plugin(built_in.name))?;
                return loaded.map_err(|error| reply::not_loaded(&error));
            }
            Found::Version(meant) => meant,
        };
        let Meant {
            name,
            version,
            digest,
        } = meant;
        let components = self.runtime.components();
        let read = components.map(|it| it.read(&Digest::from(digest.0)));
        let bytes = match read {
            Some(Ok(Some(bytes))) => bytes,
            Some(Err(error)) => return Err(reply::components_failed(&error)),
            Some(Ok(None)) | None => {
                let text = format!(
                    "the component of {name}@{version}, {digest}, is not on this broker; upload \
                     it again: quern plugin upload FILE --name {name}"
                );
                return Err(WireError::new(Code::PLUGIN_NOT_READY, text));
            }
        };
        let plugin = self
            .runtime
            .load(&PluginRef::exact(&name, version).to_string(), &bytes);
        let plugin = plugin.map_err(|error| reply::not_loaded(&error))?;
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever was first: figures are counted in one place.
        let place = loaded.entry((name, version)).or_insert(plugin);
        Ok(Arc::clone(place))
    }
}

impl Broker {
    /// The plugin that was found, loaded on a thread that may block.
    pub(crate) async fn loaded(self: &Arc<Self>, found: Found) -> Result<Arc<Plugin>, WireError> {
        if let Found::Loaded(plugin) = found {
            return Ok(plugin);
        }
        let broker = Arc::clone(self);
        let load = tokio::task::spawn_blocking(move || broker.shelf.load(found));
        load.await
            .unwrap_or_else(|_| Err(reply::delivery_stopped()))
    }

    /// Who decides where a client named this selector or strategy.
    pub(crate) async fn deciding(
        self: &Arc<Self>,
        named: &str,
        kind: Kind,
    ) -> Result<Deciding, WireError> {
        let asked = named.parse::<PluginRef>();
        let asked = asked.map_err(|error| WireError::new(Code::BAD_NAME, error.to_string()))?;
        let plugins = &self.state.plugins;
        let found = self.shelf.find(plugins, &asked);
        let usual = match found.unwrap_or_else(|| Err(unknown(named, kind))) {
            Ok(found) => Ok(self.loaded(found).await?),
            Err(error) if error.is(Code::PLUGIN_QUARANTINED) => {
                Err((plugins.latest(&asked), error))
            }
            Err(error) => return Err(error),
        };
        if usual.as_ref().is_ok_and(|it| it.kind() != kind) {
            return Err(unknown(named, kind));
        }
        let follows = asked.version.is_none();
        let tried = follows.then(|| self.shelf.on_trial(plugins, &asked.name));
        let on_trial = match tried.flatten() {
            Some((trial, found)) => {
                let name = asked.name;
                self.ready(Tried { name, trial }, found).await
            }
            None => None,
        };
        Ok(Deciding { usual, on_trial })
    }

    /// The version on trial; one that cannot be loaded is tried no longer.
    async fn ready(self: &Arc<Self>, tried: Tried, found: Found) -> Option<(Tried, Arc<Plugin>)> {
        match self.loaded(found).await {
            Ok(plugin) => Some((tried, plugin)),
            Err(error) => {
                trials::end(self, tried, trials::cannot(&error));
                None
            }
        }
    }
}

/// No plugin of this kind has this name.
fn unknown(name: &str, kind: Kind) -> WireError {
    let of_kind = Runtime::built_ins().iter().filter(|it| it.kind == kind);
    let names: Vec<&str> = of_kind.map(|it| it.name).collect();
    let text = format!(
        "no {kind} is called {name:?}; there are {}, and those uploaded: quern plugin ls",
        names.join(", ")
    );
    let code = match kind {
        Kind::AllocationStrategy => Code::STRATEGY_UNKNOWN,
        _ => Code::SELECTOR_UNKNOWN,
    };
    WireError::new(code, text)
}
