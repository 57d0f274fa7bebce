//! Messages that are given back: they come again so often as the group says, then they are dead letters;
//! a broker that starts again knows of all of them, and nobody else writes to these topics.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use quern_plugins::Runtime;
use quern_protocol::record::records;
use quern_protocol::retry::{
    ORIGIN_OFFSET, ORIGIN_QUEUE, ORIGIN_TOPIC, REASON, dead_letter_topic, retry_topic,
};
use quern_protocol::{
    Code, CreateTopic, Filter, GivingBack, GroupName, GroupSetting, OffsetRange, Pull, QueueId,
    QueueOffset, Reconsume, RecordView, ResendDeadLetters, Send, SetGroup, TopicName,
};
use quern_quic::Connection;
use quern_store::sim::SimFs;

use crate::{WITHIN, ask, config, connect, create, fill, send_one, topic};

async fn broker(dir: &Path, fs: &SimFs) -> Connection {
    let plugins = Runtime::new(&quern_plugins::Config::default()).unwrap();
    connect(dir, config(), &plugins, fs).await
}

fn group() -> GroupName {
    GroupName::new("g").unwrap()
}

fn back(topic: &TopicName, offset: u64, reason: &str) -> Reconsume {
    Reconsume {
        group: group(),
        topic: topic.clone(),
        queue: QueueId(0),
        offset: QueueOffset(offset),
        delay_ms: 0,
        reason: reason.to_owned(),
        dead_after: None,
        giving: None,
    }
}

async fn set(connection: &Connection, retries: u16, delay: u32) {
    let settings = vec![
        GroupSetting::Retries(retries),
        GroupSetting::RetryDelays(vec![delay]),
    ];
    let request = SetGroup {
        group: group(),
        settings: settings.clone(),
    };
    let holds = ask(connection, &request).await.settings;
    assert!(holds.starts_with(&settings), "{holds:?}");
}

/// A message of queue 0: tag, attempts, notes.
type Seen = (String, u16, BTreeMap<String, String>);

/// What there is from an offset on; waits for it.
async fn read(connection: &Connection, topic: &TopicName, from: u64) -> Vec<Seen> {
    let pull = Pull {
        broadcast: false,
        group: None,
        topic: topic.clone(),
        queue: QueueId(0),
        from: QueueOffset(from),
        max_messages: 100,
        max_bytes: 1 << 20,
        wait_ms: 5_000,
        filter: Filter::All,
    };
    let (_, body): (_, Bytes) = connection.call(&pull, Vec::new(), WITHIN).await.unwrap();
    let seen = records(&body).map(|record| {
        let record = record.unwrap();
        let view = RecordView::parse(&record).unwrap();
        let notes = view.notes.iter();
        let notes = notes.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let tag = view.block.tag().to_owned();
        (tag, view.header.attempts, notes.collect())
    });
    seen.collect()
}

async fn end(connection: &Connection, topic: &TopicName) -> u64 {
    let range = OffsetRange {
        topic: topic.clone(),
        queue: QueueId(0),
    };
    ask(connection, &range).await.max.0
}

