//! A node to talk to: a listener on loopback with a handler that does what the body says, and the
//! means to talk to it by hand.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quern_protocol::frame::{Frame, Outgoing};
use quern_protocol::operation::Request;
use quern_protocol::{
    Code, Filter, Heartbeat, HeartbeatReply, Hello, HelloReply, PullReply, QueueId, QueueOffset,
    Role, Subscribe, TopicName, WireError,
};
use quern_quic::{
    Answers, CallError, CloseReason, Connection, Connector, Credit, DevAuthority, Door, Handler,
    Lane, ListenConfig, Listener, Lost, serve,
};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

pub(crate) const WITHIN: Duration = Duration::from_secs(20);

/// Does what the first byte of a body asks: `e` echo, `d` echo after as many ms as the second byte
/// says, `h` hang, `p` panic.
#[derive(Debug, Default)]
pub(crate) struct Echo {
    pub(crate) hanging: Arc<AtomicUsize>,
    pub(crate) handled: AtomicUsize,
    /// While it holds `false`, [`Handler::ready`] waits.
    pub(crate) gate: Option<watch::Receiver<bool>>,
}

struct Hanging(Arc<AtomicUsize>);

impl Drop for Hanging {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Handler for Echo {
    async fn handle(&self, frame: Frame) -> Outgoing {
        match Request::decode(&frame) {
            Err(error) => Outgoing::error(frame.kind, &error),
            Ok(Request::Hello(_)) => {
                Outgoing::reply::<Hello>(&hello_reply(), Vec::new()).expect("small")
            }
            Ok(Request::Heartbeat(_)) => self.act(frame.body).await,
            Ok(_) => Outgoing::error(frame.kind, &WireError::new(Code::UNSUPPORTED, "not here")),
        }
    }

    /// By its topic: `endless`, `two`, or anything else, which is refused. A delivery has ten bytes.
    fn subscribe(&self, frame: Frame, credit: Arc<Credit>) -> Answers {
        let Ok(Request::Subscribe(request)) = Request::decode(&frame) else {
            panic!("only subscriptions come here");
        };
        let last = match request.topic.as_str() {
            "endless" => u64::MAX,
            "two" => 2,
            _ => {
                let refused = WireError::new(Code::UNSUPPORTED, "not here");
                let refused = Outgoing::error(frame.kind, &refused);
                return Box::pin(futures_util::stream::once(async { refused }));
            }
        };
        credit.grant(request.messages, request.bytes);
        self.hanging.fetch_add(1, Ordering::SeqCst);
        let here = Hanging(self.hanging.clone());
        let answers = futures_util::stream::unfold((credit, 0, here), move |state| async move {
            let (credit, sent, here) = state;
            if sent == last {
                return None;
            }
            credit.some().await;
            credit.spend(1, 10);
            let delivery = delivery(sent + 1);
            let delivery = match sent + 1 == last {
                true => delivery,
                false => delivery.more(),
            };
            Some((delivery, (credit, sent + 1, here)))
        });
        Box::pin(answers)
    }

    async fn ready(&self) {
        if let Some(gate) = &self.gate {
            // A gate whose keeper is gone stands open.
            let _ = gate.clone().wait_for(|open| *open).await;
        }
    }
}

impl Echo {
    async fn act(&self, body: Bytes) -> Outgoing {
        let number = self.handled.fetch_add(1, Ordering::SeqCst);
        match body.first() {
            Some(b'd') => {
                let ms = body.get(1).copied().unwrap_or(0);
                tokio::time::sleep(Duration::from_millis(ms.into())).await;
            }
            Some(b'h') => {
                self.hanging.fetch_add(1, Ordering::SeqCst);
                let _here = Hanging(self.hanging.clone());
                std::future::pending::<()>().await;
            }
            Some(b'p') => panic!("asked to"),
            _ => {}
        }
        let reply = HeartbeatReply {
            registered: true,
            time_ms: number as u64,
        };
        Outgoing::reply::<Heartbeat>(&reply, vec![body]).expect("no larger than it came")
    }
}

fn delivery(next: u64) -> Outgoing {
    let reply = PullReply {
        messages: 1,
        next: QueueOffset(next),
        min: QueueOffset(0),
        max: QueueOffset(next),
        moved: false,
        stall: None,
    };
    let body = vec![Bytes::from_static(b"0123456789")];
    Outgoing::reply::<Subscribe>(&reply, body).expect("small")
}

pub(crate) fn subscribe(topic: &str, messages: u32, bytes: u32) -> Subscribe {
    Subscribe {
        group: None,
        topic: TopicName::new(topic).expect("a good name"),
        queue: QueueId(0),
        epoch: None,
        from: QueueOffset(0),
        filter: Filter::All,
        messages,
        bytes,
    }
}

fn hello_reply() -> HelloReply {
    HelloReply {
        role: Role::Broker,
        software: "test".to_owned(),
        minor: 0,
        features: 0,
        node: "node".to_owned(),
        time_ms: 0,
    }
}

pub(crate) fn authority() -> (TempDir, DevAuthority) {
    let dir = tempfile::tempdir().expect("a directory");
    let authority = DevAuthority::open_in(&dir.path().join("ca")).expect("an authority");
    (dir, authority)
}

pub(crate) struct Node {
    pub(crate) listener: Arc<Listener>,
    pub(crate) echo: Arc<Echo>,
    pub(crate) ca: DevAuthority,
    /// How connections ended, as seen by `serve`.
    pub(crate) ended: mpsc::Receiver<Lost>,
    task: JoinHandle<()>,
    _dir: TempDir,
}

impl Node {
    pub(crate) fn start() -> Self {
        Self::start_with(Echo::default(), |_| {})
    }

