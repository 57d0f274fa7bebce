//! Popping with real processes: any number of consumers share a queue, what is acknowledged never comes again,
//! and what is not comes when its time is over, whoever is killed.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use quern_client::{Client, Filter, Message, SimpleConsumer};
use quern_harness::wait_until;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::sdk::connect;
use crate::world_with_node;

async fn fill(client: &Client, count: usize) -> Result<()> {
    let producer = client.producer("p").start().await?;
    for n in 0..count {
        producer.send(Message::new("t", n.to_string())).await?;
    }
    Ok(())
}

fn body(message: &quern_client::MessageView) -> String {
    String::from_utf8_lossy(message.body()).into_owned()
}

async fn pops(client: &Client, invisible: Duration) -> Result<SimpleConsumer> {
    let consumer = client.simple_consumer("g").invisible(invisible);
    Ok(consumer.subscribe("t", Filter::All).start().await?)
}

/// Acknowledges all that comes but what `keeps` says, until nothing comes.
async fn drain(
    mut consumer: SimpleConsumer,
    keeps: impl Fn(usize) -> bool,
) -> Result<HashMap<String, u16>> {
    let mut seen = HashMap::new();
    while let Ok(delivery) = timeout(Duration::from_secs(2), consumer.receive()).await {
        let delivery = delivery?;
        let body = body(delivery.message());
        let n: usize = body.parse()?;
        let before = seen.insert(body, delivery.attempts());
        ensure!(before.is_none(), "{n} came twice to one who had it");
        if !keeps(n) {
            delivery.ack().await?;
        }
    }
    Ok(seen)
}

#[test]
fn consumers_share_a_queue_and_what_is_acknowledged_never_comes_again() -> Result<()> {
    let (world, mut node) = world_with_node(&[])?;
    let runtime = Runtime::new()?;
    let client = runtime.block_on(connect(&world, &node))?;
    const COUNT: usize = 400;
    let first = runtime.block_on(async {
        client.admin().create_topic("t", 1).await?;
        fill(&client, COUNT).await?;
        // Long enough that a broker that starts again keeps hidden what was.
        let hidden = Duration::from_secs(25);
        let (a, b) = (pops(&client, hidden).await?, pops(&client, hidden).await?);
        let keeps = |n: usize| n.is_multiple_of(10);
        tokio::try_join!(drain(a, keeps), drain(b, keeps))
    })?;
    let mut all = first.0.clone();
    all.extend(first.1.clone());
    ensure!(all.len() == COUNT, "{} of {COUNT} came", all.len());
    ensure!(first.0.len() + first.1.len() == COUNT, "one came to both");
    ensure!(!first.0.is_empty() && !first.1.is_empty(), "both had some");
    for kept in [&["commitlog", "state"][..], &["commitlog"]] {
        node.kill()?;
        node.strip(kept)?;
        node.start(&world, &[])?;
    }
    let client = runtime.block_on(connect(&world, &node))?;
    let at = node.namesrv.clone();
    let lag = world.ok(&["group", "lag", "g", "-o", "ndjson", "--namesrv", &at])?;
    ensure!(
        lag.contains(&format!("\"lag\":{COUNT}")),
        "the first is not acknowledged: {lag}"
    );
    let again = runtime.block_on(async {
        let mut consumer = pops(&client, Duration::from_secs(5)).await?;
        let mut again = HashMap::new();
        // The rest of their time, and some more.
        while again.len() < COUNT / 10 {
            let next = timeout(Duration::from_secs(60), consumer.receive()).await;
            let delivery = next.context("those not acknowledged come again")??;
            again.insert(body(delivery.message()), delivery.attempts());
            delivery.ack().await?;
        }
        anyhow::Ok(again)
    })?;
    for (body, attempts) in &again {
        ensure!(body.parse::<usize>()? % 10 == 0, "{body} was acknowledged");
        ensure!(*attempts == 1, "{body} came {attempts} times before");
    }
    let lag = || world.ok(&["group", "lag", "g", "-o", "ndjson", "--namesrv", &at]);
    wait_until("nothing to be left", || Ok(lag()?.contains("\"lag\":0")))?;
    Ok(())
}

