//! Calls over real connections: order, cancellation, deadlines, independence, ends.

mod common;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Echo, Node, WITHIN, beat, body, code, eventually};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use quern_protocol::frame::Outgoing;
use quern_protocol::{Heartbeat, Hello, Role};
use quern_quic::{CallError, CloseReason, EndedBy, Lane};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_calls_come_back_with_their_own_answers() {
    let node = Node::start();
    let connection = node.connect().await;
    let lane = Lane::open(&connection).await.unwrap();
    let calls: Vec<_> = (0..10_000u32)
        .map(|number| {
            // Sizes on both sides of what is copied into a batch.
            let size = if number % 500 == 0 {
                40_000
            } else {
                number % 300
            };
            let mut bytes = vec![b'e'; 5 + size as usize];
            bytes[1..5].copy_from_slice(&number.to_le_bytes());
            (
                bytes.clone(),
                lane.call(&beat(), vec![bytes.into()], WITHIN),
            )
        })
        .collect();
    for (sent, call) in calls {
        let (_, received) = call.await.unwrap();
        assert_eq!(received, sent);
    }
}

#[tokio::test]
async fn handlers_start_in_the_order_of_the_calls() {
    let node = Node::start();
    let connection = node.connect().await;
    let lane = Lane::open(&connection).await.unwrap();
    let calls: Vec<_> = (0..1_000)
        .map(|_| lane.call(&beat(), body(b"e"), WITHIN))
        .collect();
    for (number, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap().0.time_ms, number as u64);
    }
}

#[tokio::test]
async fn answers_come_in_the_order_they_are_ready() {
    let node = Node::start();
    let connection = node.connect().await;
    let lane = Lane::open(&connection).await.unwrap();
    let calls: FuturesUnordered<_> = [150, 75, 0]
        .into_iter()
        .map(|ms| {
            let call = lane.call(&beat(), body(&[b'd', ms]), WITHIN);
            async move { call.await.map(|_| ms).unwrap() }
        })
        .collect();
    assert_eq!(calls.collect::<Vec<u8>>().await, [0, 75, 150]);
}

