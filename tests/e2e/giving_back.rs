//! A message that is given back, when the broker is not there to hear it or to answer: it comes again once.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use quern_client::{Client, Filter, Message, MessageSearch, Trust};
use quern_harness::{Node, PATIENCE, World, wait_until};
use rustix::process::{Pid, Signal};
use tokio::runtime::Runtime;

use crate::world_with_node;

/// A client that gives up soon.
async fn hasty(world: &World, node: &Node) -> Result<Client> {
    let authority = world.path(".local/share/quern/dev-ca/ca.pem");
    Ok(Client::builder()
        .namesrv([&node.namesrv])
        .trust(Trust::ca_file(&authority)?)
        .request_timeout(Duration::from_secs(2))
        .build()
        .await?)
}

/// How many copies each message has in the group's retry topic.
async fn copies(client: &Client, ids: &[String]) -> Result<Vec<usize>> {
    let mut counts = Vec::new();
    for id in ids {
        let search = MessageSearch::id(id).topic("%RETRY%g");
        counts.push(client.admin().find(&search).await?.messages.len());
    }
    Ok(counts)
}

fn settings(world: &World, node: &Node) -> Result<()> {
    let at = ["--namesrv", node.namesrv.as_str()];
    let group = [
        "group",
        "set",
        "g",
        "--retries",
        "5",
        "--retry-delays",
        "1h",
    ];
    world.ok(&[&["topic", "create", "t", "--queues", "2"], &at[..]].concat())?;
    world.ok(&[&group[..], &at].concat())?;
    Ok(())
}

#[test]
fn an_answer_that_comes_too_late_does_not_give_a_message_back_twice() -> Result<()> {
    let (world, node) = world_with_node(&[])?;
    settings(&world, &node)?;
    Runtime::new()?.block_on(async {
        let client = hasty(&world, &node).await?;
        let patient = crate::sdk::connect(&world, &node).await?;
        let producer = patient.producer("p").start().await?;
        let sent = producer.send(Message::new("t", "x")).await?;
        let consumer = client.consumer("g").subscribe("t", Filter::All);
        let mut consumer = consumer.start().await?;
        let message = consumer.recv().await?;
        // What it is told while it stands still it hears later, each time.
        let pid = Pid::from_raw(i32::try_from(node.pid().context("it runs")?)?);
        let pid = pid.context("it has an id")?;
        rustix::process::kill_process(pid, Signal::STOP)?;
        let told = consumer.give_back(&message, "not today").await;
        rustix::process::kill_process(pid, Signal::CONT)?;
        let error = told.err().context("nobody answers")?;
        ensure!(error.is_retryable(), "{error}");
        let heard = async { while consumer.give_back(&message, "not today").await.is_err() {} };
        tokio::time::timeout(PATIENCE, heard).await?;
        let ids = [sent.message_id().to_owned()];
        ensure!(copies(&patient, &ids).await? == [1]);
        Ok(())
    })
}

/// Messages that nobody consumes.
const MESSAGES: usize = 1_500;
const KILLS: usize = 3;

#[test]
fn a_listener_gives_each_message_back_once_though_the_broker_is_killed() -> Result<()> {
    let (world, mut node) = world_with_node(&[])?;
    settings(&world, &node)?;
    let runtime = Runtime::new()?;
    let client = runtime.block_on(crate::sdk::connect(&world, &node))?;
    let ids: Vec<String> = runtime.block_on(async {
        let producer = client.producer("p").start().await?;
        let sends = (0..MESSAGES).map(|n| producer.send(Message::new("t", n.to_string())));
        let sends: Vec<_> = sends.collect();
        let mut ids = Vec::new();
        for sending in sends {
            ids.push(sending.await?.message_id().to_owned());
        }
        Ok::<_, anyhow::Error>(ids)
    })?;
    let (seen, stop) = (
        Arc::<AtomicUsize>::default(),
        Arc::new(tokio::sync::Notify::new()),
    );
    let listening = {
        let (client, seen, stop) = (client.clone(), Arc::clone(&seen), Arc::clone(&stop));
        runtime.spawn(async move {
            let consumer = client.consumer("g").subscribe("t", Filter::All);
            let consumer = consumer.pull_threshold(100, 1 << 20).start().await?;
            let listener = move |_| {
                seen.fetch_add(1, Ordering::Relaxed);
                async { Err("never".to_owned()) }
            };
            consumer.listen(16, listener, stop.notified()).await
        })
    };
    for kill in 1..=KILLS {
        wait_until("some to be given back", || {
            Ok(seen.load(Ordering::Relaxed) >= kill * MESSAGES / (KILLS + 1))
        })?;
        node.kill()?;
        node.start(&world, &[])?;
    }
    let all: HashSet<_> = ids.iter().collect();
    ensure!(all.len() == MESSAGES);
    wait_until("all to be seen", || {
        Ok(seen.load(Ordering::Relaxed) >= MESSAGES)
    })?;
    stop.notify_one();
    runtime.block_on(listening)??;
    let counts = runtime.block_on(copies(&client, &ids))?;
    let seen = seen.load(Ordering::Relaxed);
    // One whose lease was over was read again, and is another time that it was given back.
    let given: usize = counts.iter().sum();
    eprintln!("{MESSAGES} messages, handed out {seen} times, {given} copies, {KILLS} kills");
    ensure!(counts.iter().all(|it| *it >= 1), "none is lost");
    ensure!(given <= seen, "{given} copies of {seen}");
    if seen == MESSAGES {
        ensure!(given == MESSAGES);
    }
    Ok(())
}
