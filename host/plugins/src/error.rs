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
    #[error("component is {len} bytes, the limit is {max}")]
    TooLarge { len: usize, max: usize },
    #[error("not a WebAssembly component: {0}")]
    Component(String),
    #[error("it imports {0:?}; a plugin may import quern:plugin/host and nothing else")]
    Import(String),
    #[error("it does not export the filter world of quern:plugin@0.1.0: {0}")]
    Export(String),
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
        if let Some(param) = &self.param {
            write!(f, "parameter {param:?}, ")?;
        }
        write!(f, "at byte {}: {}", self.at, self.reason)?;
        match &self.help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
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
    #[error("the filter does not accept the expression, {0}")]
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

/// The ways a guest can fail at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    Trap,
    Fuel,
    Memory,
    Answer,
    Failure,
}

impl Cause {
    pub(crate) fn code(self) -> u16 {
        match self {
            Self::Trap => 4301,
            Self::Fuel => 4302,
            Self::Memory => 4303,
            Self::Answer => 4304,
            Self::Failure => 4305,
        }
    }
}
