//! What a listener is given, and QUIC's own settings derived from [`crate::limits`].
//!
//! Loopback is a path of its own: datagrams may be as large as its MTU, and a full window is open
//! from the start, because nothing on it can congest.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::CubicConfig;
use quinn::{AckFrequencyConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};

use crate::congestion;
use crate::limits;
use crate::tls::{NodeIdentity, Trust};

/// Which of the two protocols a connection speaks: clients' or nodes'.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Door {
    Client,
    Peer,
}

impl Door {
    /// The name negotiated by TLS.
    pub fn alpn(self) -> &'static str {
        match self {
            Self::Client => "quern/1",
            Self::Peer => "quern-peer/1",
        }
    }

    pub(crate) fn from_alpn(name: &[u8]) -> Option<Self> {
        [Self::Client, Self::Peer]
            .into_iter()
            .find(|door| door.alpn().as_bytes() == name)
    }
}

/// Where and as whom to listen.
#[derive(Debug, Clone)]
pub struct ListenConfig {
    pub address: SocketAddr,
    pub identity: NodeIdentity,
    /// The authority of nodes: who comes through the peer door must have a certificate of it.
    pub peers: Trust,
    /// Derives the keys by which a restarted listener tells old clients that it forgot them.
    pub reset_secret: [u8; 32],
    /// How long a new connection may stay silent.
    pub first_frame: Duration,
}

impl ListenConfig {
    pub fn new(
        address: SocketAddr,
        identity: NodeIdentity,
        peers: Trust,
        reset_secret: [u8; 32],
    ) -> Self {
        Self {
            address,
            identity,
            peers,
            reset_secret,
            first_frame: limits::FIRST_FRAME_WAIT,
        }
    }
}

/// The kind of way between two processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Path {
    Loopback,
    Network,
}

impl Path {
    pub(crate) fn to(address: SocketAddr) -> Self {
        if address.ip().to_canonical().is_loopback() {
            Self::Loopback
        } else {
            Self::Network
        }
    }

    /// Largest payload a datagram may have on it.
    pub(crate) fn mtu(self) -> u16 {
        match self {
            Self::Loopback => LOOPBACK_MTU,
            Self::Network => NETWORK_MTU,
        }
    }
}

/// Lets the other side send datagrams as large as the widest path carries.
pub(crate) fn large_datagrams(config: &mut quinn::EndpointConfig) {
    config
        .max_udp_payload_size(LOOPBACK_MTU)
        .expect("above the smallest allowed");
}

/// Payload of a datagram on loopback, whose MTU is 64 KiB.
const LOOPBACK_MTU: u16 = 8_972;
/// Largest payload that every Ethernet carries.
const NETWORK_MTU: u16 = 1_452;
/// A whole window at once: loopback loses nothing to congestion.
const LOOPBACK_CONGESTION_WINDOW: u64 = limits::SEND_WINDOW;

/// How a connection is used by who makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    Often,
    /// Its end is noticed when it is used.
    Seldom,
}

/// QUIC's settings for one side of a connection. `side` is `None` at a listener, which learns the
/// door only during the handshake.
pub(crate) fn transport(path: Path, side: Option<(Door, Use)>) -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    let (idle, keep_alive, initial_rtt) = match side {
        Some((Door::Peer, _)) => (
            limits::PEER_IDLE,
            Some(limits::PEER_KEEP_ALIVE),
            Duration::from_millis(10),
        ),
        Some((Door::Client, Use::Seldom)) => (
            limits::SELDOM_IDLE,
            Some(limits::SELDOM_KEEP_ALIVE),
            Duration::from_millis(100),
        ),
        Some((Door::Client, Use::Often)) => (
            limits::IDLE,
            Some(limits::KEEP_ALIVE),
            Duration::from_millis(100),
        ),
        None => (limits::SELDOM_IDLE, None, Duration::from_millis(100)),
    };
    let idle = IdleTimeout::try_from(idle).expect("limits fit a varint");
    config
        .max_concurrent_bidi_streams(limits::STREAMS.into())
        .max_concurrent_uni_streams(limits::UNI_STREAMS.into())
        .stream_receive_window(limits::STREAM_WINDOW.into())
        .receive_window(limits::FIRST_WINDOW.into())
        .send_window(limits::FIRST_WINDOW.into())
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(keep_alive)
        .initial_rtt(initial_rtt)
        .datagram_receive_buffer_size(None)
        .allow_spin(false);
    let mut acks = AckFrequencyConfig::default();
    let mut discovery = MtuDiscoveryConfig::default();
    match path {
        Path::Network => {
            acks.ack_eliciting_threshold(VarInt::from_u32(10));
            discovery.upper_bound(NETWORK_MTU);
            config.congestion_controller_factory(congestion::of_the_machine());
        }
        Path::Loopback => {
            // Few, large packets: ten of them would be more than the first window.
            acks.ack_eliciting_threshold(VarInt::from_u32(2));
            discovery.upper_bound(LOOPBACK_MTU);
            let mut congestion = CubicConfig::default();
            congestion.initial_window(LOOPBACK_CONGESTION_WINDOW);
            config
                .initial_rtt(Duration::from_millis(10))
                .initial_mtu(LOOPBACK_MTU)
                .congestion_controller_factory(Arc::new(congestion));
        }
    }
    config
        .ack_frequency_config(Some(acks))
        .mtu_discovery_config(Some(discovery));
    Arc::new(config)
}
