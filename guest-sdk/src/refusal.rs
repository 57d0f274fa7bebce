//! Why an expression or a parameter is not accepted, and where.

use crate::bindings::types;

/// What kind of fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalCode {
    Syntax,
    TypeError,
    UnknownName,
    BadParam,
    Unsupported,
    TooComplex,
}

/// Shown to the user with a mark under the bytes it speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    code: RefusalCode,
    param: Option<String>,
    at: usize,
    len: usize,
    reason: String,
    help: Option<String>,
}

impl Refusal {
    /// `len` bytes from byte `at` of the expression are the reason.
    pub fn new(code: RefusalCode, at: usize, len: usize, reason: impl Into<String>) -> Self {
        Self {
            code,
            param: None,
            at,
            len,
            reason: reason.into(),
            help: None,
        }
    }

    /// The expression does not read as one.
    pub fn syntax(at: usize, len: usize, reason: impl Into<String>) -> Self {
        Self::new(RefusalCode::Syntax, at, len, reason)
    }

    /// The first `len` bytes of the value of a parameter are the reason.
    pub fn param(name: impl Into<String>, len: usize, reason: impl Into<String>) -> Self {
        Self {
            param: Some(name.into()),
            ..Self::new(RefusalCode::BadParam, 0, len, reason)
        }
    }

    /// `len` bytes from byte `at` of the value of a parameter are the reason.
    pub fn param_at(
        name: impl Into<String>,
        at: usize,
        len: usize,
        reason: impl Into<String>,
    ) -> Self {
        Self {
            param: Some(name.into()),
            ..Self::new(RefusalCode::BadParam, at, len, reason)
        }
    }

    /// What to write instead.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The bytes it speaks of.
    pub fn span(&self) -> std::ops::Range<usize> {
        self.at..self.at + self.len
    }
}

impl From<Refusal> for types::Refusal {
    fn from(refusal: Refusal) -> Self {
        use types::RefusalCode as Wire;
        Self {
            code: match refusal.code {
                RefusalCode::Syntax => Wire::Syntax,
                RefusalCode::TypeError => Wire::TypeError,
                RefusalCode::UnknownName => Wire::UnknownName,
                RefusalCode::BadParam => Wire::BadParam,
                RefusalCode::Unsupported => Wire::Unsupported,
                RefusalCode::TooComplex => Wire::TooComplex,
            },
            param: refusal.param,
            at: refusal.at as u32,
            len: refusal.len as u32,
            reason: refusal.reason,
            help: refusal.help,
        }
    }
}
