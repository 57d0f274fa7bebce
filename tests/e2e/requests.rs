//! Requests and replies: who asks hears, who is late is told, and nobody hears what is not for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use quern_client::{ErrorKind, Filter, Message, MessageView, ReplyOutcome};
use quern_harness::wait_until;
use tokio::runtime::Runtime;

use crate::sdk::connect;
use crate::world_with_node;

const LONG: Duration = Duration::from_secs(20);

#[test]
fn each_request_has_its_own_reply_whoever_gives_it() -> Result<()> {
    let (world, node) = world_with_node(&[])?;
    Runtime::new()?.block_on(async {
        let answers = connect(&world, &node).await?;
        answers.admin().create_topic("questions", 4).await?;
        // Two that answer, in their own time and not in order.
        let mut listening = Vec::new();
        let (stop, stopped) = tokio::sync::watch::channel(false);
        for _ in 0..2 {
            let group = answers.consumer("answering");
            let consumer = group.subscribe("questions", Filter::All).start().await?;
            let (client, mut stopped) = (answers.clone(), stopped.clone());
            let answer = move |question: MessageView| {
                let client = client.clone();
                async move {
                    let n: u64 = String::from_utf8_lossy(question.body())
                        .parse()
                        .unwrap_or(0);
                    tokio::time::sleep(Duration::from_millis(n * 7 % 30)).await;
                    let reply = Message::new("", format!("{n} squared is {}", n * n)).tag("answer");
                    let given = client.reply(&question, reply).await;
                    given.map(drop).map_err(|error| error.to_string())
                }
            };
            let until = async move { drop(stopped.wait_for(|it| *it).await) };
            listening.push(tokio::spawn(consumer.listen(16, answer, until)));
        }
        // Two that ask, each many things at once.
        let (one, other) = (connect(&world, &node).await?, connect(&world, &node).await?);
        let mut asking = Vec::new();
        for client in [&one, &other] {
            let producer = Arc::new(client.producer("asking").start().await?);
            for n in 0..100u64 {
                let producer = Arc::clone(&producer);
                asking.push(tokio::spawn(async move {
                    let question = Message::new("questions", n.to_string());
                    let reply = producer.request(question, LONG).await?;
                    let expected = format!("{n} squared is {}", n * n);
                    ensure!(reply.body() == expected.as_bytes() && reply.tag() == "answer");
                    Ok(())
                }));
            }
        }
        for asked in asking {
            asked.await??;
        }
        ensure!(one.late_replies() + other.late_replies() == 0);
        stop.send(true)?;
        for listener in listening {
            listener.await??;
        }
        Ok(())
    })
}

#[test]
fn a_late_reply_is_told_and_nobody_waits_for_ever() -> Result<()> {
    let (world, mut node) = world_with_node(&[])?;
    let runtime = Runtime::new()?;
    let client = runtime.block_on(connect(&world, &node))?;
    let (late, given) = runtime.block_on(async {
        client.admin().create_topic("questions", 1).await?;
        let producer = client.producer("asking").start().await?;
        let soon = Duration::from_millis(300);
        let unheard = producer.request(Message::new("questions", "?"), soon).await;
        let group = client
            .consumer("answering")
            .subscribe("questions", Filter::All);
        let mut consumer = group.start().await?;
        let question = consumer.recv().await?;
        ensure!(question.is_request());
        let given = client
            .reply(&question, Message::new("", "too late"))
            .await?;
        // A message that asks for nothing, and a request that is for later.
        producer
            .send(Message::new("questions", "no question"))
            .await?;
        let plain = consumer.recv().await?;
        let refused = client.reply(&plain, Message::new("", "x")).await;
        ensure!(!plain.is_request() && refused.is_err());
        let later = Message::new("questions", "?").delay(LONG);
        ensure!(producer.request(later, LONG).await.is_err());
        consumer.shutdown().await?;
        Ok((unheard, given))
    })?;
    let error = late.err().context("nobody replied")?;
    ensure!(error.kind() == ErrorKind::Timeout, "{error}");
    ensure!(given == ReplyOutcome::Late);
    // A broker that dies takes replies along that were not fetched; who asks after it is back hears.
    node.kill()?;
    node.start(&world, &[])?;
    let asked = runtime.block_on(async {
        let group = client
            .consumer("answering")
            .subscribe("questions", Filter::All);
        let mut consumer = group.start().await?;
        let answering = client.clone();
        let answer = tokio::spawn(async move {
            let question = consumer.recv().await?;
            answering.reply(&question, Message::new("", "yes")).await?;
            consumer.shutdown().await
        });
        let producer = client.producer("asking").send_timeout(LONG).start().await?;
        let reply = producer
            .request(Message::new("questions", "alive?"), LONG)
            .await?;
        answer.await??;
        anyhow::Ok(reply)
    })?;
    ensure!(asked.body() == b"yes");
    Ok(())
}

#[test]
fn the_command_line_asks_and_answers() -> Result<()> {
    let (world, node) = world_with_node(&[])?;
    let at = ["--namesrv", node.namesrv.as_str()];
    let quern = |args: &[&str]| world.ok(&[args, &at].concat());
    quern(&["topic", "create", "questions", "--queues", "1"])?;
    let answering = [
        "consume",
        "questions",
        "--group",
        "answering",
        "--follow",
        "--exec",
        "tr a-z A-Z",
        "--reply",
        at[0],
        at[1],
    ];
    let mut answers = world.command(&answering).spawn()?;
    let heard = quern(&["produce", "questions", "how are you?", "--request", "20s"]);
    answers.kill()?;
    answers.wait()?;
    ensure!(heard? == "HOW ARE YOU?\n");
    let unheard = [
        "produce",
        "questions",
        "anybody?",
        "--request",
        "200ms",
        at[0],
        at[1],
    ];
    let mut said = HashMap::new();
    wait_until("a request that nobody hears to end", || {
        let output = world.run(&unheard)?;
        said.insert(
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        );
        Ok(!output.status.success())
    })?;
    ensure!(said.values().any(|it| it.contains("Q-1003")), "{said:?}");
    Ok(())
}
