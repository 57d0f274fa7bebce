//! What a rule reports. Guarantees: a report names place, rule and remedy, one finding a line.

use std::fmt;

/// A place inside one text and what stands there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// Counted from 1; 0 means the file as a whole.
    pub line: usize,
    pub what: String,
}

impl Hit {
    pub fn new(line: usize, what: impl Into<String>) -> Self {
        Self {
            line,
            what: what.into(),
        }
    }
}

/// A hit in a named file, with the rule that was broken and the way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub file: String,
    pub hit: Hit,
    pub rule: &'static str,
    pub fix: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            hit,
            rule,
            fix,
        } = self;
        match hit.line {
            0 => write!(f, "{file}: ")?,
            line => write!(f, "{file}:{line}: ")?,
        }
        write!(f, "[{rule}] {} | fix: {fix}", hit.what)
    }
}

/// Fails the calling test with all findings at once, so that one run shows the whole list.
#[track_caller]
pub fn expect_none(findings: &[Finding]) {
    let list: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(
        list.is_empty(),
        "{} finding(s):\n{}\n",
        list.len(),
        list.join("\n")
    );
}
