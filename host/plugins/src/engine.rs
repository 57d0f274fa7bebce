//! The engines of wasmtime: one that serves, and in the child processes one that compiles and one
//! that tries. Every setting that machine code depends on is in [`code`], so that what the one
//! compiles the others load.

use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::limits;

/// What all engines have in common. Threads, GC, exceptions and async are not built in at all.
fn code() -> Config {
    let mut config = Config::new();
    config
        .consume_fuel(true)
        .concurrency_support(false)
        .cranelift_nan_canonicalization(true)
        // Components made of several languages' parts bring several memories.
        .wasm_multi_memory(true)
        .wasm_memory64(false)
        .wasm_tail_call(false)
        .wasm_relaxed_simd(false)
        .max_wasm_stack(limits::STACK);
    config
}

/// Loads artefacts and runs them from a pool; it cannot compile.
pub(crate) fn serving(instances: u32) -> wasmtime::Result<Engine> {
    let instances = instances.clamp(1, 4_096);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        // One with an interpreter inside has a dozen modules, and a memory and a table for some of them.
        .total_core_instances(instances * 16)
        .total_memories(instances * 2)
        .total_tables(instances * 3)
        .max_core_instances_per_component(limits::LARGEST_CORE_INSTANCES as u32)
        .max_memories_per_component(limits::MEMORIES)
        .max_tables_per_component(limits::TABLES)
        .table_elements(limits::TABLE)
        .max_memory_size(limits::LARGEST_MEMORY)
        // What a strategy's one call has written to is put right where it is: giving pages back to the system and
        // touching them for the first time again took a third of a call. Where the system cannot say which pages
        // those are (before Linux 6.7), little is kept, since all of it is put right then.
        .pagemap_scan(Enabled::Auto)
        .linear_memory_keep_resident(limits::KEPT_PAGES)
        .table_keep_resident(limits::KEPT_PAGES);
    let mut config = code();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .enable_compiler(false);
    Engine::new(&config)
}

/// Loads artefacts and runs one at a time, with no pool.
pub(crate) fn trying() -> wasmtime::Result<Engine> {
    let mut config = code();
    config
        .allocation_strategy(InstanceAllocationStrategy::OnDemand)
        .enable_compiler(false);
    Engine::new(&config)
}

/// Compiles and runs nothing.
pub(crate) fn compiling() -> wasmtime::Result<Engine> {
    let mut config = code();
    config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
    Engine::new(&config)
}
