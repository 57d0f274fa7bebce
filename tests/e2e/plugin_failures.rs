//! Plugins that fail at work: who is taken out of service, who stands in, what an operator is told.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use quern_harness::wait_until;
use serde_json::Value;

use crate::bench::{Bench, ROLLOUT};

impl Bench {
    /// Sends messages with this tag to a topic, in a body a number each.
    fn send(&self, topic: &str, tag: &str, count: usize) -> Result<()> {
        let line = |n: usize| format!("{{\"body\":\"{n}\",\"tag\":\"{tag}\",\"key\":\"k\"}}\n");
        let lines: String = (0..count).map(line).collect();
        self.produce(topic, &lines)
    }
}

const HOSTILE: &str = "quern-hostile";
const CONSUME: [&str; 8] = [
    "consume",
    "t",
    "--plugin",
    "p",
    "--param",
    "percent=100",
    "--expression",
    "poison",
];

#[test]
fn a_version_that_fails_too_often_is_replaced_by_the_one_before() -> Result<()> {
    let mut bench = Bench::bare()?;
    bench.quern(&["topic", "create", "t", "--queues", "1"])?;
    let consume = &CONSUME[..];
    bench.take_in(ROLLOUT, "p")?;
    bench.take_in(HOSTILE, "p")?;
    bench.send("t", "fine", 50)?;
    // One that poisons it, asked about again and again, is not enough.
    bench.send("t", "poison", 1)?;
    let all = ["-n", "50"];
    for _ in 0..3 {
        let before = bench.quern(&[consume, &all].concat())?;
        ensure!(before.lines().count() == 50, "{before}");
    }
    ensure!(bench.states("p")? == ["retired", "active"]);
    bench.send("t", "poison", 20)?;
    bench.send("t", "fine", 50)?;
    // It waits before the first of these until the version before stands in, which lets all through.
    let printed = bench.quern(consume)?;
    ensure!(printed.lines().count() == 121, "{printed}");
    ensure!(bench.states("p")? == ["active", "quarantined"]);
    let ours = bench.listed("p")?;
    let why = ours["health"]["quarantined"].as_str().context("why")?;
    ensure!(
        why.starts_with("p@2: it failed on ") && why.contains("Q-4301"),
        "{why}"
    );
    ensure!(ours["health"]["traps"].as_u64() > Some(0), "{ours}");
    let pinned = [&["consume", "t", "--plugin", "p@2"], &consume[4..]].concat();
    bench.fails(&pinned, 1, "Q-4405")?;
    let canary = ["plugin", "canary", "p@2", "--share", "5%"];
    bench.fails(&canary, 1, "Q-4405")?;

    bench.node.kill()?;
    bench.node.strip(&["commitlog", "plugins"])?;
    bench.node.start(&bench.world, &[])?;
    ensure!(bench.states("p")? == ["active", "quarantined"]);
    bench.quern(&["plugin", "activate", "p@2"])?;
    ensure!(
        bench.states("p")? == ["retired", "active"],
        "an operator lifts it"
    );
    Ok(())
}

#[test]
fn without_a_version_before_messages_wait_or_are_passed_as_the_group_wants() -> Result<()> {
    let bench = Bench::bare()?;
    bench.quern(&["topic", "create", "t", "--queues", "1"])?;
    bench.take_in(HOSTILE, "p")?;
    bench.send("t", "poison", 30)?;
    bench.send("t", "fine", 5)?;
    let consume = ["consume", "t", "--plugin", "p", "--expression", "poison"];
    wait_until("it to be quarantined", || {
        let args = [&consume[..], &["--namesrv", &bench.node.namesrv]].concat();
        let output = bench.world.run(&args)?;
        Ok(String::from_utf8_lossy(&output.stderr).contains("Q-4405"))
    })?;
    let ours = bench.listed("p")?;
    ensure!(
        ours["active"].is_null() && ours["health"]["stalled"].as_u64() > Some(0),
        "{ours}"
    );
    bench.quern(&["group", "set", "passing", "--on-filter-failure", "pass"])?;
    let format = ["--group", "passing", "--format", "%v %p\\n"];
    let passed = bench.quern(&[&consume[..], &format].concat())?;
    let by_code = passed
        .lines()
        .filter(|it| it.ends_with("QUERN_UNJUDGED=4405"))
        .count();
    ensure!(by_code == 35, "{passed}");
    let held = bench.list(&["group", "set", "passing"])?;
    ensure!(held[0]["on_filter_failure"] == "pass", "{held:?}");
    Ok(())
}

