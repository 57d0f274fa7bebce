//! What bad input gets: a coded answer and a close that says why, and no one else notices.

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::{Node, WITHIN, beat, body, by_hand, hello_bytes, said};
use quern_protocol::WireError;
use quern_protocol::frame::Outgoing;
use quern_quic::{BindError, CloseReason, DevAuthority, Lane, ListenConfig, Listener};

/// The error code in the frame a stream brings, and how the connection then ends.
async fn answer(
    connection: &quinn::Connection,
    receive: &mut quinn::RecvStream,
) -> (u16, Option<CloseReason>, String) {
    let bytes = tokio::time::timeout(WITHIN, receive.read_to_end(1 << 20))
        .await
        .expect("in time")
        .expect("an answer");
    assert_eq!(bytes[7], 1, "an error frame");
    let error = WireError::decode(&bytes[24..]).expect("an error");
    let (reason, text) = said(&connection.closed().await);
    assert_eq!(text, error.message);
    (error.code, reason, text)
}

fn request() -> Vec<u8> {
    Outgoing::request(&beat(), body(b"e"))
        .expect("small")
        .to_vec()
}

/// A good frame with some bytes changed.
fn spoiled(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut frame = request();
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    frame
}

#[tokio::test]
async fn what_is_no_frame_is_answered_and_ends_its_connection_only() {
    let node = Node::start();
    let others = node.connect().await;
    let bystander = Lane::open(&others).await.unwrap();
    let mut truncated = request();
    truncated.pop();
    let over_limit = (quern_protocol::limits::FRAME_BODY as u32 + 100).to_le_bytes();
    let cases: [(&str, Vec<u8>, u16, &str); 8] = [
        (
            "longer than the limit",
            spoiled(0, &over_limit),
            1002,
            "the limit is",
        ),
        (
            "a huge length",
            spoiled(0, &[0xff; 4]),
            1002,
            "the limit is",
        ),
        (
            "header over the limit",
            spoiled(16, &[0, 0, 1, 0]),
            1002,
            "the limit is",
        ),
        (
            "shorter than its prefix",
            spoiled(0, &[3, 0, 0, 0]),
            1005,
            "less than its own prefix",
        ),
        (
            "header beyond the frame",
            spoiled(16, &[200, 0, 0, 0]),
            1005,
            "does not fit",
        ),
        ("unknown flag", spoiled(7, &[0x40]), 1005, "flags"),
        ("truncated", truncated, 1005, "in the middle of a frame"),
        (
            "not ours at all",
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            1005,
            "flags",
        ),
    ];
    for (what, bytes, code, words) in cases {
        let connection = by_hand(&node, "quern/1").await.unwrap();
        let (mut hello, _receive) = connection.open_bi().await.unwrap();
        hello.write_all(&hello_bytes()).await.unwrap();
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        send.write_all(&bytes).await.unwrap();
        send.finish().unwrap();
        let got = answer(&connection, &mut receive).await;
        assert_eq!(
            (got.0, got.1),
            (code, Some(CloseReason::Protocol)),
            "{what}"
        );
        assert!(got.2.contains(words), "{what}: {}", got.2);
        node.assert_others_are_served(&bystander).await;
    }
}

#[tokio::test]
async fn a_header_that_does_not_decode_fails_its_request_only() {
    let node = Node::start();
    let connection = by_hand(&node, "quern/1").await.unwrap();
    let (mut hello, _receive) = connection.open_bi().await.unwrap();
    hello.write_all(&hello_bytes()).await.unwrap();
    for (bytes, code) in [
        (spoiled(24, &[9]), 1005),
        (spoiled(4, &[99, 0]), 1001),
        (spoiled(6, &[9]), 1001),
    ] {
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        send.write_all(&bytes).await.unwrap();
        send.finish().unwrap();
        let reply = receive.read_to_end(1 << 20).await.unwrap();
        assert_eq!(WireError::decode(&reply[24..]).unwrap().code, code);
    }
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_all(&request()).await.unwrap();
    send.finish().unwrap();
    assert!(!receive.read_to_end(1 << 20).await.unwrap().is_empty());
    assert!(connection.close_reason().is_none());
}

#[tokio::test]
async fn the_first_frame_must_be_a_hello() {
    let node = Node::start();
    for (what, bytes) in [
        ("another request", request()),
        ("nothing", Vec::new()),
        ("half a hello", hello_bytes()[..30].to_vec()),
    ] {
        let connection = by_hand(&node, "quern/1").await.unwrap();
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        send.write_all(&bytes).await.unwrap();
        send.finish().unwrap();
        let (code, reason, _) = answer(&connection, &mut receive).await;
        assert_eq!(
            (code, reason),
            (1005, Some(CloseReason::Protocol)),
            "{what}"
        );
    }
}

#[tokio::test]
async fn silence_is_not_waited_for_long() {
    let node = Node::start_with(common::Echo::default(), |config| {
        config.first_frame = Duration::from_millis(100);
    });
    for opens in [false, true] {
        let connection = by_hand(&node, "quern/1").await.unwrap();
        let _open = if opens {
            let (mut send, receive) = connection.open_bi().await.unwrap();
            send.write_all(&hello_bytes()[..10]).await.unwrap();
            Some((send, receive))
        } else {
            None
        };
        let ended = tokio::time::timeout(WITHIN, connection.closed())
            .await
            .unwrap();
        let (reason, text) = said(&ended);
        assert_eq!(reason, Some(CloseReason::NoFirstFrame));
        assert_eq!(text, "no hello within 100 ms");
    }
}

#[tokio::test]
async fn datagrams_of_garbage_are_ignored() {
    let node = Node::start();
    let others = node.connect().await;
    let bystander = Lane::open(&others).await.unwrap();
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let target = node.listener.local_addr();
    let mut random = fastrand::Rng::with_seed(3);
    for round in 0..500 {
        let mut bytes = vec![0; random.usize(0..1_500)];
        random.fill(&mut bytes);
        if let Some(first) = bytes.first_mut()
            && round % 2 == 0
        {
            // The long header of a first packet.
            *first = 0xc0 | (*first & 0x0f);
        }
        socket.send_to(&bytes, target).await.unwrap();
    }
    node.assert_others_are_served(&bystander).await;
    node.connect().await;
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let node = Node::start();
    let address = node.listener.local_addr();
    let dir = tempfile::tempdir().unwrap();
    let ca = DevAuthority::open_in(&dir.path().join("ca")).unwrap();
    let listen = |address: SocketAddr| {
        let identity = ca.issue("broker", "second").unwrap();
        Listener::bind(ListenConfig::new(address, identity, ca.trust(), [0; 32]))
    };
    let error = listen(address).unwrap_err();
    assert!(matches!(error, BindError::AddressInUse(_)));
    assert_eq!(error.code().name, "ADDRESS_IN_USE");
    assert!(error.to_string().contains(&address.to_string()), "{error}");

    let error = listen(SocketAddr::from(([192, 0, 2, 1], 0))).unwrap_err();
    assert_eq!(error.code().name, "BAD_CONFIG");
}