/// The reference: a message that fails so often is delivered once more than it fails, or as often as the
/// group allows, and is dead only then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_is_retried_as_often_as_it_fails_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let connection = broker(dir.path(), &SimFs::default()).await;
    let (retry, dead) = (
        retry_topic(&group()).unwrap(),
        dead_letter_topic(&group()).unwrap(),
    );
    let retries = 3;
    set(&connection, retries, 1).await;
    // The tag of each message says how often it fails.
    let fails: Vec<u16> = (0..40u16).map(|n| n * 7 % 6).collect();
    let tags: Vec<String> = fails.iter().map(u16::to_string).collect();
    fill(
        &connection,
        &tags.iter().map(|it| &it[..]).collect::<Vec<_>>(),
    )
    .await;
    let mut deliveries = 0;
    let mut consume = async |from: &TopicName, offset: u64, (tag, attempts, _): &Seen| {
        deliveries += 1;
        if tag.parse::<u16>().unwrap() > *attempts {
            let reply = ask(&connection, &back(from, offset, &format!("try {attempts}"))).await;
            assert_eq!(reply.attempts, attempts + 1);
            assert_eq!(
                reply.topic,
                if reply.due_at == 0 {
                    dead.clone()
                } else {
                    retry.clone()
                }
            );
        }
    };
    let first = read(&connection, &topic(), 0).await;
    for (offset, message) in first.iter().enumerate() {
        consume(&topic(), offset as u64, message).await;
    }
    let expected: u64 = fails.iter().map(|it| u64::from(*it.min(&retries))).sum();
    let mut offset = 0;
    while offset < expected {
        for message in read(&connection, &retry, offset).await {
            consume(&retry, offset, &message).await;
            offset += 1;
        }
    }
    assert_eq!(end(&connection, &retry).await, expected, "and no more");
    assert_eq!(deliveries, expected + fails.len() as u64);
    let letters = read(&connection, &dead, 0).await;
    let dead_ones = fails.iter().filter(|it| **it > retries).count();
    assert_eq!(letters.len(), dead_ones);
    for (tag, attempts, notes) in &letters {
        assert_eq!(*attempts, retries + 1);
        assert_eq!(notes[ORIGIN_TOPIC], "t");
        assert_eq!(notes[ORIGIN_QUEUE], "0");
        let offset: usize = notes[ORIGIN_OFFSET].parse().unwrap();
        assert_eq!(tags[offset], *tag, "where it comes from is not forgotten");
        assert_eq!(notes[REASON], "try 3", "the last of them");
    }
    // Back to where they come from, some and then the rest, each once.
    let resend = |messages| ResendDeadLetters {
        group: group(),
        messages,
    };
    let some = ask(&connection, &resend(2)).await;
    assert_eq!((some.resent, some.left), (2, dead_ones as u64 - 2));
    ask(&connection, &resend(1_000)).await;
    assert_eq!(ask(&connection, &resend(1_000)).await.resent, 0);
    let again = read(&connection, &topic(), fails.len() as u64).await;
    assert_eq!(again.len(), dead_ones);
    let begins_anew = |(_, attempts, notes): &Seen| *attempts == 0 && notes.is_empty();
    assert!(again.iter().all(begins_anew));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_starts_again_knows_what_waits_and_what_is_set() {
    let (dir, fs) = (tempfile::tempdir().unwrap(), SimFs::default());
    let connection = broker(dir.path(), &fs).await;
    set(&connection, 0, 300).await;
    fill(&connection, &["a", "b"]).await;
    let reply = ask(&connection, &back(&topic(), 0, "why")).await;
    assert_eq!(reply.due_at, 0, "no retries: dead at once");
    set(&connection, 1, 300).await;
    let reply = ask(&connection, &back(&topic(), 1, "why")).await;
    assert!(reply.due_at > 0);
    let retry = retry_topic(&group()).unwrap();
    assert_eq!(end(&connection, &retry).await, 0, "its time has not come");
    drop(connection);
    let connection = broker(dir.path(), &fs.crash(1)).await;
    let seen = read(&connection, &retry, 0).await;
    assert_eq!(seen.len(), 1);
    assert_eq!((&seen[0].0[..], seen[0].1), ("b", 1));
    let reply = ask(&connection, &back(&retry, 0, "again")).await;
    assert_eq!((reply.attempts, reply.due_at), (2, 0), "what was set holds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_given_back_again_for_want_of_an_answer_is_given_back_once() {
    let (dir, fs) = (tempfile::tempdir().unwrap(), SimFs::default());
    let connection = broker(dir.path(), &fs).await;
    set(&connection, 1, 100).await;
    create(&connection, 1).await;
    let send = Send::new(topic(), QueueId(0), 1);
    send_one(&connection, send).await.unwrap();
    let (retry, dead) = (
        retry_topic(&group()).unwrap(),
        dead_letter_topic(&group()).unwrap(),
    );
    let given = |from: &TopicName, id, is_again| Reconsume {
        giving: Some(GivingBack { id, is_again }),
        ..back(from, 0, "why")
    };
    let first = ask(&connection, &given(&topic(), 1, false)).await;
    assert_eq!(ask(&connection, &given(&topic(), 1, true)).await, first);
    assert_eq!(read(&connection, &retry, 0).await.len(), 1);
    // It is found when it waits no more, and by a broker that was not there then.
    assert_eq!(ask(&connection, &given(&topic(), 1, true)).await, first);
    drop(connection);
    let connection = broker(dir.path(), &fs.crash(1)).await;
    assert_eq!(ask(&connection, &given(&topic(), 1, true)).await, first);
    // Another time is another, and what was said first may be heard last.
    let again = ask(&connection, &given(&topic(), 2, true)).await;
    assert!(again.due_at > first.due_at);
    assert_eq!(ask(&connection, &given(&topic(), 2, false)).await, again);
    let second = read(&connection, &retry, 1).await;
    assert_eq!((second.len(), second[0].1), (1, 1));
    // A dead letter is one.
    let letter = ask(&connection, &given(&retry, 3, false)).await;
    assert_eq!((letter.attempts, letter.due_at), (2, 0));
    assert_eq!(ask(&connection, &given(&retry, 3, true)).await, letter);
    assert_eq!(end(&connection, &dead).await, 1);
    assert_eq!(end(&connection, &retry).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_makes_no_sense_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let connection = broker(dir.path(), &SimFs::default()).await;
    create(&connection, 1).await;
    let code = async |request: Reconsume| {
        let refused = connection.call(&request, Vec::new(), WITHIN).await;
        refused.unwrap_err().code()
    };
    let sane = || back(&topic(), 0, "");
    assert_eq!(code(sane()).await, Code::NOT_FOUND, "no such message");
    send_one(&connection, Send::new(topic(), QueueId(0), 1))
        .await
        .unwrap();
    let nobody = TopicName::new("nobody").unwrap();
    assert_eq!(code(back(&nobody, 0, "")).await, Code::NOT_FOUND);
    let queue = Reconsume {
        queue: QueueId(9),
        ..sane()
    };
    assert_eq!(code(queue).await, Code::NOT_FOUND);
    let late = Reconsume {
        delay_ms: u32::MAX,
        ..sane()
    };
    assert_eq!(code(late).await, Code::BAD_REQUEST);
    let long = Reconsume {
        group: GroupName::new("g".repeat(127)).unwrap(),
        ..sane()
    };
    assert_eq!(code(long).await, Code::BAD_NAME);
    for delays in [vec![], vec![0], vec![u32::MAX], vec![1; 65]] {
        let set = SetGroup {
            group: group(),
            settings: vec![GroupSetting::RetryDelays(delays)],
        };
        let refused = connection.call(&set, Vec::new(), WITHIN).await;
        assert_eq!(refused.unwrap_err().code(), Code::BAD_REQUEST);
    }
    // Words of any length and language are cut, not refused.
    ask(
        &connection,
        &back(&topic(), 0, &"warum nicht? ä".repeat(500)),
    )
    .await;
    for name in ["%RETRY%g", "%DLQ%g", "%RETRY%other"] {
        let name = TopicName::new(name).unwrap();
        let send = Send::new(name.clone(), QueueId(0), 1);
        let refused = send_one(&connection, send).await.unwrap_err();
        assert_eq!(refused.code(), Code::RESERVED_NAME);
        let create = CreateTopic::new(name, 1);
        let refused = connection.call(&create, Vec::new(), WITHIN).await;
        assert_eq!(refused.unwrap_err().code(), Code::RESERVED_NAME);
    }
}
