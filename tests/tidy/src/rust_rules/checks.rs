//! The checks behind the table. Guarantees: each returns its hits in the order of the lines.

use super::{MAX_LINES, MAX_SCREEN_LINES, Sample};
use crate::finding::Hit;
use crate::lexer::{RustText, has_word, numbered, word_starts};

/// Files that must be readable on one screen.
const SCREENS: &[&str] = &["host/broker/src/requests.rs", "host/cli/src/main.rs"];

/// One line more than a screen's table may have.
pub(super) const TOO_LONG_TABLE: &str = {
    const BYTES: [u8; MAX_SCREEN_LINES + 1] = [b'\n'; MAX_SCREEN_LINES + 1];
    match std::str::from_utf8(&BYTES) {
        Ok(text) => text,
        Err(_) => panic!("line feeds are text"),
    }
};

/// Spelled in pieces, or this file would be a finding.
pub(super) const UNFINISHED_SAMPLES: &[Sample] = &[
    ("host/broker/src/x.rs", concat!("// TO", "DO: later")),
    ("host/broker/src/x.rs", concat!("/* FIX", "ME */")),
    ("host/broker/src/x.rs", concat!("fn f() { to", "do!() }")),
    (
        "host/broker/src/x.rs",
        concat!("fn f() { unimple", "mented!(\"x\") }"),
    ),
];

pub(super) fn header(file: &RustText) -> Vec<Hit> {
    let says_something = file
        .raw
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("//!"))
        .is_some_and(|text| !text.trim().is_empty());
    if says_something {
        Vec::new()
    } else {
        vec![Hit::new(1, "the first line is not a //! sentence")]
    }
}

pub(super) fn length(file: &RustText) -> Vec<Hit> {
    let limit = if SCREENS.contains(&file.path.as_str()) {
        MAX_SCREEN_LINES
    } else {
        MAX_LINES
    };
    let lines = file.lines_without_tests();
    if lines > limit {
        vec![Hit::new(
            0,
            format!("{lines} lines without tests, at most {limit}"),
        )]
    } else {
        Vec::new()
    }
}

pub(super) fn ignored(file: &RustText) -> Vec<Hit> {
    containing(&file.code, &["#[ignore"])
}

pub(super) fn unfinished(file: &RustText) -> Vec<Hit> {
    let mut hits = Vec::new();
    for (line, text) in numbered(&file.prose) {
        for mark in [concat!("TO", "DO"), concat!("FIX", "ME")] {
            if has_word(text, mark) {
                hits.push(Hit::new(line, format!("mark `{mark}`")));
            }
        }
    }
    for (line, code) in numbered(&file.code) {
        for stub in ["todo", "unimplemented"] {
            let call = word_starts(code, stub).any(|at| code[at + stub.len()..].starts_with('!'));
            if call {
                hits.push(Hit::new(line, format!("`{stub}!`")));
            }
        }
    }
    hits
}

pub(super) fn unbounded(file: &RustText) -> Vec<Hit> {
    containing(&file.code, &["unbounded_channel"])
}

/// Who may read the clock: the seam, the binary and tests the system's; the transport and the name
/// server tokio's, which a simulation can pause. Certificates and messages are dated by the wall
/// clock. Examples measure.
pub(super) fn clock(file: &RustText) -> Vec<Hit> {
    let path = file.path.as_str();
    let any = path == "host/store/src/clock.rs"
        || path.starts_with("host/cli/")
        || path.ends_with("build.rs")
        || path.contains("/examples/")
        || file.is_test_file();
    if any {
        return Vec::new();
    }
    let tokio_time = ["transport/quic/", "transport/client/", "host/nameserver/"]
        .iter()
        .any(|folder| path.starts_with(folder));
    let wall = path.starts_with("transport/quic/") || path.starts_with("transport/client/");
    let imports_tokio = file
        .code
        .lines()
        .any(|l| l.contains("tokio::time") && has_word(l, "Instant"));
    let mut hits = Vec::new();
    for (line, code) in numbered(&file.code) {
        if file.is_test_line(line) {
            continue;
        }
        if code.contains("SystemTime::now") && !wall {
            hits.push(Hit::new(line, "reads the wall clock"));
        }
        if let Some(at) = code.find("Instant::now") {
            let before = &code[..at];
            let std = before.ends_with("std::time::");
            let tokio = !std && (imports_tokio || before.ends_with("tokio::time::"));
            if !(tokio_time && tokio) {
                hits.push(Hit::new(line, "reads the monotonic clock"));
            }
        }
    }
    hits
}

pub(super) fn unsafe_code(file: &RustText) -> Vec<Hit> {
    let mapping = file.path.starts_with("host/store/src/map") && file.path.ends_with(".rs");
    let artefact = file.path == "host/plugins/src/artefact.rs";
    if mapping || artefact || file.path.starts_with("guest-sdk/") {
        return Vec::new();
    }
    numbered(&file.code)
        .filter(|(_, code)| has_word(code, "unsafe"))
        .map(|(line, _)| Hit::new(line, "`unsafe`"))
        .collect()
}

pub(super) fn error_types(file: &RustText) -> Vec<Hit> {
    if file.path.starts_with("host/cli/") || file.is_test_file() {
        return Vec::new();
    }
    // What quinn tells about a handshake comes as `dyn Any`; there is no other way to read it.
    let words: &[&str] = if file.path.starts_with("transport/quic/") {
        &["anyhow::"]
    } else {
        &["anyhow::", ".downcast"]
    };
    containing(&file.code, words)
        .into_iter()
        .filter(|hit| !file.is_test_line(hit.line))
        .collect()
}

fn containing(view: &str, words: &[&str]) -> Vec<Hit> {
    let mut hits = Vec::new();
    for (line, text) in numbered(view) {
        for word in words.iter().filter(|w| text.contains(**w)) {
            hits.push(Hit::new(line, format!("`{word}`")));
        }
    }
    hits
}
