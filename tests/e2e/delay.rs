//! Messages for later, with real processes: never early, never lost, never twice, whoever is killed.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::join_all;
use quern_client::{Client, Message, PullOptions};
use quern_harness::{PATIENCE, wait_until};
use tokio::runtime::Runtime;

use crate::sdk::connect;
use crate::world_with_node;

#[test]
fn what_waits_is_listed_taken_back_and_delivered_after_a_crash() -> Result<()> {
    let (world, mut node) = world_with_node(&[])?;
    let at = node.namesrv.clone();
    let quern = |args: &[&str]| world.ok(&[args, &["--namesrv", &at]].concat());
    quern(&["topic", "create", "t"])?;
    let soon = quern(&["produce", "t", "soon", "--delay", "2500ms", "--key", "k1"])?;
    ensure!(soon.contains(" waits as broker-a/"), "{soon}");
    let never = quern(&["produce", "t", "never", "--delay-level", "3"])?;
    let handle = never.split_whitespace().nth(3).context("a handle")?;
    quern(&["produce", "t", "far", "--at", "2026-12-31T00:00:00Z"])
        .or_else(|_| quern(&["produce", "t", "far", "--delay", "30d"]))?;
    quern(&["produce", "t", "past", "--at", "2020-01-01T00:00:00Z"])?;
    let listed = || quern(&["delay", "ls", "t", "-o", "ndjson"]);
    wait_until("the past to be over", || Ok(listed()?.lines().count() == 3))?;
    ensure!(listed()?.lines().next().is_some_and(|it| it.contains("k1")));
    let cancelled = quern(&["delay", "cancel", "t", handle])?;
    ensure!(cancelled.contains(handle), "{cancelled}");
    node.kill()?;
    node.strip(&["commitlog"])?;
    node.start(&world, &[])?;
    ensure!(listed()?.lines().count() == 2, "{}", listed()?);
    let consume = [
        "consume", "t", "--group", "g", "--from", "first", "--format", "%v\\n",
    ];
    let consumed = || quern(&[&consume[..], &["--max", "2", "--follow"]].concat());
    let mut bodies: Vec<_> = consumed()?.lines().map(str::to_owned).collect();
    bodies.sort();
    ensure!(bodies == ["past", "soon"], "{bodies:?}");
    ensure!(listed()?.lines().count() == 1, "{}", listed()?);
    let gone = ["delay", "cancel", "t", handle, "--namesrv", &at];
    world.fails(&gone, 3, "Q-2001")?;
    Ok(())
}

#[test]
fn a_delay_that_cannot_be_is_refused() -> Result<()> {
    let (world, node) = world_with_node(&["--delay-max", "1d", "--delayed-max", "1"])?;
    let at = ["--namesrv", node.namesrv.as_str()];
    for (topic, kind) in [("t", "mixed"), ("n", "normal"), ("d", "delay")] {
        world.ok(&["topic", "create", topic, "--type", kind, at[0], at[1]])?;
    }
    let cases: &[(&[&str], i32, &str)] = &[
        (&["t", "x", "--delay", "2d"], 2, "Q-3007"),
        (&["t", "x", "--at", "2999-01-01T00:00:00Z"], 2, "Q-3007"),
        (&["t", "x", "--delay-level", "19"], 2, "1 to 18"),
        (&["t", "x", "--delay-level", "0"], 2, "0 is not in"),
        (&["t", "x", "--delay", "soon"], 2, "ms, s, m, h or d"),
        (&["t", "x", "--at", "soon"], 2, "2030-01-31T08:00:00Z"),
        (
            &["t", "x", "--delay", "1s", "--at", "1"],
            2,
            "cannot be used with",
        ),
        (
            &["t", "x", "--delay", "1s", "--order-key", "k"],
            2,
            "cannot be used with",
        ),
        (&["n", "x", "--delay", "1s"], 2, "Q-3009"),
        (&["d", "x"], 2, "Q-3009"),
        (&["%RETRY%g", "x", "--delay", "1s"], 3, "Q-2003"),
    ];
    for (args, exit, code) in cases {
        world.fails(&[&["produce"], *args, &at].concat(), *exit, code)?;
    }
    world.ok(&["produce", "d", "x", "--delay", "1h", at[0], at[1]])?;
    let full = ["produce", "t", "x", "--delay", "1h", at[0], at[1]];
    world.fails(&full, 1, "Q-1004")?;
    for handle in ["broker-a", "broker-a/x"] {
        let cancel = ["delay", "cancel", "d", handle, at[0], at[1]];
        world.fails(&cancel, 2, "no handle of a message that waits")?;
    }
    let elsewhere = ["delay", "cancel", "d", "broker-b/8", at[0], at[1]];
    world.fails(&elsewhere, 3, "Q-2003")?;
    let nothing = ["delay", "cancel", "d", "broker-a/8", at[0], at[1]];
    world.fails(&nothing, 3, "Q-2001")?;
    Ok(())
}

