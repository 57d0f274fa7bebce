//! Sending while brokers die: what is acknowledged is stored, once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use quern_client::{Client, ErrorKind, Message, Producer, PullOptions};
use quern_harness::wait_until;
use tokio::runtime::Runtime;

use crate::sdk::connect;
use crate::world_with_node;

/// Messages one sender has under way.
const UNDER_WAY: usize = 300;
const KILLS: usize = 4;
/// Acknowledged between two kills.
const BETWEEN: usize = 2_000;

/// Keys of messages whose queue the broker chooses.
const KEYS: usize = 40;

/// Sends numbered bodies until told to stop, with order keys or without; what became of each.
async fn load(
    (producer, by_key): (Producer, bool),
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
) -> Vec<(String, quern_client::Result<()>)> {
    let mut under_way = FuturesUnordered::new();
    let mut outcomes = Vec::new();
    let mut next = 0;
    loop {
        while under_way.len() < UNDER_WAY && !stop.load(Ordering::Relaxed) {
            let body = format!("{next}");
            let message = Message::new("t", body.clone());
            let sending = producer.send(match by_key {
                true => message.order_by(format!("k{}", next % KEYS)),
                false => message,
            });
            under_way.push(async move { (body, sending.await.map(drop)) });
            next += 1;
        }
        let Some((body, outcome)) = under_way.next().await else {
            return outcomes;
        };
        acknowledged.fetch_add(usize::from(outcome.is_ok()), Ordering::Relaxed);
        outcomes.push((body, outcome));
    }
}

/// How often each body is stored.
fn counted(queues: &[Vec<String>]) -> HashMap<String, usize> {
    let mut stored = HashMap::new();
    for body in queues.iter().flatten() {
        *stored.entry(body.clone()).or_default() += 1;
    }
    stored
}

/// The bodies of each queue, in their order.
async fn in_queues(client: &Client) -> Result<Vec<Vec<String>>> {
    let pull = client.pull_consumer();
    let mut queues = Vec::new();
    for queue in pull.queues("t").await? {
        let (mut at, end) = pull.offset_range(&queue).await?;
        let mut bodies = Vec::new();
        while at < end {
            let pulled = pull.pull(&queue, at, &PullOptions::default()).await?;
            for message in &pulled.messages {
                bodies.push(String::from_utf8(message.body().to_vec())?);
            }
            ensure!(pulled.next > at, "{queue:?} comes to no end");
            at = pulled.next;
        }
        queues.push(bodies);
    }
    Ok(queues)
}

/// Kills the broker again and again under a load; what is in the queues in the end.
fn killed_under_load(by_key: bool, between: usize) -> Result<Vec<Vec<String>>> {
    let (world, mut node) = world_with_node(&[])?;
    let runtime = Runtime::new()?;
    let client = runtime.block_on(connect(&world, &node))?;
    let producer = runtime.block_on(async {
        client.admin().create_topic("t", 3).await?;
        let producer = client.producer("p").send_timeout(Duration::from_secs(60));
        producer.start().await
    })?;
    let (stop, acknowledged) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    let load = load(
        (producer, by_key),
        Arc::clone(&stop),
        Arc::clone(&acknowledged),
    );
    let load = runtime.spawn(load);
    for _ in 0..KILLS {
        let until = acknowledged.load(Ordering::Relaxed) + between;
        wait_until("messages to be acknowledged", || {
            Ok(acknowledged.load(Ordering::Relaxed) >= until)
        })?;
        node.kill()?;
        node.start(&world, &[])?;
    }
    stop.store(true, Ordering::Relaxed);
    let outcomes = runtime.block_on(load)?;
    let queues = runtime.block_on(in_queues(&client))?;
    let stored = counted(&queues);
    for (body, outcome) in &outcomes {
        let times = stored.get(body).copied().unwrap_or(0);
        let error = outcome.as_ref().err();
        ensure!(
            times == 1,
            "message {body}: stored {times} times, {error:?}"
        );
        ensure!(error.is_none(), "message {body}: {error:?}");
    }
    ensure!(stored.len() == outcomes.len());
    eprintln!("{} messages, {KILLS} kills, each stored once", stored.len());
    runtime.block_on(client.close());
    Ok(queues)
}

#[test]
fn a_broker_killed_under_load_stores_what_it_acknowledged_once() -> Result<()> {
    killed_under_load(false, BETWEEN)?;
    Ok(())
}

#[test]
fn what_has_an_order_key_is_stored_once_and_in_order_though_the_broker_is_killed() -> Result<()> {
    let mut last = HashMap::new();
    for (queue, bodies) in killed_under_load(true, BETWEEN / 4)?.iter().enumerate() {
        for body in bodies {
            let n: usize = body.parse()?;
            let before = last.insert(n % KEYS, (queue, n));
            let is_in_order = before.is_none_or(|(of, before)| of == queue && before < n);
            ensure!(is_in_order, "{n} is in queue {queue} behind {before:?}");
        }
    }
    ensure!(last.len() == KEYS, "{last:?}");
    Ok(())
}

#[test]
fn without_numbers_a_lost_answer_is_told_and_with_them_it_is_asked_for_again() -> Result<()> {
    let (world, mut node) = world_with_node(&[])?;
    let runtime = Runtime::new()?;
    let client = runtime.block_on(connect(&world, &node))?;
    let start = async |idempotent| {
        let producer = client.producer("p").idempotent(idempotent);
        let producer = producer.send_timeout(Duration::from_secs(60));
        let producer = producer.start().await?;
        producer.send(Message::new("t", "before")).await?;
        Ok::<_, anyhow::Error>(producer)
    };
    let (plain, numbered) = runtime.block_on(async {
        client.admin().create_topic("t", 1).await?;
        Ok::<_, anyhow::Error>((start(false).await?, start(true).await?))
    })?;
    node.kill()?;
    let sent = numbered.send(Message::new("t", "after"));
    let outcome = runtime.block_on(plain.send(Message::new("t", "after, plain")));
    let error = outcome.err().context("nobody is there")?;
    ensure!(error.kind() == ErrorKind::Unknown, "{error}");
    node.start(&world, &[])?;
    runtime.block_on(sent)?;
    let produce = ["produce", "t", "cli", "--no-idempotence", "--namesrv"];
    world.ok(&[&produce[..], &[&node.namesrv]].concat())?;
    // Where the broker chooses the queue as well.
    let by_key = |body: &str| Message::new("t", body.to_owned()).order_by("k");
    runtime.block_on(numbered.send(by_key("before")))?;
    node.kill()?;
    let sent = numbered.send(by_key("after, by key"));
    node.start(&world, &[])?;
    runtime.block_on(sent)?;
    let stored = counted(&runtime.block_on(in_queues(&client))?);
    let expected = [
        ("before", 3),
        ("after", 1),
        ("cli", 1),
        ("after, by key", 1),
    ];
    let expected = expected.map(|(body, times)| (body.to_owned(), times));
    ensure!(stored == HashMap::from(expected), "{stored:?}");
    Ok(())
}
