//! Groups: queues are shared out among the members there are, each has one owner at a time, and what is
//! committed without a right to it is refused.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use quern_broker::Config;
use quern_plugins::{HOSTILE_STRATEGY, Runtime};
use quern_protocol::operation::Operation;
use quern_protocol::{
    Code, CommitOffsets, DeleteGroup, DescribeGroup, Filter, GroupName, JoinGroup, JoinGroupReply,
    Lease, LeaseQueues, LeaseQueuesReply, LeaveGroup, QueueId, QueueOffset, QueuePosition,
    ReadQueues, Reconsume, Selector, Send, Subscription,
};
use quern_quic::{Connection, Lane};
use quern_store::sim::SimFs;

use crate::{WITHIN, ask, config, connect, create, fill, send_one, topic};

const QUEUES: u32 = 8;

async fn broker(dir: &Path, fs: &SimFs) -> Connection {
    let plugins = Runtime::new(&quern_plugins::Config::default()).unwrap();
    let hostile = plugins.load("hostile-strategy", HOSTILE_STRATEGY).unwrap();
    let config = Config {
        filters: vec![hostile],
        ..config()
    };
    connect(dir, config, &plugins, fs).await
}

fn group() -> GroupName {
    GroupName::new("g").unwrap()
}

fn joining(member: &str, generation: u64, strategy: Option<&str>) -> JoinGroup {
    JoinGroup {
        group: group(),
        member: member.to_owned(),
        zone: String::new(),
        weight: 1,
        strategy: strategy.map(Selector::named),
        subscriptions: vec![Subscription {
            topic: topic(),
            filter: Filter::All,
            route: vec![ReadQueues {
                broker: config().name,
                queues: QUEUES,
            }],
        }],
        generation,
        wait_ms: 0,
        again: None,
    }
}

/// Queues of a member's share.
fn share(reply: &JoinGroupReply) -> Vec<u32> {
    let queues = reply.shares.iter().flat_map(|it| &it.queues);
    queues.map(|it| it.0).collect()
}

fn leasing(member: &str, queues: &[u32], release: Vec<Lease>, wait_ms: u32) -> LeaseQueues {
    LeaseQueues {
        group: group(),
        topic: topic(),
        member: member.to_owned(),
        queues: queues.iter().map(|it| QueueId(*it)).collect(),
        release,
        wait_ms,
    }
}

fn leases(reply: &LeaseQueuesReply) -> Vec<Lease> {
    reply.leased.iter().map(|it| it.lease).collect()
}

fn commit(queue: u32, offset: u64, leases: Vec<Lease>) -> CommitOffsets {
    CommitOffsets {
        group: group(),
        topic: topic(),
        offsets: vec![QueuePosition {
            queue: QueueId(queue),
            offset: QueueOffset(offset),
        }],
        leases,
    }
}

/// Why a request is refused.
async fn refused<O: Operation + Sync>(connection: &Connection, request: &O) -> Code {
    match connection.call(request, Vec::new(), WITHIN).await {
        Ok(_) => panic!("it was not refused"),
        Err(error) => error.code(),
    }
}

