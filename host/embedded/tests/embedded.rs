//! A node in this process, as an application and its tests would have it.

use std::collections::BTreeSet;

use quernstone::client::{ErrorKind, Filter, Message};
use quernstone::embedded::{Config, Error, Node, Roles};
use quernstone::testing::Broker;

type Tested = Result<(), Box<dyn std::error::Error>>;

/// A node of its own in a directory, on free ports.
fn config(dir: &tempfile::TempDir) -> Result<Config, std::net::AddrParseError> {
    Ok(Config {
        data: dir.path().join("data"),
        dev_ca: Some(dir.path().join("ca")),
        namesrv_listen: "127.0.0.1:0".parse()?,
        listen: "127.0.0.1:0".parse()?,
        segment_size: Some(16 << 20),
        ..Config::new(Roles::Both)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_keeps_what_was_acknowledged_and_whom_it_is_found_by() -> Tested {
    let broker = Broker::start().await?;
    let address = broker.address();
    // A client of the application's own, which outlives the restart.
    let outside = broker.node().client().await?;
    let producer = outside.producer("shop").start().await?;
    for i in 0..10 {
        producer.send(Message::new("orders", i.to_string())).await?;
    }
    let broker = broker.restart().await?;
    assert_eq!(broker.address(), address);
    for i in 10..20 {
        producer.send(Message::new("orders", i.to_string())).await?;
    }
    let group = broker.client().consumer("billing");
    let mut consumer = group.subscribe("orders", Filter::All).start().await?;
    let mut bodies = BTreeSet::new();
    while bodies.len() < 20 {
        let message = consumer.recv().await?;
        let new = bodies.insert(String::from_utf8(message.body().to_vec())?);
        assert!(new, "{message:?} came twice");
    }
    consumer.shutdown().await?;
    outside.close().await;
    broker.shutdown().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_of_several_tests_do_not_meet() -> Tested {
    let (one, other) = tokio::try_join!(Broker::start(), Broker::start())?;
    for (broker, body) in [(&one, "one"), (&other, "other")] {
        let producer = broker.client().producer("shop").start().await?;
        producer.send(Message::new("orders", body)).await?;
    }
    for (broker, body) in [(&one, "one"), (&other, "other")] {
        let group = broker.client().consumer("billing");
        let mut consumer = group.subscribe("orders", Filter::All).start().await?;
        assert_eq!(consumer.recv().await?.body(), body.as_bytes());
        let ends = consumer.ends().await?;
        assert_eq!(ends.iter().map(|(_, end)| end.0).sum::<u64>(), 1);
        consumer.shutdown().await?;
    }
    // A certificate of one is none of the other's authority.
    let stranger = one.node().client_builder().trust(other.node().trust());
    let refused = stranger.build().await.unwrap_err();
    assert!(refused.to_string().contains("certificate"), "{refused}");
    one.shutdown().await?;
    other.shutdown().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_are_those_of_any_broker() -> Tested {
    let strict = |it| Config {
        auto_create_topics: false,
        ..it
    };
    let broker = Broker::start_with(strict).await?;
    let producer = broker.client().producer("shop").start().await?;
    let refused = producer.send(Message::new("orders", "A7")).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::NotFound);
    broker.shutdown().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_does_not_start_says_why_and_leaves_nothing() -> Tested {
    let dir = tempfile::tempdir()?;
    let node = Node::start(config(&dir)?).await?;
    let taken = |error: Error| match error {
        Error::Start(error) => Ok(error.code().number),
        other => Err(other),
    };
    // The same directory, and the same port.
    let refused = Node::start(config(&dir)?).await.unwrap_err();
    assert_eq!(taken(refused)?, 4003);
    let elsewhere = tempfile::tempdir()?;
    let same_port = Config {
        listen: node.broker_addr().ok_or("it has a broker")?,
        ..config(&elsewhere)?
    };
    let refused = Node::start(same_port).await.unwrap_err();
    assert_eq!(taken(refused)?, 1010);
    node.shutdown().await?;
    // Both are free again.
    Node::start(config(&dir)?).await?.shutdown().await?;
    Node::start(config(&elsewhere)?).await?.shutdown().await?;
    Ok(())
}
