//! The repository's own rules, as data that tests can run.
//!
//! Guarantees: every rule carries samples it must catch and samples it must let pass, so that none
//! can turn vacuous; every finding names a file, a line, the rule and what to do about it. The
//! checks are pure functions over text; only [`tree`] reads files.

pub mod crates;
pub mod finding;
pub mod lexer;
pub mod papers;

pub mod rust_rules;
pub mod tree;
