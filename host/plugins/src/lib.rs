//! The plugin runtime: verifies, compiles, limits and calls WebAssembly components of the contract
//! in `wit/`. The only crate that names wasmtime.
//!
//! A guest can do nothing to its host: it has no I/O, its memory and computing are bounded, and an
//! instance that fails is thrown away. What it cannot judge is reported as unjudged, never dropped.

mod batch;
mod bindings;
mod error;
mod host;
mod instance;
mod limits;
mod metrics;
mod plugin;
mod runtime;
mod worker;

pub use crate::batch::{Batch, Field, Needs, Number};
pub use crate::error::{Fault, LoadError, Refusal, RuntimeError, SubscribeError};
pub use crate::limits::COMPONENT as COMPONENT_LIMIT;
pub use crate::metrics::Snapshot;
pub use crate::plugin::Plugin;
pub use crate::runtime::{Config, Runtime};
pub use crate::worker::{Judged, Subscription, Verdict, Worker};

/// A filter that misbehaves as its expression asks (`trap`, `loop`, `bomb`, …): for tests of what
/// stands on this crate.
#[doc(hidden)]
pub const HOSTILE: &[u8] = include_bytes!(env!("HOSTILE_COMPONENT"));
