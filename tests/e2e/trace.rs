//! What became of a message, with real processes: as the log alone tells it.

use std::process::Child;

use anyhow::{Context as _, Result, ensure};
use quern_client::{Filter, TRACE_TOPIC};
use quern_harness::{Node, World, wait_until};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::bench::{Bench, ROLLOUT};
use crate::plugin_life::CASE;
use crate::sdk::connect;
use crate::world_with_node;

/// A process that ends with the test.
struct Member(Child);

impl Member {
    fn start(world: &World, node: &Node, args: &[&str]) -> Result<Self> {
        let at = ["--namesrv", node.namesrv.as_str()];
        let consume = [&["consume"], args, &["--follow"], &at[..]].concat();
        let mut command = world.command(&consume);
        Ok(Self(command.stdout(std::process::Stdio::null()).spawn()?))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // Gone already is fine.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn trace(world: &World, node: &Node, id: &str) -> Result<Value> {
    let args = ["msg", "trace", id, "-o", "json", "--namesrv", &node.namesrv];
    Ok(serde_json::from_str(&world.ok(&args)?)?)
}

fn group<'a>(trace: &'a Value, name: &str) -> Result<&'a Value> {
    let groups = trace["groups"].as_array().context("groups")?;
    let found = groups.iter().find(|it| it["group"] == name);
    found.with_context(|| format!("group {name} in {trace}"))
}

fn send(world: &World, node: &Node, args: &[&str]) -> Result<String> {
    let at = ["--namesrv", node.namesrv.as_str()];
    let said = world.ok(&[&["produce", "t"], args, &at[..]].concat())?;
    let id = said.split_whitespace().next();
    Ok(id.context("an id")?.to_owned())
}

/// What was left of the message in each group.
fn check(world: &World, node: &Node, id: &str, has_members: bool) -> Result<()> {
    let trace = trace(world, node, id)?;
    ensure!(
        trace["waited_until"].as_u64() <= trace["stored_at"].as_u64(),
        "{trace}"
    );
    ensure!(
        trace["waited_as"].is_string() && trace["offset"] == 0,
        "{trace}"
    );
    for (name, said) in [("red", "delivers"), ("blue", "rejects")] {
        let group = group(&trace, name)?;
        ensure!(
            group["consumed"] == true && group["committed"] == 1,
            "{group}"
        );
        if has_members {
            let opinion = &group["opinions"][0];
            ensure!(
                opinion["said"] == said && opinion["plugin"] == "tag",
                "{group}"
            );
        }
    }
    let pops = group(&trace, "pops")?;
    ensure!(
        pops["popped_times"] == 1 && pops["consumed"] == false,
        "{pops}"
    );
    let fails = group(&trace, "fails")?;
    let copies = fails["copies"].as_array().context("copies")?;
    let of = |it: &Value| (it["attempts"].as_u64(), it["dead_letter"] == true);
    let copies: Vec<_> = copies.iter().map(of).collect();
    ensure!(copies == [(Some(1), false), (Some(2), true)], "{fails}");
    ensure!(
        fails["copies"][1]["reason"]
            .as_str()
            .is_some_and(|it| it.contains('3'))
    );
    Ok(())
}

#[test]
fn a_trace_tells_of_every_group_how_far_it_is_and_what_it_gave_back() -> Result<()> {
    let (world, mut node) = world_with_node(&[])?;
    let at = node.namesrv.clone();
    let quern = |args: &[&str]| world.ok(&[args, &["--namesrv", &at]].concat());
    quern(&["topic", "create", "t", "--queues", "1"])?;
    let set = [
        "group",
        "set",
        "fails",
        "--retries",
        "1",
        "--retry-delays",
        "500ms",
    ];
    quern(&set)?;
    let runtime = Runtime::new()?;
    let client = runtime.block_on(connect(&world, &node))?;
    let id = send(&world, &node, &["x", "--tag", "red", "--delay", "300ms"])?;
    let waits = quern(&["msg", "trace", &id])?;
    ensure!(
        waits.contains("waits until") || waits.contains("offset 0"),
        "{waits}"
    );
    wait_until("it to be delivered", || {
        Ok(quern(&["msg", "get", &id])?.contains("in its queue"))
    })?;
    ensure!(quern(&["msg", "trace", &id])?.contains("nobody consumes"));
    let members = [
        &["t", "--group", "red", "--tag", "red"][..],
        &["t", "--group", "blue", "--tag", "blue"],
        &["t", "--group", "fails", "--exec", "exit 3"],
    ];
    let members: Vec<_> = members
        .iter()
        .map(|args| Member::start(&world, &node, args))
        .collect::<Result<_>>()?;
    let popped = runtime.block_on(async {
        let pops = client.simple_consumer("pops").subscribe("t", Filter::All);
        let mut pops = pops.start().await?;
        pops.receive().await
    })?;
    let ready = || {
        let trace = trace(&world, &node, &id)?;
        let consumed = |name| group(&trace, name).is_ok_and(|it| it["consumed"] == true);
        let dead = group(&trace, "fails").is_ok_and(|it| {
            let copies = it["copies"].as_array();
            copies.is_some_and(|it| it.iter().any(|it| it["dead_letter"] == true))
        });
        Ok(consumed("red") && consumed("blue") && dead)
    };
    wait_until("all to have seen it", ready)?;
    check(&world, &node, &id, true)?;
    let screen = quern(&["msg", "trace", &id])?;
    for part in [
        "waited     until",
        "passed over",
        "hidden until",
        "dead letter, given back 2",
    ] {
        ensure!(screen.contains(part), "{part}: {screen}");
    }
    drop(popped);
    drop(members);
    node.kill()?;
    node.strip(&["commitlog"])?;
    node.start(&world, &[])?;
    check(&world, &node, &id, false)
}