const MESSAGES: u64 = 3_000;
/// No message is for later than that, ms.
const LONGEST: u64 = 4_000;

/// The delay of a message, ms.
fn delay(n: u64) -> u64 {
    (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % LONGEST
}

/// Sends all of them at once, and takes one in ten back if it is not too late. When each is due, by its
/// body; those that were taken back are not there.
async fn send_and_recall(client: &Client) -> Result<HashMap<String, u64>> {
    let producer = client.producer("p").send_timeout(PATIENCE).start().await?;
    let sends = (0..MESSAGES).map(|n| {
        let message = Message::new("t", n.to_string());
        producer.send(message.delay(Duration::from_millis(delay(n))))
    });
    let mut due = HashMap::new();
    for (n, sent) in (0..).zip(join_all(sends).await) {
        let sent = sent?;
        if n % 10 == 0 {
            let handle = sent.handle().context("a handle")?;
            match client.recall("t", handle).await {
                Ok(message) => {
                    ensure!(message.message_id == sent.message_id(), "{handle}");
                    continue;
                }
                Err(error) => ensure!(error.code() == 2001, "{error}"),
            }
        }
        due.insert(n.to_string(), sent.stored_at() + delay(n));
    }
    Ok(due)
}

/// Body and time of every message that is in a queue.
pub(crate) async fn delivered(client: &Client, topic: &str) -> Result<Vec<(String, u64)>> {
    let pull = client.pull_consumer();
    let mut all = Vec::new();
    for queue in pull.queues(topic).await? {
        let (mut at, end) = pull.offset_range(&queue).await?;
        while at < end {
            let pulled = pull.pull(&queue, at, &PullOptions::default()).await?;
            let messages = pulled.messages.iter();
            all.extend(messages.map(|it| {
                let body = String::from_utf8_lossy(it.body()).into_owned();
                (body, it.stored_at())
            }));
            ensure!(pulled.next > at, "{queue:?} comes to no end");
            at = pulled.next;
        }
    }
    Ok(all)
}

#[test]
fn each_is_delivered_once_and_never_early_whoever_is_killed() -> Result<()> {
    let (world, mut node) = world_with_node(&[])?;
    let runtime = Runtime::new()?;
    let client = runtime.block_on(connect(&world, &node))?;
    runtime.block_on(client.admin().create_topic("t", 3))?;
    let due = runtime.block_on(send_and_recall(&client))?;
    ensure!(due.len() < MESSAGES as usize, "some were taken back");
    for kept in [&["commitlog", "state"][..], &["commitlog"]] {
        node.kill()?;
        node.strip(kept)?;
        node.start(&world, &[])?;
    }
    let client = runtime.block_on(connect(&world, &node))?;
    let all = || runtime.block_on(delivered(&client, "t"));
    wait_until("all to be delivered", || Ok(all()?.len() >= due.len()))?;
    let mut late = Vec::new();
    let mut left = due.clone();
    for (body, at) in all()? {
        let due = left.remove(&body);
        let due = due.with_context(|| format!("{body} came twice, or was taken back"))?;
        ensure!(at >= due, "{body} came {} ms early", due - at);
        late.push(at - due);
    }
    ensure!(left.is_empty(), "{left:?}");
    late.sort_unstable();
    println!(
        "of {} half came within {} ms",
        late.len(),
        late[late.len() / 2]
    );
    Ok(())
}
