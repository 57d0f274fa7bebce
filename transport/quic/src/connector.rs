//! The side that connects: finds the address, tries its families beside each other, and says what
//! exactly went wrong.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use quinn::{AsyncUdpSocket, ClientConfig, ConnectionError, EndpointConfig, TokioRuntime};

use crate::config::{self, Door, Path, Use};
use crate::connection::{Connection, Origin};
use crate::error::{BindError, ConnectError};
use crate::limits;
use crate::socket::{self, Datagrams, Replaced};
use crate::tls::{self, NodeIdentity, Trust};

fn cannot_bind(source: std::io::Error) -> BindError {
    BindError::Address {
        address: (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
        source,
    }
}

/// Makes connections; clones share one socket.
#[derive(Debug, Clone)]
pub struct Connector {
    endpoint: quinn::Endpoint,
    often: Ways,
    seldom: Ways,
    door: Door,
}

/// QUIC's settings for one use, by the kind of way.
#[derive(Debug, Clone)]
struct Ways {
    network: ClientConfig,
    loopback: ClientConfig,
}

impl Ways {
    fn new(client: &ClientConfig, door: Door, how: Use) -> Self {
        let (mut network, mut loopback) = (client.clone(), client.clone());
        network.transport_config(config::transport(Path::Network, Some((door, how))));
        loopback.transport_config(config::transport(Path::Loopback, Some((door, how))));
        Self { network, loopback }
    }
}

impl Connector {
    /// Must be called inside a tokio runtime.
    pub fn new(
        trust: Trust,
        identity: Option<NodeIdentity>,
        door: Door,
    ) -> Result<Self, BindError> {
        let socket = socket::bind_any(Path::Loopback.mtu()).map_err(cannot_bind)?;
        Self::over(&trust, identity.as_ref(), door, socket)
    }

    /// Connects over a network of the caller's, simulated for instance.
    pub fn new_on(
        trust: &Trust,
        identity: Option<&NodeIdentity>,
        door: Door,
        datagrams: Arc<dyn Datagrams>,
    ) -> Result<Self, BindError> {
        Self::over(trust, identity, door, Arc::new(Replaced(datagrams)))
    }

    fn over(
        trust: &Trust,
        identity: Option<&NodeIdentity>,
        door: Door,
        socket: Arc<dyn AsyncUdpSocket>,
    ) -> Result<Self, BindError> {
        let crypto = tls::quic_client(tls::client(trust, identity, door)?)?;
        let client = ClientConfig::new(Arc::new(crypto));
        let mut config = EndpointConfig::default();
        config::large_datagrams(&mut config);
        let endpoint =
            quinn::Endpoint::new_with_abstract_socket(config, None, socket, Arc::new(TokioRuntime))
                .map_err(cannot_bind)?;
        Ok(Self {
            endpoint,
            often: Ways::new(&client, door, Use::Often),
            seldom: Ways::new(&client, door, Use::Seldom),
            door,
        })
    }

    /// Connects to `HOST:PORT`; the host is a name or an address (IPv6 in brackets).
    pub async fn connect(&self, address: &str) -> Result<Connection, ConnectError> {
        self.connect_by(&self.often, address).await
    }

    /// The same for who asks seldom, and asks anew when no answer comes: that the other side is gone is noticed late
    /// otherwise.
    pub async fn connect_seldom(&self, address: &str) -> Result<Connection, ConnectError> {
        self.connect_by(&self.seldom, address).await
    }

    async fn connect_by(&self, ways: &Ways, address: &str) -> Result<Connection, ConnectError> {
        let (host, _) = split(address).ok_or_else(|| ConnectError::Address(address.to_owned()))?;
        let unknown = |why: String| ConnectError::Name {
            host: host.to_owned(),
            why,
        };
        let found: Vec<SocketAddr> = tokio::net::lookup_host(address)
            .await
            .map_err(|error| unknown(error.to_string()))?
            .collect();
        let mut tries: FuturesUnordered<_> = alternate(found)
            .into_iter()
            .zip(0..)
            .map(|(target, rank)| async move {
                tokio::time::sleep(limits::RACE_DELAY * rank).await;
                self.try_one((address, host), target, ways).await
            })
            .collect();
        let mut worst = None;
        while let Some(result) = tries.next().await {
            match result {
                Ok(connection) => return Ok(connection),
                Err(error) if telling(&error) > worst.as_ref().map_or(0, telling) => {
                    worst = Some(error);
                }
                Err(_) => {}
            }
        }
        Err(worst.unwrap_or_else(|| unknown("it has no address".to_owned())))
    }

    async fn try_one(
        &self,
        (address, host): (&str, &str),
        target: SocketAddr,
        ways: &Ways,
    ) -> Result<Connection, ConnectError> {
        let unreachable = |why: String| ConnectError::Unreachable {
            address: address.to_owned(),
            why,
        };
        let config = match Path::to(target) {
            Path::Loopback => ways.loopback.clone(),
            Path::Network => ways.network.clone(),
        };
        let connecting = self
            .endpoint
            .connect_with(config, target, host)
            .map_err(|error| unreachable(error.to_string()))?;
        match tokio::time::timeout(limits::CONNECT_WAIT, connecting).await {
            Ok(Ok(connection)) => Ok(Connection::new(connection, self.door, Origin::Made)),
            Ok(Err(error)) => Err(self.explain(address, error)),
            Err(_) => Err(unreachable(format!(
                "nobody answered within {} s",
                limits::CONNECT_WAIT.as_secs()
            ))),
        }
    }

    fn explain(&self, address: &str, error: ConnectionError) -> ConnectError {
        let alert = Alert::of(&error);
        let address = address.to_owned();
        match (alert, error) {
            (Some(Alert::NoProtocol), _) => ConnectError::Version {
                address,
                asked: self.door.alpn(),
            },
            (Some(alert @ (Alert::Certificate | Alert::Clock)), error) => {
                let why = format!("{}{}", said(&error), alert.hint());
                match error {
                    ConnectionError::ConnectionClosed(_) => ConnectError::Refused { address, why },
                    _ => ConnectError::Untrusted { address, why },
                }
            }
            (None, ConnectionError::VersionMismatch) => ConnectError::Version {
                address,
                asked: "QUIC version 1",
            },
            (None, error) => ConnectError::Unreachable {
                address,
                why: error.to_string(),
            },
        }
    }

    /// Waits until the end of every closed connection is known to the other side, or given up.
    /// Without it, a process that exits right after closing may leave the other side waiting.
    pub async fn drained(&self) {
        self.endpoint.wait_idle().await;
    }
}

/// What a TLS alert says, as far as it changes the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alert {
    Certificate,
    Clock,
    NoProtocol,
}

