//! What goes wrong between two processes, as facts: binding, connecting, a lost connection, a call.
//!
//! Every error maps to one code of the protocol's table; nothing here is matched by its text.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use quern_protocol::frame::{FrameError, TooLarge};
use quern_protocol::{Code, WireError};

use crate::limits;

/// Why a connection is closed; the number travels as QUIC's application error code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CloseReason {
    Bye = 0,
    Protocol = 1,
    Identity = 2,
    GoingAway = 3,
    Limit = 4,
    NoFirstFrame = 5,
    Version = 6,
    Revoked = 7,
}

impl CloseReason {
    pub const ALL: [Self; 8] = [
        Self::Bye,
        Self::Protocol,
        Self::Identity,
        Self::GoingAway,
        Self::Limit,
        Self::NoFirstFrame,
        Self::Version,
        Self::Revoked,
    ];

    pub fn number(self) -> u32 {
        self as u32
    }

    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|reason| u64::from(reason.number()) == number)
    }

    fn words(self) -> &'static str {
        match self {
            Self::Bye => "done",
            Self::Protocol => "protocol error",
            Self::Identity => "identity refused",
            Self::GoingAway => "going away",
            Self::Limit => "a limit was passed",
            Self::NoFirstFrame => "no first frame in time",
            Self::Version => "no common version",
            Self::Revoked => "identity revoked",
        }
    }
}

/// Who ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndedBy {
    /// This side closed it.
    Us,
    /// The other side closed it.
    Peer,
    /// Nothing was heard any more, the peer restarted, or QUIC itself failed.
    Network,
}

/// How a connection ended. Cheap to clone: every call that was under way gets one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.describe())]
pub struct Lost {
    pub by: EndedBy,
    /// `None` when QUIC ended it rather than one of us.
    pub reason: Option<CloseReason>,
    pub text: Arc<str>,
}

impl Lost {
    pub(crate) fn new(by: EndedBy, reason: Option<CloseReason>, text: &str) -> Self {
        Self {
            by,
            reason,
            text: text.into(),
        }
    }

    pub fn code(&self) -> Code {
        match self.reason {
            Some(CloseReason::Protocol | CloseReason::NoFirstFrame) => Code::PROTOCOL,
            Some(CloseReason::Identity | CloseReason::Revoked) => Code::FORBIDDEN,
            Some(CloseReason::GoingAway) => Code::GOING_AWAY,
            Some(CloseReason::Limit) => Code::RETRY_AFTER,
            Some(CloseReason::Version) => Code::WRONG_PROTOCOL_VERSION,
            Some(CloseReason::Bye) | None => Code::CONNECTION_LOST,
        }
    }

    fn describe(&self) -> String {
        let who = match self.by {
            EndedBy::Us => "connection closed here",
            EndedBy::Peer => "connection closed by the other side",
            EndedBy::Network => "connection lost",
        };
        match (self.reason, &*self.text) {
            (Some(reason), "") => format!("{who}: {}", reason.words()),
            (Some(reason), text) => format!("{who}: {}: {text}", reason.words()),
            (None, text) => format!("{who}: {text}"),
        }
    }
}

/// Why a stream gives no more frames.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    #[error("{0}")]
    Lost(Lost),
    #[error("the other side gave the stream up")]
    Reset,
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("the stream ended in the middle of a frame")]
    Truncated,
    #[error("a frame did not arrive within {} s of its beginning", limits::ASSEMBLY_WAIT.as_secs())]
    Slow,
}

impl StreamError {
    pub fn code(&self) -> Code {
        match self {
            Self::Lost(lost) => lost.code(),
            Self::Reset => Code::CONNECTION_LOST,
            Self::Frame(error) => error.code(),
            Self::Truncated => Code::PROTOCOL,
            Self::Slow => Code::DEADLINE,
        }
    }
}

/// Why a listener or connector could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("UDP address {0} is in use by another process")]
    AddressInUse(SocketAddr),
    #[error("UDP address {address} cannot be bound: {source}")]
    Address {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl BindError {
    pub fn code(&self) -> Code {
        match self {
            Self::AddressInUse(_) => Code::ADDRESS_IN_USE,
            Self::Address { .. } => Code::BAD_CONFIG,
            Self::Tls(error) => error.code(),
        }
    }
}

/// What is wrong with a certificate, a key or their directory.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{path}: {source}", path = path.display())]
    File {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path}: {why}", path = path.display())]
    Content { path: PathBuf, why: String },
    #[error("a pin is `sha256:` and 64 hexadecimal digits, not {0:?}")]
    Pin(String),
    #[error(
        "no home: neither XDG_DATA_HOME nor HOME is set, so there is no place for the development CA"
    )]
    NoHome,
    #[error("the certificate could not be made: {0}")]
    Make(String),
    #[error("the TLS configuration is refused: {0}")]
    Refused(String),
}

impl TlsError {
    pub fn code(&self) -> Code {
        Code::BAD_CONFIG
    }
}

/// Why a connection could not be made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectError {
    #[error("{0:?} is no address of the form HOST:PORT")]
    Address(String),
    #[error("host name {host:?} was not found: {why}")]
    Name { host: String, why: String },
    #[error("no connection to {address}: {why}")]
    Unreachable { address: String, why: String },
    #[error("the certificate of {address} is refused: {why}")]
    Untrusted { address: String, why: String },
    #[error("{address} refuses this side's certificate: {why}")]
    Refused { address: String, why: String },
    #[error("{address} does not speak {asked}")]
    Version {
        address: String,
        asked: &'static str,
    },
}

impl ConnectError {
    pub fn code(&self) -> Code {
        match self {
            Self::Address(_) => Code::BAD_CONFIG,
            Self::Name { .. } | Self::Unreachable { .. } => Code::CONNECT,
            Self::Untrusted { .. } | Self::Refused { .. } => Code::UNTRUSTED,
            Self::Version { .. } => Code::WRONG_PROTOCOL_VERSION,
        }
    }
}

/// Why a call has no reply.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// The peer answered with an error.
    #[error("{0}")]
    Remote(WireError),
    /// The connection or stream ended first: what the request did is unknown.
    #[error("{0}")]
    Lost(Lost),
    #[error("no answer within {} ms", .0.as_millis())]
    Deadline(Duration),
    /// Nothing was sent.
    #[error("{0}")]
    TooLarge(TooLarge),
    /// The answer does not decode.
    #[error("the answer does not decode: {0}")]
    Reply(String),
}

impl CallError {
    pub fn code(&self) -> Code {
        match self {
            Self::Remote(error) => Code::find(error.code).copied().unwrap_or(Code::PROTOCOL),
            Self::Lost(lost) => lost.code(),
            Self::Deadline(_) => Code::DEADLINE,
            Self::TooLarge(_) => Code::TOO_LARGE,
            Self::Reply(_) => Code::PROTOCOL,
        }
    }
}

impl From<Lost> for CallError {
    fn from(lost: Lost) -> Self {
        Self::Lost(lost)
    }
}

impl From<TooLarge> for CallError {
    fn from(error: TooLarge) -> Self {
        Self::TooLarge(error)
    }
}
