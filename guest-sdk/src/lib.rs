//! What a plugin author links: write a function or implement a trait, build for `wasm32-unknown-unknown`.
//!
//! The shortest filter is a function, see [`filter!`]; a trait each for all that can be decided:
//!
//! | trait | decides | exported by |
//! |---|---|---|
//! | [`Filter`], row by row, or [`ColumnFilter`], a batch in one go | which messages a subscription gets | [`export_filter!`] |
//! | [`BodyFilter`] | the same, reading bodies too | [`export_body_filter!`] |
//! | [`QueueSelector`] | which queue a message goes to | [`export_queue_selector!`] |
//! | [`AllocationStrategy`] | who of a group consumes which queue | [`export_allocation_strategy!`] |
//!
//! ```
//! use quern_plugin::{Batch, BatchBuilder, Description, Filter, Needs, Params, Refusal, Text};
//!
//! struct Glob(String);
//!
//! impl Filter for Glob {
//!     fn describe() -> Description {
//!         Description::new("glob", "1.0.0", "tags by pattern").language("GLOB")
//!     }
//!     fn compile(expression: &str, _: &Params) -> Result<Self, Refusal> {
//!         Ok(Self(expression.trim_end_matches('*').to_owned()))
//!     }
//!     fn needs(&self) -> Needs {
//!         Needs::new().text(Text::Tag)
//!     }
//!     fn matches(&self, batch: &Batch, message: usize) -> Result<bool, String> {
//!         Ok(batch.text(message, 0).is_some_and(|tag| tag.starts_with(&self.0)))
//!     }
//! }
//!
//! # #[cfg(target_family = "wasm")]
//! quern_plugin::export_filter!(Glob);
//!
//! // In its tests, a plugin is plain Rust:
//! let glob = Glob::compile("pa*", &Params::default()).unwrap();
//! let batch = BatchBuilder::default().message(&[Some("paid")], &[]).build();
//! assert_eq!(glob.matches(&batch, 0), Ok(true));
//! ```
//!
//! A plugin has no clock, no randomness and no I/O: the same batch gets the same answer. It may
//! write to the broker's log ([`log`]) and count things ([`count`]). If it panics, the message and
//! the place reach the broker's log, and the broker's error.

mod about;
#[cfg(target_family = "wasm")]
mod arena;
mod batch;
#[doc(hidden)]
pub mod bindings;
#[doc(hidden)]
pub mod export;
mod filter;
#[doc(hidden)]
pub mod function;
pub mod java;
mod needs;
mod panics;
mod refusal;
mod selector;
pub mod shares;
mod strategy;

pub use crate::about::{Description, Param, ParamKind, Params};
pub use crate::batch::{Batch, BatchBuilder, Exact, Numbers, Texts, Verdicts};
pub use crate::bindings::host::{Level, count, log};
pub use crate::filter::{BodyFilter, ColumnFilter, Filter};
pub use crate::needs::{Figure, Needs, Text};
pub use crate::panics::report_panics;
pub use crate::refusal::{Refusal, RefusalCode};
pub use crate::selector::{Queue, QueueSelector};
pub use crate::strategy::{AllocationStrategy, Member, OwnedQueue, Owners, Request};
