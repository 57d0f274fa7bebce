//! Endpoints: a [`Listener`] takes connections, a [`Connector`] makes them.
//!
//! What [`Listener::accept`] gives has finished its handshake and shown the identity its door
//! demands; no stream of it has been read before. Handshakes run beside each other and are bounded.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use quinn::crypto::rustls::HandshakeData;
use quinn::{AsyncUdpSocket, EndpointConfig, Incoming, ServerConfig, TokioRuntime, VarInt};
use quinn_proto::HashedConnectionIdGenerator;
use ring::{hkdf, hmac};
use rustls::pki_types::CertificateDer;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use crate::config::{self, Door, ListenConfig, Path};
use crate::connection::{Connection, Origin};
use crate::error::{BindError, CloseReason};
use crate::socket::{self, Datagrams, Replaced};
use crate::{limits, tls};

/// Takes connections on one UDP address.
#[derive(Debug)]
pub struct Listener {
    endpoint: quinn::Endpoint,
    address: SocketAddr,
    accepted: Mutex<mpsc::Receiver<Connection>>,
    closing: Arc<OnceLock<CloseReason>>,
}

impl Listener {
    /// Binds the address. Must be called inside a tokio runtime.
    pub fn bind(config: ListenConfig) -> Result<Self, BindError> {
        let path = Path::to(config.address);
        let socket = socket::bind(config.address, path.mtu());
        let socket = socket.map_err(|source| cannot_bind(config.address, source))?;
        Self::listen(config, socket)
    }

    /// Listens on a network of the caller's, simulated for instance.
    pub fn bind_on(config: ListenConfig, datagrams: Arc<dyn Datagrams>) -> Result<Self, BindError> {
        Self::listen(config, Arc::new(Replaced(datagrams)))
    }

    fn listen(config: ListenConfig, socket: Arc<dyn AsyncUdpSocket>) -> Result<Self, BindError> {
        let cannot = |source| cannot_bind(config.address, source);
        let crypto = tls::quic_server(tls::server(&config.identity, &config.peers)?)?;
        let address = socket.local_addr().map_err(cannot)?;

        let mut server = ServerConfig::with_crypto(Arc::new(crypto));
        server
            .transport_config(config::transport(Path::Network, None))
            .max_incoming(limits::INCOMING)
            .incoming_buffer_size(limits::INCOMING_BYTES)
            .incoming_buffer_size_total(limits::INCOMING_BYTES_TOTAL)
            .migration(true);
        let mut loopback = server.clone();
        loopback.transport_config(config::transport(Path::Loopback, None));

        let endpoint = quinn::Endpoint::new_with_abstract_socket(
            endpoint_config(&config.reset_secret, address.port()),
            Some(server),
            socket,
            Arc::new(TokioRuntime),
        )
        .map_err(cannot)?;
        let closing = Arc::new(OnceLock::new());
        let (found, accepted) = mpsc::channel(limits::ACCEPT_QUEUE);
        let reception = Reception {
            endpoint: endpoint.clone(),
            loopback: Arc::new(loopback),
            first_frame: config.first_frame,
            closing: closing.clone(),
            found,
            under_way: Arc::new(AtomicUsize::new(0)),
        };
        tokio::spawn(reception.run());
        Ok(Self {
            endpoint,
            address,
            accepted: Mutex::new(accepted),
            closing,
        })
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The next connection whose handshake is done; `None` once closed.
    pub async fn accept(&self) -> Option<Connection> {
        self.accepted.lock().await.recv().await
    }

    /// Closes every connection and takes no more.
    pub fn close(&self, reason: CloseReason) {
        // The first reason given is the one that counts.
        let _ = self.closing.set(reason);
        self.endpoint.close(reason.number().into(), b"");
    }

    /// Waits until every connection's end is known to the other side, or given up.
    pub async fn drained(&self) {
        self.endpoint.wait_idle().await;
    }
}

fn cannot_bind(address: SocketAddr, source: std::io::Error) -> BindError {
    match source.kind() {
        std::io::ErrorKind::AddrInUse => BindError::AddressInUse(address),
        _ => BindError::Address { address, source },
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.close(CloseReason::GoingAway);
    }
}

/// The keys that must outlive a restart. With random ones a restarted listener would drop old
/// packets in silence, and clients would stay blind until they time out.
fn endpoint_config(secret: &[u8; 32], port: u16) -> EndpointConfig {
    let port = port.to_be_bytes();
    let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"quern reset 1");
    let derived = salt.extract(secret);
    let reset_info: [&[u8]; 2] = [b"stateless reset", &port];
    let reset: hmac::Key = derived
        .expand(&reset_info, hmac::HMAC_SHA256)
        .expect("one hash long")
        .into();
    let mut id_key = [0; 8];
    let id_info: [&[u8]; 2] = [b"connection ids", &port];
    derived
        .expand(&id_info, IdKey)
        .and_then(|key| key.fill(&mut id_key))
        .expect("shorter than one hash");
    let id_key = u64::from_be_bytes(id_key);
    let mut config = EndpointConfig::new(Arc::new(reset));
    config
        .cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(id_key)))
        .min_reset_interval(std::time::Duration::from_micros(100));
    config::large_datagrams(&mut config);
    config
}

