//! Transactions with real processes: a message is delivered if, and only if, it is committed, and once,
//! whoever dies when.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use quern_client::{Client, Message, TransactionState, parked_topic};
use quern_harness::wait_until;
use tokio::runtime::Runtime;

use crate::delay::delivered;
use crate::sdk::connect;
use crate::world_with_node;

#[test]
fn each_ends_in_one_state_that_can_be_looked_up_through_crashes() -> Result<()> {
    let (world, mut node) = world_with_node(&[])?;
    let at = node.namesrv.clone();
    let quern = |args: &[&str]| world.ok(&[args, &["--namesrv", &at]].concat());
    quern(&["topic", "create", "t", "--type", "transaction"])?;
    let produce = |body: &str, end: &str| quern(&["produce", "t", body, "--tx", end]);
    ensure!(produce("paid", "commit")?.contains(" offset 0"));
    let handle = |said: String| said.split_whitespace().last().map(str::to_owned);
    let back = handle(produce("back", "rollback")?).context("a handle")?;
    let open = handle(produce("open", "unknown")?).context("a handle")?;
    let late = handle(produce("late", "unknown")?).context("a handle")?;
    let state = |handle: &str| quern(&["tx", "show", "t", handle, "-o", "ndjson"]);
    let has = |handle: &str, expected: &str| -> Result<()> {
        let state = state(handle)?;
        ensure!(
            state.contains(&format!("\"state\":\"{expected}\"")),
            "{state}"
        );
        Ok(())
    };
    let listed = || quern(&["tx", "ls", "t", "-o", "ndjson"]);
    ensure!(listed()?.lines().count() == 2, "{}", listed()?);
    quern(&["tx", "commit", "t", &late])?;
    // The same end again is no other.
    quern(&["tx", "commit", "t", &late])?;
    for kept in [&["commitlog", "state"][..], &["commitlog"]] {
        node.kill()?;
        node.strip(kept)?;
        node.start(&world, &[])?;
        has(&back, "rolled back")?;
        has(&late, "committed")?;
        has(&open, "open")?;
        let other = ["tx", "rollback", "t", &late, "--namesrv", &at];
        world.fails(&other, 4, "Q-3021")?;
        let other = ["tx", "commit", "t", &back, "--namesrv", &at];
        world.fails(&other, 4, "Q-3021")?;
    }
    ensure!(listed()?.lines().count() == 1, "{}", listed()?);
    let consume = [
        "consume", "t", "--group", "g", "--from", "first", "--format", "%v\\n",
    ];
    let mut bodies: Vec<_> = quern(&consume)?.lines().map(str::to_owned).collect();
    bodies.sort();
    ensure!(bodies == ["late", "paid"], "{bodies:?}");
    let parked = parked_topic();
    let cases: &[(&[&str], i32, &str)] = &[
        (&["produce", "t", "x"], 2, "Q-3009"),
        (
            &["produce", "t", "x", "--tx", "maybe"],
            2,
            "possible values",
        ),
        (
            &["produce", "t", "x", "--tx", "commit", "--delay", "1s"],
            2,
            "cannot be used with",
        ),
        (&["tx", "show", "t", "broker-a/12345"], 3, "Q-2001"),
        (
            &["tx", "show", "t", "broker-a/18446744073709551615"],
            3,
            "Q-2001",
        ),
        (&["tx", "show", "t", "nothing"], 2, "no handle"),
        (&["topic", "create", parked.as_str()], 2, "Q-3004"),
    ];
    for (args, exit, code) in cases {
        world.fails(&[args, &["--namesrv", &at][..]].concat(), *exit, code)?;
    }
    Ok(())
}

/// Begins a transaction for each of these bodies, and is gone.
async fn begin_and_die(client: Client, bodies: &[&str]) -> Result<()> {
    let asked_too_early = |_| async { TransactionState::Unknown };
    let producer = client.transaction_producer("pay", asked_too_early);
    let producer = producer.start().await?;
    for body in bodies {
        drop(
            producer
                .begin(Message::new("t", (*body).to_owned()))
                .await?,
        );
    }
    client.close().await;
    Ok(())
}

