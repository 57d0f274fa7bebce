//! A listener that was killed and started again tells its old clients at once.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod common;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Echo, WITHIN, beat, body};
use quern_protocol::{Hello, Role};
use quern_quic::{
    CallError, Connector, DevAuthority, Door, EndedBy, Lane, ListenConfig, Listener, serve,
};

/// A listener on a runtime of its own, which [`kill`] stops in the middle of everything.
fn start(ca: &Path, port: u16) -> (tokio::runtime::Runtime, SocketAddr) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let ca = DevAuthority::open_in(ca).unwrap();
    let _inside = runtime.enter();
    let identity = ca.issue("broker", "node").unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let config = ListenConfig::new(address, identity, ca.trust(), [9; 32]);
    let started = Instant::now();
    let listener = loop {
        match Listener::bind(config.clone()) {
            Ok(listener) => break listener,
            // The killed one's socket may take a moment to go.
            Err(error) => assert!(started.elapsed() < WITHIN, "{error}"),
        }
        std::thread::yield_now();
    };
    let address = listener.local_addr();
    runtime.spawn(async move {
        while let Some(connection) = listener.accept().await {
            tokio::spawn(serve(connection, Arc::new(Echo::default())));
        }
    });
    (runtime, address)
}

#[test]
fn an_old_connection_is_reset_within_a_second() {
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca");
    let trust = DevAuthority::open_in(&ca).unwrap().trust();
    let (first, address) = start(&ca, 0);
    let client = tokio::runtime::Runtime::new().unwrap();
    let (connector, connection, lane) = client.block_on(async {
        let connector = Connector::new(trust, None, Door::Client).unwrap();
        let connection = connector.connect(&address.to_string()).await.unwrap();
        connection.hello(&Hello::new(Role::Client)).await.unwrap();
        let lane = Lane::open(&connection).await.unwrap();
        lane.call(&beat(), body(b"e"), WITHIN).await.unwrap();
        (connector, connection, lane)
    });

    kill(first);
    let (second, _) = start(&ca, address.port());
    client.block_on(async {
        let asked = Instant::now();
        let error = lane.call(&beat(), body(b"e"), WITHIN).await.unwrap_err();
        let CallError::Lost(lost) = error else {
            panic!("{error}");
        };
        assert!(
            asked.elapsed() < Duration::from_secs(2),
            "{:?}",
            asked.elapsed()
        );
        assert_eq!(lost.by, EndedBy::Network);
        assert!(lost.text.contains("restarted"), "{lost}");
        assert!(connection.is_closed());

        let again = connector.connect(&address.to_string()).await.unwrap();
        again.hello(&Hello::new(Role::Client)).await.unwrap();
    });
    kill(second);
}

/// Stops a runtime so that nothing on it gets to say goodbye.
fn kill(runtime: tokio::runtime::Runtime) {
    runtime.shutdown_timeout(Duration::from_secs(5));
}
