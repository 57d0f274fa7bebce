//! Rules over single Rust files, as a table: name, remedy, check, samples.
//!
//! Guarantees: a rule looks at one file and nothing else; code inside strings is never judged. The
//! function length and the parameter count are clippy's to watch (`clippy.toml`), not ours.

mod checks;
mod names;

use crate::finding::{Finding, Hit};
use crate::lexer::RustText;

/// A sample for a rule: the path it pretends to have, and its text.
pub type Sample = (&'static str, &'static str);

/// One rule over a Rust file.
pub struct RustRule {
    pub name: &'static str,
    pub fix: &'static str,
    pub check: fn(&RustText) -> Vec<Hit>,
    /// Texts the rule must catch.
    pub bad: &'static [Sample],
    /// Near misses the rule must let pass.
    pub good: &'static [Sample],
}

impl RustRule {
    pub fn findings(&self, file: &RustText) -> Vec<Finding> {
        (self.check)(file)
            .into_iter()
            .map(|hit| Finding {
                file: file.path.clone(),
                hit,
                rule: self.name,
                fix: self.fix,
            })
            .collect()
    }
}

/// Lines a file may have, its test modules not counted.
pub const MAX_LINES: usize = 800;
/// Lines of the tables that must fit a screen.
pub const MAX_SCREEN_LINES: usize = 150;

const LIB: &str = "host/broker/src/x.rs";
const CLI: &str = "host/cli/src/x.rs";
const TEST: &str = "host/broker/tests/x.rs";

/// Every rule, in the order in which its findings are shown.
pub const RULES: &[RustRule] = &[
    RustRule {
        name: "header",
        fix: "open the file with //! lines: what it is and what it guarantees",
        check: checks::header,
        bad: &[(LIB, "use std::fmt;\n//! late"), (LIB, ""), (LIB, "//!\n")],
        good: &[(LIB, "//! Topics. Guarantees: names are unique.\n")],
    },
    RustRule {
        name: "file-length",
        fix: "split the file by noun or verb; tests in a #[cfg(test)] module are not counted",
        check: checks::length,
        // A screen's table is the short way to show both limits.
        bad: &[("host/broker/src/requests.rs", checks::TOO_LONG_TABLE)],
        good: &[(LIB, checks::TOO_LONG_TABLE)],
    },
    RustRule {
        name: "type-name",
        fix: "name the thing by its noun from the field (docs/architecture.md has the glossary)",
        check: names::types,
        bad: &[
            (LIB, "pub struct TopicManager;"),
            (LIB, "enum BrokerService { A }"),
            (LIB, "trait Utils {}"),
            (LIB, "type StoreImpl = ();"),
            (LIB, "struct RouteInfo { a: u8 }"),
            (LIB, "struct DefaultProducer;"),
            (LIB, "struct MessageDataWrapper<T>(T);"),
            (LIB, "struct BaseOffset;"),
        ],
        good: &[
            (
                LIB,
                "struct Database; struct DataDir; struct Commons; struct Defaults;",
            ),
            (
                LIB,
                "// struct TopicManager\nlet s = \"struct TopicManager\";",
            ),
            (LIB, "impl Default for Topics {} fn f(x: ManagerHandle) {}"),
        ],
    },
    RustRule {
        name: "accessor-name",
        fix: "name the method after what it returns (`topic`), a change after its verb (`rename`)",
        check: names::accessors,
        bad: &[
            (LIB, "fn get_topic(&self) {}"),
            (LIB, "pub fn set_limit() {}"),
        ],
        good: &[(
            LIB,
            "fn get(&self) {} fn settle() {} fn forget_me() {} x.set_nodelay(true)",
        )],
    },
    RustRule {
        name: "ignored-test",
        fix: "make the test fast and certain, or remove it; a skipped test proves nothing",
        check: checks::ignored,
        bad: &[
            (TEST, "#[test]\n#[ignore]\nfn f() {}"),
            (TEST, "#[ignore = \"slow\"]"),
        ],
        good: &[(TEST, "// #[ignore] would hide it\nlet s = \"#[ignore]\";")],
    },
    RustRule {
        name: "unfinished",
        fix: "finish it, or open an issue and leave nothing in the text",
        check: checks::unfinished,
        bad: checks::UNFINISHED_SAMPLES,
        good: &[(LIB, "//! Fixed sizes.\nlet s = \"todo!()\"; fn todos() {}")],
    },
    RustRule {
        name: "unbounded-queue",
        fix: "use a bounded channel with a constant from the crate's limits.rs",
        check: checks::unbounded,
        bad: &[(LIB, "let (a, b) = mpsc::unbounded_channel();")],
        good: &[(LIB, "let (a, b) = mpsc::channel(limits::PARKED);")],
    },
    RustRule {
        name: "clock",
        fix: "take the time from the clock seam (host/store/src/clock.rs); transport and name server: tokio's time",
        check: checks::clock,
        bad: &[
            (LIB, "let t = SystemTime::now();"),
            (LIB, "let t = std::time::Instant::now();"),
            (LIB, "use tokio::time::Instant;\nlet t = Instant::now();"),
            (
                "transport/quic/src/x.rs",
                "use std::time::Instant;\nlet t = Instant::now();",
            ),
            (
                "transport/protocol/src/x.rs",
                "let t = tokio::time::Instant::now();",
            ),
        ],
        good: &[
            (
                "host/store/src/clock.rs",
                "SystemTime::now(); Instant::now();",
            ),
            (
                "transport/quic/src/x.rs",
                "use tokio::time::Instant;\nlet t = Instant::now();",
            ),
            (
                "host/nameserver/src/x.rs",
                "let t = tokio::time::Instant::now();",
            ),
            (CLI, "let t = Instant::now();"),
            (TEST, "let t = Instant::now();"),
            (
                LIB,
                "#[cfg(test)]\nmod tests {\n fn f() { Instant::now(); }\n}\n",
            ),
        ],
    },
    RustRule {
        name: "unsafe",
        fix: "unsafe lives in host/store's one mapping module and host/plugins' artefact.rs only; find the safe way",
        check: checks::unsafe_code,
        bad: &[
            (LIB, "let x = unsafe { f() };"),
            ("host/plugins/src/x.rs", "unsafe fn f() {}"),
            ("host/store/src/segment.rs", "unsafe impl Send for X {}"),
        ],
        good: &[
            ("host/store/src/mapping.rs", "let x = unsafe { f() };"),
            ("host/plugins/src/artefact.rs", "unsafe { f() }"),
            ("guest-sdk/src/bindings.rs", "unsafe { f() }"),
            (LIB, "#![deny(unsafe_code)]\n// unsafe\nlet s = \"unsafe\";"),
        ],
    },
    RustRule {
        name: "downcast",
        fix: "give the cause a variant of its own; anyhow and downcasts belong to the binary and tests",
        check: checks::error_types,
        bad: &[
            (LIB, "e.downcast_ref::<io::Error>()"),
            (LIB, "use anyhow::Result;"),
        ],
        good: &[
            (CLI, "use anyhow::Result; e.downcast_ref::<io::Error>()"),
            (TEST, "use anyhow::Result;"),
            ("transport/quic/src/x.rs", "identity.downcast::<Chain>()"),
        ],
    },
];
