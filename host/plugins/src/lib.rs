//! The plugin runtime: verifies, compiles, limits and calls WebAssembly components of the contract
//! in `wit/`. The only crate that names wasmtime.
//!
//! A guest can do nothing to its host: it has no I/O, its memory and computing are bounded, and an
//! instance that fails is thrown away. What it cannot judge is reported as unjudged, never dropped.

mod allocation_strategy;
mod artefact;
mod batch;
mod bindings;
mod built_in;
mod cache;
pub mod case;
mod child;
mod component;
mod components;
mod digest;
mod engine;
mod error;
mod filter;
mod host;
mod ids;
mod instance;
mod limits;
mod logs;
mod metrics;
mod order;
mod pace;
mod plugin;
mod purity;
mod queue_selector;
mod runtime;
mod trial;
mod verify;
mod wasi;
mod worker;

pub use crate::allocation_strategy::{GroupQueue, Member, Request, Strategy};
pub use crate::batch::{Batch, Field, Needs, Number, integer};
pub use crate::built_in::BuiltIn;
pub use crate::child::{Compiler, plugin_child_main};
pub use crate::component::{component_of, of_world};
pub use crate::components::Components;
pub use crate::digest::{Digest, Hash, NoDigest};
pub use crate::error::{Fault, LoadError, Refusal, RuntimeError, SubscribeError};
pub use crate::limits::{COMPONENT as COMPONENT_LIMIT, VECTORS as CASES_LIMIT};
pub use crate::logs::{LogLevel, LogLine, LogRead, Logs};
pub use crate::metrics::Snapshot;
pub use crate::plugin::{Kind, Plugin};
pub use crate::queue_selector::{Route, RouteQueue};
pub use crate::runtime::{Compiled, Config, Runtime, Step};
pub use crate::trial::Report;
pub use crate::verify::{Checked, check, with_vectors};
pub use crate::worker::{Judged, Selected, Selector, Subscription, Verdict, Worker};

/// A filter that misbehaves as its expression asks (`trap`, `loop`, `bomb`, …): for tests of what
/// stands on this crate.
#[doc(hidden)]
pub const HOSTILE: &[u8] = built_in::HOSTILE;
/// A filter that reads bodies; see `filters-examples/json-field`.
#[doc(hidden)]
pub const BODY_FILTER: &[u8] = built_in::BODY_FILTER;
/// A queue selector of that sort.
#[doc(hidden)]
pub const HOSTILE_SELECTOR: &[u8] = built_in::HOSTILE_SELECTOR;
/// An allocation strategy of that sort.
#[doc(hidden)]
pub const HOSTILE_STRATEGY: &[u8] = built_in::HOSTILE_STRATEGY;