/// Waits until every member hears the same, newest generation.
async fn settle(connection: &Connection, members: &[&str]) -> BTreeMap<String, Vec<u32>> {
    loop {
        let mut heard = BTreeMap::new();
        let mut generations = Vec::new();
        for member in members {
            let reply = ask(connection, &joining(member, 0, None)).await;
            generations.push((reply.generation, reply.members as usize));
            heard.insert((*member).to_owned(), share(&reply));
        }
        let newest = (generations[0].0, members.len());
        if generations.iter().all(|it| *it == newest) {
            return heard;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_are_shared_out_among_those_who_are_there() {
    let dir = tempfile::tempdir().unwrap();
    let connection = broker(dir.path(), &SimFs::default()).await;
    create(&connection, QUEUES).await;
    let alone = ask(&connection, &joining("a", 0, None)).await;
    assert_eq!(share(&alone), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(alone.strategy, "averagely 0.1.0");
    // Another member's coming rings the one who waits.
    let waiting = JoinGroup {
        wait_ms: 5_000,
        ..joining("a", alone.generation, None)
    };
    let b = joining("b", 0, None);
    let (rung, _) = tokio::join!(ask(&connection, &waiting), ask(&connection, &b));
    assert!(rung.generation > alone.generation);
    assert_eq!(share(&rung), [0, 1, 2, 3]);
    let three = settle(&connection, &["a", "b", "c"]).await;
    let mut all: Vec<u32> = three.values().flatten().copied().collect();
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3, 4, 5, 6, 7], "{three:?}");
    assert!(three.values().all(|it| (2..=3).contains(&it.len())));
    let leave = LeaveGroup {
        group: group(),
        member: "b".to_owned(),
    };
    ask(&connection, &leave).await;
    let two = settle(&connection, &["a", "c"]).await;
    assert_eq!(two["a"], [0, 1, 2, 3]);
    assert_eq!(two["c"], [4, 5, 6, 7]);
    // Who wants something else is told whom it differs from.
    let other = JoinGroup {
        subscriptions: vec![Subscription {
            filter: Filter::tag("x"),
            ..joining("d", 0, None).subscriptions.remove(0)
        }],
        ..joining("d", 0, None)
    };
    let differs = refused(&connection, &other).await;
    assert_eq!(differs, Code::SUBSCRIPTIONS_DIFFER);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strategy_that_fails_leaves_nobody_without_queues() {
    let dir = tempfile::tempdir().unwrap();
    let connection = broker(dir.path(), &SimFs::default()).await;
    create(&connection, QUEUES).await;
    assert_eq!(
        refused(&connection, &joining("a", 0, Some("nobody"))).await,
        Code::STRATEGY_UNKNOWN
    );
    ask(
        &connection,
        &LeaveGroup {
            group: group(),
            member: "a".to_owned(),
        },
    )
    .await;
    for mode in ["trap", "loop", "beyond", "short", "fail"] {
        let hostile = Selector::named("hostile-strategy").param("mode", mode);
        let join = JoinGroup {
            group: GroupName::new(mode).unwrap(),
            strategy: Some(hostile),
            ..joining("a", 0, None)
        };
        let reply = ask(&connection, &join).await;
        assert_eq!(share(&reply).len(), 8, "{mode}");
        assert!(
            reply.strategy.starts_with("averagely 0.1.0, for"),
            "{mode}: {}",
            reply.strategy
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_has_one_owner_and_only_its_owner_commits() {
    let dir = tempfile::tempdir().unwrap();
    let fs = SimFs::default();
    let connection = broker(dir.path(), &fs).await;
    create(&connection, QUEUES).await;
    for _ in 0..4 {
        send_one(&connection, Send::new(topic(), QueueId(0), 1))
            .await
            .unwrap();
    }
    let a = leases(&ask(&connection, &leasing("a", &[0, 1], Vec::new(), 0)).await);
    assert_eq!(a.len(), 2);
    let b = ask(&connection, &leasing("b", &[1, 2], Vec::new(), 0)).await;
    assert_eq!((b.leased.len(), b.taken.len()), (1, 1));
    assert_eq!(b.taken[0].member, "a");
    // Asked again, the same leases; given back, the next in line has it at once, by a newer epoch.
    assert_eq!(
        leases(&ask(&connection, &leasing("a", &[0, 1], Vec::new(), 0)).await),
        a
    );
    let waiting = leasing("b", &[1, 2], Vec::new(), 5_000);
    let giving = leasing("a", &[0], vec![a[1]], 0);
    let (waited, _) = tokio::join!(ask(&connection, &waiting), ask(&connection, &giving));
    assert_eq!(waited.leased.len(), 2);
    assert!(waited.taken.is_empty());
    let b = leases(&waited);
    assert!(b[0].epoch > a[1].epoch);
    // What was a's is not a's to commit, nor to give back, any more.
    assert_eq!(
        refused(&connection, &commit(1, 0, vec![a[1]])).await,
        Code::FENCED
    );
    ask(&connection, &leasing("a", &[0], vec![a[1]], 0)).await;
    assert_eq!(
        leases(&ask(&connection, &leasing("b", &[1, 2], Vec::new(), 0)).await),
        b
    );
    ask(&connection, &commit(0, 2, vec![a[0]])).await;
    // Somebody else moves the group: the owner's lease is over, and its next one begins there.
    ask(&connection, &commit(0, 1, Vec::new())).await;
    assert_eq!(
        refused(&connection, &commit(0, 4, vec![a[0]])).await,
        Code::FENCED
    );
    let again = ask(&connection, &leasing("a", &[0], Vec::new(), 0)).await;
    assert_eq!(again.leased[0].committed, Some(QueueOffset(1)));
    assert!(again.leased[0].lease.epoch > a[0].epoch);

    let described = ask(&connection, &DescribeGroup { group: group() }).await;
    let owner = |queue: usize| described.queues[queue].owner.as_deref();
    assert_eq!((owner(0), owner(1), owner(3)), (Some("a"), Some("b"), None));
    assert_eq!(described.queues[0].committed, Some(QueueOffset(1)));
    assert!(described.queues[0].behind_ms.is_some());
    assert_eq!(
        refused(&connection, &DeleteGroup { group: group() }).await,
        Code::GROUP_IN_USE
    );
    for (member, release) in [("a", leases(&again)), ("b", b)] {
        ask(&connection, &leasing(member, &[], release, 0)).await;
    }
    assert_eq!(
        ask(&connection, &DeleteGroup { group: group() })
            .await
            .queues,
        1
    );
    assert_eq!(
        refused(&connection, &DescribeGroup { group: group() }).await,
        Code::NOT_FOUND
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn illegal_requests_of_members_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let connection = broker(dir.path(), &SimFs::default()).await;
    create(&connection, 1).await;
    let join = || joining("a", 0, None);
    let route = |queues| ReadQueues {
        broker: config().name,
        queues,
    };
    for bad in [
        joining("", 0, None),
        joining("a\nb", 0, None),
        joining(&"x".repeat(200), 0, None),
        JoinGroup {
            zone: "z".repeat(200),
            ..join()
        },
        JoinGroup {
            subscriptions: vec![Subscription {
                topic: topic(),
                filter: Filter::All,
                route: vec![route(u32::MAX), route(u32::MAX)],
            }],
            ..join()
        },
    ] {
        let refused = refused(&connection, &bad).await;
        assert_eq!(refused, Code::BAD_REQUEST, "{bad:?}");
    }
    let many: Vec<u32> = (0..2_000).collect();
    let bad = leasing("a", &many, Vec::new(), 0);
    assert_eq!(refused(&connection, &bad).await, Code::BAD_REQUEST);
    // A queue that is not there is neither given nor taken.
    let none = ask(&connection, &leasing("a", &[7], Vec::new(), 0)).await;
    assert!(none.leased.is_empty() && none.taken.is_empty());
    assert_eq!(
        Duration::from_millis(none.lease_ms.into()),
        Duration::from_secs(10)
    );
    assert_eq!(
        refused(&connection, &commit(0, 9, Vec::new())).await,
        Code::BAD_REQUEST
    );
}

/// A request to join that is held for as long as nothing changes.
fn holding(member: &str, generation: u64) -> JoinGroup {
    JoinGroup {
        wait_ms: 60_000,
        ..joining(member, generation, None)
    }
}

fn held(
    connection: &Connection,
    member: &str,
    generation: u64,
) -> tokio::task::JoinHandle<Result<JoinGroupReply, Code>> {
    let connection = connection.clone();
    let request = holding(member, generation);
    tokio::spawn(async move {
        let within = Duration::from_secs(50);
        let answer = connection.call(&request, Vec::new(), within).await;
        answer.map(|it| it.0).map_err(|error| error.code())
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_held_for_long_is_heard_by_its_leases_or_hears_that_it_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let connection = broker(dir.path(), &SimFs::default()).await;
    create(&connection, QUEUES).await;
    settle(&connection, &["a", "b"]).await;
    let generation = ask(&connection, &joining("a", 0, None)).await.generation;
    let (a, b) = (
        held(&connection, "a", generation),
        held(&connection, "b", generation),
    );
    // While somebody else has the queue, who asks for it waits.
    ask(&connection, &leasing("c", &[0], Vec::new(), 0)).await;
    let asks = async {
        loop {
            ask(&connection, &leasing("a", &[0], Vec::new(), 2_000)).await;
        }
    };
    let (a, b) = tokio::select! {
        () = asks => unreachable!(),
        answers = async { (a.await.unwrap(), b.await.unwrap()) } => answers,
    };
    assert_eq!(b.unwrap_err(), Code::UNKNOWN_MEMBER);
    let a = a.unwrap();
    assert_eq!((a.members, share(&a).len()), (1, QUEUES as usize));
    assert!(a.generation > generation);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_held_hears_when_the_group_gives_back_its_first_message() {
    let dir = tempfile::tempdir().unwrap();
    let connection = broker(dir.path(), &SimFs::default()).await;
    create(&connection, QUEUES).await;
    let send = Send::new(topic(), QueueId(0), 1);
    send_one(&connection, send).await.unwrap();
    settle(&connection, &["a"]).await;
    let generation = ask(&connection, &joining("a", 0, None)).await.generation;
    // On one stream, so that they are begun in this order.
    let lane = Lane::open(&connection).await.unwrap();
    let a = lane.call(&holding("a", generation), Vec::new(), WITHIN);
    let back = Reconsume {
        group: group(),
        topic: topic(),
        queue: QueueId(0),
        offset: QueueOffset(0),
        delay_ms: 0,
        reason: "not today".to_owned(),
        dead_after: None,
        giving: None,
    };
    lane.call(&back, Vec::new(), WITHIN).await.unwrap();
    let (a, _) = a.await.unwrap();
    assert_eq!(a.generation, generation, "it looks for itself");
}

/// A group's first message that was given back makes a topic its members have to look for: also the one whose request
/// came a moment later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_asks_after_there_is_news_hears_it_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let connection = broker(dir.path(), &SimFs::default()).await;
    fill(&connection, &["a"]).await;
    let joined = ask(&connection, &joining("a", 0, None)).await;
    let waits = JoinGroup {
        wait_ms: 30_000,
        ..joining("a", joined.generation, None)
    };
    let back = Reconsume {
        group: group(),
        topic: topic(),
        queue: QueueId(0),
        offset: QueueOffset(0),
        delay_ms: 1,
        reason: String::new(),
        dead_after: None,
        giving: None,
    };
    ask(&connection, &back).await;
    let heard = ask(&connection, &waits).await;
    assert_eq!(heard.generation, joined.generation);
    // It is told once.
    let soon = JoinGroup {
        wait_ms: 50,
        ..waits.clone()
    };
    let asked = std::time::Instant::now();
    ask(&connection, &soon).await;
    assert!(asked.elapsed() >= Duration::from_millis(50));
}
