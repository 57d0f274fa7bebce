//! Compacted topics: the newest message of each key outlives its segment, in a log that is let go by its size, and
//! after a kill that leaves the commit log alone.

use anyhow::{Context as _, Result, ensure};
use quern_harness::{Node, World, wait_until};
use serde_json::Value;

use crate::world_with_node;

/// A log of a few segments, as small as a batch is at the most.
const SMALL: [&str; 6] = [
    "--segment-size",
    "1048576",
    "--log-max-bytes",
    "3145728",
    "--tombstone-grace",
    "1s",
];
/// The same, of which nothing goes.
const LARGE: [&str; 4] = ["--segment-size", "1048576", "--tombstone-grace", "1s"];
const KEYS: usize = 20;
const ROUNDS: usize = 25;

struct Prices {
    world: World,
    node: Node,
}

impl Prices {
    fn quern(&self, args: &[&str]) -> Result<String> {
        self.world
            .ok(&[args, &["--namesrv", &self.node.namesrv]].concat())
    }

    /// The node is killed and started again with these.
    fn again(&mut self, more: &[&str]) -> Result<()> {
        self.node.kill()?;
        self.node.start(&self.world, more)
    }

    fn fails(&self, args: &[&str], exit: i32, code: &str) -> Result<String> {
        let args = [args, &["--namesrv", &self.node.namesrv]].concat();
        self.world.fails(&args, exit, code)
    }

    fn send(&self, topic: &str, lines: &str) -> Result<()> {
        let produce = ["produce", topic, "--ndjson", "-", "--namesrv"];
        let args = [&produce[..], &[&self.node.namesrv]].concat();
        self.world.ok_with_input(&args, lines.as_bytes())?;
        Ok(())
    }

    /// What others send makes the segments go that were there.
    fn fill(&self) -> Result<()> {
        let line = format!("{{\"body\":\"{}\"}}\n", "x".repeat(1_000));
        self.send("other", &line.repeat(5_000))
    }

    /// Offset, key and body of all there is from the first on.
    fn read(&self, topic: &str) -> Result<Vec<String>> {
        let read = self.quern(&["consume", topic, "--format", "%o %k %v\\n"])?;
        Ok(read.lines().map(str::to_owned).collect())
    }

    fn row(&self, args: &[&str]) -> Result<Value> {
        let rows = self.quern(&[args, &["-o", "ndjson"]].concat())?;
        let row = rows.lines().next().context("there is a row")?;
        Ok(serde_json::from_str(row)?)
    }
}

/// What is sent without an order key is stored in any order.
fn line(key: &str, body: &str) -> String {
    format!("{{\"key\":\"{key}\",\"body\":\"{body}\",\"order_key\":\"all\"}}\n")
}

#[test]
fn the_newest_of_each_key_is_there_and_all_else_goes() -> Result<()> {
    let (world, node) = world_with_node(&SMALL)?;
    let mut prices = Prices { world, node };
    let create = ["topic", "create", "prices", "--queues", "1", "--cleanup"];
    prices.quern(&[&create[..], &["compact"]].concat())?;
    prices.quern(&["topic", "create", "other", "--queues", "1"])?;
    let keyless = ["produce", "prices", "12"];
    let refused = prices.fails(&keyless, 2, "Q-3010")?;
    ensure!(refused.contains("--key"), "{refused}");
    let blank = ["produce", "prices", "12", "--key", " "];
    prices.fails(&blank, 2, "Q-3010")?;

    prices.send("prices", &line("gone", "17"))?;
    let long = "x".repeat(800);
    let body = |key: usize, round: usize| format!("{key}.{round} {long}");
    let rounds = (0..ROUNDS).flat_map(|round| (0..KEYS).map(move |key| (key, round)));
    let lines: String = rounds
        .map(|(key, round)| line(&format!("k{key}"), &body(key, round)))
        .collect();
    prices.send("prices", &lines)?;
    prices.send("prices", &line("gone", ""))?;
    let newest = |key: usize| {
        let offset = 1 + (ROUNDS - 1) * KEYS + key;
        format!("{offset} k{key} {}", body(key, ROUNDS - 1))
    };
    let newest: Vec<String> = (0..KEYS).map(newest).collect();
    wait_until("only the newest are there", || {
        prices.fill()?;
        Ok(prices.read("prices")? == newest)
    })?;

    // What is not there is not counted.
    let row = prices.row(&["topic", "describe", "prices"])?;
    let end = 2 + KEYS * ROUNDS;
    assert_eq!(
        (&row["cleanup"], &row["messages"], &row["max"]),
        (&"compact".into(), &KEYS.into(), &end.into())
    );
    let described = prices.quern(&["topic", "describe", "prices"])?;
    ensure!(described.contains("the newest of each key"), "{described}");
    prices.quern(&["consume", "prices", "--group", "g", "-n", "5"])?;
    assert_eq!(prices.row(&["group", "lag", "g"])?["lag"], KEYS - 5);
    let rest = prices.quern(&["consume", "prices", "--group", "g", "--format", "%k\\n"])?;
    assert_eq!(rest.lines().count(), KEYS - 5);
    assert_eq!(prices.row(&["group", "lag", "g"])?["lag"], 0);

    survives(&mut prices, &newest)?;
    is_listed_and_given_back(&mut prices, &newest)
}

