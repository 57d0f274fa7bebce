//! Every bound a guest meets. Fuel is counted by the instruction, roughly.

use std::time::Duration;

use crate::child::Rlimits;

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
/// Lines kept of each plugin …
pub(crate) const LOG_KEPT: usize = 1_000;
/// … and bytes.
pub(crate) const LOG_KEPT_BYTES: usize = 256 * 1024;
/// Names whose lines are kept; beyond, only those of plugins that are loaded.
pub(crate) const LOGS: usize = 4_096;
/// Names a plugin may count under.
pub(crate) const COUNTERS: usize = 16;
/// Modules and components inside a component, and how deep.
pub(crate) const MODULES: usize = 64;
pub(crate) const NESTING: usize = 8;
/// Instances of modules in one component.
pub(crate) const CORE_INSTANCES: u32 = 16;
/// Memories and tables of one component.
pub(crate) const MEMORIES: u32 = 4;
pub(crate) const TABLES: u32 = 4;
/// One function's code, bytes: what a compiler takes grows faster than its length.
pub(crate) const FUNCTION: usize = 64 * 1024;
/// Types, imports, exports, functions … a component declares in all.
pub(crate) const ITEMS: usize = 100_000;
/// Components on their way in at once; beyond, the one nobody went on with for longest goes.
pub(crate) const INCOMING: usize = 16;
/// Cases an author may send along, bytes.
pub const VECTORS: usize = 256 * 1024;
/// Expressions the fixed messages are judged under.
pub(crate) const DRY_RUNS: usize = 16;
/// What the compiling child may use.
pub(crate) const COMPILER: Rlimits = Rlimits {
    address_space: 1 << 30,
    data: 1 << 30,
    cpu_seconds: 10,
    files: 3,
    file_bytes: 0,
};
/// What the trying child may use: artefacts are compiled for reservations of 4 GiB.
pub(crate) const TRIAL: Rlimits = Rlimits {
    address_space: 16 << 30,
    data: 256 << 20,
    cpu_seconds: 10,
    // An instance's first memory is kept in an anonymous file.
    files: 16,
    file_bytes: 64 << 20,
};
/// A child that is not done by then never will be, however busy the machine.
pub(crate) const CHILD_WALL: Duration = Duration::from_secs(120);
/// Longest answer of a child, bytes.
pub(crate) const ANSWER_OF_CHILD: u64 = 256 << 20;
/// Compiled plugins kept, bytes.
pub(crate) const CACHE: u64 = 512 << 20;