#[test]
fn a_trace_asks_the_version_that_decides_and_those_that_did() -> Result<()> {
    let bench = Bench::with_orders()?;
    let first = bench.component(ROLLOUT, "rollout.wasm", "")?;
    let first = first.to_string_lossy().into_owned();
    let second = bench.component(ROLLOUT, "second.wasm", CASE)?;
    let second = second.to_string_lossy().into_owned();
    bench.quern(&["plugin", "upload", &first, "--activate"])?;
    let by_plugin = ["--plugin", "rollout", "--param", "percent=20"];
    let args = [&["orders", "--group", "g"], &by_plugin[..]].concat();
    let _member = Member::start(&bench.world, &bench.node, &args)?;
    let few = bench.share("rollout", 20)?;
    let format = ["consume", "orders", "--format", "%v %i\\n"];
    let ids = bench.quern(&format)?;
    let of = |n: usize| {
        let line = ids.lines().find(|it| it.starts_with(&format!("{n} ")));
        line.and_then(|it| it.split(' ').nth(1)).context("an id")
    };
    wait_until("the member to be known", || {
        let trace = trace(&bench.world, &bench.node, of(0)?)?;
        Ok(group(&trace, "g").is_ok_and(|it| it["opinions"][0]["plugin"] == "rollout@1"))
    })?;
    bench.activate_new(&second, "rollout")?;
    let (inside, outside) = (few.first().copied(), (0..400).find(|it| !few.contains(it)));
    for (n, said) in [(inside, "delivers"), (outside, "rejects")] {
        let trace = trace(&bench.world, &bench.node, of(n.context("a number")?)?)?;
        let group = group(&trace, "g")?;
        let opinions = group["opinions"].as_array().context("opinions")?;
        let opinions: Vec<_> = opinions
            .iter()
            .map(|it| {
                (
                    it["plugin"].as_str(),
                    it["role"].as_str(),
                    it["said"].as_str(),
                )
            })
            .collect();
        let expected = [
            (Some("rollout@2"), Some("decides"), Some(said)),
            (Some("rollout@1"), Some("decided"), Some(said)),
        ];
        ensure!(opinions == expected, "{group}");
    }
    // One on trial is the other side, of all messages.
    bench.quern(&["plugin", "shadow", "rollout@1", "--share", "100%"])?;
    let trace = trace(&bench.world, &bench.node, of(0)?)?;
    let opinions = group(&trace, "g")?["opinions"]
        .as_array()
        .context("opinions")?;
    ensure!(
        opinions.iter().any(|it| it["role"] == "compared"),
        "{trace}"
    );
    Ok(())
}

/// What clients have written down of a message.
pub(crate) fn told(world: &World, node: &Node, id: &str) -> Result<Vec<String>> {
    let trace = trace(world, node, id)?;
    let written = trace["written"].as_array().context("what was written")?;
    let what = written.iter().filter_map(|it| it["what"].as_str());
    Ok(what.map(str::to_owned).collect())
}

pub(crate) fn count(told: &[String], part: &str) -> usize {
    told.iter().filter(|it| it.contains(part)).count()
}

#[test]
fn clients_that_trace_write_down_who_did_what_and_others_do_not() -> Result<()> {
    let (world, mut node) = world_with_node(&[])?;
    let at = node.namesrv.clone();
    let quern = |args: &[&str]| world.ok(&[args, &["--namesrv", &at]].concat());
    quern(&["topic", "create", "t"])?;
    let set = [
        "group",
        "set",
        "g",
        "--retries",
        "1",
        "--retry-delays",
        "300ms",
    ];
    quern(&set)?;
    let quiet = send(&world, &node, &["quiet"])?;
    ensure!(!quern(&["topic", "ls"])?.contains(TRACE_TOPIC));
    let id = send(&world, &node, &["x", "--trace", "--group", "shop"])?;
    let waits = send(&world, &node, &["y", "--trace", "--delay", "1d"])?;
    let exec = [
        "t",
        "--group",
        "g",
        "--trace",
        "--exec",
        "read it; [ $it = quiet ]",
    ];
    let member = Member::start(&world, &node, &exec)?;
    wait_until("all to be written", || {
        let (one, other) = (told(&world, &node, &id)?, told(&world, &node, &quiet)?);
        Ok(count(&one, "not consumed by g") == 2 && count(&other, "consumed by g") == 1)
    })?;
    let one = told(&world, &node, &id)?;
    ensure!(
        one.len() == 5 && count(&one, "sent by shop") == 1,
        "{one:?}"
    );
    ensure!(one[0].contains("stored by broker-a at "), "{one:?}");
    for times in ["given 0 times", "given 1 times"] {
        ensure!(count(&one, times) == 1, "{one:?}");
    }
    let other = told(&world, &node, &quiet)?;
    ensure!(
        other.len() == 2 && count(&other, "sent by") == 0,
        "{other:?}"
    );
    let later = told(&world, &node, &waits)?;
    ensure!(
        later.len() == 1 && later[0].contains("at broker-a/"),
        "{later:?}"
    );
    drop(member);
    node.kill()?;
    node.strip(&["commitlog"])?;
    node.start(&world, &[])?;
    ensure!(told(&world, &node, &id)? == one, "from the log alone");
    // RocketMQ's form, as any consumer of the topic reads it.
    let raw = quern(&["consume", TRACE_TOPIC, "--format", "%v"])?;
    let forms = ["Pub\u{1}", "SubBefore\u{1}", "SubAfter\u{1}"];
    ensure!(forms.iter().all(|it| raw.contains(it)), "{raw:?}");
    let both = ["consume", "t", "--trace", "--namesrv", &at];
    world.fails(&both, 2, "required arguments")?;
    Ok(())
}
