//! The client SDK against a real node: what an application relies on.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use quern_client::{
    Client, ErrorKind, Filter, From, Message, PullOptions, QueueOffset, SendStatus, Trust,
};
use quern_harness::{Node, World};
use tokio::runtime::Runtime;

use crate::world_with_node;

pub(crate) async fn connect(world: &World, node: &Node) -> Result<Client> {
    connect_to(world, &node.namesrv).await
}

pub(crate) async fn connect_to(world: &World, namesrv: &str) -> Result<Client> {
    let authority = world.path(".local/share/quern/dev-ca/ca.pem");
    Ok(Client::builder()
        .namesrv([namesrv])
        .trust(Trust::ca_file(&authority)?)
        .request_timeout(Duration::from_secs(5))
        .build()
        .await?)
}

fn body(n: usize) -> String {
    format!("{n}")
}

/// What a group has not looked at of a topic, or not committed.
pub(crate) async fn lag(client: &Client, group: &str, topic: &str) -> Result<u64> {
    let described = client.admin().describe_group(group).await?;
    let queues = described.iter().flat_map(|(_, it)| &it.queues);
    let queues = queues.filter(|it| it.topic.as_str() == topic);
    let lag = queues.map(|it| it.max.0 - it.committed.unwrap_or(it.min).0);
    Ok(lag.sum())
}

#[test]
fn sends_are_answered_each_and_read_back_where_they_went() -> Result<()> {
    let (world, node) = world_with_node(&[])?;
    Runtime::new()?.block_on(async {
        let client = connect(&world, &node).await?;
        client.admin().create_topic("t", 4).await?;
        let producer = client.producer("p").start().await?;
        let sends: Vec<_> = (0..2_000)
            .map(|n| producer.send(Message::new("t", body(n)).tag("a").key("k")))
            .collect();
        let mut sent = Vec::new();
        for sending in sends {
            sent.push(sending.await?);
        }
        let pull = client.pull_consumer();
        for (n, result) in sent.iter().enumerate() {
            ensure!(result.status() == SendStatus::Ok);
            // One in fifty is enough to show that each answer belongs to its message.
            if n % 50 != 0 {
                continue;
            }
            let one = PullOptions {
                max_messages: 1,
                ..PullOptions::default()
            };
            let pulled = pull.pull(result.queue(), result.offset(), &one).await?;
            let message = pulled.messages.first().context("it is there")?;
            ensure!(message.body() == body(n).as_bytes());
            ensure!(message.message_id() == result.message_id());
            ensure!(message.stored_at() == result.stored_at());
            ensure!((message.tag(), message.keys()) == ("a", "k"));
            ensure!(pulled.next == result.offset().plus(1));
        }
        let queues = pull.queues("t").await?;
        ensure!(queues.len() == 4);
        let mut total = 0;
        for queue in &queues {
            let (min, max) = pull.offset_range(queue).await?;
            ensure!(min == QueueOffset(0) && max.0 > 0, "frames take turns");
            ensure!(pull.offset_at(queue, 0).await? == min);
            ensure!(pull.offset_at(queue, u64::MAX).await? == max);
            total += max.0;
        }
        ensure!(total == 2_000);

        // A dropped future is not a message taken back, and flush waits for it.
        drop(producer.send(Message::new("t", "dropped")));
        producer.flush().await;
        let mut now = 0;
        for queue in &queues {
            now += pull.offset_range(queue).await?.1.0;
        }
        ensure!(now == 2_001);
        client.close().await;
        Ok(())
    })
}

#[test]
fn a_group_goes_on_where_it_committed_and_others_are_not_touched() -> Result<()> {
    let (world, node) = world_with_node(&[])?;
    Runtime::new()?.block_on(async {
        let client = connect(&world, &node).await?;
        client.admin().create_topic("t", 2).await?;
        let producer = client.producer("p").start().await?;
        for n in 0..100 {
            let tag = if n % 2 == 0 { "even" } else { "odd" };
            producer.send(Message::new("t", body(n)).tag(tag)).await?;
        }
        let consumer = |group: &str, filter| client.consumer(group).subscribe("t", filter);
        let mut seen = Vec::new();
        for _ in 0..4 {
            let mut even = consumer("g", Filter::tag("even")).start().await?;
            for _ in 0..10 {
                seen.push(String::from_utf8(even.recv().await?.body().to_vec())?);
            }
            even.commit().await?;
            even.shutdown().await?;
        }
        seen.sort_by_key(|body| body.parse::<usize>().unwrap_or(0));
        let expected: Vec<_> = (0..80).step_by(2).map(body).collect();
        // Two queues are read side by side, so the first 40 are not the 40 oldest.
        ensure!(seen.len() == expected.len());
        seen.dedup();
        ensure!(seen.len() == 40, "nothing twice");
        ensure!(
            client
                .pull_consumer()
                .committed("other", "t")
                .await?
                .is_empty()
        );

        // Only what comes from now on, and it comes without asking again.
        let mut last = consumer("l", Filter::All).from(From::Last).start().await?;
        producer.send(Message::new("t", "new")).await?;
        ensure!(last.recv().await?.body() == b"new");
        last.shutdown().await?;
        client.close().await;
        Ok(())
    })
}

