//! Many messages for later, from a second to forty days, and nothing left of the data but the log. `cargo test` has
//! a few thousand; a hundred thousand:
//!
//! `QUERN_DELAYS=100000 cargo test --test e2e many_delays -- --nocapture`

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::join_all;
use quern_client::{Client, Message};
use quern_harness::{PATIENCE, wait_until};
use tokio::runtime::Runtime;
use tokio::time::Instant;

use crate::delay::delivered;
use crate::sdk::connect;
use crate::world_with_node;

const SHORTEST: f64 = 1_000.0;
const LONGEST: f64 = 40.0 * 24.0 * 3_600_000.0;
/// Sent at once.
const TOGETHER: u64 = 2_000;

fn how_many() -> Result<u64> {
    match std::env::var("QUERN_DELAYS") {
        Ok(text) => text.parse().with_context(|| format!("QUERN_DELAYS={text}")),
        Err(_) => Ok(3_000),
    }
}

/// From the shortest to the longest, as many in each span as in one ten times as long.
fn delay(n: u64, of: u64) -> Duration {
    let share = n as f64 / (of - 1) as f64;
    let ms = SHORTEST * (LONGEST / SHORTEST).powf(share);
    Duration::from_millis((ms as u64).min(LONGEST as u64))
}

/// A message that was promised for later.
struct Promised {
    body: String,
    due_at: u64,
}

/// By their ids.
async fn send(client: &Client, many: u64) -> Result<HashMap<String, Promised>> {
    let producer = client.producer("p").send_timeout(PATIENCE).start().await?;
    let mut all = HashMap::new();
    for first in (0..many).step_by(TOGETHER as usize) {
        let some = first..(first + TOGETHER).min(many);
        let sends = some.clone().map(|n| {
            let message = Message::new("t", n.to_string());
            producer.send(message.delay(delay(n, many)))
        });
        for (n, sent) in some.zip(join_all(sends).await) {
            let sent = sent?;
            let promised = Promised {
                body: n.to_string(),
                due_at: sent.stored_at() + delay(n, many).as_millis() as u64,
            };
            all.insert(sent.message_id().to_owned(), promised);
        }
    }
    Ok(all)
}

/// Each waits until it was promised for, or has come, and then not before.
async fn check(client: &Client, promised: &HashMap<String, Promised>) -> Result<(usize, usize)> {
    let listed = client.admin().list_delayed("t", usize::MAX).await?;
    let ordered = listed.is_sorted_by_key(|(_, it)| (it.due_at, it.position));
    ensure!(ordered, "the soonest is not the first");
    let mut waits = HashMap::new();
    for (_, message) in listed {
        waits.insert(message.message_id, message.due_at);
    }
    let mut came = HashMap::new();
    for (body, at) in delivered(client, "t").await? {
        ensure!(came.insert(body.clone(), at).is_none(), "{body} came twice");
    }
    for (id, Promised { body, due_at }) in promised {
        let (waits, came) = (waits.remove(id), came.remove(body));
        let is_kept = match (waits, came) {
            (Some(until), None) => until == *due_at,
            (_, Some(at)) => at >= *due_at,
            (None, None) => false,
        };
        ensure!(is_kept, "{body} was due at {due_at}: {waits:?}, {came:?}");
    }
    ensure!(waits.is_empty() && came.is_empty(), "nobody sent {waits:?}");
    let left = client.admin().list_delayed("t", usize::MAX).await?.len();
    Ok((left, promised.len() - left))
}

#[test]
fn many_delays_outlive_a_kill_and_everything_but_the_log() -> Result<()> {
    let many = how_many()?;
    let (world, mut node) = world_with_node(&[])?;
    let runtime = Runtime::new()?;
    let client = runtime.block_on(connect(&world, &node))?;
    runtime.block_on(client.admin().create_topic("t", 4))?;
    let promised = runtime.block_on(send(&client, many))?;
    ensure!(promised.len() as u64 == many, "each has an id of its own");
    for kept in [&["commitlog"][..], &["commitlog", "state"]] {
        node.kill()?;
        node.strip(kept)?;
        let began = Instant::now();
        node.start(&world, &[])?;
        let took = began.elapsed();
        let client = runtime.block_on(connect(&world, &node))?;
        let (left, came) = runtime.block_on(check(&client, &promised))?;
        println!("{many} delays: started on {kept:?} in {took:?}; {left} wait, {came} have come");
    }
    let client = runtime.block_on(connect(&world, &node))?;
    // It goes on: one that was due while nobody looked comes.
    wait_until("the first to come", || {
        let came = runtime.block_on(delivered(&client, "t"))?;
        Ok(came.iter().any(|(body, _)| body == "0"))
    })
}
