//! A message that is given back, when the broker is not there to hear it or to answer: it comes again once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use quern_client::{Client, Filter, Message, MessageSearch, MessageView, Trust};
use quern_harness::{Node, PATIENCE, World, wait_until};
use rustix::process::{Pid, Signal};
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::plugins::two_brokers;
use crate::sdk::{connect_to, lag};
use crate::{QUERN, world_with_node};

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

/// It would be there with the next look at the routes, up to a minute later.
const AS_SOON: Duration = Duration::from_secs(20);

#[test]
fn what_is_given_back_on_a_second_broker_comes_as_soon() -> Result<()> {
    let world = World::new(QUERN)?;
    let (namesrv, _processes) = two_brokers(&world)?;
    let set = ["group", "set", "g", "--retry-delays", "1s"];
    world.ok(&[&set[..], &["--namesrv", &namesrv]].concat())?;
    Runtime::new()?.block_on(async {
        let client = connect_to(&world, &namesrv).await?;
        let producer = client.producer("p").start().await?;
        let consumer = client.consumer("g").subscribe("orders", Filter::All);
        let mut consumer = consumer.start().await?;
        let mut of_brokers = HashMap::new();
        while of_brokers.len() < 2 {
            producer.send(Message::new("orders", "x")).await?;
            let message = timeout(PATIENCE, consumer.recv()).await??;
            of_brokers.insert(message.queue().broker.clone(), message);
        }
        for message in of_brokers.into_values() {
            consumer.give_back(&message, "not yet").await?;
            let again = async {
                while consumer.recv().await?.message_id() != message.message_id() {}
                anyhow::Ok(())
            };
            let again = timeout(AS_SOON, again).await;
            again.with_context(|| format!("not again: {:?}", message.queue()))??;
        }
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
    let (handed_out, stop) = (Arc::<HandedOut>::default(), Arc::<Notify>::default());
    let listening = {
        let (client, stop) = (client.clone(), Arc::clone(&stop));
        let handed_out = Arc::clone(&handed_out);
        runtime.spawn(async move {
            let consumer = client.consumer("g").subscribe("t", Filter::All);
            let consumer = consumer.pull_threshold(100, 1 << 20).start().await?;
            let listener = move |message: MessageView| {
                handed_out.note(message.message_id());
                async { Err("never".to_owned()) }
            };
            consumer.listen(16, listener, stop.notified()).await
        })
    };
    for kill in 1..=KILLS {
        wait_until("some to be given back", || {
            Ok(handed_out.all() >= kill * MESSAGES / (KILLS + 1))
        })?;
        node.kill()?;
        node.start(&world, &[])?;
    }
    // One that has met no broker that is gone since.
    let client = runtime.block_on(crate::sdk::connect(&world, &node))?;
    wait_until("all to be given back", || {
        Ok(runtime.block_on(lag(&client, "g", "t"))? == 0)
    })?;
    stop.notify_one();
    runtime.block_on(listening)??;
    let counts = runtime.block_on(copies(&client, &ids))?;
    let (seen, given) = (handed_out.all(), counts.iter().sum::<usize>());
    eprintln!("{MESSAGES} messages, handed out {seen} times, {given} copies, {KILLS} kills");
    // One whose lease was over was read again, and is another time that it was given back.
    for (id, copies) in ids.iter().zip(counts) {
        let times = handed_out.times(id);
        ensure!(copies >= 1, "{id} is lost");
        ensure!(copies <= times, "{id}: {copies} copies of {times}");
    }
    Ok(())
}

/// How often each message was.
#[derive(Default)]
struct HandedOut(Mutex<HashMap<String, usize>>);

impl HandedOut {
    fn counts(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.0.lock().expect("no one panics holding it")
    }

    fn note(&self, id: &str) {
        *self.counts().entry(id.to_owned()).or_default() += 1;
    }

    fn times(&self, id: &str) -> usize {
        self.counts().get(id).copied().unwrap_or(0)
    }

    fn all(&self) -> usize {
        self.counts().values().sum()
    }
}
