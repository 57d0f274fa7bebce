//! Every bound a guest meets. Fuel is counted by the instruction, roughly.

/// Largest component, bytes.
pub const COMPONENT: usize = 32 * 1024 * 1024;
/// Fuel for `describe` and for compiling one expression.
pub(crate) const FUEL_SETUP: u64 = 50_000_000;
/// Fuel for judging one batch: its base …
pub(crate) const FUEL_BATCH: u64 = 1_000_000;
/// … and so much more a message.
pub(crate) const FUEL_MESSAGE: u64 = 1_000_000;
/// Most a guest answers in one list; its memory bounds the rest.
pub(crate) const NEEDS: usize = 64;
/// Most tag codes a subscription may name.
pub(crate) const TAG_CODES: usize = 1_024;
/// Messages of a batch.
pub(crate) const BATCH_MESSAGES: usize = 256;
/// Text of a batch after which it is full, bytes.
pub(crate) const BATCH_TEXT: usize = 64 * 1024;
/// Linear memory of an instance, bytes.
pub(crate) const MEMORY: usize = 16 * 1024 * 1024;
/// Table elements of an instance.
pub(crate) const TABLE: usize = 20_000;
/// Native stack of a guest, bytes.
pub(crate) const STACK: usize = 512 * 1024;
/// Instances of one process.
pub(crate) const INSTANCES: u32 = 256;
/// Subscriptions compiled into one instance; then it is made anew.
pub(crate) const SUBSCRIPTIONS: usize = 1_024;
/// Calls repeated to find the messages at fault in one batch.
pub(crate) const BISECTIONS: usize = 64;
/// A line of a guest's log, bytes.
pub(crate) const LOG_LINE: usize = 1_024;
/// Lines a guest may log in one call.
pub(crate) const LOG_LINES: u32 = 100;
/// Names a guest may count under.
pub(crate) const COUNTERS: usize = 16;