/// A kill, and then only the commit log, that is.
fn survives(prices: &mut Prices, newest: &[String]) -> Result<()> {
    for kept in [&["commitlog"][..], &["commitlog", "index", "state"]] {
        prices.node.kill()?;
        prices.node.strip(kept)?;
        prices.node.start(&prices.world, &SMALL)?;
        assert_eq!(prices.read("prices")?, newest);
        let refused = prices.fails(&["produce", "prices", "12"], 2, "Q-3010")?;
        ensure!(refused.contains("has no key"), "{refused}");
    }
    // Whoever keeps up sees all of it.
    prices.again(&LARGE)?;
    for round in 0..3 {
        prices.send("prices", &line("k3", &format!("again {round}")))?;
    }
    let read = prices.read("prices")?;
    let end = 2 + KEYS * ROUNDS;
    let again = (0..3).map(|round| format!("{} k3 again {round}", end + round));
    let expected: Vec<String> = newest.iter().cloned().chain(again).collect();
    assert_eq!(read, expected);
    // Later, only the last of them is left.
    prices.again(&SMALL)?;
    wait_until("what has a newer one is gone", || {
        prices.fill()?;
        let read = prices.read("prices")?;
        let of_key = |it: &&String| it.contains(" k3 ");
        Ok(read.len() == KEYS && read.iter().filter(of_key).count() == 1)
    })?;
    let read = prices.read("prices")?;
    let last = format!("{} k3 again 2", end + 2);
    assert_eq!(read.last(), Some(&last));
    Ok(())
}

/// By the commands for a node that does not run; what they give back is the same once more. And a topic may be
/// compacted or not, but not have a retention, too.
fn is_listed_and_given_back(prices: &mut Prices, newest: &[String]) -> Result<()> {
    // The index says nothing of a newer message of this key.
    prices.again(&LARGE)?;
    prices.send("prices", &line("k4", "newer"))?;
    let dir = prices.node.data().to_string_lossy().into_owned();
    assert_eq!(prices.node.stop()?, Some(0));
    let checked = prices.world.ok(&["store", "check", &dir])?;
    ensure!(checked.contains("nothing is damaged"), "{checked}");
    let export = ["store", "export", &dir, "--topic", "prices"];
    let exported = prices.world.ok(&export)?;
    assert_eq!(exported.lines().count(), newest.len() + 1, "{exported}");
    prices.node.start(&prices.world, &LARGE)?;
    prices.quern(&["topic", "create", "again", "--queues", "1"])?;
    prices.send("again", &exported)?;
    let values = |topic| {
        let read = prices.quern(&["consume", topic, "--format", "%k %v\\n"])?;
        let mut lines: Vec<String> = read.lines().map(str::to_owned).collect();
        let is_of_one = |it: &String| it.starts_with("k4 ");
        let of_one: Vec<String> = lines.iter().filter(|it| is_of_one(it)).cloned().collect();
        lines.sort_unstable();
        Ok::<_, anyhow::Error>((lines, of_one))
    };
    assert_eq!(values("again")?, values("prices")?);

    let set = |more: &[&str]| prices.quern(&[&["topic", "set", "again"], more].concat());
    set(&["--cleanup", "COMPACTION"])?;
    ensure!(set(&["-o", "json"])?.contains("\"cleanup\": \"compact\""));
    let refused = prices.fails(&["topic", "set", "again", "--retention", "1h"], 2, "Q-3007")?;
    ensure!(refused.contains("--retention default"), "{refused}");
    set(&["--cleanup", "delete", "--retention", "1h"])?;
    prices.fails(
        &["topic", "set", "again", "--cleanup", "compact"],
        2,
        "Q-3007",
    )?;
    let both = ["topic", "create", "both", "--retention", "1h"];
    prices.fails(
        &[&both[..], &["--cleanup", "compact"]].concat(),
        2,
        "Q-3007",
    )?;
    set(&["--cleanup", "compact", "--retention", "default"])?;
    let odd = ["topic", "create", "odd", "--cleanup", "odd"];
    let odd = prices.fails(&odd, 2, "")?;
    ensure!(odd.contains("delete, compact"), "{odd}");
    Ok(())
}

/// A topic that its first message makes is as the settings of the broker say.
#[test]
fn a_topic_may_be_made_compacted_by_its_first_message() -> Result<()> {
    let made = ["--auto-create-topic-enable", "--auto-create-topic-cleanup"];
    let (world, node) = world_with_node(&[&made[..], &["COMPACTION"]].concat())?;
    let prices = Prices { world, node };
    prices.quern(&["produce", "made", "x", "--key", "k"])?;
    assert_eq!(prices.row(&["topic", "set", "made"])?["cleanup"], "compact");
    prices.fails(&["produce", "made", "x"], 2, "Q-3010")?;
    let both = ["start", "--auto-create-topic-cleanup", "compact"];
    let both = [&both[..], &["--auto-create-topic-retention", "1d"]].concat();
    let refused = prices.world.fails(&both, 2, "Q-1012")?;
    ensure!(refused.contains("autoCreateTopicRetention"), "{refused}");
    Ok(())
}
