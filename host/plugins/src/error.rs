//! What goes wrong with plugins, as facts. Codes are those of the error table: 41xx not a plugin,
//! 42xx an expression refused, 43xx a guest failing at work.

use std::fmt;
use std::sync::Arc;

use crate::limits;

/// The runtime itself could not start.
#[derive(Debug, thiserror::Error)]
#[error("the WebAssembly runtime did not start: {0}")]
pub struct RuntimeError(pub(crate) String);

/// Why bytes are not a plugin.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("too large: {what}: {have}, the limit is {most}")]
    TooLarge {
        what: &'static str,
        have: usize,
        most: usize,
    },
    #[error("not a WebAssembly component: {0}")]
    Component(String),
    #[error("it imports {0:?}; a plugin may import quern:plugin/host and nothing else")]
    Import(String),
    #[error("it does not export a world of quern:plugin@0.1.0: {0}")]
    Export(String),
    #[error("it cannot be compiled or tried within bounds: {0}")]
    Budget(String),
    #[error("a case of its own author fails: {0}")]
    Vector(String),
    #[error("the same messages do not always get the same verdicts: {0}")]
    Impure(String),
    /// What a child process says, with its code.
    #[error("{text}")]
    Refused { code: u16, text: String },
    #[error("the child process failed: {0}")]
    Child(String),
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl LoadError {
    pub fn code(&self) -> u16 {
        match self {
            Self::TooLarge { .. } => 4104,
            Self::Component(_) => 4101,
            Self::Import(_) => 4102,
            Self::Export(_) => 4103,
            Self::Budget(_) => 4105,
            Self::Vector(_) => 4106,
            Self::Impure(_) => 4107,
            Self::Refused { code, .. } => *code,
            Self::Child(_) => 9001,
            Self::Fault(fault) => fault.code,
        }
    }
}

/// Why a plugin does not accept an expression or its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The parameter at fault; `None` = the expression.
    pub param: Option<String>,
    /// Bytes of the expression or value: from `at`, `len` of them.
    pub at: u32,
    pub len: u32,
    pub reason: String,
    pub help: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.param {
            Some(param) => write!(f, "parameter {param:?}: {}", self.reason)?,
            None => f.write_str(&self.reason)?,
        }
        match &self.help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}

impl Refusal {
    /// What it says, and the line of the expression it speaks of with a mark under the place.
    pub fn shown(&self, expression: &str) -> String {
        let (at, end) = (self.at as usize, (self.at + self.len) as usize);
        if self.param.is_some() || expression.is_empty() || !expression.is_char_boundary(at) {
            return self.to_string();
        }
        let start = expression[..at]
            .rfind('\n')
            .map_or(0, |newline| newline + 1);
        let line = expression[start..].lines().next().unwrap_or("");
        let before = &expression[start..at];
        let marked = expression.get(at..end).unwrap_or("");
        let marked = marked.lines().next().unwrap_or("");
        let indent: String = before.chars().map(blank).collect();
        let marks = marked
            .chars()
            .map(|c| if blank(c) == ' ' { "^" } else { "^^" });
        let marks: String = marks.collect();
        let marks = if marks.is_empty() { "^" } else { &marks };
        let help = self.help.as_ref().map(|help| format!("\n  {help}"));
        format!(
            "{}\n  {line}\n  {indent}{marks}{}",
            self.reason,
            help.unwrap_or_default()
        )
    }
}

/// White space as wide as a character is on most terminals.
fn blank(c: char) -> char {
    match c {
        '\t' => '\t',
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{1f300}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => '\u{3000}',
        _ => ' ',
    }
}

/// A guest's own words, cut to what an error has room for.
pub(crate) fn cut(mut words: String) -> String {
    words.truncate(words.floor_char_boundary(limits::WORDS));
    words
}

/// Why there is no subscription.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    #[error("refused, {0}")]
    Refused(Refusal),
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// A guest failed at work. The host is unharmed; the instance is gone unless it only said no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("plugin {plugin} {version}: {message}")]
pub struct Fault {
    pub code: u16,
    pub plugin: Arc<str>,
    pub version: Arc<str>,
    pub message: String,
}

impl Fault {
    /// The guest said that it cannot judge: an answer, and its instance lives.
    pub(crate) fn is_failure(&self) -> bool {
        self.code == Cause::Failure.code()
    }
}

/// The ways a guest can fail at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    Trap,
    Fuel,
    Memory,
    Answer,
    Failure,
    Impure,
}

impl Cause {
    pub(crate) fn code(self) -> u16 {
        match self {
            Self::Trap => 4301,
            Self::Fuel => 4302,
            Self::Memory => 4303,
            Self::Answer => 4304,
            Self::Failure => 4305,
            Self::Impure => 4107,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_stands_under_the_letter() {
        let refusal = |at, len| Refusal {
            param: None,
            at,
            len,
            reason: "no".to_owned(),
            help: Some("do".to_owned()),
        };
        let cases = [
            ("a = = 1", 4, 1, "no\n  a = = 1\n      ^\n  do"),
            ("ö = nix", 5, 3, "no\n  ö = nix\n      ^^^\n  do"),
            ("a\n\t= x\nb", 5, 1, "no\n  \t= x\n  \t  ^\n  do"),
            ("日本 x", 7, 1, "no\n  日本 x\n  \u{3000}\u{3000} ^\n  do"),
            ("a =", 3, 0, "no\n  a =\n     ^\n  do"),
        ];
        for (expression, at, len, shown) in cases {
            assert_eq!(refusal(at, len).shown(expression), shown, "{expression}");
        }
        assert_eq!(refusal(1, 1).shown("ö"), "no; do");
    }
}