#[test]
fn what_cannot_be_sent_is_refused_by_kind_and_harms_no_other_send() -> Result<()> {
    let (world, mut node) = world_with_node(&[])?;
    Runtime::new()?.block_on(async {
        let client = connect(&world, &node).await?;
        client.admin().create_topic("t", 1).await?;
        let producer = client.producer("p").start().await?;
        let cases = [
            (Message::new("nowhere", "x"), ErrorKind::NotFound),
            (Message::new("a b", "x"), ErrorKind::Invalid),
            (Message::new("t", "x").tag("a|b"), ErrorKind::Invalid),
            (
                Message::new("t", vec![0; (4 << 20) + 1]),
                ErrorKind::Invalid,
            ),
            (Message::new("t", "x").prop("TAGS", "y"), ErrorKind::Invalid),
        ];
        for (message, kind) in cases {
            let (bad, good) = (
                producer.send(message),
                producer.send(Message::new("t", "good")),
            );
            let error = bad.await.err().context("it is refused")?;
            ensure!(error.kind() == kind, "{error}: {:?}", error.kind());
            good.await?;
        }
        ensure!(client.producer("a b").start().await.is_err());
        let largest = producer.send(Message::new("t", vec![7; 4 << 20])).await?;
        let pull = client.pull_consumer();
        let pulled = pull
            .pull(largest.queue(), largest.offset(), &PullOptions::default())
            .await?;
        ensure!(
            pulled
                .messages
                .first()
                .is_some_and(|it| it.body().len() == 4 << 20)
        );

        // A broker that is gone is a matter of time-outs, and of coming back.
        node.kill()?;
        let error = producer.send(Message::new("t", "lost")).await.err();
        let kind = error.context("nobody is there")?.kind();
        ensure!(
            matches!(
                kind,
                ErrorKind::Connect | ErrorKind::Timeout | ErrorKind::Unknown
            ),
            "{kind:?}"
        );
        node.start(&world, &[])?;
        // The old connection is found dead by the first who uses it; what it sent, nobody knows.
        if let Err(error) = producer.send(Message::new("t", "again")).await {
            ensure!(error.kind() == ErrorKind::Unknown, "{error}");
            producer.send(Message::new("t", "again")).await?;
        }
        client.close().await;
        Ok(())
    })
}

/// Consumers are known by the client they belong to, in RocketMQ's words.
#[test]
fn a_client_has_an_id_and_its_consumers_are_known_by_it() -> Result<()> {
    let (world, node) = world_with_node(&[])?;
    Runtime::new()?.block_on(async {
        let authority = world.path(".local/share/quern/dev-ca/ca.pem");
        let client = Client::builder()
            .namesrv([&node.namesrv])
            .trust(Trust::ca_file(&authority)?)
            .instance_name("billing-1")
            .unit_name("eu")
            .build()
            .await?;
        ensure!(client.id() == "127.0.0.1@billing-1@eu", "{}", client.id());
        client.admin().create_topic("t", 2).await?;
        let consumer = || client.consumer("g").subscribe("t", Filter::All);
        let (one, other) = (consumer().start().await?, consumer().start().await?);
        ensure!(one.member() == client.id());
        ensure!(other.member() == format!("{}#2", client.id()));
        let described = client.admin().describe_group("g").await?;
        let members = described.iter().flat_map(|(_, it)| &it.members);
        let mut members: Vec<_> = members.map(|it| it.member.as_str()).collect();
        members.sort_unstable();
        ensure!(members == [one.member(), other.member()], "{members:?}");
        one.shutdown().await?;
        other.shutdown().await?;
        Ok(())
    })
}