impl Alert {
    pub(crate) fn of(error: &ConnectionError) -> Option<Self> {
        /// QUIC carries a TLS alert as a transport error of this number and the alert's.
        const CRYPTO: u64 = 0x100;
        let code = match error {
            ConnectionError::TransportError(error) => u64::from(error.code),
            ConnectionError::ConnectionClosed(close) => u64::from(close.error_code),
            _ => return None,
        };
        match code.checked_sub(CRYPTO)? {
            45 => Some(Self::Clock),
            42..=44 | 46 | 48 | 49 | 51 | 116 => Some(Self::Certificate),
            120 => Some(Self::NoProtocol),
            _ => None,
        }
    }

    pub(crate) fn hint(self) -> &'static str {
        match self {
            Self::Clock => "; or the clock of one of the two machines is wrong",
            Self::Certificate | Self::NoProtocol => "",
        }
    }
}

fn said(error: &ConnectionError) -> String {
    match error {
        ConnectionError::TransportError(error) => error.reason.clone(),
        ConnectionError::ConnectionClosed(close) => {
            String::from_utf8_lossy(&close.reason).into_owned()
        }
        other => other.to_string(),
    }
}

/// Of several failures the most telling one is reported.
fn telling(error: &ConnectError) -> u8 {
    match error {
        ConnectError::Address(_) | ConnectError::Name { .. } => 1,
        ConnectError::Unreachable { .. } => 2,
        ConnectError::Version { .. } => 3,
        ConnectError::Untrusted { .. } | ConnectError::Refused { .. } => 4,
    }
}

/// Host and port; the brackets of an IPv6 address are not part of the host.
fn split(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let port = port.parse().ok()?;
    let host = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    (!host.is_empty() && port != 0).then_some((host, port))
}

/// The families take turns, the resolver's first choice first.
fn alternate(found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(first) = found.first().copied() else {
        return found;
    };
    let (mut same, mut other): (Vec<_>, Vec<_>) = found
        .into_iter()
        .partition(|address| address.is_ipv4() == first.is_ipv4());
    same.reverse();
    other.reverse();
    let mut order = Vec::with_capacity(same.len() + other.len());
    while !same.is_empty() || !other.is_empty() {
        order.extend(same.pop());
        order.extend(other.pop());
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        let cases = [
            ("localhost:1", Some(("localhost", 1))),
            ("127.0.0.1:9876", Some(("127.0.0.1", 9876))),
            ("[::1]:9876", Some(("::1", 9876))),
            ("::1:9876", None),
            ("localhost", None),
            ("localhost:", None),
            ("localhost:0", None),
            ("localhost:70000", None),
            (":9876", None),
            ("[::1:9876", None),
        ];
        for (text, expected) in cases {
            assert_eq!(split(text), expected, "{text}");
        }
    }

    #[test]
    fn families_take_turns() {
        let order = |list: &[&str]| {
            alternate(list.iter().map(|text| text.parse().unwrap()).collect())
                .iter()
                .map(SocketAddr::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            order(&["[::1]:1", "[::2]:1", "1.1.1.1:1"]),
            ["[::1]:1", "1.1.1.1:1", "[::2]:1"]
        );
        assert!(order(&[]).is_empty());
    }
}
