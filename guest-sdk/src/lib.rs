//! What a plugin author links: implement [`Filter`], export it, build for
//! `wasm32-unknown-unknown`.
//!
//! ```text
//! use quern_plugin::{Batch, Description, Filter, Needs, Params, Refusal, Text};
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
//! quern_plugin::export_filter!(Glob);
//! ```
//!
//! A plugin has no clock, no randomness and no I/O: the same batch gets the same answer. It may
//! write to the broker's log ([`log`]) and count things ([`count`]).

mod batch;
#[doc(hidden)]
pub mod bindings;
mod export;
mod filter;

pub use crate::batch::{Batch, BatchBuilder};
pub use crate::bindings::quern::plugin::host::{Level, count, log};
#[doc(hidden)]
pub use crate::export::Exported;
pub use crate::filter::{Description, Figure, Filter, Needs, Params, Refusal, Text};
