//! The runtime: one engine a process, with every limit a guest meets.

use std::sync::Arc;

use wasmtime::component::{HasSelf, Linker};
use wasmtime::{
    Config as EngineConfig, Engine, InstanceAllocationStrategy, PoolingAllocationConfig,
};

use crate::bindings::FilterPlugin;
use crate::error::{LoadError, RuntimeError};
use crate::host::State;
use crate::limits;
use crate::plugin::Plugin;
use crate::worker::Worker;

const TAG: &[u8] = include_bytes!(env!("TAG_COMPONENT"));

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
    tag: Arc<Plugin>,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Runtime")
    }
}

impl Runtime {
    /// Makes the engine and compiles the plugins we ship.
    pub fn new(config: &Config) -> Result<Self, RuntimeError> {
        let failed = |error: &dyn std::fmt::Display| RuntimeError(error.to_string());
        let engine = Engine::new(&engine_config(config)).map_err(|error| failed(&error))?;
        let mut linker = Linker::new(&engine);
        FilterPlugin::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)
            .map_err(|error| failed(&error))?;
        let tag = Plugin::load(&engine, &linker, "tag", TAG).map_err(|error| failed(&error))?;
        Ok(Self(Arc::new(Shared {
            engine,
            linker,
            tag: Arc::new(tag),
        })))
    }

    /// Verifies and compiles a component under a name.
    pub fn load(&self, name: &str, bytes: &[u8]) -> Result<Arc<Plugin>, LoadError> {
        let plugin = Plugin::load(&self.0.engine, &self.0.linker, name, bytes)?;
        Ok(Arc::new(plugin))
    }

    /// The tag filter we ship.
    pub fn built_in_tag(&self) -> &Arc<Plugin> {
        &self.0.tag
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
    engine
        .consume_fuel(true)
        .max_wasm_stack(limits::STACK)
        .memory_reservation(limits::MEMORY as u64)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    engine
}
