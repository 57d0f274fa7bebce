//! Every bound a guest meets. Fuel is counted by the instruction, roughly.

/// Largest component, bytes.
pub const COMPONENT: usize = 4 * 1024 * 1024;
/// Fuel for `describe` and for compiling one expression.
pub(crate) const FUEL_SETUP: u64 = 50_000_000;
/// Fuel for judging one batch: its base …
pub(crate) const FUEL_BATCH: u64 = 2_000_000;
/// … so much more a message …
pub(crate) const FUEL_MESSAGE: u64 = 20_000;
/// … so much more a byte of text …
pub(crate) const FUEL_BYTE: u64 = 16;
/// … and so much more a byte of a body.
pub(crate) const FUEL_BODY_BYTE: u64 = 64;
/// Bytes a guest hands to its host in one call.
pub(crate) const ANSWER: usize = 1024 * 1024;
/// Bytes of a guest's own words that go into an error.
pub(crate) const WORDS: usize = 1_024;
/// Bytes of the version or language a plugin names.
pub(crate) const NAME: usize = 64;
/// Texts, and numbers, a subscription may read of each message.
pub(crate) const NEEDS: usize = 16;
/// Most tag codes a subscription may name.
pub(crate) const TAG_CODES: usize = 1_024;
/// Messages of a batch.
pub(crate) const BATCH_MESSAGES: usize = 256;
/// Text of a batch after which it is full, bytes.
pub(crate) const BATCH_TEXT: usize = 64 * 1024;
/// Messages of a batch whose bodies are judged too.
pub(crate) const BATCH_BODIES: usize = 64;
/// Bodies of a batch after which it is full, bytes.
pub(crate) const BATCH_BODY_BYTES: usize = 2 * 1024 * 1024;
/// Linear memory of an instance, bytes.
pub(crate) const MEMORY: usize = 16 * 1024 * 1024;
/// Table elements of an instance.
pub(crate) const TABLE: usize = 20_000;
/// Native stack of a guest, bytes.
pub(crate) const STACK: usize = 512 * 1024;
/// Instances of one process.
pub(crate) const INSTANCES: u32 = 256;
/// Instances one worker keeps.
pub(crate) const WORKER_INSTANCES: usize = 32;
/// Subscriptions compiled into one instance; then it is made anew.
pub(crate) const SUBSCRIPTIONS: usize = 1_024;
/// Calls repeated to find the messages at fault in one batch.
pub(crate) const BISECTIONS: usize = 64;
/// A line of a guest's log, bytes.
pub(crate) const LOG_LINE: usize = 1_024;
/// Lines a guest may log in one call.
pub(crate) const LOG_LINES: u32 = 10;
/// Names a plugin may count under.
pub(crate) const COUNTERS: usize = 16;
