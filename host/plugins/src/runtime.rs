//! The runtime: one engine a process, with every limit a guest meets; the plugins that are part of
//! the program; and the way of others into it: check, compile, try, load.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use wasmtime::Engine;
use wasmtime::component::{HasSelf, Linker};

use crate::artefact::Artefact;
use crate::bindings::about::About;
use crate::built_in::{self, BuiltIn, Shelf};
use crate::cache::Cache;
use crate::child::{Compiler, Wanted};
use crate::components::Components;
use crate::digest::Digest;
use crate::engine;
use crate::error::{LoadError, RuntimeError};
use crate::host::State;
use crate::limits::{self, Class};
use crate::logs::Logs;
use crate::plugin::Plugin;
use crate::trial::Report;
use crate::verify::{self, Checked};
use crate::worker::Worker;

/// What an operator decides about plugins.
#[derive(Debug, Clone)]
pub struct Config {
    /// Instances alive at once in this process, 1 to 4,096. Default: 256.
    pub instances: u32,
    /// Who compiles. Default: this process, which is for plugins built together with it; a program
    /// that takes in others names one that calls [`crate::plugin_child_main`].
    pub compiler: Compiler,
    /// Where plugins of users are kept; made when first needed. Default: nowhere.
    pub dir: Option<PathBuf>,
    /// Where compiled plugins and the key that vouches for them are kept; processes of one user may
    /// share it. Default: `dir`.
    pub cache: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            instances: limits::INSTANCES,
            compiler: Compiler::InProcess,
            dir: None,
            cache: None,
        }
    }
}

/// Compiles plugins and makes workers. Cheap to clone.
#[derive(Clone)]
pub struct Runtime(Arc<Shared>);

struct Shared {
    engine: Engine,
    linker: Linker<State>,
    compiler: Compiler,
    cache_dir: Option<PathBuf>,
    components: Option<Components>,
    /// Opened when first used: the directory may not be there, or not be ours, before.
    cache: OnceLock<Option<Cache>>,
    built_ins: Shelf,
    logs: Logs,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Runtime")
    }
}

/// What every guest is given.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    About::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
    Ok(linker)
}

impl Runtime {
    /// Makes the engine. Touches no file and compiles nothing yet.
    pub fn new(config: &Config) -> Result<Self, RuntimeError> {
        let failed = |error: wasmtime::Error| RuntimeError(format!("{error:#}"));
        let engine = engine::serving(config.instances).map_err(failed)?;
        let linker = linker(&engine).map_err(failed)?;
        Ok(Self(Arc::new(Shared {
            engine,
            linker,
            compiler: config.compiler.clone(),
            cache_dir: config.cache.clone().or_else(|| config.dir.clone()),
            components: config.dir.clone().map(Components::new),
            cache: OnceLock::new(),
            built_ins: Shelf::new(),
            logs: Logs::default(),
        })))
    }

    /// Whether components of strangers may be taken in: only a child process compiles them.
    pub fn takes_uploads(&self) -> bool {
        matches!(self.0.compiler, Compiler::Child(_))
    }

    /// What guests say.
    pub fn logs(&self) -> &Logs {
        &self.0.logs
    }

    /// Where components of strangers lie; `None` = there is no directory for them.
    pub fn components(&self) -> Option<&Components> {
        self.0.components.as_ref()
    }

    /// Loads a component under a name, from the cache or by compiling it. Blocks meanwhile. Of a
    /// stranger's component, [`Runtime::admit`] comes first.
    pub fn load(&self, name: &str, bytes: &[u8]) -> Result<Arc<Plugin>, LoadError> {
        self.plugin(name, &self.compiled(bytes)?)
    }

    /// A component in machine code, from the cache or from the compiler. Blocks meanwhile.
    pub fn compiled(&self, bytes: &[u8]) -> Result<Compiled, LoadError> {
        let checked = verify::check(bytes)?;
        let digest = Digest::of(bytes);
        let artefact = match self.cached(&digest) {
            Some(artefact) => artefact,
            None => self.compile(&digest, bytes)?,
        };
        Ok(Compiled {
            checked,
            class: limits::class(bytes.len()),
            digest,
            artefact,
        })
    }

