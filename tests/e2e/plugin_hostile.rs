//! Five plugins at once that do what they must not, for one group: other groups get every message once, the
//! broker gives back the memory they took, and says who did what.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, ensure};
use quern_client::{Client, Consumer, Filter};
use quern_harness::wait_until;

use crate::bench::{Bench, module};
use crate::sdk::connect;

/// Name, what its guest is told to do, messages of its topic, what it is counted under.
const PLUGINS: [(&str, &str, usize, &str); 5] = [
    ("looping", "loop", 500, "out_of_fuel"),
    ("bombing", "bomb", 500, "out_of_memory"),
    ("trapping", "trap", 500, "traps"),
    ("lying", "short", 500, "bad_answers"),
    // A mebibyte of every call, until its memory ends.
    ("leaking", "leak", 12_000, "out_of_memory"),
];

const QUEUES: usize = 2;
/// How often each is put back into service while it is attacked.
const ROUNDS: usize = 4;
const MIB: u64 = 1 << 20;

impl Bench {
    /// Every plugin, and a topic for each with its messages.
    fn with_hostiles() -> Result<Self> {
        let bench = Self::bare()?;
        let component = bench
            .world
            .path("hostile.wasm")
            .to_string_lossy()
            .into_owned();
        bench.world.ok(&[
            "plugin",
            "build",
            &module("quern-hostile"),
            "-o",
            &component,
        ])?;
        let built = std::fs::read(&component)?;
        for (number, (name, _, messages, _)) in PLUGINS.into_iter().enumerate() {
            std::fs::write(&component, speaking(&built, number))?;
            bench.activate_new(&component, name)?;
            bench.quern(&["topic", "create", name, "--queues", &QUEUES.to_string()])?;
            let line = |n: usize| format!("{{\"body\":\"{n}\",\"tag\":\"a\"}}\n");
            let lines: String = (0..messages).map(line).collect();
            bench.produce(name, &lines)?;
            // Loaded, and asked for something harmless.
            let asked = ["consume", name, "--plugin", name, "--expression", "all"];
            let printed = bench.quern(&asked)?;
            ensure!(printed.lines().count() == messages);
        }
        Ok(bench)
    }

    /// Resident memory of the broker's process.
    fn rss(&self) -> Result<u64> {
        let pid = self.node.pid().context("it runs")?;
        let statm = std::fs::read_to_string(format!("/proc/{pid}/statm"))?;
        let pages: u64 = statm.split(' ').nth(1).context("resident pages")?.parse()?;
        Ok(pages * rustix::param::page_size() as u64)
    }

    /// The same when no plugin stands in service: workers let its instances go when they work next.
    fn rss_at_rest(&self) -> Result<u64> {
        for (name, _, _, _) in PLUGINS {
            self.quern(&["plugin", "disable", name])?;
        }
        for _ in 0..3 {
            let printed = self.quern(&["consume", "leaking", "--tag", "a"])?;
            ensure!(printed.lines().count() == PLUGINS[4].2);
        }
        self.rss()
    }

    fn activate(&self) -> Result<()> {
        for (name, _, _, _) in PLUGINS {
            self.quern(&["plugin", "activate", name])?;
        }
        Ok(())
    }
}

/// The same plugin with a language of its own: a language belongs to one name.
fn speaking(component: &[u8], number: usize) -> Vec<u8> {
    let (mut other, language) = (component.to_vec(), b"HOSTILE");
    let last = b'0' + number as u8;
    for at in 0..=other.len().saturating_sub(language.len()) {
        if other[at..].starts_with(language) {
            other[at + language.len() - 1] = last;
        }
    }
    other
}

async fn member(
    client: &Client,
    group: &str,
    filter: impl Fn(&str, &str) -> Filter,
) -> Result<Consumer> {
    let mut consumer = client.consumer(group);
    for (name, how, _, _) in PLUGINS {
        consumer = consumer.subscribe(name, filter(name, how));
    }
    Ok(consumer.start().await?)
}

