//! What an application is told when something goes wrong.

use std::fmt;

use quern_protocol::message::MessageError;
use quern_protocol::{Code, NameError, Retry, WireError};
use quern_quic::{BindError, CallError, ConnectError, TlsError};

/// What kind of thing went wrong, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No connection could be made.
    Connect,
    /// The time allowed was over.
    Timeout,
    /// The request was sent and its answer lost: it may or may not have been done.
    Unknown,
    /// A topic, queue or group is not there.
    NotFound,
    /// It exists already, or conflicts with what does.
    Exists,
    /// The request itself cannot be right: a bad name, a message beyond a limit.
    Invalid,
    /// The identity of this client does not permit it.
    Permission,
    /// The other side cannot do it now: disk full, shutting down, protecting itself.
    Unavailable,
    /// Anything else.
    Other,
}

/// An error with its code; `quern explain Q-nnnn` tells more about each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    code: Code,
    message: String,
}

/// What a call brings.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            kind: kind(code),
            code,
            message: message.into(),
        }
    }

    /// The same cause, after the request had left: nobody knows what it did.
    pub(crate) fn unknown(self) -> Self {
        Self {
            kind: ErrorKind::Unknown,
            message: format!("{}; the message may or may not be stored", self.message),
            ..self
        }
    }

    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The number of its line in the error table.
    pub fn code(&self) -> u16 {
        self.code.number
    }

    pub(crate) fn coded(&self) -> Code {
        self.code
    }

    /// What happened, without the code.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The same request may succeed later. After [`ErrorKind::Unknown`] sending the message anew may
    /// store it twice: it is another message to the broker.
    pub fn is_retryable(&self) -> bool {
        self.code.retry != Retry::Never
    }

    /// Nothing was done, and another try after asking for the route may do it.
    pub(crate) fn is_worth_another_route(&self) -> bool {
        self.kind != ErrorKind::Unknown
            && (matches!(self.code.retry, Retry::AfterRoutes | Retry::Elsewhere)
                || matches!(
                    self.code,
                    Code::CONNECT
                        | Code::CONNECTION_LOST
                        | Code::NOT_FOUND
                        | Code::OUT_OF_SEQUENCE
                        | Code::NO_NAME_SERVER
                ))
    }

    /// A broker will not do it, and only another one might.
    pub(crate) fn is_refusal(&self) -> bool {
        // One that shuts down may be back in a moment.
        self.code.retry == Retry::Elsewhere && self.code != Code::GOING_AWAY
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Q-{} {}", self.code.number, self.message)
    }
}

impl std::error::Error for Error {}

fn kind(code: Code) -> ErrorKind {
    match code {
        Code::CONNECT | Code::CONNECTION_LOST | Code::NO_NAME_SERVER => ErrorKind::Connect,
        Code::DEADLINE => ErrorKind::Timeout,
        Code::NOT_FOUND
        | Code::NO_ROUTE
        | Code::TOPIC_DELETED
        | Code::NO_GROUP
        | Code::MESSAGE_NOT_FOUND
        | Code::NOT_BOUND
        | Code::UNKNOWN_MEMBER
        | Code::QUEUE_NOT_HELD => ErrorKind::NotFound,
        Code::ALREADY_EXISTS | Code::BROKER_NAME_TAKEN | Code::PLUGIN_IN_USE => ErrorKind::Exists,
        Code::FORBIDDEN
        | Code::UNTRUSTED
        | Code::TOPIC_CLOSED
        | Code::GROUP_CLOSED
        | Code::TOPIC_FORBIDDEN
        | Code::BROADCAST_REFUSED => ErrorKind::Permission,
        Code::DISK_FULL
        | Code::STORAGE_FAILED
        | Code::GOING_AWAY
        | Code::RETRY_AFTER
        | Code::NOT_LEADER => ErrorKind::Unavailable,
        Code::TOO_LARGE
        | Code::BAD_NAME
        | Code::BAD_MESSAGE
        | Code::BAD_REQUEST
        | Code::BAD_CONFIG
        | Code::RESERVED_NAME
        | Code::DURABILITY_REFUSED
        | Code::WRONG_TYPE
        | Code::KEY_MISSING
        | Code::NAME_THE_TOPIC
        | Code::PLUGIN_INVALID
        | Code::PLUGIN_IMPORT
        | Code::PLUGIN_EXPORT
        | Code::PLUGIN_TOO_LARGE
        | Code::PLUGIN_BUDGET
        | Code::PLUGIN_CASES
        | Code::PLUGIN_IMPURE
        | Code::EXPRESSION_REFUSED
        | Code::PARAMETER_REFUSED
        | Code::CHAIN_TOO_LONG
        | Code::NOT_A_FILTER
        | Code::LANGUAGE_UNKNOWN
        | Code::STRATEGY_UNKNOWN => ErrorKind::Invalid,
        _ => ErrorKind::Other,
    }
}

impl From<WireError> for Error {
    fn from(error: WireError) -> Self {
        // A newer broker may know codes that this client does not.
        let code = Code::find(error.code).copied().unwrap_or(Code {
            number: error.code,
            retry: error.retry,
            ..Code::INTERNAL
        });
        Self::new(code, error.message)
    }
}

impl From<CallError> for Error {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Remote(error) => error.into(),
            other => Self::new(other.code(), other.to_string()),
        }
    }
}

macro_rules! from_coded {
    ($($type:ty),*) => {$(
        impl From<$type> for Error {
            fn from(error: $type) -> Self {
                Self::new(error.code(), error.to_string())
            }
        }
    )*};
}

from_coded!(ConnectError, BindError, TlsError, MessageError);

impl From<NameError> for Error {
    fn from(error: NameError) -> Self {
        Self::new(Code::BAD_NAME, error.to_string())
    }
}
