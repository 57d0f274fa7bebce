//! Every bound a guest meets. Fuel is counted by the instruction, roughly.

use std::time::Duration;

use crate::child::Rlimits;

/// What a component may have and use. Its length says which class it is of: nothing else can be known of it before it
/// is compiled, and who pads a component to be of a higher class wins nothing but a longer wait.
pub(crate) struct Class {
    /// Largest component, bytes.
    pub(crate) component: usize,
    /// One function's code, bytes: what a compiler takes grows faster than its length.
    pub(crate) function: usize,
    /// Instances of modules in one component.
    pub(crate) core_instances: usize,
    /// Linear memory of an instance, bytes.
    pub(crate) memory: usize,
    pub(crate) fuel: Fuel,
    /// What the compiling child may use …
    pub(crate) compiler: Rlimits,
    /// … and the trying one: artefacts are compiled for reservations of 4 GiB.
    pub(crate) trial: Rlimits,
}

/// What calls may cost.
pub(crate) struct Fuel {
    /// For `describe` and for compiling one expression.
    pub(crate) setup: u64,
    /// For judging one batch: its base …
    pub(crate) batch: u64,
    /// … so much more a message …
    pub(crate) message: u64,
    /// … so much more a byte of text …
    pub(crate) byte: u64,
    /// … and so much more a byte of a body.
    pub(crate) body_byte: u64,
}

/// The classes, smallest first.
pub(crate) const CLASSES: [Class; 3] = [
    // Compiled languages: SQL92 takes 290 of the fuel a message.
    Class {
        component: 1024 * 1024,
        function: 64 * 1024,
        core_instances: 16,
        memory: 16 * 1024 * 1024,
        fuel: Fuel {
            setup: 50_000_000,
            batch: 2_000_000,
            message: 20_000,
            byte: 16,
            body_byte: 64,
        },
        compiler: compiler(1, 10),
        trial: trial(256, 10),
    },
    // An interpreter is inside, as in all JavaScript: each step of the author's is hundreds of instructions.
    Class {
        component: 4 * 1024 * 1024,
        function: 64 * 1024,
        core_instances: 16,
        memory: 32 * 1024 * 1024,
        fuel: INTERPRETED,
        compiler: compiler(1, 10),
        trial: trial(256, 20),
    },
    // A large one, as in all Python.
    Class {
        component: COMPONENT,
        function: 512 * 1024,
        core_instances: LARGEST_CORE_INSTANCES,
        memory: LARGEST_MEMORY,
        fuel: INTERPRETED,
        compiler: compiler(4, 60),
        trial: trial(1024, 30),
    },
];

/// A byte costs what QuickJS takes to find its way in text that is no ASCII, or to read a body that is no text.
const INTERPRETED: Fuel = Fuel {
    setup: 100_000_000,
    batch: 16_000_000,
    message: 160_000,
    byte: 4_096,
    body_byte: 4_096,
};

const fn compiler(gib: u64, cpu_seconds: u64) -> Rlimits {
    Rlimits {
        address_space: gib << 30,
        data: gib << 30,
        cpu_seconds,
        files: 3,
        file_bytes: 0,
    }
}

const fn trial(data_mib: u64, cpu_seconds: u64) -> Rlimits {
    Rlimits {
        address_space: 16 << 30,
        data: data_mib << 20,
        cpu_seconds,
        // An instance's first memory is kept in an anonymous file.
        files: 16,
        file_bytes: 64 << 20,
    }
}

/// The class of a component of so many bytes.
pub(crate) fn class(bytes: usize) -> &'static Class {
    let mut classes = CLASSES.iter();
    let class = classes.find(|class| bytes <= class.component);
    class.unwrap_or(&CLASSES[CLASSES.len() - 1])
}

/// Largest component of all, bytes.
pub const COMPONENT: usize = 32 * 1024 * 1024;
/// Most that any class may have.
pub(crate) const LARGEST_CORE_INSTANCES: usize = 40;
pub(crate) const LARGEST_MEMORY: usize = 64 * 1024 * 1024;
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
/// A filter nothing is known of is asked about so many at first …
pub(crate) const FIRST_MESSAGES: usize = 16;
/// … and later about as many as it judges with so much fuel: the half of a millisecond, or a whole one.
pub(crate) const MOMENT: u64 = 4_000_000;
/// Text of a batch after which it is full, bytes.
pub(crate) const BATCH_TEXT: usize = 64 * 1024;
/// Messages of a batch whose bodies are judged too.
pub(crate) const BATCH_BODIES: usize = 64;
/// Bodies of a batch after which it is full, bytes.
pub(crate) const BATCH_BODY_BYTES: usize = 2 * 1024 * 1024;
/// Table elements of an instance.
pub(crate) const TABLE: usize = 20_000;
/// Bytes of a memory, and of a table, that stay with its slot when an instance is done.
pub(crate) const KEPT_PAGES: usize = 64 * 1024;
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
/// Memories and tables of one component.
pub(crate) const MEMORIES: u32 = 4;
pub(crate) const TABLES: u32 = 4;
/// Types, imports, exports, functions … a component declares in all.
pub(crate) const ITEMS: usize = 100_000;
/// Components on their way in at once; beyond, the one nobody went on with for longest goes.
pub(crate) const INCOMING: usize = 16;
/// Cases an author may send along, bytes.
pub const VECTORS: usize = 256 * 1024;
/// Expressions the fixed messages are judged under.
pub(crate) const DRY_RUNS: usize = 16;
/// A child that is not done by then never will be, however busy the machine: what it works is limited by itself.
pub(crate) const CHILD_WALL: Duration = Duration::from_secs(600);
/// Longest answer of a child, bytes.
pub(crate) const ANSWER_OF_CHILD: u64 = 256 << 20;
/// Compiled plugins kept, bytes.
pub(crate) const CACHE: u64 = 512 << 20;
