//! What brokers count of messages that wait, with real processes.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use quern_client::{Message, TransactionState};
use quern_harness::wait_until;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::bench::Bench;
use crate::sdk::connect;

impl Bench {
    /// What `quern … stats` says of the one broker.
    fn stats(&self, of: &str) -> Result<Value> {
        self.list(&[of, "stats"])?.pop().context("a broker")
    }

    /// Each of these is counted so often.
    fn has(&self, of: &str, counts: &[(&str, u64)]) -> Result<()> {
        let stats = self.stats(of)?;
        for (what, count) in counts {
            ensure!(stats[what] == *count, "{what}: {stats}");
        }
        Ok(())
    }
}

#[test]
fn transactions_are_counted_by_how_they_end() -> Result<()> {
    let mut it = Bench::with(&["--tx-timeout", "100ms"])?;
    it.quern(&["topic", "create", "t"])?;
    for (body, end) in [
        ("a", "commit"),
        ("b", "commit"),
        ("c", "rollback"),
        ("d", "unknown"),
    ] {
        it.quern(&["produce", "t", body, "--tx", end])?;
    }
    let ended = [("committed", 2), ("rolled_back", 1), ("set_aside", 0)];
    it.has("tx", &[&ended[..], &[("open", 1), ("begun", 4)]].concat())?;
    let tx = it.stats("tx")?;
    ensure!(tx["by_topic"] == json!({"t": 1}), "{tx}");
    ensure!(tx["oldest"].is_u64(), "{tx}");
    // Whoever is asked, and does not know, is counted as asked.
    Runtime::new()?.block_on(async {
        let client = connect(&it.world, &it.node).await?;
        let unknown = |_| async { TransactionState::Unknown };
        let producer = client.transaction_producer("shop", unknown).start().await?;
        drop(producer.begin(Message::new("t", "e")).await?);
        wait_until("a question", || {
            Ok(it.stats("tx")?["asked"].as_u64() >= Some(1))
        })?;
        client.close().await;
        Ok::<_, anyhow::Error>(())
    })?;
    let screen = it.quern(&["tx", "stats"])?;
    ensure!(screen.contains("ROLLED BACK"), "{screen}");
    // What waits is in the log, what was counted is not.
    it.node.kill()?;
    it.node.start(&it.world, &[])?;
    it.has("tx", &[("open", 2), ("begun", 0), ("committed", 0)])
}

#[test]
fn messages_for_later_are_counted_and_how_late_they_come() -> Result<()> {
    let mut it = Bench::with(&[])?;
    it.quern(&["topic", "create", "t"])?;
    Runtime::new()?.block_on(async {
        let client = connect(&it.world, &it.node).await?;
        let producer = client.producer("p").start().await?;
        for n in 0..20 {
            let message = Message::new("t", n.to_string());
            producer
                .send(message.delay(Duration::from_millis(50)))
                .await?;
        }
        client.close().await;
        Ok::<_, anyhow::Error>(())
    })?;
    let never = it.quern(&["produce", "t", "never", "--delay", "1d"])?;
    let handle = never.split_whitespace().nth(3).context("a handle")?;
    it.quern(&["produce", "t", "far", "--delay", "2d"])?;
    it.quern(&["delay", "cancel", "t", handle])?;
    wait_until("all to be delivered", || {
        Ok(it.stats("delay")?["delivered"] == 20)
    })?;
    it.has("delay", &[("waiting", 1), ("taken", 22), ("recalled", 1)])?;
    let delays = it.stats("delay")?;
    ensure!(delays["by_topic"] == json!({"t": 1}), "{delays}");
    let late = delays["late"].as_array().context("how late")?;
    let late = late.iter().filter_map(|it| it["messages"].as_u64());
    ensure!(late.sum::<u64>() == 20, "{delays}");
    let screen = it.quern(&["delay", "stats"])?;
    ensure!(screen.contains("LATE P50"), "{screen}");
    ensure!(screen.matches(" ms").count() == 3, "{screen}");
    it.node.kill()?;
    it.node.start(&it.world, &[])?;
    it.has("delay", &[("waiting", 1), ("delivered", 0)])
}
