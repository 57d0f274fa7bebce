//! Members that are sent their messages, and members that ask for them: the same comes, through a crash as well.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Result, ensure};
use quern_client::{Client, Consumer, Filter, Message};
use quern_harness::{PATIENCE, wait_until};
use tokio::runtime::Runtime;
use tokio::time::{Instant, timeout};

use crate::sdk::connect;
use crate::world_with_node;

async fn send(client: &Client, numbers: std::ops::Range<usize>) -> Result<()> {
    let producer = client.producer("p").send_timeout(PATIENCE).start().await?;
    for n in numbers {
        producer.send(Message::new("t", n.to_string())).await?;
    }
    Ok(())
}

/// Receives until all of these have been; each queue in its order, and nothing twice.
async fn receive(consumers: &mut [Consumer], expected: std::ops::Range<usize>) -> Result<()> {
    let mut left: BTreeSet<String> = expected.map(|n| n.to_string()).collect();
    let mut last = BTreeMap::new();
    let until = Instant::now() + PATIENCE;
    while !left.is_empty() {
        ensure!(Instant::now() < until, "{} are left", left.len());
        for consumer in &mut *consumers {
            let Ok(message) = timeout(Duration::from_millis(20), consumer.recv()).await else {
                continue;
            };
            let message = message?;
            let body = String::from_utf8_lossy(message.body()).into_owned();
            ensure!(left.remove(&body), "{body} came twice");
            let before = last.insert(message.queue().clone(), message.offset());
            ensure!(before < Some(message.offset()), "{body} came out of order");
        }
    }
    Ok(())
}

#[test]
fn who_is_sent_messages_and_who_asks_share_a_group_and_go_on_after_a_crash() -> Result<()> {
    let (world, mut node) = world_with_node(&[])?;
    let runtime = Runtime::new()?;
    let client = runtime.block_on(connect(&world, &node))?;
    runtime.block_on(client.admin().create_topic("t", 4))?;
    let member = |id: &str| {
        let consumer = client.consumer("g").member(id);
        // Few at once, so that much credit is granted and used up.
        consumer
            .subscribe("t", Filter::All)
            .pull_threshold(4, 4_096)
    };
    let mut members = vec![
        runtime.block_on(member("sent").start())?,
        runtime.block_on(member("asks").polling().start())?,
    ];
    wait_until("each to have its half", || {
        Ok(members.iter().all(|it| it.positions().len() == 2))
    })?;
    runtime.block_on(send(&client, 0..200))?;
    runtime.block_on(receive(&mut members, 0..200))?;
    for member in &mut members {
        runtime.block_on(member.commit())?;
    }
    node.kill()?;
    node.start(&world, &[])?;
    runtime.block_on(send(&client, 200..300))?;
    runtime.block_on(receive(&mut members, 200..300))?;
    for member in members {
        runtime.block_on(member.shutdown())?;
    }
    Ok(())
}
