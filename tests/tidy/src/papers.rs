//! Rules over the papers and over what spans several files.
//!
//! Guarantees: a paper that a rule reads and that is not there is a finding, never a pass; commands
//! and paths a reader is told about exist.

mod codes;
mod compatibility;
mod paths;

pub use codes::{error_codes, mentioned_codes};
pub use compatibility::{Counts, compatibility, counts};
pub use paths::{Known, documented_paths, links, machine_paths};

use crate::finding::{Finding, Hit};
use crate::lexer::RustText;

/// The two commands a newcomer types, in the README's order.
pub const COMMANDS: [&str; 2] = ["cargo run --release -- demo", "cargo test"];

/// A paper that must be there: its text, or the finding that it is missing.
pub fn required<'a>(path: &str, text: Option<&'a str>) -> Result<&'a str, Finding> {
    text.ok_or_else(|| Finding {
        file: path.to_owned(),
        hit: Hit::new(0, "the file is missing"),
        rule: "paper",
        fix: "write it; other rules read it",
    })
}

/// The README's first two commands.
pub fn readme_commands(text: &str) -> Vec<Finding> {
    let commands = shell_commands(text);
    let mut findings = Vec::new();
    for (i, expected) in COMMANDS.iter().enumerate() {
        let (line, found) = commands
            .get(i)
            .map_or((0, "nothing"), |(line, command)| (*line, *command));
        if found != *expected {
            findings.push(Finding {
                file: "README.md".to_owned(),
                hit: Hit::new(
                    line,
                    format!("command {} is `{found}`, not `{expected}`", i + 1),
                ),
                rule: "two-commands",
                fix: "a fresh clone needs these two commands and no other",
            });
        }
    }
    findings
}

/// Commands in the fenced blocks of a text, without prompts, comments and the clone itself.
fn shell_commands(text: &str) -> Vec<(usize, &str)> {
    let mut commands = Vec::new();
    let mut shell = None;
    for (i, line) in text.lines().enumerate() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            shell = match shell {
                Some(_) => None,
                None => Some(["", "sh", "bash", "console", "shell"].contains(&language.trim())),
            };
            continue;
        }
        let command = line.split(" #").next().unwrap_or(line).trim();
        let command = command.strip_prefix("$ ").unwrap_or(command);
        let arrival = command.starts_with("git clone") || command.starts_with("cd ");
        if shell == Some(true) && !command.is_empty() && !command.starts_with('#') && !arrival {
            commands.push((i + 1, command));
        }
    }
    commands
}

/// The one entry for all checks: what it must run, and that tests come last.
pub fn ci_entry(text: &str) -> Vec<Finding> {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .collect();
    let mut wrong = Vec::new();
    if lines.first() != Some(&"set -euo pipefail") {
        wrong.push("does not begin with `set -euo pipefail`");
    }
    if !lines.contains(&"cargo fmt --all --check") {
        wrong.push("does not run `cargo fmt --all --check`");
    }
    let strict = lines
        .iter()
        .any(|l| l.starts_with("cargo clippy") && l.ends_with("-D warnings"));
    if !strict {
        wrong.push("does not run clippy with warnings denied");
    }
    if lines.last() != Some(&COMMANDS[1]) {
        wrong.push("does not end with the README's test command, `cargo test`");
    }
    wrong
        .into_iter()
        .map(|what| Finding {
            file: ".ci/run".to_owned(),
            hit: Hit::new(0, what),
            rule: "ci-entry",
            fix: "machine and person run the same: format, clippy, then exactly `cargo test`",
        })
        .collect()
}

/// A guest in `filters-examples/`: its folder and the name of its package.
pub struct Guest {
    pub folder: String,
    pub package: String,
}

/// Every guest is named by some test.
pub fn tested_guests(guests: &[Guest], rust: &[RustText]) -> Vec<Finding> {
    guests
        .iter()
        .filter(|guest| !rust.iter().any(|file| names_guest(file, guest)))
        .map(|guest| Finding {
            file: guest.folder.clone(),
            hit: Hit::new(0, format!("no test names the guest `{}`", guest.package)),
            rule: "tested-guest",
            fix: "test it through host/plugins and name its package or folder there",
        })
        .collect()
}

fn names_guest(file: &RustText, guest: &Guest) -> bool {
    // The tidy rules name guests in their samples; that tests nothing.
    if file.path.starts_with("tests/tidy/") {
        return false;
    }
    let artefact = guest.package.replace('-', "_");
    let whole = file.is_test_file();
    // The runtime's own tests call a plugin by its name, which is its folder's.
    let name = guest.folder.rsplit('/').next().unwrap_or_default();
    let called = file.path.starts_with("host/plugins/tests/");
    let called = called.then(|| format!("\"{name}\""));
    file.raw.lines().enumerate().any(|(i, line)| {
        (whole || file.is_test_line(i + 1))
            && [
                Some(&guest.package),
                Some(&artefact),
                Some(&guest.folder),
                called.as_ref(),
            ]
            .iter()
            .flatten()
            .any(|name| line.contains(name.as_str()))
    })
}

/// Decisions: numbered without gaps, each with the same four parts.
pub fn decisions(papers: &[(&str, &str)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (i, (path, text)) in papers.iter().enumerate() {
        let mut wrong = Vec::new();
        let name = path.rsplit('/').next().unwrap_or(path);
        if !name.starts_with(&format!("{:04}-", i + 1)) {
            wrong.push(format!("is not number {:04}", i + 1));
        }
        for part in ["## Context", "## Decision", "## Consequences"] {
            if !text.lines().any(|l| l == part) {
                wrong.push(format!("has no `{part}`"));
            }
        }
        if !text.lines().any(|l| l.starts_with("Status: ")) {
            wrong.push("has no `Status: ` line".to_owned());
        }
        findings.extend(wrong.into_iter().map(|what| Finding {
            file: (*path).to_owned(),
            hit: Hit::new(0, what),
            rule: "decision",
            fix: "follow docs/decisions/0001-record-decisions.md",
        }));
    }
    findings
}
