//! A filter that fails holds back its own subscription and nothing else: whatever it does, no
//! message is lost or passed on unjudged, and the broker says which plugin failed and why.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quern_broker::{Broker, Config};
use quern_plugins::{HOSTILE, Runtime};
use quern_protocol::record::records;
use quern_protocol::{
    BrokerName, Code, CreateTopic, Filter, Hello, Message, PluginReport, Pull, PullReply, QueueId,
    QueueOffset, RecordView, Role, Send, Status, TopicName,
};
use quern_quic::{CallError, Connection, Connector, DevAuthority, Door, ListenConfig, Listener};
use quern_store::clock::RealClock;
use quern_store::sim::SimFs;
use quern_store::{Config as StoreConfig, Env};

const WITHIN: Duration = Duration::from_secs(10);

/// A broker with the hostile filter, and a connection to it.
async fn broker(dir: &std::path::Path) -> Connection {
    let plugins = Runtime::new(&quern_plugins::Config::default()).unwrap();
    let hostile = plugins.load("hostile", HOSTILE).unwrap();
    let config = Config {
        filters: vec![hostile],
        ..Config::new(BrokerName::new("b").unwrap(), "here:1")
    };
    let env = Env {
        fs: Arc::new(SimFs::default()),
        clock: Arc::new(RealClock::default()),
    };
    let store = StoreConfig {
        segment_size: Some(1 << 20),
        ..StoreConfig::new("/data")
    };
    let (broker, _) = Broker::open(config, store, env, &plugins).unwrap();
    let authority = DevAuthority::open_in(dir).unwrap();
    let identity = authority.issue("broker", "b").unwrap();
    let loopback = ([127, 0, 0, 1], 0).into();
    let listen = ListenConfig::new(loopback, identity, authority.trust(), [7; 32]);
    let listener = Arc::new(Listener::bind(listen).unwrap());
    let address = listener.local_addr().to_string();
    tokio::spawn(broker.serve(listener));
    let connector = Connector::new(authority.trust(), None, Door::Client).unwrap();
    let connection = connector.connect(&address).await.unwrap();
    connection.hello(&Hello::new(Role::Client)).await.unwrap();
    connection
}

fn topic() -> TopicName {
    TopicName::new("t").unwrap()
}

async fn fill(connection: &Connection, tags: &[&str]) {
    let create = CreateTopic {
        topic: topic(),
        read_queues: 1,
        write_queues: 1,
    };
    connection.call(&create, Vec::new(), WITHIN).await.unwrap();
    let blocks = tags.iter().map(|tag| {
        let message = Message::new("t", format!("body of {tag}")).tag(*tag);
        message.encode("id", 0).unwrap()
    });
    let send = Send {
        topic: topic(),
        queue: QueueId(0),
        messages: tags.len() as u32,
    };
    let sent = connection.call(&send, blocks.collect(), WITHIN).await;
    sent.unwrap();
}

async fn pull(
    connection: &Connection,
    from: u64,
    filter: Filter,
) -> Result<(PullReply, Vec<String>), CallError> {
    let pull = Pull {
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

fn report<'a>(plugins: &'a [PluginReport], name: &str) -> &'a PluginReport {
    let found = plugins.iter().find(|plugin| plugin.name == name);
    found.unwrap_or_else(|| panic!("{name} among {plugins:?}"))
}

fn hostile(text: &str) -> Filter {
    Filter::Expression {
        language: "HOSTILE".to_owned(),
        text: text.to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_precedes_the_failing_message_is_delivered_and_the_rest_waits() {
    let dir = tempfile::tempdir().unwrap();
    let connection = broker(dir.path()).await;
    fill(&connection, &["a", "b", "poison", "c"]).await;
    let (reply, tags) = pull(&connection, 0, hostile("poison")).await.unwrap();
    assert_eq!(tags, ["a", "b"]);
    assert_eq!(reply.next, QueueOffset(2));
    let stall = reply.stall.expect("it says that delivery waits");
    assert_eq!(
        (stall.offset, stall.code),
        (QueueOffset(2), Code::PLUGIN_TRAP.number)
    );
    assert!(stall.message.contains("hostile 0.0.1"), "{}", stall.message);
    assert!((1..=1_000).contains(&stall.retry_ms), "{}", stall.retry_ms);
    // Until then the guest is not even asked.
    let calls = || async {
        let status = connection.call(&Status {}, Vec::new(), WITHIN).await;
        let plugins = status.unwrap().0.plugins;
        report(&plugins, "hostile").calls
    };
    let before = calls().await;
    let (reply, tags) = pull(&connection, 2, hostile("poison")).await.unwrap();
    assert!(tags.is_empty() && reply.stall.is_some());
    assert_eq!(calls().await, before);
    // Another filter and no filter at all do not notice.
    let (reply, tags) = pull(&connection, 0, Filter::All).await.unwrap();
    assert_eq!(tags, ["a", "b", "poison", "c"]);
    assert_eq!(reply.stall, None);
    let (reply, tags) = pull(&connection, 0, Filter::tag("poison || c"))
        .await
        .unwrap();
    assert_eq!(tags, ["poison", "c"]);
    assert_eq!(reply.stall, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_to_fail_has_its_code_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let connection = broker(dir.path()).await;
    fill(&connection, &["a", "b", "c"]).await;
    for (how, code) in [
        ("trap", Code::PLUGIN_TRAP),
        ("loop", Code::PLUGIN_FUEL),
        ("bomb", Code::PLUGIN_MEMORY),
        ("short", Code::PLUGIN_ANSWER),
        ("long", Code::PLUGIN_ANSWER),
        ("spare", Code::PLUGIN_ANSWER),
        ("fail", Code::PLUGIN_FAILURE),
    ] {
        let (reply, tags) = pull(&connection, 0, hostile(how)).await.unwrap();
        assert!(tags.is_empty(), "{how}");
        assert_eq!(reply.next, QueueOffset(0), "{how}");
        assert_eq!(
            reply.stall.map(|stall| stall.code),
            Some(code.number),
            "{how}"
        );
        let (_, tags) = pull(&connection, 0, Filter::All).await.unwrap();
        assert_eq!(tags, ["a", "b", "c"], "after {how}");
    }
    for (how, code) in [
        ("compile-loop", Code::PLUGIN_FUEL),
        ("compile-trap", Code::PLUGIN_TRAP),
    ] {
        let refused = pull(&connection, 0, hostile(how)).await.unwrap_err();
        assert_eq!(refused.code(), code, "{how}: {refused}");
    }
    let unknown = Filter::Expression {
        language: "GLOB".to_owned(),
        text: "a*".to_owned(),
    };
    let refused = pull(&connection, 0, unknown).await.unwrap_err();
    assert_eq!(refused.code(), Code::LANGUAGE_UNKNOWN);
    let status = connection.call(&Status {}, Vec::new(), WITHIN).await;
    let plugins = status.unwrap().0.plugins;
    assert!(report(&plugins, "hostile").faults >= 9, "{plugins:?}");
    // What nobody has asked for is not there yet.
    assert!(plugins.iter().all(|plugin| plugin.name != "tag"));
}
