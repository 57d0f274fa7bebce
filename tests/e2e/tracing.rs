//! What clients that trace leave of a message, with real processes: who was given it, what they said of it, and
//! how its transaction ended, whichever way it was consumed.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use quern_client::{Client, Filter, Message, TransactionState, Trust, UndecidedMessage};
use quern_harness::{Node, World, wait_until};
use tokio::runtime::Runtime;

use crate::trace::{count, told};
use crate::world_with_node;

async fn connect(world: &World, node: &Node) -> Result<Client> {
    let authority = world.path(".local/share/quern/dev-ca/ca.pem");
    Ok(Client::builder()
        .namesrv([&node.namesrv])
        .trust(Trust::ca_file(&authority)?)
        .request_timeout(Duration::from_secs(5))
        .instance_name("traced")
        .trace()
        .build()
        .await?)
}

#[test]
fn whoever_pops_or_just_receives_leaves_what_it_said_of_each_message() -> Result<()> {
    let (world, node) = world_with_node(&[])?;
    let at = node.namesrv.as_str();
    let quern = |args: &[&str]| world.ok(&[args, &["--namesrv", at]].concat());
    quern(&["topic", "create", "t", "--queues", "1"])?;
    Runtime::new()?.block_on(async {
        let client = connect(&world, &node).await?;
        let producer = client.producer("shop").start().await?;
        let id = producer.send(Message::new("t", "x")).await?;
        let id = id.message_id().to_owned();
        let mut pops = client.simple_consumer("pops").subscribe("t", Filter::All);
        pops = pops.invisible(Duration::from_secs(60));
        let mut pops = pops.start().await?;
        pops.receive()
            .await?
            .nack(Duration::from_millis(20))
            .await?;
        pops.receive().await?.ack().await?;
        let members = client.consumer("members").subscribe("t", Filter::All);
        let mut member = members.start().await?;
        let message = member.recv().await?;
        member.give_back(&message, "not today").await?;
        member.shutdown().await?;
        client.close().await;
        let written = told(&world, &node, &id)?;
        ensure!(written.len() == 7, "{written:?}");
        for (part, times) in [
            ("traced of pops, given 0 times before", 1),
            ("traced of pops, given 1 times before", 1),
            ("traced of members, given 0 times before", 1),
            ("not consumed by pops", 1),
            ("consumed by pops", 2),
            ("not consumed by members", 1),
            ("consumed by members", 1),
        ] {
            ensure!(count(&written, part) == times, "{part}: {written:?}");
        }
        Ok(())
    })
}

#[test]
fn one_screen_tells_how_a_transaction_ended_and_who_said_so() -> Result<()> {
    let (world, node) = world_with_node(&["--tx-timeout", "200ms"])?;
    let at = node.namesrv.as_str();
    let quern = |args: &[&str]| world.ok(&[args, &["--namesrv", at]].concat());
    quern(&["topic", "create", "t", "--queues", "1"])?;
    let produce = |body: &str, end: &str| {
        let said = quern(&[
            "produce", "t", body, "--tx", end, "--trace", "--group", "shop",
        ])?;
        let id = said.split_whitespace().next().map(str::to_owned);
        id.context("an id")
    };
    let (paid, back) = (produce("paid", "commit")?, produce("back", "rollback")?);
    let read = ["consume", "t", "--group", "g", "--trace", "--format", "%v"];
    ensure!(quern(&read)? == "paid");
    let screen = quern(&["msg", "trace", &paid])?;
    for part in [
        "waited     for its transaction",
        "ended      committed 2",
        "stored     ",
        "sent by shop, took ",
        "committed by shop\n",
        "of g, given 0 times before",
        " consumed by g, took ",
        "consumed, committed 1",
    ] {
        ensure!(screen.contains(part), "{part}: {screen}");
    }
    let screen = quern(&["msg", "trace", &back])?;
    for part in ["ended      rolled back", "rolled back by shop\n"] {
        ensure!(screen.contains(part), "{part}: {screen}");
    }
    Runtime::new()?.block_on(async {
        let client = connect(&world, &node).await?;
        let decides = |_: UndecidedMessage| async { TransactionState::Commit };
        let producer = client.transaction_producer("asked", decides).start();
        let producer = Arc::new(producer.await?);
        let begun = producer
            .begin(Message::new("t", "later").tag("red").key("k"))
            .await?;
        let id = begun.message_id().to_owned();
        drop(begun);
        wait_until("it to be answered", || {
            Ok(count(&told(&world, &node, &id)?, "by asked, which was asked") == 1)
        })?;
        client.close().await;
        Ok(())
    })
}
