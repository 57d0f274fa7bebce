//! Who may talk to whom: authorities, pins, doors, versions, clocks.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod common;

use common::{Node, WITHIN, authority, beat, by_hand, write_identity};
use quern_protocol::{Hello, Role};
use quern_quic::{
    CloseReason, ConnectError, Connection, Connector, Door, EndedBy, NodeIdentity, Trust,
};
use rcgen::{CertificateParams, Issuer, KeyPair, date_time_ymd};

async fn connect(
    node: &Node,
    trust: Trust,
    identity: Option<NodeIdentity>,
    door: Door,
) -> Result<Connection, ConnectError> {
    let connector = Connector::new(trust, identity, door).unwrap();
    connector.connect(&node.address()).await
}

#[tokio::test]
async fn names_and_addresses_of_this_machine_are_good() {
    let node = Node::start();
    let port = node.listener.local_addr().port();
    for host in ["127.0.0.1", "localhost"] {
        let connection = node
            .connector()
            .connect(&format!("{host}:{port}"))
            .await
            .unwrap();
        connection.hello(&Hello::new(Role::Client)).await.unwrap();
        assert_eq!(connection.remote_addr(), node.listener.local_addr());
        assert_eq!(connection.door(), Door::Client);
    }
}

#[tokio::test]
async fn an_authority_not_trusted_is_refused() {
    let node = Node::start();
    let (_dir, other) = authority();
    for trust in [other.trust(), Trust::pin(other.fingerprint()).unwrap()] {
        let error = connect(&node, trust, None, Door::Client).await.unwrap_err();
        assert!(matches!(error, ConnectError::Untrusted { .. }), "{error:?}");
        assert_eq!(error.code().name, "UNTRUSTED");
        assert!(error.to_string().contains(&node.address()), "{error}");
    }
}

#[tokio::test]
async fn a_pinned_authority_or_its_file_is_trusted() {
    let node = Node::start();
    let file = Trust::ca_file(&node.ca.dir().join("ca.pem")).unwrap();
    for trust in [Trust::pin(node.ca.fingerprint()).unwrap(), file] {
        let connection = connect(&node, trust, None, Door::Client).await.unwrap();
        connection.hello(&Hello::new(Role::Client)).await.unwrap();
    }
    let missing = Trust::ca_file(&node.ca.dir().join("none.pem")).unwrap_err();
    assert!(missing.to_string().contains("none.pem"), "{missing}");
}

#[tokio::test]
async fn the_peer_door_opens_only_for_a_node() {
    let node = Node::start();
    let identity = node.ca.issue("broker", "other").unwrap();
    let connection = connect(&node, node.ca.trust(), Some(identity), Door::Peer)
        .await
        .unwrap();
    connection.hello(&Hello::new(Role::Broker)).await.unwrap();
    assert_eq!(connection.door(), Door::Peer);
    connection.call(&beat(), Vec::new(), WITHIN).await.unwrap();

    // Without a certificate.
    let connection = connect(&node, node.ca.trust(), None, Door::Peer)
        .await
        .unwrap();
    let lost = connection.closed().await;
    assert_eq!(
        (lost.by, lost.reason),
        (EndedBy::Peer, Some(CloseReason::Identity))
    );
    assert_eq!(lost.code().name, "FORBIDDEN");
    assert!(lost.text.contains("certificate"), "{lost}");

    // With one of another authority.
    let (_dir, other) = authority();
    let identity = other.issue("broker", "stranger").unwrap();
    let lost = match connect(&node, node.ca.trust(), Some(identity), Door::Peer).await {
        Ok(connection) => connection.closed().await,
        Err(error) => panic!("its own check passed before: {error}"),
    };
    assert_eq!(
        (lost.by, lost.reason),
        (EndedBy::Peer, Some(CloseReason::Identity))
    );
    assert_eq!(
        node.echo.handled.load(std::sync::atomic::Ordering::SeqCst),
        1
    );
}

#[tokio::test]
async fn an_unknown_protocol_is_refused_in_the_handshake() {
    let node = Node::start();
    let error = by_hand(&node, "quern/99").await.unwrap_err();
    assert!(
        error.to_string().contains("120"),
        "no_application_protocol: {error}"
    );

    // The other way round: something else listens there.
    let (dir, ca) = authority();
    let address = stranger(&dir, &ca, b"h3");
    let connector = Connector::new(ca.trust(), None, Door::Client).unwrap();
    let error = connector.connect(&address).await.unwrap_err();
    assert!(matches!(error, ConnectError::Version { .. }), "{error:?}");
    assert_eq!(error.code().name, "WRONG_PROTOCOL_VERSION");
    assert!(error.to_string().contains("quern/1"), "{error}");
}

