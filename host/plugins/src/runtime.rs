//! The runtime: one engine a process, with every limit a guest meets.

use std::sync::Arc;

use wasmtime::component::{HasSelf, Linker};
use wasmtime::{
    Config as EngineConfig, Engine, InstanceAllocationStrategy, PoolingAllocationConfig,
};

use crate::bindings::about::About;
use crate::built_in::{self, BuiltIn, Shelf};
use crate::error::{LoadError, RuntimeError};
use crate::host::State;
use crate::limits;
use crate::plugin::Plugin;
use crate::worker::Worker;

/// What an operator decides about plugins.
#[derive(Debug, Clone)]
pub struct Config {
    /// Instances alive at once in this process, 1 to 4,096. Default: 256.
    pub instances: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            instances: limits::INSTANCES,
        }
    }
}

/// Compiles plugins and makes workers. Cheap to clone.
#[derive(Clone)]
pub struct Runtime(Arc<Shared>);

struct Shared {
    engine: Engine,
    linker: Linker<State>,
    built_ins: Shelf,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Runtime")
    }
}

impl Runtime {
    /// Makes the engine. The plugins we ship are compiled when they are first asked for.
    pub fn new(config: &Config) -> Result<Self, RuntimeError> {
        let failed = |error: &dyn std::fmt::Display| RuntimeError(error.to_string());
        let engine = Engine::new(&engine_config(config)).map_err(|error| failed(&error))?;
        let mut linker = Linker::new(&engine);
        About::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)
            .map_err(|error| failed(&error))?;
        Ok(Self(Arc::new(Shared {
            engine,
            linker,
            built_ins: Shelf::new(),
        })))
    }

    /// Verifies and compiles a component under a name.
    pub fn load(&self, name: &str, bytes: &[u8]) -> Result<Arc<Plugin>, LoadError> {
        let plugin = Plugin::load(&self.0.engine, &self.0.linker, name, bytes)?;
        Ok(Arc::new(plugin))
    }

    /// The plugins we ship.
    pub fn built_ins() -> &'static [BuiltIn] {
        built_in::ALL
    }

    /// One of the plugins we ship; `None` = none has this name. Takes a moment when it is asked for
    /// the first time.
    pub fn built_in(&self, name: &str) -> Option<Result<Arc<Plugin>, LoadError>> {
        let shared = &self.0;
        let load =
            |name: &str, bytes: &[u8]| Plugin::load(&shared.engine, &shared.linker, name, bytes);
        shared.built_ins.take(name, load)
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

fn engine_config(config: &Config) -> EngineConfig {
    let instances = config.instances.clamp(1, 4_096);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances * 4)
        .total_memories(instances)
        .total_tables(instances * 2)
        .max_memories_per_component(1)
        .max_tables_per_component(2)
        .table_elements(limits::TABLE)
        .max_memory_size(limits::MEMORY);
    let mut engine = EngineConfig::new();
    // Memories keep wasmtime's own reservation of 4 GiB of addresses each: with less, every access
    // would check its bounds. Calls are synchronous; the machinery for others costs each of them.
    engine
        .consume_fuel(true)
        .concurrency_support(false)
        .cranelift_nan_canonicalization(true)
        .max_wasm_stack(limits::STACK)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    engine
}