/// Consumes until there is everything; each message must come once.
async fn everything(mut consumer: Consumer) -> Result<()> {
    let wanted: usize = PLUGINS.iter().map(|(_, _, messages, _)| messages).sum();
    let mut seen = HashSet::new();
    while seen.len() < wanted {
        let message = consumer.recv().await?;
        let queue = message.queue();
        let at = (queue.topic.to_string(), queue.queue, message.offset());
        ensure!(seen.insert(at.clone()), "{at:?} comes again");
    }
    let mut by_topic: HashMap<&str, usize> = HashMap::new();
    seen.iter()
        .for_each(|(topic, _, _)| *by_topic.entry(topic).or_default() += 1);
    for (name, _, messages, _) in PLUGINS {
        ensure!(by_topic[name] == messages, "{by_topic:?}");
    }
    consumer.shutdown().await?;
    Ok(())
}

/// Two groups that want everything, one of them through a filter.
async fn beside(client: &Client, round: &str) -> Result<()> {
    let all = member(client, &format!("all-{round}"), |_, _| Filter::All).await?;
    let tagged = member(client, &format!("tagged-{round}"), |_, _| Filter::tag("a")).await?;
    let (all, tagged) = tokio::join!(everything(all), everything(tagged));
    all.with_context(|| format!("round {round}, unfiltered"))?;
    tagged.with_context(|| format!("round {round}, filtered"))
}

/// The attack, and others beside it.
async fn attack(bench: &Bench) -> Result<()> {
    let client = connect(&bench.world, &bench.node).await?;
    let filter = |name: &str, how: &str| {
        let plugin = Filter::plugin(name).map(|it| it.expression(how));
        plugin.map_or(Filter::All, Filter::from)
    };
    let mut bad = member(&client, "bad", filter).await?;
    let over = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&over);
    let attacked = tokio::spawn(async move {
        while !until.load(Ordering::Relaxed) {
            let waited = tokio::time::Duration::from_millis(100);
            let _ = tokio::time::timeout(waited, bad.recv()).await;
        }
        bad.shutdown().await
    });
    let admin = client.admin();
    for round in 0..ROUNDS {
        beside(&client, &format!("{round}")).await?;
        // What was quarantined meanwhile is let loose again.
        for (name, _, _, _) in PLUGINS {
            let change = quern_client::PluginChange::Activate { version: None };
            admin.change_plugin(name, change).await?;
        }
    }
    over.store(true, Ordering::Relaxed);
    attacked.await??;
    client.close().await;
    Ok(())
}

#[test]
fn five_hostile_plugins_at_once_harm_nobody_else() -> Result<()> {
    let bench = Bench::with_hostiles()?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let client = connect(&bench.world, &bench.node).await?;
        beside(&client, "before").await?;
        client.close().await;
        anyhow::Ok(())
    })?;
    let before = bench.rss_at_rest()?;
    bench.activate()?;
    runtime.block_on(async {
        let patience = quern_harness::PATIENCE * 2;
        tokio::time::timeout(patience, attack(&bench)).await?
    })?;

    let listed = bench.list(&["plugin", "ls"])?;
    for (name, _, _, counted) in PLUGINS {
        let ours = listed
            .iter()
            .find(|it| it["plugin"] == name)
            .context(name)?;
        ensure!(ours["health"][counted].as_u64() > Some(0), "{name}: {ours}");
        // They fail on everything, the last but one apart; it fails now and then, and nothing waits for it.
        let others = [
            "traps",
            "out_of_fuel",
            "out_of_memory",
            "bad_answers",
            "failures",
        ];
        let others = others.into_iter().filter(|it| *it != counted);
        let others: Vec<_> = others.filter(|it| ours["health"][*it] != 0).collect();
        ensure!(others.is_empty(), "{name} did {others:?}, too: {ours}");
    }
    let shown = bench.quern(&["plugin", "ls"])?;
    ensure!(
        shown.contains("out of fuel") && shown.contains("bad answers"),
        "{shown}"
    );

    // Two instances of each there were, at most.
    let most = before + 2 * PLUGINS.len() as u64 * MIB;
    let mut after = 0;
    wait_until("the memory they took to come back", || {
        after = bench.rss_at_rest()?;
        Ok(after <= most)
    })
    .with_context(|| format!("{before} bytes before, {after} now"))
}
