//! Durability classes. What a sender is promised is kept or refused, never weakened in silence; a send
//! that waits too long for the disk hears that it is written and not more; and a batch that a producer
//! sends twice is stored once.

use std::path::Path;
use std::time::Duration;

use quern_broker::Config;
use quern_plugins::Runtime;
use quern_protocol::{
    Code, CreateTopic, Durability, Filter, Message, Placed, ProducerBatch, ProducerId, QueueId,
    Selector, Send, SendSelected, SendStatus, SetTopic, TopicSetting, TopicSettings,
};
use quern_quic::Connection;
use quern_store::sim::SimFs;

use crate::{WITHIN, ask, connect, create, pull, send_one, topic};

/// A broker that gives the disk no time at all, and the disk.
async fn broker(dir: &Path) -> (Connection, SimFs) {
    let fs = SimFs::default();
    let config = Config {
        flush_timeout: Duration::ZERO,
        ..crate::config()
    };
    (with_config(dir, config, &fs).await, fs)
}

/// A broker whose acknowledgements mean that the message is there for all to see.
async fn patient(dir: &Path) -> Connection {
    with_config(dir, crate::config(), &SimFs::default()).await
}

async fn with_config(dir: &Path, config: Config, fs: &SimFs) -> Connection {
    let plugins = Runtime::new(&quern_plugins::Config::default()).unwrap();
    connect(dir, config, &plugins, fs).await
}

fn with(durability: Option<Durability>) -> Send {
    Send {
        durability,
        ..Send::new(topic(), QueueId(0), 1)
    }
}

fn set(class: Option<Durability>) -> SetTopic {
    SetTopic {
        topic: topic(),
        settings: vec![TopicSetting::Durability(class)],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_disk_does_not_answer_each_class_hears_the_truth() {
    let dir = tempfile::tempdir().unwrap();
    let (connection, fs) = broker(dir.path()).await;
    create(&connection, 1).await;
    for (topics, asked, expected) in [
        (None, None, SendStatus::FlushDiskTimeout),
        (None, Some(Durability::Local), SendStatus::FlushDiskTimeout),
        (None, Some(Durability::Fast), SendStatus::Ok),
        (Some(Durability::Fast), None, SendStatus::Ok),
        (
            Some(Durability::Fast),
            Some(Durability::Local),
            SendStatus::FlushDiskTimeout,
        ),
    ] {
        // The setting is a record of the log, too: it has to be durable before it counts.
        ask(&connection, &set(topics)).await;
        let held = fs.hold_syncs();
        let sent = send_one(&connection, with(asked)).await.unwrap();
        drop(held);
        assert_eq!(sent.status, expected, "topic {topics:?}, send {asked:?}");
        assert_eq!(sent.status.is_durable(), expected == SendStatus::Ok);
    }
    // All are in the log, whatever they were told, once the disk has answered.
    ask(&connection, &set(None)).await;
    let (pulled, _) = pull(&connection, 0, Filter::All).await.unwrap();
    assert_eq!(pulled.messages, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chosen_queue_changes_nothing_about_it() {
    let dir = tempfile::tempdir().unwrap();
    let (connection, fs) = broker(dir.path()).await;
    create(&connection, 2).await;
    for (class, is_durable) in [(Durability::Local, false), (Durability::Fast, true)] {
        let request = SendSelected {
            durability: Some(class),
            ..SendSelected::new(topic(), 1, Selector::named("hash"))
        };
        let block = Message::new("t", "x").order_by("k").encode("id", 0);
        // What was sent before is durable when a change of the topic is.
        ask(&connection, &set(None)).await;
        let held = fs.hold_syncs();
        let sent = connection
            .call(&request, vec![block.unwrap()], WITHIN)
            .await;
        drop(held);
        match &sent.unwrap().0.placements[0].placed {
            Placed::Stored { .. } => assert!(is_durable, "{class}"),
            Placed::NotYetDurable { status, .. } => {
                assert_eq!(*status, SendStatus::FlushDiskTimeout);
                assert!(!is_durable, "{class}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_promised_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (connection, _fs) = broker(dir.path()).await;
    for class in [Durability::Replicated, Durability::Quorum] {
        let created = CreateTopic {
            settings: vec![TopicSetting::Durability(Some(class))],
            ..CreateTopic::new(topic(), 1)
        };
        let refused = connection.call(&created, Vec::new(), WITHIN).await;
        assert_eq!(refused.unwrap_err().code(), Code::DURABILITY_REFUSED);
    }
    create(&connection, 1).await;
    let before = ask(&connection, &TopicSettings { topic: topic() }).await;
    for class in [Durability::Replicated, Durability::Quorum] {
        let refused = send_one(&connection, with(Some(class))).await.unwrap_err();
        assert_eq!(refused.code(), Code::DURABILITY_REFUSED, "{refused}");
        let refused = connection.call(&set(Some(class)), Vec::new(), WITHIN).await;
        assert_eq!(refused.unwrap_err().code(), Code::DURABILITY_REFUSED);
    }
    // All settings of a request or none: the first one is legal.
    for bad in [
        TopicSetting::WriteQueues(0),
        TopicSetting::ReadQueues(1_025),
    ] {
        let both = SetTopic {
            topic: topic(),
            settings: vec![TopicSetting::Durability(Some(Durability::Fast)), bad],
        };
        let refused = connection.call(&both, Vec::new(), WITHIN).await;
        assert_eq!(refused.unwrap_err().code(), Code::BAD_REQUEST);
    }
    let after = ask(&connection, &TopicSettings { topic: topic() }).await;
    assert_eq!(after, before);
    let (pulled, _) = pull(&connection, 0, Filter::All).await.unwrap();
    assert_eq!(pulled.messages, 0, "nothing that was refused is stored");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_are_added_and_taken_away_while_the_topic_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let (connection, _fs) = broker(dir.path()).await;
    create(&connection, 1).await;
    let to_queue_1 = || Send::new(topic(), QueueId(1), 1);
    let refused = send_one(&connection, to_queue_1()).await.unwrap_err();
    assert_eq!(refused.code(), Code::NOT_FOUND);
    let set = |queues| SetTopic {
        topic: topic(),
        settings: vec![
            TopicSetting::ReadQueues(2),
            TopicSetting::WriteQueues(queues),
        ],
    };
    ask(&connection, &set(2)).await;
    send_one(&connection, to_queue_1()).await.unwrap();
    ask(&connection, &set(1)).await;
    let refused = send_one(&connection, to_queue_1()).await.unwrap_err();
    assert_eq!(refused.code(), Code::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_sent_twice_is_stored_once() {
    let dir = tempfile::tempdir().unwrap();
    let connection = patient(dir.path()).await;
    create(&connection, 1).await;
    let batch = |sequence| Send {
        batch: Some(ProducerBatch {
            producer: ProducerId(7),
            epoch: 0,
            sequence,
        }),
        ..Send::new(topic(), QueueId(0), 1)
    };
    let first = send_one(&connection, batch(0)).await.unwrap();
    let again = send_one(&connection, batch(0)).await.unwrap();
    assert_eq!((first.first, first.position), (again.first, again.position));
    let early = send_one(&connection, batch(2)).await.unwrap_err();
    assert_eq!(early.code(), Code::OUT_OF_SEQUENCE, "{early}");
    send_one(&connection, batch(1)).await.unwrap();
    let (pulled, _) = pull(&connection, 0, Filter::All).await.unwrap();
    assert_eq!(pulled.max.0, 2);
}
