//! A consumer that is suspended with real processes: it keeps its queues, is given nothing, and goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, ensure};
use quern_client::{Client, Filter, Message};
use quern_harness::wait_until;
use tokio::runtime::Runtime;

use crate::sdk::{connect, lag};
use crate::world_with_node;

async fn send(client: &Client, count: usize) -> Result<()> {
    let producer = client.producer("p").start().await?;
    let sends: Vec<_> = (0..count)
        .map(|n| producer.send(Message::new("t", n.to_string())))
        .collect();
    for sending in sends {
        sending.await?;
    }
    Ok(())
}

#[test]
fn a_suspended_listener_is_given_nothing_and_goes_on_when_it_is_resumed() -> Result<()> {
    let (world, node) = world_with_node(&[])?;
    let runtime = Runtime::new()?;
    let client = runtime.block_on(connect(&world, &node))?;
    runtime.block_on(client.admin().create_topic("t", 2))?;
    for (group, is_orderly) in [("any", false), ("orderly", true)] {
        let seen = Arc::<AtomicUsize>::default();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let consumer = client.consumer(group).subscribe("t", Filter::All);
        let consumer = runtime.block_on(consumer.from(quern_client::From::Last).start())?;
        runtime.block_on(consumer.ends())?;
        let switch = consumer.switch();
        let counting = Arc::clone(&seen);
        let listener = move |_| {
            counting.fetch_add(1, Ordering::Relaxed);
            async { Ok(()) }
        };
        let listening = runtime.spawn(async move {
            let until = async {
                let _ = stopped.await;
            };
            match is_orderly {
                true => consumer.listen_orderly(4, listener, until).await,
                false => consumer.listen(4, listener, until).await,
            }
        });
        let count = |expected: usize| {
            wait_until(&format!("{expected} to be seen"), || {
                Ok(seen.load(Ordering::Relaxed) == expected)
            })
        };
        runtime.block_on(send(&client, 40))?;
        count(40)?;
        switch.suspend();
        ensure!(switch.is_suspended());
        runtime.block_on(send(&client, 40))?;
        // Committed is what it was given, and the queues are its own still.
        wait_until("a commit", || {
            Ok(runtime.block_on(lag(&client, group, "t"))? == 40)
        })?;
        ensure!(seen.load(Ordering::Relaxed) == 40);
        let members = world.ok(&[
            "group",
            "members",
            group,
            "-o",
            "ndjson",
            "--namesrv",
            &node.namesrv,
        ])?;
        ensure!(members.lines().count() == 1, "{members}");
        switch.resume();
        count(80)?;
        let _ = stop.send(());
        runtime.block_on(listening)??;
    }
    runtime.block_on(client.close());
    Ok(())
}
