//! How a command fails: an exit code for scripts, one line for people.
//!
//! 0 ok · 1 failed · 2 usage · 3 not found · 4 exists or conflict · 5 permission · 6 cannot connect
//! · 7 timed out · 8 partial success · 9 a check failed · 130 interrupted.

use std::fmt;
use std::process::ExitCode;

use quern_client::{Error, ErrorKind};

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: u8,
    message: String,
}

impl Failure {
    pub(crate) fn new(exit: u8, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
        }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(2, message)
    }

    /// Some messages went, others did not.
    pub(crate) fn partial(message: impl Into<String>) -> Self {
        Self::new(8, message)
    }

    /// Tells a person, and returns what tells a script.
    pub(crate) fn report(&self) -> ExitCode {
        eprintln!("error: {self}");
        if let Some(code) = self.code() {
            eprintln!("       more: quern explain {code}");
        }
        ExitCode::from(self.exit)
    }

    /// The error code the message begins with.
    fn code(&self) -> Option<&str> {
        let first = self.message.split_whitespace().next()?;
        first.starts_with("Q-").then_some(first)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match error.kind() {
            ErrorKind::NotFound => 3,
            ErrorKind::Exists => 4,
            ErrorKind::Permission => 5,
            ErrorKind::Connect => 6,
            ErrorKind::Timeout => 7,
            ErrorKind::Invalid => 2,
            _ => 1,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(1, format!("{error:#}"))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(1, error.to_string())
    }
}
