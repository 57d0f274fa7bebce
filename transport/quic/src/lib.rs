//! How processes of Quernstone reach each other: QUIC endpoints, identity, framed streams.
//!
//! A [`Listener`] takes connections and [`serve`] answers what comes on them; a [`Connector`] makes
//! connections, and a [`Lane`] carries many requests over one of them. Everything that a peer can
//! hold is bounded by `limits.rs`. No other crate names the libraries of QUIC and TLS.

mod backoff;
mod batch;
mod config;
mod congestion;
mod connection;
mod connector;
mod credit;
mod dev_ca;
mod endpoint;
mod error;
mod lane;
pub mod limits;
pub mod probe;
mod serve;
mod serve_many;
mod slots;
mod socket;
mod stream;
mod subscription;
mod tls;

pub use backoff::Backoff;
pub use config::{Door, ListenConfig};
pub use connection::Connection;
pub use connector::Connector;
pub use credit::{Answers, Credit};
pub use dev_ca::DevAuthority;
pub use endpoint::Listener;
pub use error::{
    BindError, CallError, CloseReason, ConnectError, EndedBy, Lost, StreamError, TlsError,
};
pub use lane::{Lane, LaneCall};
pub use serve::{Handler, serve};
pub use socket::Datagrams;
pub use stream::{FrameReceiver, FrameSender};
pub use subscription::Subscription;
pub use tls::{NodeIdentity, Trust};
