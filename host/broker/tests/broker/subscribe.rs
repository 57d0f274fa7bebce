//! Subscriptions: what is there and what comes is sent, as far as there is credit, as a pull would have brought it;
//! and they end, or go on, as the next pull would have.

use std::path::Path;

use quern_broker::Config;
use quern_plugins::{HOSTILE, Runtime};
use quern_protocol::record::records;
use quern_protocol::{
    Code, DeleteTopic, Filter, FilterFailure, GroupName, GroupSetting, LeaseQueues, Permission,
    PullReply, QueueId, QueueOffset, RecordView, Send, SetGroup, SetTopic, Subscribe, TopicSetting,
};
use quern_quic::{CallError, Connection, Lane, Subscription};
use quern_store::sim::SimFs;
use tokio::time::timeout;

use crate::{WITHIN, ask, config, connect, create, fill, send_one, topic};

async fn broker(dir: &Path) -> Connection {
    let plugins = Runtime::new(&quern_plugins::Config::default()).unwrap();
    let config = Config {
        filters: vec![plugins.load("hostile", HOSTILE).unwrap()],
        ..config()
    };
    connect(dir, config, &plugins, &SimFs::default()).await
}

fn group() -> GroupName {
    GroupName::new("g").unwrap()
}

fn all(from: u64, messages: u32) -> Subscribe {
    Subscribe {
        group: None,
        topic: topic(),
        queue: QueueId(0),
        epoch: None,
        from: QueueOffset(from),
        filter: Filter::All,
        messages,
        bytes: 1 << 20,
    }
}

type Told = Result<(PullReply, Vec<String>), CallError>;

async fn next(subscription: &mut Subscription) -> Option<Told> {
    let next = timeout(WITHIN, subscription.next()).await;
    next.expect("something is told").map(|next| {
        let (reply, body) = next?;
        let tags = records(&body).map(|record| {
            let record = record.unwrap();
            let view = RecordView::parse(&record).unwrap();
            view.block.tag().to_owned()
        });
        Ok((reply, tags.collect()))
    })
}

async fn delivery(subscription: &mut Subscription) -> (PullReply, Vec<String>) {
    next(subscription).await.expect("it goes on").unwrap()
}