/// A QUIC server that speaks something else.
fn stranger(dir: &tempfile::TempDir, ca: &quern_quic::DevAuthority, alpn: &[u8]) -> String {
    use rustls::pki_types::PrivateKeyDer;
    let (certificate, key) = signed(ca, dir.path(), |_| {});
    let mut tls = rustls::ServerConfig::builder_with_provider(
        rustls::crypto::ring::default_provider().into(),
    )
    .with_protocol_versions(&[&rustls::version::TLS13])
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(
        vec![certificate.der().clone()],
        PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
    )
    .unwrap();
    tls.alpn_protocols = vec![alpn.to_vec()];
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(tls).unwrap();
    let config = quinn::ServerConfig::with_crypto(std::sync::Arc::new(crypto));
    let endpoint = quinn::Endpoint::server(config, ([127, 0, 0, 1], 0).into()).unwrap();
    let address = endpoint.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            drop(incoming.await);
        }
    });
    address
}

/// A certificate of an authority made for the test, which takes the place of `ca.pem` in `dir`.
fn signed(
    ca: &quern_quic::DevAuthority,
    dir: &std::path::Path,
    change: impl FnOnce(&mut CertificateParams),
) -> (rcgen::Certificate, KeyPair) {
    let root_key =
        KeyPair::from_pem(&std::fs::read_to_string(ca.dir().join("ca.key")).unwrap()).unwrap();
    let mut root = CertificateParams::new(Vec::new()).unwrap();
    root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root_certificate = root.self_signed(&root_key).unwrap();
    std::fs::write(dir.join("root.pem"), root_certificate.pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params =
        CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    change(&mut params);
    let certificate = params
        .signed_by(&key, &Issuer::new(root, &root_key))
        .unwrap();
    (certificate, key)
}

#[tokio::test]
async fn a_certificate_of_another_time_points_at_the_clocks() {
    for (from, to) in [(2001, 2002), (2090, 2091)] {
        let (dir, ca) = authority();
        let (certificate, key) = signed(&ca, dir.path(), |params| {
            params.not_before = date_time_ymd(from, 1, 1);
            params.not_after = date_time_ymd(to, 1, 1);
        });
        write_identity(dir.path(), &certificate.pem(), &key.serialize_pem());
        let identity = NodeIdentity::load(dir.path()).unwrap();
        let node = Node::start_with(common::Echo::default(), |config| config.identity = identity);
        let trust = Trust::ca_file(&dir.path().join("root.pem")).unwrap();
        let error = connect(&node, trust, None, Door::Client).await.unwrap_err();
        assert_eq!(error.code().name, "UNTRUSTED", "{error}");
        assert!(error.to_string().contains("clock"), "{error}");
    }
}

#[tokio::test]
async fn a_name_that_is_not_in_the_certificate_is_refused() {
    let (dir, ca) = authority();
    let (certificate, key) = signed(&ca, dir.path(), |params| {
        params.subject_alt_names.truncate(1)
    });
    write_identity(dir.path(), &certificate.pem(), &key.serialize_pem());
    let identity = NodeIdentity::load(dir.path()).unwrap();
    let node = Node::start_with(common::Echo::default(), |config| config.identity = identity);
    let trust = Trust::ca_file(&dir.path().join("root.pem")).unwrap();
    let error = connect(&node, trust, None, Door::Client).await.unwrap_err();
    assert_eq!(error.code().name, "UNTRUSTED", "{error}");
}

#[tokio::test]
async fn nobody_there_is_said_in_time() {
    let (_dir, ca) = authority();
    let connector = Connector::new(ca.trust(), None, Door::Client).unwrap();
    let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let cases = [
        (address.as_str(), "CONNECT"),
        ("nowhere.invalid:9876", "CONNECT"),
        ("127.0.0.1", "BAD_CONFIG"),
    ];
    for (address, code) in cases {
        let error = connector.connect(address).await.unwrap_err();
        assert_eq!(error.code().name, code, "{error}");
    }
}