#[test]
fn whoever_is_of_the_group_is_asked_and_nobody_is_asked_for_ever() -> Result<()> {
    let soon = [
        "--tx-timeout",
        "300ms",
        "--tx-check-interval",
        "300ms",
        "--tx-check-max",
        "2",
    ];
    let (world, mut node) = world_with_node(&soon)?;
    let runtime = Runtime::new()?;
    let client = runtime.block_on(connect(&world, &node))?;
    runtime.block_on(client.admin().create_topic("t", 1))?;
    runtime.block_on(begin_and_die(
        client,
        &["commit", "roll back", "nobody knows", "panic"],
    ))?;
    node.kill()?;
    node.start(&world, &soon)?;
    let client = runtime.block_on(connect(&world, &node))?;
    let other = client.transaction_producer("other", |_| async { TransactionState::Commit });
    let _other = runtime.block_on(other.start())?;
    let knows = client.transaction_producer("pay", |message| async move {
        match message.body() {
            b"commit" => TransactionState::Commit,
            b"roll back" => TransactionState::RollBack,
            b"panic" => panic!("as a check may"),
            _ => TransactionState::Unknown,
        }
    });
    let _knows = runtime.block_on(knows.start())?;
    let open = || runtime.block_on(client.admin().list_transactions(Some("t"), 10));
    wait_until("all to be decided", || Ok(open()?.is_empty()))?;
    let bodies = |topic: &str| -> Result<Vec<String>> {
        let all = runtime.block_on(delivered(&client, topic))?;
        let mut all: Vec<_> = all.into_iter().map(|(body, _)| body).collect();
        all.sort();
        Ok(all)
    };
    ensure!(bodies("t")? == ["commit"], "{:?}", bodies("t")?);
    let parked = bodies(parked_topic().as_str())?;
    ensure!(parked == ["nobody knows", "panic"], "{parked:?}");
    Ok(())
}

const TRANSACTIONS: usize = 600;

/// One transaction, committed or not by its number; what its producer believes: committed, not, or nothing.
async fn one(producer: quern_client::TransactionProducer, n: usize) -> (usize, Option<bool>) {
    let Ok(transaction) = producer.begin(Message::new("t", n.to_string())).await else {
        return (n, None);
    };
    let ended = match n % 3 {
        0 => transaction.roll_back().await.map(|()| false),
        _ => transaction.commit().await.map(|_| true),
    };
    (n, ended.ok())
}

#[test]
fn a_broker_killed_under_transactions_delivers_the_committed_once() -> Result<()> {
    let soon = ["--tx-timeout", "500ms", "--tx-check-interval", "500ms"];
    let (world, mut node) = world_with_node(&soon)?;
    let runtime = Runtime::new()?;
    let client = runtime.block_on(connect(&world, &node))?;
    runtime.block_on(client.admin().create_topic("t", 2))?;
    let check = |message: quern_client::UndecidedMessage| async move {
        let n: Option<usize> = std::str::from_utf8(message.body())
            .ok()
            .and_then(|it| it.parse().ok());
        match n.map(|n| n % 3) {
            Some(0) | None => TransactionState::RollBack,
            Some(_) => TransactionState::Commit,
        }
    };
    let producer = client.transaction_producer("pay", check);
    let producer = producer.send_timeout(Duration::from_secs(30));
    let producer = runtime.block_on(producer.start())?;
    let ended = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&ended);
    let load = runtime.spawn(async move {
        let mut under_way = FuturesUnordered::new();
        let (mut next, mut believed) = (0, HashMap::new());
        while next < TRANSACTIONS || !under_way.is_empty() {
            while under_way.len() < 40 && next < TRANSACTIONS {
                under_way.push(one(producer.clone(), next));
                next += 1;
            }
            if let Some((n, end)) = under_way.next().await {
                believed.insert(n.to_string(), end);
                counted.fetch_add(1, Ordering::Relaxed);
            }
        }
        (producer, believed)
    });
    for kill in 1..4 {
        let so_many = || Ok(ended.load(Ordering::Relaxed) >= kill * 120);
        wait_until("some to end", so_many)?;
        node.kill()?;
        node.start(&world, &soon)?;
    }
    let (_producer, believed) = runtime.block_on(load)?;
    let open = || runtime.block_on(client.admin().list_transactions(None, 10));
    wait_until("all to be decided", || Ok(open()?.is_empty()))?;
    let mut times: HashMap<String, usize> = HashMap::new();
    for (body, _) in runtime.block_on(delivered(&client, "t"))? {
        *times.entry(body).or_default() += 1;
    }
    for (n, end) in &believed {
        let found = times.get(n).copied().unwrap_or(0);
        match end {
            Some(true) => ensure!(found == 1, "{n} is committed and there {found} times"),
            Some(false) => ensure!(found == 0, "{n} is rolled back and there"),
            None => ensure!(found <= 1, "{n} is there {found} times"),
        }
    }
    let known = believed.values().flatten().count();
    println!(
        "{known} of {TRANSACTIONS} known to their producer, {} delivered",
        times.len()
    );
    Ok(())
}