#[tokio::test]
async fn a_dropped_call_ends_its_handler_and_nothing_else() {
    let node = Node::start();
    let connection = node.connect().await;
    let lane = Lane::open(&connection).await.unwrap();
    let hanging = &node.echo.hanging;

    let kept = lane.call(&beat(), body(b"h"), WITHIN);
    let dropped = lane.call(&beat(), body(b"h"), WITHIN);
    eventually("both hang", || hanging.load(Ordering::SeqCst) == 2).await;
    drop(dropped);
    eventually("one was cancelled", || hanging.load(Ordering::SeqCst) == 1).await;
    node.assert_others_are_served(&lane).await;

    // The same for a call on a stream of its own.
    let on_its_own = tokio::spawn({
        let connection = connection.clone();
        async move {
            connection
                .call(&beat(), body(b"h"), WITHIN)
                .await
                .map(|_| ())
        }
    });
    eventually("it hangs", || hanging.load(Ordering::SeqCst) == 2).await;
    on_its_own.abort();
    eventually("it was reset", || hanging.load(Ordering::SeqCst) == 1).await;

    // The lane goes when its last handle and call go, and takes its stream along.
    drop(lane);
    drop(kept);
    eventually("the stream ended", || hanging.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn a_call_ends_at_its_deadline_on_both_sides() {
    let node = Node::start();
    let connection = node.connect().await;
    let lane = Lane::open(&connection).await.unwrap();
    let within = Duration::from_millis(60);
    let start = Instant::now();
    let asked = beat();
    let (on_lane, alone) = tokio::join!(
        lane.call(&asked, body(b"h"), within),
        connection.call(&asked, body(b"h"), within),
    );
    for error in [on_lane.unwrap_err(), alone.unwrap_err()] {
        assert_eq!(code(&error), "DEADLINE");
    }
    assert!(start.elapsed() >= Duration::from_millis(50));
    assert!(start.elapsed() < Duration::from_secs(5));
    let hanging = &node.echo.hanging;
    eventually("handlers ended", || hanging.load(Ordering::SeqCst) == 0).await;
    node.assert_others_are_served(&lane).await;
}

#[tokio::test]
async fn the_server_keeps_the_deadline_of_a_client_that_does_not() {
    let node = Node::start();
    let connection = node.connect().await;
    let (mut sender, mut receiver) = connection.open().await.unwrap();
    let frame = Outgoing::request(&beat(), body(b"h")).unwrap();
    sender
        .send(frame.correlation(9).deadline_ms(30))
        .await
        .unwrap();
    let reply = receiver.receive().await.unwrap().unwrap();
    assert!(reply.flags.is_error());
    let error = quern_protocol::operation::decode_reply::<Heartbeat>(&reply).unwrap_err();
    assert_eq!((reply.correlation, error.code), (9, 1003));
}

#[tokio::test]
async fn more_calls_than_a_lane_holds_wait_their_turn() {
    let node = Node::start();
    let connection = node.connect().await;
    let lane = Lane::open(&connection).await.unwrap();
    let count = quern_quic::limits::LANE_CALLS + 500;
    let calls: FuturesUnordered<_> = (0..count)
        .map(|_| lane.call(&beat(), body(b"e"), WITHIN))
        .collect();
    assert_eq!(
        calls
            .filter(|result| std::future::ready(result.is_ok()))
            .count()
            .await,
        count
    );
    // Calls made and dropped leave the lane as it was.
    for _ in 0..3 * quern_quic::limits::LANE_CALLS {
        drop(lane.call(&beat(), body(b"h"), WITHIN));
    }
    node.assert_others_are_served(&lane).await;
}

#[tokio::test]
async fn a_large_body_travels_and_a_larger_one_is_refused_before_it_is_sent() {
    let node = Node::start();
    let connection = node.connect().await;
    let lane = Lane::open(&connection).await.unwrap();
    let large = Bytes::from(vec![b'e'; quern_protocol::limits::FRAME_BODY]);
    let (_, back) = lane
        .call(&beat(), vec![large.clone()], WITHIN)
        .await
        .unwrap();
    assert_eq!(back, large);
    let (_, back) = connection
        .call(&beat(), vec![large.clone()], WITHIN)
        .await
        .unwrap();
    assert_eq!(back, large);
    let larger = vec![large, Bytes::from_static(b"e")];
    let error = lane.call(&beat(), larger, WITHIN).await.unwrap_err();
    assert_eq!(code(&error), "TOO_LARGE");
}

#[tokio::test]
async fn a_stalled_stream_does_not_delay_another() {
    let node = Node::start();
    let connection = node.connect().await;
    let (mut sender, _unread) = connection.open().await.unwrap();
    // Nobody reads what comes back: writing stops once every window of the stream is full.
    let stalled = tokio::spawn(async move {
        for number in 1.. {
            let frame = Outgoing::request(&beat(), vec![vec![b'e'; 60_000].into()]).unwrap();
            if sender.send(frame.correlation(number)).await.is_err() {
                return;
            }
        }
    });
    let handled = &node.echo.handled;
    let mut before = usize::MAX;
    while before != handled.load(Ordering::SeqCst) {
        before = handled.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(before > 0);

    let lane = Lane::open(&connection).await.unwrap();
    for _ in 0..100 {
        let asked = Instant::now();
        lane.call(&beat(), body(&[b'e'; 1_000]), WITHIN)
            .await
            .unwrap();
        connection.call(&beat(), body(b"e"), WITHIN).await.unwrap();
        assert!(asked.elapsed() < Duration::from_secs(1));
    }
    stalled.abort();
}

#[tokio::test]
async fn a_handler_that_is_not_ready_stops_the_reading() {
    let (gate, watched) = tokio::sync::watch::channel(true);
    let echo = Echo {
        gate: Some(watched),
        ..Echo::default()
    };
    let node = Node::start_with(echo, |_| {});
    let connection = node.connect().await;
    let lane = Lane::open(&connection).await.unwrap();
    node.assert_others_are_served(&lane).await;

    gate.send_replace(false);
    let mut held: Vec<_> = (0..3)
        .map(|_| Box::pin(lane.call(&beat(), body(b"e"), WITHIN)))
        .collect();
    // The lane's loop waits already for what comes next, with leave asked before: one gets through.
    let first = tokio::time::timeout(Duration::from_millis(200), held.remove(0)).await;
    let through = usize::from(first.is_ok());
    assert_eq!(node.echo.handled.load(Ordering::SeqCst), 1 + through);

    gate.send_replace(true);
    for call in held {
        call.await.unwrap();
    }
}

#[tokio::test]
async fn a_handler_that_panics_ends_its_stream_only() {
    let node = Node::start();
    let connection = node.connect().await;
    let lane = Lane::open(&connection).await.unwrap();
    let other = Lane::open(&connection).await.unwrap();
    let error = lane.call(&beat(), body(b"p"), WITHIN).await.unwrap_err();
    assert!(matches!(error, CallError::Lost(_)), "{error}");
    node.assert_others_are_served(&other).await;
    assert!(!connection.is_closed());
}

#[tokio::test]
async fn every_call_learns_why_the_connection_ended() {
    let mut node = Node::start();
    let connection = node.connect().await;
    let lane = Lane::open(&connection).await.unwrap();
    let calls: Vec<_> = (0..10)
        .map(|_| lane.call(&beat(), body(b"h"), WITHIN))
        .collect();
    let hanging = &node.echo.hanging;
    eventually("all hang", || hanging.load(Ordering::SeqCst) == 10).await;
    node.listener.close(CloseReason::GoingAway);
    for call in calls {
        let CallError::Lost(lost) = call.await.unwrap_err() else {
            panic!("not lost");
        };
        assert_eq!(lost.by, EndedBy::Peer);
        assert_eq!(lost.reason, Some(CloseReason::GoingAway));
        assert_eq!(lost.code().name, "GOING_AWAY");
    }
    let error = lane.call(&beat(), body(b"e"), WITHIN).await.unwrap_err();
    assert!(matches!(error, CallError::Lost(_)));
    assert!(connection.is_closed());
    let lost = node.ended.recv().await.unwrap();
    assert_eq!(
        (lost.by, lost.reason),
        (EndedBy::Us, Some(CloseReason::GoingAway))
    );
    assert!(node.listener.accept().await.is_none());
    node.listener.drained().await;
}

#[tokio::test]
async fn a_closing_client_says_goodbye() {
    let mut node = Node::start();
    let connector = node.connector();
    let connection = connector.connect(&node.address()).await.unwrap();
    let reply = connection.hello(&Hello::new(Role::Client)).await.unwrap();
    assert_eq!(reply.node, "node");
    let session = connection.session().unwrap();
    session.call(&beat(), Vec::new(), WITHIN).await.unwrap();
    connection.close(CloseReason::Bye, "enough");
    connector.drained().await;
    let lost = node.ended.recv().await.unwrap();
    assert_eq!(
        (lost.by, lost.reason),
        (EndedBy::Peer, Some(CloseReason::Bye))
    );
    assert_eq!(&*lost.text, "enough");
    assert_eq!(connection.closed().await.by, EndedBy::Us);

    // The same when the last handle is just dropped.
    let connection = node.connect().await;
    drop(connection);
    assert_eq!(
        node.ended.recv().await.unwrap().reason,
        Some(CloseReason::Bye)
    );
}
