//! The tables of `docs/configuration.md`, from the tables of the code.

use std::fmt::Write as _;

use crate::config::Roles;

use super::ignored::IGNORED;
use super::{KEYS, Key, SHORTHANDS};

/// Every setting of a role, and every key of RocketMQ that has no effect, as Markdown.
pub fn tables(of: Roles) -> String {
    let mut out = String::from("| key | default | allowed | what it is |\n|---|---|---|---|\n");
    for key in KEYS.iter().filter(|key| key.of.overlap(of)) {
        let cells = [
            format!("`{}`{}", key.name, also(key)),
            code(&key.default()),
            cell(key.allowed),
            cell(&format!("{}{}", key.help, flag(key))),
        ];
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    }
    out.push_str("\n| ignored | because |\n|---|---|\n");
    for row in IGNORED.iter().filter(|row| row.of.overlap(of)) {
        let keys: Vec<_> = row.keys.split_whitespace().map(code).collect();
        let _ = writeln!(out, "| {} | {} |", keys.join(" "), cell(row.reason));
    }
    out
}

fn also(key: &Key) -> String {
    let also: Vec<_> = key.also.iter().map(|name| format!("`{name}`")).collect();
    match also.is_empty() {
        true => String::new(),
        false => format!(", also {}", also.join(", ")),
    }
}

fn flag(key: &Key) -> String {
    let short = |it: &&super::Shorthand| it.of.overlap(key.of) && it.gives(key.name);
    let flag = key.flag.as_ref().or_else(|| {
        let shorthand = SHORTHANDS.iter().find(short)?;
        Some(&shorthand.flag)
    });
    match flag {
        None => String::new(),
        Some(flag) => match flag.env {
            Some(env) => format!(". `--{}`, `{env}`", flag.long),
            None => format!(". `--{}`", flag.long),
        },
    }
}

fn code(text: &str) -> String {
    match text.is_empty() {
        true => String::new(),
        false => format!("`{text}`"),
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
