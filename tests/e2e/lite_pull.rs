//! The lite pull consumer with real processes: members share the queues, and hold them back or have them read from
//! elsewhere as the application wants.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use quern_client::{Client, Filter, LitePullConsumer, Message, MessageQueue, QueueOffset};
use quern_harness::PATIENCE;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::sdk::connect;
use crate::world_with_node;

const SHORT: Duration = Duration::from_millis(300);

async fn send(client: &Client, numbers: std::ops::Range<usize>) -> Result<()> {
    let producer = client.producer("p").start().await?;
    let sends: Vec<_> = numbers
        .map(|n| producer.send(Message::new("t", n.to_string())))
        .collect();
    for sending in sends {
        sending.await?;
    }
    Ok(())
}

async fn member(client: &Client) -> Result<LitePullConsumer> {
    let consumer = client.consumer("g").subscribe("t", Filter::All);
    Ok(consumer.start_lite_pull().await?)
}

/// What a poll brings, as numbers.
async fn poll(consumer: &mut LitePullConsumer, into: &mut Vec<usize>) -> Result<()> {
    for message in consumer.poll(64, SHORT).await? {
        into.push(str::from_utf8(message.body())?.parse()?);
    }
    Ok(())
}

/// Polls all of them until together they have so many.
async fn polled(consumers: &mut [&mut LitePullConsumer], count: usize) -> Result<Vec<usize>> {
    let mut got = Vec::new();
    let all = async {
        while got.len() < count {
            for consumer in consumers.iter_mut() {
                poll(consumer, &mut got).await?;
            }
        }
        Ok::<_, anyhow::Error>(())
    };
    let in_time = timeout(PATIENCE, all).await;
    in_time.with_context(|| format!("{count} in vain"))??;
    got.sort_unstable();
    Ok(got)
}

/// Polls them until each has so many queues; there is nothing else to be had.
async fn have(consumers: &mut [(&mut LitePullConsumer, usize)]) -> Result<()> {
    while consumers
        .iter()
        .any(|(it, count)| queues(it).len() != *count)
    {
        for (consumer, _) in consumers.iter_mut() {
            let mut none = Vec::new();
            poll(consumer, &mut none).await?;
            ensure!(none.is_empty(), "{none:?}");
        }
    }
    Ok(())
}

fn queues(consumer: &LitePullConsumer) -> Vec<MessageQueue> {
    consumer.positions().into_iter().map(|(it, _)| it).collect()
}

#[test]
fn members_share_queues_and_each_holds_back_and_seeks_as_it_likes() -> Result<()> {
    let (world, mut node) = world_with_node(&[])?;
    let runtime = Runtime::new()?;
    let client = runtime.block_on(connect(&world, &node))?;
    let mut first = runtime.block_on(async {
        client.admin().create_topic("t", 4).await?;
        send(&client, 0..400).await?;
        let mut first = member(&client).await?;
        let got = polled(&mut [&mut first], 400).await?;
        ensure!(got == (0..400).collect::<Vec<_>>(), "{got:?}");
        first.commit().await?;
        let committed = client.pull_consumer().committed("g", "t").await?;
        let sum: u64 = committed.iter().map(|(_, offset)| offset.0).sum();
        ensure!(sum == 400, "{committed:?}");
        // Two share.
        let mut second = member(&client).await?;
        timeout(PATIENCE, have(&mut [(&mut first, 2), (&mut second, 2)])).await??;
        let of_others = queues(&second).into_iter().next().context("it has two")?;
        let error = first.seek(&of_others, QueueOffset(0)).await.err();
        ensure!(
            error.as_ref().is_some_and(|it| it.code() == 3011),
            "{error:?}"
        );
        send(&client, 400..500).await?;
        let got = polled(&mut [&mut first, &mut second], 100).await?;
        ensure!(got == (400..500).collect::<Vec<_>>(), "{got:?}");
        second.shutdown().await?;
        timeout(PATIENCE, have(&mut [(&mut first, 4)])).await??;
        Ok(first)
    })?;
    runtime.block_on(holds_back(&client, &mut first))?;
    let sought = runtime.block_on(seeks(&client, &mut first))?;
    // Where it was sought, it goes on though everybody is killed.
    drop(first);
    node.kill()?;
    node.start(&world, &[])?;
    runtime.block_on(async {
        let mut first = member(&client).await?;
        let got = polled(&mut [&mut first], sought.len()).await?;
        ensure!(got == sought, "{got:?}");
        first.shutdown().await?;
        client.close().await;
        Ok(())
    })
}

async fn holds_back(client: &Client, consumer: &mut LitePullConsumer) -> Result<()> {
    let all = queues(consumer);
    let (held, free) = all.split_at(1);
    consumer.pause(held.iter().cloned());
    let producer = client.producer("p").start().await?;
    for n in 500..540 {
        // One after the other, so each of the queues gets ten.
        producer.send(Message::new("t", n.to_string())).await?;
    }
    let got = polled(&mut [&mut *consumer], 30).await?;
    ensure!(got.len() == 30, "{got:?}");
    let mut more = Vec::new();
    poll(consumer, &mut more).await?;
    ensure!(more.is_empty(), "of {free:?} all is read: {more:?}");
    ensure!(consumer.paused().eq(held));
    consumer.resume(held.iter().cloned());
    let rest = polled(&mut [&mut *consumer], 10).await?;
    let all: BTreeSet<_> = got.iter().chain(&rest).copied().collect();
    ensure!(all.into_iter().eq(500..540), "{got:?} {rest:?}");
    Ok(())
}

/// Reads a queue again; then goes back once more, to what is returned, and reads none of it.
async fn seeks(client: &Client, consumer: &mut LitePullConsumer) -> Result<Vec<usize>> {
    let queue = queues(consumer).pop().context("it has four")?;
    let (_, end) = consumer.offset_range(&queue).await?;
    consumer.seek(&queue, QueueOffset(0)).await?;
    let again = polled(&mut [&mut *consumer], end.0 as usize).await?;
    ensure!(again.len() == end.0 as usize, "{again:?}");
    // To the last ten of them, by their time.
    let at = |offset| {
        let (client, queue) = (client.clone(), queue.clone());
        async move {
            let options = quern_client::PullOptions {
                max_messages: 10,
                ..Default::default()
            };
            let pulled = client
                .pull_consumer()
                .pull(&queue, offset, &options)
                .await?;
            Ok::<_, anyhow::Error>(pulled.messages)
        }
    };
    let last = at(QueueOffset(end.0 - 10)).await?;
    let stored_at = last.first().context("ten of them")?.stored_at();
    let then = consumer.offset_at(&queue, stored_at).await?;
    ensure!(then.0 <= end.0 - 10, "{then} is behind {end}");
    consumer.commit().await?;
    consumer.seek(&queue, then).await?;
    let committed = client.pull_consumer().committed("g", "t").await?;
    ensure!(committed.contains(&(queue.clone(), then)), "{committed:?}");
    let mut bodies = Vec::new();
    let mut from = then;
    while from < end {
        let messages = at(from).await?;
        for message in &messages {
            bodies.push(str::from_utf8(message.body())?.parse()?);
        }
        from = from.plus(messages.len() as u64);
    }
    bodies.sort_unstable();
    Ok(bodies)
}
