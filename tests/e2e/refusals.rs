//! Sends that a broker refuses: told at once where no retry helps, and sent elsewhere where one does.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use quern_client::{Client, Message};
use quern_harness::{Broker, Node, World, wait_until};
use tokio::runtime::Runtime;

use crate::sdk::connect;
use crate::{QUERN, world_with_node};

/// Sends may take so long …
const ALLOWED: Duration = Duration::from_secs(600);
/// … and one that is refused is told long before.
const AT_ONCE: Duration = Duration::from_secs(30);

async fn refused(client: &Client, message: Message, idempotent: bool) -> Result<()> {
    let producer = client.producer("p").idempotent(idempotent);
    let producer = producer.send_timeout(ALLOWED).start().await?;
    let sent = tokio::time::timeout(AT_ONCE, producer.send(message)).await;
    let error = sent
        .context("nothing is told")?
        .err()
        .context("it is taken")?;
    ensure!(error.code() == 2010, "{error}");
    Ok(())
}

#[test]
fn a_refusal_that_no_retry_cures_is_told_at_once() -> Result<()> {
    let (world, node) = world_with_node(&[])?;
    let quern = |args: &[&str]| world.ok(&[args, &["--namesrv", &node.namesrv]].concat());
    quern(&["topic", "create", "t", "--queues", "2"])?;
    Runtime::new()?.block_on(async {
        let client = connect(&world, &node).await?;
        let producer = client.producer("p").send_timeout(ALLOWED).start().await?;
        producer.send(Message::new("t", "before")).await?;
        quern(&["topic", "set", "t", "--perm", "r"])?;
        for idempotent in [true, false] {
            refused(&client, Message::new("t", "x"), idempotent).await?;
            refused(&client, Message::new("t", "x").order_by("k"), idempotent).await?;
        }
        // It is asked every time, so whoever opens the topic need not wait.
        quern(&["topic", "set", "t", "--perm", "rw"])?;
        producer.send(Message::new("t", "after")).await?;
        let bodies = quern(&["consume", "t", "--format", "%v "])?;
        ensure!(
            bodies.trim() == "before after" || bodies.trim() == "after before",
            "{bodies}"
        );
        client.close().await;
        Ok(())
    })
}

#[test]
fn what_one_broker_refuses_goes_to_another() -> Result<()> {
    let world = World::new(QUERN)?;
    let mut node = Node::new(&world, "data")?;
    node.start(&world, &["--broker-permission", "4"])?;
    let broker = Broker::new(&world, "broker-b", &node.namesrv)?;
    let _other = broker.start(&world)?;
    let at = ["--namesrv", node.namesrv.as_str()];
    wait_until("both brokers to be known", || {
        let _ = world.run(&[&["topic", "create", "t", "--queues", "2"], &at[..]].concat());
        let route = world.ok(&[&["topic", "route", "t", "-o", "ndjson"], &at[..]].concat());
        Ok(route.is_ok_and(|it| it.contains("broker-a") && it.contains("broker-b")))
    })?;
    Runtime::new()?.block_on(async {
        let client = connect(&world, &node).await?;
        for idempotent in [true, false] {
            let producer = client.producer("p").idempotent(idempotent);
            let producer = producer.send_timeout(ALLOWED).start().await?;
            for n in 0..40 {
                let sent = producer.send(Message::new("t", n.to_string())).await?;
                ensure!(sent.queue().broker.as_str() == "broker-b", "{sent:?}");
            }
        }
        client.close().await;
        Ok(())
    })
}