#[test]
fn parked_messages_are_dead_letters_of_the_group_and_the_rest_goes_on() -> Result<()> {
    let bench = Bench::bare()?;
    bench.quern(&["topic", "create", "t", "--queues", "1"])?;
    bench.take_in(ROLLOUT, "p")?;
    bench.take_in(HOSTILE, "p")?;
    bench.quern(&["group", "set", "g", "--on-filter-failure", "park"])?;
    bench.send("t", "fine", 40)?;
    bench.send("t", "poison", 3)?;
    bench.send("t", "fine", 40)?;
    let consume = [&CONSUME[..], &["--group", "g"]].concat();
    let printed = bench.quern(&consume)?;
    ensure!(printed.lines().count() == 80, "{printed}");
    ensure!(
        bench.states("p")? == ["retired", "active"],
        "three are not too many"
    );
    let dead = bench.list(&["dlq", "ls", "g"])?;
    ensure!(dead.len() == 3, "{dead:?}");
    let shown = bench.quern(&["plugin", "ls"])?;
    ensure!(shown.contains("3 parked"), "{shown}");
    let id = dead[0]["id"].as_str().context("an id")?;
    let told = bench.quern(&["msg", "trace", id])?;
    let words = "parked, a filter failed on it: not dealt with; Q-4301 ";
    ensure!(told.contains(words), "{told}");
    Ok(())
}

#[test]
fn what_guests_say_is_read_and_what_is_missing_is_counted() -> Result<()> {
    let bench = Bench::bare()?;
    bench.quern(&["topic", "create", "t", "--queues", "1"])?;
    bench.take_in(HOSTILE, "p")?;
    let at = bench.node.namesrv.as_str();
    let logs = ["plugin", "logs", "p", "--namesrv", at];
    ensure!(bench.world.ok(&logs)?.is_empty());
    bench.fails(&["plugin", "logs", "nobody"], 3, "Q-2001")?;
    let mut follower = bench
        .world
        .command(&[&logs[..], &["--follow", "--ndjson"]].concat());
    let mut follower = follower.stdout(Stdio::piped()).spawn()?;
    let lines = BufReader::new(follower.stdout.take().context("stdout")?).lines();
    bench.send("t", "fine", 5)?;
    let chatty = ["consume", "t", "--plugin", "p", "--expression", "chatty"];
    ensure!(bench.quern(&chatty)?.lines().count() == 5);
    // A thousand lines of one call; ten are kept, and all are counted.
    let kept: Vec<Value> = lines
        .take(10)
        .map(|it| Ok(serde_json::from_str(&it?)?))
        .collect::<Result<_>>()?;
    follower.kill()?;
    follower.wait()?;
    for (number, line) in kept.iter().enumerate() {
        ensure!(
            line["number"] == number && line["plugin"] == "p@1",
            "{line}"
        );
        ensure!(
            line["line"] == "again" && line["level"] == "debug",
            "{line}"
        );
        ensure!(line["at"].as_u64() > Some(1_700_000_000_000), "{line}");
    }
    let output = bench.world.run(&logs)?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(told.contains("990 lines are lost"), "{told}");
    ensure!(String::from_utf8_lossy(&output.stdout).lines().count() == 10);
    Ok(())
}
