//! Consumers that lag, and a disk that does not answer: only who needs it waits.

use quern_broker::Config;
use quern_plugins::Runtime;
use quern_protocol::limits::PULL_BYTES;
use quern_protocol::{
    Filter, GroupName, Hello, Message, Pull, PullReply, QueueId, QueueOffset, Role, Send,
};
use quern_quic::{Connection, Connector, DevAuthority, Door};
use quern_store::sim::SimFs;

use crate::{WITHIN, ask, config, connect, create, topic};

/// More than there are threads of any kind.
const QUEUES: u32 = 24;

async fn send(connection: &Connection, queue: u32) {
    let message = Message::new("t", "body").tag("wanted");
    let blocks = vec![message.encode("id", 0).unwrap()];
    let send = Send::new(topic(), QueueId(queue), 1);
    connection.call(&send, blocks, WITHIN).await.unwrap();
}

async fn pull(connection: &Connection, queue: u32, from: u64) -> PullReply {
    let filter = if queue.is_multiple_of(2) {
        Filter::All
    } else {
        Filter::tag("wanted")
    };
    let pull = Pull {
        broadcast: false,
        group: Some(GroupName::new(format!("g{}", queue % 5)).unwrap()),
        topic: topic(),
        queue: QueueId(queue),
        from: QueueOffset(from),
        max_messages: 100,
        max_bytes: PULL_BYTES,
        wait_ms: 0,
        filter,
    };
    ask(connection, &pull).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lags_does_not_hold_up_who_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let plugins = Runtime::new(&quern_plugins::Config::default()).unwrap();
    let fs = SimFs::default();
    let connection = connect(dir.path(), config(), &plugins, &fs).await;
    create(&connection, QUEUES).await;
    for queue in 0..QUEUES {
        send(&connection, queue).await;
    }

    // In its next life a broker has what was sent before on the disk only.
    let fs = fs.crash(1);
    let one_thread = Config {
        delivery_threads: 1,
        ..config()
    };
    let connection = connect(dir.path(), one_thread, &plugins, &fs).await;
    // A connection has a bound on what is unanswered.
    let authority = DevAuthority::open_in(dir.path()).unwrap();
    let connector = Connector::new(authority.trust(), None, Door::Client).unwrap();
    let address = connection.remote_addr().to_string();
    let other = connector.connect(&address).await.unwrap();
    other.hello(&Hello::new(Role::Client)).await.unwrap();

    let held_up = fs.hold_reads();
    let lagging: Vec<_> = (0..QUEUES)
        .map(|queue| {
            let other = other.clone();
            tokio::spawn(async move { pull(&other, queue, 0).await })
        })
        .collect();
    let held_up = tokio::task::spawn_blocking(move || {
        held_up.wait_for(4);
        held_up
    });
    let held_up = held_up.await.unwrap();
    for queue in 0..2 {
        send(&connection, queue).await;
        let reply = pull(&connection, queue, 1).await;
        assert_eq!((reply.messages, reply.next), (1, QueueOffset(2)));
    }
    drop(held_up);
    for reply in lagging {
        let reply = reply.await.unwrap();
        assert!(reply.messages > 0 && reply.stall.is_none(), "{reply:?}");
    }
}