    pub(crate) fn start_with(echo: Echo, change: impl FnOnce(&mut ListenConfig)) -> Self {
        let (dir, ca) = authority();
        let identity = ca.issue("broker", "node").expect("a certificate");
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = ListenConfig::new(address, identity, ca.trust(), [7; 32]);
        change(&mut config);
        let listener = Arc::new(Listener::bind(config).expect("a free port"));
        let echo = Arc::new(echo);
        let (tell, ended) = mpsc::channel(64);
        let task = tokio::spawn({
            let (listener, echo) = (listener.clone(), echo.clone());
            async move {
                while let Some(connection) = listener.accept().await {
                    let (echo, tell) = (echo.clone(), tell.clone());
                    tokio::spawn(async move {
                        let lost = serve(connection, echo).await;
                        // Not every test listens.
                        let _ = tell.send(lost).await;
                    });
                }
            }
        });
        Self {
            listener,
            echo,
            ca,
            ended,
            task,
            _dir: dir,
        }
    }

    pub(crate) fn address(&self) -> String {
        self.listener.local_addr().to_string()
    }

    pub(crate) fn connector(&self) -> Connector {
        Connector::new(self.ca.trust(), None, Door::Client).expect("a socket")
    }

    /// A connection that has said hello.
    pub(crate) async fn connect(&self) -> Connection {
        let connection = self
            .connector()
            .connect(&self.address())
            .await
            .expect("a connection");
        connection
            .hello(&Hello::new(Role::Client))
            .await
            .expect("a hello");
        connection
    }

    /// Somebody who has nothing to do with what a test does to others still gets answers.
    pub(crate) async fn assert_others_are_served(&self, bystander: &Lane) {
        let (_, body) = bystander
            .call(&beat(), body(b"e"), WITHIN)
            .await
            .expect("others do not notice");
        assert_eq!(body, b"e"[..]);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn beat() -> Heartbeat {
    Heartbeat { broker: None }
}

pub(crate) fn body(bytes: &[u8]) -> Vec<Bytes> {
    vec![Bytes::copy_from_slice(bytes)]
}

pub(crate) fn code(error: &CallError) -> &'static str {
    error.code().name
}

/// Polls a condition until it holds.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A QUIC client with nothing of ours in it: for what our own side never sends.
pub(crate) async fn by_hand(
    node: &Node,
    alpn: &str,
) -> Result<quinn::Connection, quinn::ConnectionError> {
    let mut roots = rustls::RootCertStore::empty();
    let pem = std::fs::read(node.ca.dir().join("ca.pem")).expect("the authority");
    let certificate = <rustls::pki_types::CertificateDer<'_> as rustls::pki_types::pem::PemObject>::from_pem_slice(&pem);
    roots.add(certificate.expect("PEM")).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).expect("TLS 1.3");
    let endpoint =
        quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a socket");
    endpoint
        .connect_with(
            quinn::ClientConfig::new(Arc::new(crypto)),
            node.listener.local_addr(),
            "localhost",
        )
        .expect("a configuration")
        .await
}

/// The frame of a hello, as bytes.
pub(crate) fn hello_bytes() -> Vec<u8> {
    Outgoing::request(&Hello::new(Role::Client), Vec::new())
        .expect("small")
        .to_vec()
}

/// Why the other side closed, as it said.
pub(crate) fn said(error: &quinn::ConnectionError) -> (Option<CloseReason>, String) {
    match error {
        quinn::ConnectionError::ApplicationClosed(close) => (
            CloseReason::from_number(close.error_code.into_inner()),
            String::from_utf8_lossy(&close.reason).into_owned(),
        ),
        other => (None, other.to_string()),
    }
}

/// Writes an identity that [`quern_quic::NodeIdentity::load`] reads.
pub(crate) fn write_identity(dir: &Path, chain: &str, key: &str) {
    std::fs::write(dir.join("node.pem"), chain).expect("written");
    std::fs::write(dir.join("node.key"), key).expect("written");
}