    /// Runs it for the first time, in a child process. Blocks meanwhile.
    pub fn try_out(&self, compiled: &Compiled) -> Result<Report, LoadError> {
        let Compiled {
            checked,
            class,
            artefact,
            ..
        } = compiled;
        let compiler = &self.0.compiler;
        compiler.try_out(checked.kind, class, artefact, &checked.vectors)
    }

    /// Compiles a component and runs it for the first time, both in child processes. `step` is told
    /// what is under way. Blocks meanwhile.
    pub fn admit(
        &self,
        bytes: &[u8],
        mut step: impl FnMut(Step),
    ) -> Result<(Checked, Report), LoadError> {
        step(Step::Checking);
        let checked = verify::check(bytes)?;
        step(Step::Compiling);
        let compiled = Compiled {
            checked,
            class: limits::class(bytes.len()),
            digest: Digest::of(bytes),
            artefact: self.0.compiler.compile(bytes, Wanted::ToTry)?,
        };
        step(Step::Trying);
        let report = self.try_out(&compiled)?;
        if let Some(cache) = self.cache() {
            cache.keep(&compiled.digest, &compiled.artefact);
        }
        Ok((compiled.checked, report))
    }

    fn compile(&self, digest: &Digest, bytes: &[u8]) -> Result<Artefact, LoadError> {
        let artefact = self.0.compiler.compile(bytes, Wanted::ToServe)?;
        if let Some(cache) = self.cache() {
            cache.keep(digest, &artefact);
        }
        Ok(artefact)
    }

    fn cached(&self, digest: &Digest) -> Option<Artefact> {
        self.cache()?.find(digest)
    }

    fn cache(&self) -> Option<&Cache> {
        let open = || {
            let dir = self.0.cache_dir.as_deref()?;
            let cache = Cache::open(dir, &self.0.engine);
            let told = cache.inspect_err(|error| {
                tracing::warn!(dir = %dir.display(), %error, "compiled plugins cannot be kept there");
            });
            told.ok()
        };
        self.0.cache.get_or_init(open).as_ref()
    }

    /// Loads it under a name.
    pub fn plugin(&self, name: &str, compiled: &Compiled) -> Result<Arc<Plugin>, LoadError> {
        let Compiled { class, digest, .. } = compiled;
        let component = compiled
            .artefact
            .load(&self.0.engine)
            .map_err(|error| LoadError::Component(format!("{error:#}")))?;
        let plugin = Plugin::link(
            (&self.0.linker, &self.0.logs),
            name,
            digest,
            class,
            &component,
        )?;
        Ok(Arc::new(plugin))
    }

    /// The plugins we ship.
    pub fn built_ins() -> &'static [BuiltIn] {
        built_in::ALL
    }

    /// One of the plugins we ship; `None` = none has this name. Takes a moment when it is asked for
    /// the first time.
    pub fn built_in(&self, name: &str) -> Option<Result<Arc<Plugin>, LoadError>> {
        let load = |name: &str, bytes: &[u8]| self.load(name, bytes);
        self.0.built_ins.take(name, load)
    }

    /// The same if it has been asked for before; never takes a moment.
    pub fn built_in_in_use(&self, name: &str) -> Option<Arc<Plugin>> {
        self.0.built_ins.one_taken(name)
    }

    /// Those of the plugins we ship that have been asked for.
    pub fn built_ins_in_use(&self) -> Vec<Arc<Plugin>> {
        self.0.built_ins.taken()
    }

    /// For one thread: it keeps instances warm.
    pub fn worker(&self) -> Worker {
        Worker::default()
    }
}

/// A component that was read and compiled.
pub struct Compiled {
    checked: Checked,
    class: &'static Class,
    digest: Digest,
    artefact: Artefact,
}

impl std::fmt::Debug for Compiled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Compiled({})", self.digest)
    }
}

impl Compiled {
    /// What reading it found.
    pub fn checked(&self) -> &Checked {
        &self.checked
    }
}

/// What is under way while a component is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Checking,
    Compiling,
    Trying,
}