struct IdKey;

impl hkdf::KeyType for IdKey {
    fn len(&self) -> usize {
        8
    }
}

/// The task behind a listener: hands every new connection to a handshake of its own.
struct Reception {
    endpoint: quinn::Endpoint,
    loopback: Arc<ServerConfig>,
    first_frame: std::time::Duration,
    closing: Arc<OnceLock<CloseReason>>,
    found: mpsc::Sender<Connection>,
    under_way: Arc<AtomicUsize>,
}

impl Reception {
    async fn run(self) {
        let mut handshakes = JoinSet::new();
        while let Some(incoming) = self.endpoint.accept().await {
            while handshakes.try_join_next().is_some() {}
            let busy = self.under_way.load(Ordering::Relaxed);
            if busy >= limits::HANDSHAKES || self.endpoint.open_connections() > limits::CONNECTIONS
            {
                incoming.refuse();
            } else if busy >= limits::HANDSHAKES_FREE && incoming.may_retry() {
                // An error would only say that a retry is not possible, which was just asked.
                let _ = incoming.retry();
            } else {
                handshakes.spawn(self.handshake(incoming));
            }
        }
    }

    fn handshake(&self, incoming: Incoming) -> impl Future<Output = ()> + Send + use<> {
        let loopback = self.loopback.clone();
        let first_frame = self.first_frame;
        let closing = self.closing.clone();
        let found = self.found.clone();
        let under_way = UnderWay::new(&self.under_way);
        async move {
            let remote = incoming.remote_address();
            let connecting = match Path::to(remote) {
                Path::Loopback => incoming.accept_with(loopback),
                Path::Network => incoming.accept(),
            };
            let done = async { connecting?.await };
            let connection = match tokio::time::timeout(limits::HANDSHAKE_WAIT, done).await {
                Ok(Ok(connection)) => connection,
                Ok(Err(error)) => {
                    tracing::debug!(%remote, %error, "handshake failed");
                    return;
                }
                Err(_) => {
                    tracing::debug!(%remote, "handshake took too long");
                    return;
                }
            };
            drop(under_way);
            match admit(&connection) {
                Ok(door) => {
                    let origin = Origin::Accepted {
                        first_frame,
                        closing,
                    };
                    // No one accepts any more: the listener is closing.
                    let _ = found.send(Connection::new(connection, door, origin)).await;
                }
                Err(why) => {
                    tracing::warn!(%remote, "connection refused: {why}");
                    let reason = CloseReason::Identity.number();
                    connection.close(VarInt::from_u32(reason), why.as_bytes());
                }
            }
        }
    }
}

/// The door a connection came through, if it may. The handshake has verified whatever certificate
/// was shown against the authority of nodes; here it is only asked whether there was one.
fn admit(connection: &quinn::Connection) -> Result<Door, &'static str> {
    let alpn = connection
        .handshake_data()
        .and_then(|data| data.downcast::<HandshakeData>().ok())
        .and_then(|data| data.protocol);
    let door = alpn
        .and_then(|name| Door::from_alpn(&name))
        .ok_or("no protocol was negotiated")?;
    let certified = connection
        .peer_identity()
        .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok())
        .is_some_and(|chain| !chain.is_empty());
    match door {
        Door::Peer if !certified => {
            Err("a node must show a certificate of the cluster's authority")
        }
        door => Ok(door),
    }
}

/// Counts a handshake while it lasts.
struct UnderWay(Arc<AtomicUsize>);

impl UnderWay {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
