//! QUIC endpoints, TLS, connections and framed streams.

mod error;
mod skeleton;

pub use error::{BindError, CallError, CloseReason, ConnectError, EndedBy, Lost, TlsError};
pub use skeleton::*;