#[test]
fn a_receipt_is_good_for_one_time_and_the_work_may_take_longer() -> Result<()> {
    let (world, node) = world_with_node(&[])?;
    let runtime = Runtime::new()?;
    runtime.block_on(async {
        let client = connect(&world, &node).await?;
        client.admin().create_topic("t", 1).await?;
        fill(&client, 1).await?;
        let soon = Duration::from_millis(400);
        let mut a = pops(&client, soon).await?;
        let slow = a.receive().await?;
        drop(a);
        let mut b = pops(&client, soon).await?;
        let again = timeout(Duration::from_secs(10), b.receive()).await??;
        ensure!(slow.attempts() == 0 && again.attempts() > 0);
        let late = slow.ack().await.err().context("it is another's")?;
        ensure!(late.code() == 3003, "{late}");
        let mut again = again;
        again.extend(Duration::from_secs(60)).await?;
        let hidden = timeout(soon * 3, b.receive()).await;
        ensure!(hidden.is_err(), "it is hidden");
        let given = again.attempts();
        again.nack(Duration::ZERO).await?;
        let third = timeout(Duration::from_secs(10), b.receive()).await??;
        ensure!(third.attempts() == given + 1);
        third.ack().await?;
        ensure!(
            timeout(soon * 3, b.receive()).await.is_err(),
            "it is consumed"
        );
        Ok(())
    })
}

#[test]
fn in_order_nothing_passes_what_is_not_acknowledged() -> Result<()> {
    let (world, node) = world_with_node(&[])?;
    let at = node.namesrv.clone();
    let quern = |args: &[&str]| world.ok(&[args, &["--namesrv", &at]].concat());
    quern(&["topic", "create", "t", "--queues", "1"])?;
    quern(&["group", "set", "g", "--retries", "1"])?;
    let lines: String = (0..6).map(|n| format!("{n}\n")).collect();
    world.ok_with_input(&["produce", "t", "-", "--namesrv", &at], lines.as_bytes())?;
    // The third fails as often as it may, and is a dead letter; those behind it wait meanwhile.
    let command = "read it; echo $it >> ran; [ $it != 2 ]";
    let consume = [
        "consume",
        "t",
        "--group",
        "g",
        "--pop",
        "--in-order",
        "--invisible",
        "1s",
        "--exec",
        command,
        "--follow",
    ];
    let consume = [&consume[..], &["--namesrv", &at]].concat();
    let mut members = Vec::new();
    for _ in 0..2 {
        members.push(world.command(&consume).spawn()?);
    }
    let ran = || std::fs::read_to_string(world.path("ran")).unwrap_or_default();
    wait_until("the last to be consumed", || Ok(ran().ends_with("5\n")))?;
    for mut member in members {
        member.kill()?;
        member.wait()?;
    }
    ensure!(ran() == "0\n1\n2\n2\n3\n4\n5\n", "{}", ran());
    let letters = quern(&["dlq", "ls", "g", "-o", "ndjson"])?;
    ensure!(
        letters.lines().count() == 1 && letters.contains("popped 2 times"),
        "{letters}"
    );
    Ok(())
}

#[test]
fn a_pop_that_makes_no_sense_is_refused() -> Result<()> {
    let (world, node) = world_with_node(&[])?;
    let at = node.namesrv.clone();
    let quern = |args: &[&str]| world.ok(&[args, &["--namesrv", &at]].concat());
    quern(&["topic", "create", "t"])?;
    quern(&["produce", "t", "x"])?;
    let pop = ["consume", "t", "--group", "g", "--pop"];
    let cases: &[(&[&str], i32, &str)] = &[
        (&["--invisible", "1ms"], 2, "Q-3007"),
        (&["--invisible", "13h"], 2, "Q-3007"),
        (&["--from", "15m"], 2, "group reset"),
        (&["--sql", "a ="], 2, "Q-42"),
        (
            &["--workers", "2", "--exec", "true", "--follow"],
            2,
            "cannot be used with",
        ),
    ];
    for (args, exit, code) in cases {
        world.fails(&[&pop, *args, &["--namesrv", &at]].concat(), *exit, code)?;
    }
    // Who owns queues shares them with nobody who pops.
    let member = ["consume", "t", "--group", "g", "--follow", "--namesrv", &at];
    let mut member = world.command(&member).spawn()?;
    let described = || quern(&["group", "describe", "g", "-o", "ndjson"]);
    let joined = || Ok(described().is_ok_and(|it| it.contains("\"owner\":\"")));
    wait_until("the member to own a queue", joined)?;
    let refused = world.fails(&[&pop[..], &["--namesrv", &at]].concat(), 1, "Q-2021");
    member.kill()?;
    member.wait()?;
    refused?;
    Ok(())
}
