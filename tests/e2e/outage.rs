//! Name servers that are away: who knows brokers goes on with those.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use quern_client::{Filter, Message};
use quern_harness::{Broker, PATIENCE, World, free_port, wait_until};
use tokio::runtime::Runtime;
use tokio::time::{sleep, timeout};

use crate::QUERN;
use crate::sdk::connect_to;

/// Its broker, which coordinates its group, is killed as well, so that all that is known of it is in doubt.
#[test]
fn a_member_finds_its_broker_again_while_the_name_server_is_away() -> Result<()> {
    let world = World::new(QUERN)?;
    let namesrv = format!("127.0.0.1:{}", free_port()?);
    let args = ["start", "--namesrv-only", "--namesrv-listen", &namesrv];
    let server = world.start(&args, "Ctrl-C drains")?;
    let broker = Broker::new(&world, "broker-a", &namesrv)?;
    let running = broker.start(&world)?;
    wait_until("the topic to be there", || {
        let created = world.run(&["topic", "create", "t", "--namesrv", &namesrv])?;
        Ok(matches!(created.status.code(), Some(0 | 4)))
    })?;
    Runtime::new()?.block_on(async {
        let client = connect_to(&world, &namesrv).await?;
        let producer = client.producer("p").start().await?;
        let consumer = client.consumer("g").subscribe("t", Filter::All);
        let mut consumer = consumer.start().await?;
        producer.send(Message::new("t", "before")).await?;
        ensure!(consumer.recv().await?.body() == b"before");

        server.kill()?;
        running.kill()?;
        let _running = broker.start(&world)?;
        let sent = async {
            while producer.send(Message::new("t", "after")).await.is_err() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(PATIENCE, sent).await.context("nothing is sent")?;
        let received = async {
            while consumer.recv().await?.body() != b"after" {}
            anyhow::Ok(())
        };
        timeout(PATIENCE, received).await.context("nothing comes")?
    })
}