/// How it ends.
async fn code(subscription: &mut Subscription) -> Code {
    match next(subscription).await.expect("it says why").unwrap_err() {
        CallError::Remote(error) => *Code::find(error.code).unwrap(),
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_there_and_what_comes_is_sent_as_far_as_there_is_credit() {
    let dir = tempfile::tempdir().unwrap();
    let connection = broker(dir.path()).await;
    let lane = Lane::open(&connection).await.unwrap();
    fill(&connection, &["a", "b", "c", "d"]).await;
    let mut all = lane.subscribe(&all(1, 2)).await.unwrap();
    let (reply, tags) = delivery(&mut all).await;
    assert_eq!(
        (&tags[..], reply.next),
        (&["b".to_owned(), "c".to_owned()][..], QueueOffset(3))
    );
    assert_eq!(
        (reply.min, reply.max, reply.moved),
        (QueueOffset(0), QueueOffset(4), false)
    );
    // There is one more, and no credit; then there is, for more than there are.
    all.grant(2, 0).await;
    assert_eq!(delivery(&mut all).await.1, ["d"]);
    for offset in 4..7 {
        send_one(&connection, Send::new(topic(), QueueId(0), 1))
            .await
            .unwrap();
        if offset == 5 {
            all.grant(2, 0).await;
        }
        let (reply, tags) = delivery(&mut all).await;
        assert_eq!((tags.len(), reply.next), (1, QueueOffset(offset + 1)));
    }
    // Bytes are spent as well: the first message goes over, and the second waits.
    let mut few = lane
        .subscribe(&Subscribe {
            bytes: 1,
            ..self::all(0, 100)
        })
        .await
        .unwrap();
    assert_eq!(delivery(&mut few).await.1, ["a"]);
    few.grant(0, 1_000_000).await;
    assert_eq!(delivery(&mut few).await.0.next, QueueOffset(7));
    // Beyond the end, it is told where that is, and goes on there.
    let mut beyond = lane.subscribe(&self::all(1_000, 10)).await.unwrap();
    let (reply, _) = delivery(&mut beyond).await;
    assert_eq!((reply.next, reply.moved), (QueueOffset(7), true));
    send_one(&connection, Send::new(topic(), QueueId(0), 1))
        .await
        .unwrap();
    assert_eq!(delivery(&mut beyond).await.0.next, QueueOffset(8));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_lasts_as_long_as_its_lease() {
    let dir = tempfile::tempdir().unwrap();
    let connection = broker(dir.path()).await;
    let lane = Lane::open(&connection).await.unwrap();
    create(&connection, 1).await;
    let lease = |member: &str, release| LeaseQueues {
        group: group(),
        topic: topic(),
        member: member.to_owned(),
        queues: vec![QueueId(0)],
        release,
        wait_ms: 0,
    };
    let first = ask(&connection, &lease("a", Vec::new())).await.leased[0].lease;
    let by = |epoch| Subscribe {
        group: Some(group()),
        epoch: Some(epoch),
        ..all(0, 10)
    };
    let mut wrong = lane.subscribe(&by(first.epoch + 1)).await.unwrap();
    assert_eq!(code(&mut wrong).await, Code::FENCED);
    let mut owner = lane.subscribe(&by(first.epoch)).await.unwrap();
    send_one(&connection, Send::new(topic(), QueueId(0), 1))
        .await
        .unwrap();
    assert_eq!(delivery(&mut owner).await.1, ["a"]);
    // Given back, it ends by itself, without a message; so it does when somebody else has the queue.
    let back = LeaseQueues {
        queues: Vec::new(),
        ..lease("a", vec![first])
    };
    ask(&connection, &back).await;
    assert_eq!(code(&mut owner).await, Code::FENCED);
    assert!(next(&mut owner).await.is_none());
    let second = ask(&connection, &lease("b", Vec::new())).await.leased[0].lease;
    let mut late = lane.subscribe(&by(first.epoch)).await.unwrap();
    assert_eq!(code(&mut late).await, Code::FENCED);
    let mut owner = lane.subscribe(&by(second.epoch)).await.unwrap();
    assert_eq!(delivery(&mut owner).await.1, ["a"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_decides_each_look_and_a_stall_is_told_and_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let connection = broker(dir.path()).await;
    let lane = Lane::open(&connection).await.unwrap();
    fill(&connection, &["a", "poison", "b"]).await;
    let filtered = |text: &str| Subscribe {
        group: Some(group()),
        filter: Filter::Expression {
            language: "HOSTILE".to_owned(),
            text: text.to_owned(),
        },
        ..all(0, 10)
    };
    let mut stalled = lane.subscribe(&filtered("poison")).await.unwrap();
    let (reply, tags) = delivery(&mut stalled).await;
    assert_eq!(
        (&tags[..], reply.next),
        (&["a".to_owned()][..], QueueOffset(1))
    );
    let (again, _) = delivery(&mut stalled).await;
    for reply in [reply, again] {
        let stall = reply.stall.unwrap();
        assert_eq!(
            (stall.offset, stall.code),
            (QueueOffset(1), Code::PLUGIN_TRAP.number)
        );
    }
    // The group wants it otherwise from now on: the next try hears of it.
    let settings = vec![GroupSetting::OnFilterFailure(FilterFailure::Pass)];
    let set = SetGroup {
        group: group(),
        settings,
    };
    ask(&connection, &set).await;
    let rest = loop {
        let (reply, tags) = delivery(&mut stalled).await;
        if reply.stall.is_none() {
            break tags;
        }
    };
    assert_eq!(rest, ["poison", "b"]);
    // What a filter leaves out is told of too, so that it can be committed.
    let tag = Subscribe {
        filter: Filter::tag("nobody"),
        ..all(0, 10)
    };
    let mut none = lane.subscribe(&tag).await.unwrap();
    let (reply, tags) = delivery(&mut none).await;
    assert_eq!((tags.len(), reply.next), (0, QueueOffset(3)));
}

fn permit(permission: Permission) -> SetTopic {
    SetTopic {
        topic: topic(),
        settings: vec![TopicSetting::Permission(permission)],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_or_ends_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let connection = broker(dir.path()).await;
    let lane = Lane::open(&connection).await.unwrap();
    create(&connection, 1).await;
    let text = "x".repeat(5_000);
    for (bad, expected) in [
        (
            Subscribe {
                queue: QueueId(7),
                ..all(0, 1)
            },
            Code::NOT_FOUND,
        ),
        (
            Subscribe {
                epoch: Some(1),
                ..all(0, 1)
            },
            Code::BAD_REQUEST,
        ),
        (
            Subscribe {
                filter: Filter::tag(text),
                ..all(0, 1)
            },
            Code::BAD_REQUEST,
        ),
        (
            Subscribe {
                filter: Filter::sql("a = "),
                ..all(0, 1)
            },
            Code::EXPRESSION_REFUSED,
        ),
    ] {
        let mut refused = lane.subscribe(&bad).await.unwrap();
        assert_eq!(code(&mut refused).await, expected, "{bad:?}");
        assert!(next(&mut refused).await.is_none());
    }
    // A group that is closed, a topic that is, and one that is gone.
    let of_group = Subscribe {
        group: Some(group()),
        ..all(0, 10)
    };
    let mut closed = lane.subscribe(&of_group).await.unwrap();
    let set = SetGroup {
        group: group(),
        settings: vec![GroupSetting::Consume(false)],
    };
    ask(&connection, &set).await;
    assert_eq!(code(&mut closed).await, Code::GROUP_CLOSED);
    let mut unread = lane.subscribe(&all(0, 10)).await.unwrap();
    ask(&connection, &permit(Permission::Write)).await;
    send_one(&connection, Send::new(topic(), QueueId(0), 1))
        .await
        .unwrap();
    assert_eq!(code(&mut unread).await, Code::TOPIC_CLOSED);
    ask(&connection, &permit(Permission::ReadWrite)).await;
    let mut gone = lane.subscribe(&all(1, 10)).await.unwrap();
    let delete = DeleteTopic {
        topic: topic(),
        grace_ms: 0,
    };
    ask(&connection, &delete).await;
    assert_eq!(code(&mut gone).await, Code::NOT_FOUND);
}
