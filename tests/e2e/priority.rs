//! Priorities: what is urgent goes first, what is not is not starved, and the order of a lane holds.

use std::collections::HashMap;

use anyhow::{Context as _, Result, ensure};
use quern_client::{Client, Filter, Message, MessageType, MessageView, Priority, TopicSetting};
use tokio::runtime::Runtime;

use crate::sdk::connect;
use crate::world_with_node;

const LEVELS: [u8; 3] = [7, 8, 9];

/// A topic for priorities with so many messages of each level.
async fn fill(client: &Client, topic: &str, each: usize) -> Result<()> {
    let settings = vec![TopicSetting::Messages(Some(MessageType::Priority))];
    let admin = client.admin();
    admin.create_topic_with(topic, 10, settings).await?;
    let producer = client.producer("p").start().await?;
    let mut sending = Vec::new();
    for level in LEVELS {
        let priority = Priority::new(level).context("a level")?;
        for n in 0..each {
            let message = Message::new(topic, format!("{level} {n}")).priority(priority);
            sending.push(producer.send(message));
        }
    }
    for sent in sending {
        sent.await?;
    }
    Ok(())
}

fn level(message: &MessageView) -> Result<u8> {
    let (level, _) = std::str::from_utf8(message.body())?
        .split_once(' ')
        .context("a level first")?;
    Ok(level.parse()?)
}

#[test]
fn members_receive_every_lane_in_its_order() -> Result<()> {
    let (world, node) = world_with_node(&[])?;
    Runtime::new()?.block_on(async {
        const EACH: usize = 2_000;
        let client = connect(&world, &node).await?;
        fill(&client, "t", EACH).await?;
        let group = client.consumer("g").by_priority();
        let mut consumer = group.subscribe("t", Filter::All).start().await?;
        let mut next: HashMap<u8, u64> = HashMap::new();
        for _ in 0..EACH * LEVELS.len() {
            let message = consumer.recv().await?;
            let level = level(&message)?;
            ensure!(
                message.queue().queue.0 == u32::from(level),
                "each has its lane"
            );
            let expected = next.entry(level).or_default();
            ensure!(
                message.offset().0 == *expected,
                "{level}: {} before {expected}",
                message.offset()
            );
            *expected += 1;
        }
        consumer.shutdown().await?;
        let each: Vec<_> = LEVELS
            .iter()
            .map(|level| next.get(level).copied())
            .collect();
        ensure!(each == [Some(EACH as u64); LEVELS.len()], "{next:?}");
        Ok(())
    })
}

#[test]
fn pops_take_twice_as_much_for_each_level() -> Result<()> {
    let (world, node) = world_with_node(&[])?;
    Runtime::new()?.block_on(async {
        const POPS: usize = 140;
        let client = connect(&world, &node).await?;
        fill(&client, "t", POPS).await?;
        let group = client.simple_consumer("g").batch(1);
        let mut consumer = group.subscribe("t", Filter::All).start().await?;
        let mut counts: HashMap<u8, usize> = HashMap::new();
        for _ in 0..POPS {
            let delivery = consumer.receive().await?;
            *counts.entry(level(delivery.message())?).or_default() += 1;
            delivery.ack().await?;
        }
        // 80, 40 and 20 of 140 are to be expected.
        let of = |level| counts.get(&level).copied().unwrap_or(0);
        ensure!(of(9) >= 55 && of(8) >= 15 && of(7) >= 2, "{counts:?}");
        Ok(())
    })
}

#[test]
fn what_makes_no_sense_with_a_priority_is_refused() -> Result<()> {
    let (world, node) = world_with_node(&[])?;
    let at = ["--namesrv", node.namesrv.as_str()];
    let quern = |args: &[&str]| world.ok(&[args, &at].concat());
    quern(&[
        "topic", "create", "jobs", "--type", "priority", "--queues", "10",
    ])?;
    let sent = quern(&["produce", "jobs", "--priority", "9", "now"])?;
    ensure!(sent.contains("queue 9"), "{sent}");
    quern(&["produce", "jobs", "--priority", "0", "some time"])?;
    let all = quern(&[
        "consume",
        "jobs",
        "--group",
        "g",
        "--by-priority",
        "--format",
        "%q %v\\n",
    ])?;
    ensure!(all.lines().count() == 2 && all.contains("9 now"), "{all}");
    let fails = |args: &[&str], exit, code| world.fails(&[args, &at].concat(), exit, code);
    fails(&["produce", "jobs", "none"], 2, "Q-3009")?;
    fails(&["produce", "jobs", "--priority", "10", "x"], 2, "0 to 9")?;
    fails(
        &[
            "produce",
            "jobs",
            "--priority",
            "9",
            "--order-key",
            "k",
            "x",
        ],
        2,
        "cannot be used with",
    )?;
    let line = "{\"body\":\"x\",\"order_key\":\"k\"}\n";
    let file = world.path("lines");
    std::fs::write(&file, line)?;
    let file = file.to_str().context("a path of text")?;
    fails(
        &[
            "produce",
            "jobs",
            "--ndjson",
            "--file",
            file,
            "--priority",
            "1",
        ],
        2,
        "Q-3005",
    )?;
    Ok(())
}
