//! A broker as its peers see it: requests over a real connection, on a simulated disk.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod bad_input;
mod bindings;
mod cold;
mod compression;
mod durability;
mod failures;
mod going_away;
mod groups;
mod lost_pops;
mod plugins;
mod remembered;
mod retry;
mod simulation;
mod subscribe;
mod topic_retention;
mod topics;
mod waiting;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quern_broker::{Broker, Config};
use quern_plugins::Runtime;
use quern_protocol::operation::Operation;
use quern_protocol::record::records;
use quern_protocol::{
    BrokerName, CreateTopic, Filter, Hello, Message, Pull, PullReply, QueueId, QueueOffset,
    RecordView, Role, Send, SendReply, Status, TopicName,
};
use quern_quic::{CallError, Connection, Connector, DevAuthority, Door, ListenConfig, Listener};
use quern_store::clock::RealClock;
use quern_store::sim::SimFs;
use quern_store::{Config as StoreConfig, Env};

const WITHIN: Duration = Duration::from_secs(10);

fn config() -> Config {
    Config::new(BrokerName::new("b").unwrap(), "here:1")
}

/// Starts a broker on this disk, with certificates in `dir`, and connects to it.
async fn connect(dir: &Path, config: Config, plugins: &Runtime, fs: &SimFs) -> Connection {
    let env = Env {
        fs: Arc::new(fs.clone()),
        clock: Arc::new(RealClock::default()),
    };
    connect_in(dir, config, plugins, env).await
}

/// The same, in a world of one's own.
async fn connect_in(dir: &Path, config: Config, plugins: &Runtime, env: Env) -> Connection {
    let store = StoreConfig {
        segment_size: Some(1 << 20),
        ..StoreConfig::new("/data")
    };
    let (broker, _) = Broker::open(config, store, env, plugins).unwrap();
    serve(dir, broker).await
}

/// Has a broker serve, and connects to it.
async fn serve(dir: &Path, broker: Arc<Broker>) -> Connection {
    let listener = listen(dir);
    let address = listener.local_addr().to_string();
    tokio::spawn(broker.serve(listener));
    let authority = DevAuthority::open_in(dir).unwrap();
    let connector = Connector::new(authority.trust(), None, Door::Client).unwrap();
    let connection = connector.connect(&address).await.unwrap();
    connection.hello(&Hello::new(Role::Client)).await.unwrap();
    connection
}

/// Asks over a connection of its own and goes away while what that writes waits for the disk; the broker has seen it
/// when this returns.
async fn ask_and_leave<O: Operation + std::marker::Send + Sync + 'static>(
    dir: &Path,
    (connection, fs): (&Connection, &SimFs),
    request: O,
) {
    let authority = DevAuthority::open_in(dir).unwrap();
    let connector = Connector::new(authority.trust(), None, Door::Client).unwrap();
    let address = connection.remote_addr().to_string();
    let other = connector.connect(&address).await.unwrap();
    other.hello(&Hello::new(Role::Client)).await.unwrap();
    let held = fs.hold_syncs();
    let asking = tokio::spawn(async move { drop(other.call(&request, Vec::new(), WITHIN).await) });
    let held = tokio::task::spawn_blocking(move || {
        held.wait_for(1);
        held
    });
    let held = held.await.unwrap();
    asking.abort();
    let is_alone = async {
        while ask(connection, &Status {}).await.connections > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let is_alone = tokio::time::timeout(WITHIN, is_alone).await;
    is_alone.expect("the broker sees that a connection is gone");
    drop(held);
}

fn listen(dir: &Path) -> Arc<Listener> {
    let authority = DevAuthority::open_in(dir).unwrap();
    let identity = authority.issue("broker", "b").unwrap();
    let loopback = ([127, 0, 0, 1], 0).into();
    let listen = ListenConfig::new(loopback, identity, authority.trust(), [7; 32]);
    Arc::new(Listener::bind(listen).unwrap())
}

fn topic() -> TopicName {
    TopicName::new("t").unwrap()
}

/// A request without a body.
async fn ask<O: Operation + Sync>(connection: &Connection, request: &O) -> O::Reply {
    let answer = connection.call(request, Vec::new(), WITHIN).await;
    answer.unwrap().0
}

async fn create(connection: &Connection, queues: u32) {
    ask(connection, &CreateTopic::new(topic(), queues)).await;
}

/// Makes the topic, with a message for each tag.
async fn fill(connection: &Connection, tags: &[&str]) {
    create(connection, 1).await;
    let blocks = tags.iter().map(|tag| {
        let message = Message::new("t", format!("body of {tag}")).tag(*tag);
        message.encode("id", 0).unwrap()
    });
    let send = Send::new(topic(), QueueId(0), tags.len() as u32);
    let sent = connection.call(&send, blocks.collect(), WITHIN).await;
    sent.unwrap();
}

/// Sends one message.
async fn send_one(connection: &Connection, send: Send) -> Result<SendReply, CallError> {
    let block = Message::new("t", "x").tag("a").encode("id", 0).unwrap();
    Ok(connection.call(&send, vec![block], WITHIN).await?.0)
}

async fn pull(
    connection: &Connection,
    from: u64,
    filter: Filter,
) -> Result<(PullReply, Vec<String>), CallError> {
    let pull = Pull {
        broadcast: false,
        group: None,
        topic: topic(),
        queue: QueueId(0),
        from: QueueOffset(from),
        max_messages: 100,
        max_bytes: 1 << 20,
        wait_ms: 0,
        filter,
    };
    let (reply, body): (_, Bytes) = connection.call(&pull, Vec::new(), WITHIN).await?;
    let tags = records(&body).map(|record| {
        let record = record.unwrap();
        let view = RecordView::parse(&record).unwrap();
        view.block.tag().to_owned()
    });
    Ok((reply, tags.collect()))
}
