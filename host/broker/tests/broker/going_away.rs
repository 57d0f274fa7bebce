//! Whoever asks for a change and goes away before it is durable: all that belongs to it is done all the same.

use std::time::Duration;

use quern_plugins::Runtime;
use quern_protocol::{
    DeleteTopic, GroupName, Later, QueueId, QueueOffset, Reconsume, ResendDeadLetters, Send,
    WaitFigures,
};
use quern_store::sim::SimFs;

use crate::{WITHIN, ask, ask_and_leave, config, connect, create, fill, send_one, topic};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_in_a_topic_goes_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let plugins = Runtime::new(&quern_plugins::Config::default()).unwrap();
    let fs = SimFs::default();
    let connection = connect(dir.path(), config(), &plugins, &fs).await;
    create(&connection, 1).await;
    let later = Send {
        later: Some(Later::In(3_600_000)),
        ..Send::new(topic(), QueueId(0), 1)
    };
    send_one(&connection, later).await.unwrap();
    let waiting = async || ask(&connection, &WaitFigures {}).await.delays.waiting;
    assert_eq!(waiting().await, 1);
    let delete = DeleteTopic {
        topic: topic(),
        grace_ms: 0,
    };
    ask_and_leave(dir.path(), (&connection, &fs), delete).await;
    let is_gone = async {
        while waiting().await > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let is_gone = tokio::time::timeout(WITHIN, is_gone).await;
    is_gone.expect("nothing waits for a topic that is gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_sent_back_once() {
    let dir = tempfile::tempdir().unwrap();
    let plugins = Runtime::new(&quern_plugins::Config::default()).unwrap();
    let fs = SimFs::default();
    let connection = connect(dir.path(), config(), &plugins, &fs).await;
    fill(&connection, &["a", "b"]).await;
    for offset in 0..2 {
        let dead = Reconsume {
            group: GroupName::new("g").unwrap(),
            topic: topic(),
            queue: QueueId(0),
            offset: QueueOffset(offset),
            delay_ms: 0,
            reason: "it is of no use".to_owned(),
            dead_after: Some(1),
            giving: None,
        };
        ask(&connection, &dead).await;
    }
    let resend = ResendDeadLetters {
        group: GroupName::new("g").unwrap(),
        messages: 10,
    };
    ask_and_leave(dir.path(), (&connection, &fs), resend.clone()).await;
    let again = ask(&connection, &resend).await;
    assert_eq!((again.resent, again.left), (0, 0));
}
