//! Two brokers, one of which fails: producers go on with the other, and come back to it.

use anyhow::{Context as _, Result, bail, ensure};
use quern_client::{Client, ErrorKind, Message};
use quern_harness::{Broker, wait_until};
use rustix::process::{Pid, Signal};
use tokio::runtime::Runtime;

use crate::sdk::connect;
use crate::world_with_node;

/// Sends one after the other; how many each of the brokers took, or why one was not sent.
async fn send(client: &Client, count: usize) -> quern_client::Result<(usize, usize)> {
    let producer = client.producer("p").start().await?;
    let (mut first, mut second) = (0, 0);
    for n in 0..count {
        let sent = producer.send(Message::new("t", n.to_string())).await?;
        match sent.queue().broker.as_str() {
            "broker-a" => first += 1,
            _ => second += 1,
        }
    }
    Ok((first, second))
}

/// Sends until a message is in doubt: it was for the broker that does not answer, of which that is known from then on.
async fn in_doubt(client: &Client) -> Result<()> {
    let producer = client.producer("p").start().await?;
    for n in 0..4 {
        match producer.send(Message::new("t", n.to_string())).await {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Unknown => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    bail!("of messages for four queues in turn, one at least was for it")
}

#[test]
fn a_broker_that_fails_is_left_alone_until_it_is_back() -> Result<()> {
    let (world, node) = world_with_node(&[])?;
    let broker = Broker::new(&world, "broker-b", &node.namesrv)?;
    let other = broker.start(&world)?;
    wait_until("both brokers to be known", || {
        let _ = world.run(&[
            "topic",
            "create",
            "t",
            "--queues",
            "2",
            "--namesrv",
            &node.namesrv,
        ]);
        let route = world.ok(&[
            "topic",
            "route",
            "t",
            "--namesrv",
            &node.namesrv,
            "-o",
            "ndjson",
        ]);
        Ok(route.is_ok_and(|it| it.contains("broker-a") && it.contains("broker-b")))
    })?;
    let runtime = Runtime::new()?;
    let client = runtime.block_on(connect(&world, &node))?;
    let (first, second) = runtime.block_on(send(&client, 40))?;
    ensure!(
        first > 0 && second > 0,
        "both take messages: {first}, {second}"
    );
    // Killed: nobody answers on its port any more. Its name server still names it for a while.
    // What is sent to it before that is noticed may have been stored, for all the producer knows.
    other.kill()?;
    runtime.block_on(in_doubt(&client))?;
    let (first, second) = runtime.block_on(send(&client, 40))?;
    ensure!((first, second) == (40, 0), "{first}, {second}");
    // Back, it gets messages again, and nobody has to fail for that.
    let other = broker.start(&world)?;
    wait_until("the broker to be taken again", || {
        let (_, second) = runtime.block_on(send(&client, 8))?;
        Ok(second > 0)
    })?;
    // It stands still: what it was sent is in doubt, and nothing more is sent to it.
    let pid = Pid::from_raw(i32::try_from(other.pid())?).context("it has an id")?;
    rustix::process::kill_process(pid, Signal::STOP)?;
    runtime.block_on(in_doubt(&client))?;
    let (first, second) = runtime.block_on(send(&client, 40))?;
    ensure!((first, second) == (40, 0), "{first}, {second}");
    rustix::process::kill_process(pid, Signal::CONT)?;
    wait_until("the broker to be taken again", || {
        let (_, second) = runtime.block_on(send(&client, 8))?;
        Ok(second > 0)
    })?;
    runtime.block_on(client.close());
    Ok(())
}
