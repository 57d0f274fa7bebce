//! Members of a group that are asked while they consume: how they are doing, and what they say of one message.

use std::process::Child;

use anyhow::{Context as _, Result, ensure};
use quern_harness::{World, wait_until};
use serde_json::Value;

use crate::world_with_node;

/// A member whose command fails on `bad` and takes its time over nothing.
fn member(world: &World, at: &str) -> Result<Child> {
    let command = "read it; echo $it >> ran; [ $it != bad ]";
    let consume = [
        "consume",
        "t",
        "--group",
        "g",
        "--follow",
        "--exec",
        command,
        "--workers",
        "1",
    ];
    let args = [&consume[..], &["--namesrv", at, "--timeout", "30"]].concat();
    Ok(world.command(&args).spawn()?)
}

fn end(mut member: Child) -> Result<()> {
    member.kill()?;
    member.wait()?;
    Ok(())
}

fn members(world: &World, at: &str) -> Result<Vec<Value>> {
    let args = ["group", "members", "g", "--verbose", "-o", "ndjson"];
    let out = world.run(&[&args[..], &["--namesrv", at]].concat())?;
    let lines = String::from_utf8(out.stdout)?;
    let lines = lines.lines().map(serde_json::from_str);
    Ok(lines.collect::<Result<_, _>>()?)
}

/// What a member says of its queue of a topic. It may have one of the group's retries, too.
fn queue_of(state: &Value, topic: &str) -> Value {
    let queues = state["queues"].as_array().into_iter().flatten();
    let mut queues = queues.filter(|it| it["topic"] == topic);
    queues.next().cloned().unwrap_or_default()
}

#[test]
fn a_member_tells_how_it_is_doing_and_tries_a_message() -> Result<()> {
    let (world, node) = world_with_node(&[])?;
    let at = node.namesrv.as_str();
    let quern = |args: &[&str]| world.ok(&[args, &["--namesrv", at]].concat());
    quern(&["topic", "create", "t", "--queues", "1"])?;
    quern(&["group", "set", "g", "--retry-delays", "1h"])?;
    for body in ["good", "bad"] {
        let input = format!("{body}\n");
        world.ok_with_input(&["produce", "t", "-", "--namesrv", at], input.as_bytes())?;
    }
    let listening = member(&world, at)?;
    let ran = |body: &str| {
        let ran = std::fs::read_to_string(world.path("ran")).unwrap_or_default();
        ran.lines().filter(|it| *it == body).count()
    };
    wait_until("both to be tried", || Ok(ran("good") + ran("bad") == 2))?;

    let mut state = Value::Null;
    wait_until("the member to have both behind it", || {
        state = members(&world, at)?.pop().unwrap_or_default();
        let queue = queue_of(&state, "t");
        Ok(queue["read"] == 2 && queue["cached"] == 0 && queue["at_work"] == 0)
    })?;
    let queue = queue_of(&state, "t");
    ensure!(state["silent"].is_null(), "{state}");
    let software = state["software"].as_str().context("a program")?;
    ensure!(software.starts_with("quern/"), "{state}");
    let subscribed = state["subscriptions"][0].as_str();
    ensure!(subscribed == Some("t"), "{state}");
    ensure!(queue["consumed_ago_ms"].is_u64(), "{state}");
    ensure!(queue["lease_left_ms"].as_u64() > Some(0), "{state}");
    let properties = state["properties"].to_string();
    ensure!(
        properties.contains("[\"listener\",\"yes\"]"),
        "{properties}"
    );

    // Each message is tried once more, and neither committed nor given back for it.
    let id = |n: usize| -> Result<String> {
        let ids = quern(&["consume", "t", "--format", "%i\n"])?;
        Ok(ids.lines().nth(n).context("a message")?.to_owned())
    };
    let (good, bad) = (id(0)?, id(1)?);
    let who = state["member"].as_str().context("a member")?;
    let push = |id: &str, more: &[&'static str]| {
        let args = ["msg", "push", id, "--group", "g", "--namesrv", at];
        let args = args.iter().copied().chain(more.iter().copied());
        world.run(&args.collect::<Vec<_>>())
    };
    let tried = quern(&["msg", "push", &good, "--group", "g", "--client", who])?;
    ensure!(tried.contains(&format!("{good} {who} consumed")), "{tried}");
    let failed = push(&bad, &["-o", "json"])?;
    ensure!(failed.status.code() == Some(9), "{failed:?}");
    let outcome: Value = serde_json::from_slice(&failed.stdout)?;
    ensure!(outcome["consumed"] == false, "{outcome}");
    let why = outcome["why"].as_str().context("a reason")?;
    ensure!(why.contains("exit status: 1"), "{outcome}");
    assert_eq!((ran("good"), ran("bad")), (2, 2));

    // Of a member there is not, of a group there is not, of a message there is not.
    let asked =
        |args: &[&str], exit, code| world.fails(&[args, &["--namesrv", at]].concat(), exit, code);
    let nobody = ["msg", "push", &good, "--group", "g", "--client", "nobody"];
    asked(&nobody, 3, "Q-2031")?;
    asked(&["msg", "push", &good, "--group", "other"], 3, "Q-2031")?;
    asked(&["msg", "push", "NONE", "--group", "g"], 3, "Q-2013")?;
    end(listening)?;
    Ok(())
}

/// One that takes messages itself has no listener to ask, and says so; and it tells how it is doing all the same.
#[test]
fn a_member_without_a_listener_says_so() -> Result<()> {
    let (world, node) = world_with_node(&[])?;
    let at = node.namesrv.as_str();
    let quern = |args: &[&str]| world.ok(&[args, &["--namesrv", at]].concat());
    quern(&["topic", "create", "t", "--queues", "1"])?;
    quern(&["produce", "t", "good"])?;
    let follow = ["consume", "t", "--group", "g", "--follow", "--namesrv", at];
    let mut waiting = world.command(&[&follow[..], &["--timeout", "30"]].concat());
    let waiting = waiting.stdout(std::process::Stdio::null()).spawn()?;
    wait_until("the member to be there", || {
        let all = members(&world, at).unwrap_or_default();
        Ok(all.iter().any(|it| it["queues"][0]["read"] == 1))
    })?;
    let id = quern(&["consume", "t", "--format", "%i"])?;
    let push = ["msg", "push", id.trim(), "--group", "g", "--namesrv", at];
    let text = world.fails(&push, 1, "Q-2032")?;
    ensure!(text.contains("no listener"), "{text}");
    end(waiting)?;
    Ok(())
}
