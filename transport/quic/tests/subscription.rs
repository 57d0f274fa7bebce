//! Subscriptions over real connections: credit bounds what is sent, turns are taken, and each ends by itself.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod common;

use std::sync::atomic::Ordering;
use std::time::Duration;

use common::{Node, beat, body, code, eventually, subscribe};
use quern_protocol::frame::Outgoing;
use quern_protocol::{Credit, QueueOffset};
use quern_quic::{EndedBy, Lane, Subscription};
use tokio::time::timeout;

async fn offset(subscription: &mut Subscription) -> QueueOffset {
    let next = timeout(common::WITHIN, subscription.next()).await;
    next.unwrap().unwrap().unwrap().0.next
}

/// Nothing comes that was not asked for; something would have come by then.
async fn assert_silent(lane: &Lane, subscription: &mut Subscription) {
    for _ in 0..3 {
        lane.call(&beat(), body(b"e"), common::WITHIN)
            .await
            .unwrap();
    }
    let next = std::pin::pin!(subscription.next());
    let next = timeout(Duration::ZERO, next).await;
    assert!(next.is_err(), "{next:?}");
}

#[tokio::test]
async fn as_much_is_sent_as_was_granted() {
    let node = Node::start();
    let connection = node.connect().await;
    let lane = Lane::open(&connection).await.unwrap();
    // Deliveries of 10 bytes each; the last may go over.
    for (messages, bytes, sent) in [(3, 1_000, 3), (100, 25, 3), (2, 1, 1)] {
        let request = subscribe("endless", messages, bytes);
        let mut subscription = lane.subscribe(&request).await.unwrap();
        for number in 1..=sent {
            assert_eq!(offset(&mut subscription).await, QueueOffset(number));
        }
        assert_silent(&lane, &mut subscription).await;
        // What was too much is taken off what is granted next.
        subscription.grant(5, 1_000).await;
        assert_eq!(offset(&mut subscription).await, QueueOffset(sent + 1));
    }
}

#[tokio::test]
async fn one_without_credit_holds_up_no_other() {
    let node = Node::start();
    let connection = node.connect().await;
    let lane = Lane::open(&connection).await.unwrap();
    let mut poor = lane.subscribe(&subscribe("endless", 0, 0)).await.unwrap();
    let mut rich = lane
        .subscribe(&subscribe("endless", 10_000, 1_000_000))
        .await
        .unwrap();
    for number in 1..=10_000 {
        assert_eq!(offset(&mut rich).await, QueueOffset(number));
    }
    assert_silent(&lane, &mut poor).await;
    poor.grant(1, 1).await;
    assert_eq!(offset(&mut poor).await, QueueOffset(1));
}

#[tokio::test]
async fn a_subscription_ends_by_itself_by_a_cancel_or_with_its_connection() {
    let node = Node::start();
    let connection = node.connect().await;
    let lane = Lane::open(&connection).await.unwrap();
    let open = || node.echo.hanging.load(Ordering::SeqCst);

    let mut ended = lane.subscribe(&subscribe("two", 10, 1_000)).await.unwrap();
    assert_eq!(offset(&mut ended).await, QueueOffset(1));
    assert_eq!(offset(&mut ended).await, QueueOffset(2));
    assert!(ended.next().await.is_none());

    let mut refused = lane.subscribe(&subscribe("none", 1, 1)).await.unwrap();
    let refused = refused.next().await.unwrap();
    assert_eq!(code(&refused.unwrap_err()), "UNSUPPORTED");

    let mut kept = lane.subscribe(&subscribe("endless", 1, 1)).await.unwrap();
    let dropped = lane.subscribe(&subscribe("endless", 1, 1)).await.unwrap();
    assert_eq!(offset(&mut kept).await, QueueOffset(1));
    eventually("both are open", || open() == 2).await;
    drop(dropped);
    eventually("one was cancelled", || open() == 1).await;
    node.assert_others_are_served(&lane).await;

    connection.close(quern_quic::CloseReason::Bye, "");
    let lost = kept.next().await.unwrap().unwrap_err();
    assert!(matches!(lost, quern_quic::CallError::Lost(it) if it.by == EndedBy::Us));
    eventually("it went with its connection", || open() == 0).await;
}

#[tokio::test]
async fn what_is_not_as_agreed_is_refused() {
    let node = Node::start();
    let connection = node.connect().await;
    // Credit for what is not there changes nothing.
    let lane = Lane::open(&connection).await.unwrap();
    let mut subscription = lane.subscribe(&subscribe("endless", 1, 1)).await.unwrap();
    assert_eq!(offset(&mut subscription).await, QueueOffset(1));
    // By hand: a subscription on a stream of its own has no id to be granted by.
    let (mut sender, mut receiver) = connection.open().await.unwrap();
    let request = subscribe("endless", 1, 1);
    let frame = Outgoing::request(&request, Vec::new()).unwrap();
    sender.send(frame).await.unwrap();
    let reply = receiver.receive().await.unwrap().unwrap();
    assert!(reply.flags.is_error() && !reply.flags.has_more());
    // The same id twice.
    for _ in 0..2 {
        let frame = Outgoing::request(&subscribe("endless", 0, 0), Vec::new()).unwrap();
        sender.send(frame.correlation(9)).await.unwrap();
    }
    let reply = receiver.receive().await.unwrap().unwrap();
    assert!(reply.flags.is_error() && reply.correlation == 9);
    let credit = |correlation| Credit {
        correlation,
        messages: 1,
        bytes: 1,
    };
    for correlation in [7, 9] {
        let frame = Outgoing::request(&credit(correlation), Vec::new()).unwrap();
        sender.send(frame.one_way()).await.unwrap();
    }
    let reply = receiver.receive().await.unwrap().unwrap();
    assert!(reply.flags.has_more() && reply.correlation == 9);
}
