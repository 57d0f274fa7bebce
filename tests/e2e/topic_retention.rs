//! Topics that keep their messages for less than the log: what is older is not served, though it is there still. And
//! topics that are made as their broker's template says.

use anyhow::{Result, ensure};
use quern_harness::wait_until;

use crate::world_with_node;

#[test]
fn messages_older_than_their_topic_keeps_them_are_not_served() -> Result<()> {
    let (world, mut node) = world_with_node(&[])?;
    let at = node.namesrv.clone();
    let quern = |args: &[&str]| world.ok(&[args, &["--namesrv", &at]].concat());
    let fails =
        |args: &[&str], exit, code| world.fails(&[args, &["--namesrv", &at]].concat(), exit, code);
    let count = |topic: &str| Ok::<_, anyhow::Error>(quern(&["consume", topic])?.lines().count());
    quern(&["topic", "create", "long", "--queues", "1"])?;
    quern(&[
        "topic",
        "create",
        "short",
        "--queues",
        "1",
        "--retention",
        "2s",
    ])?;
    for topic in ["long", "short"] {
        quern(&["produce", topic, "--count", "50", "--key", "k", "old"])?;
    }
    let described = || quern(&["topic", "describe", "short", "-o", "ndjson"]);
    ensure!(described()?.contains("\"retention_ms\":2000"));
    wait_until(
        "what is older than 2 s is gone",
        || Ok(count("short")? == 0),
    )?;
    ensure!(
        described()?.contains("\"min\":50,\"max\":50"),
        "{}",
        described()?
    );
    assert_eq!(count("long")?, 50, "the log is kept as before");
    let found = |topic| quern(&["msg", "search", topic, "--key", "k", "-o", "ndjson"]);
    assert_eq!(found("short")?, "");
    assert_ne!(found("long")?, "");

    // Kept for longer again, what is in the log is served again, and the same after a crash.
    quern(&["topic", "set", "short", "--retention", "1h"])?;
    wait_until("it is there again", || Ok(count("short")? == 50))?;
    quern(&["topic", "set", "short", "--retention", "1s"])?;
    quern(&["produce", "short", "new"])?;
    wait_until("all is too old", || Ok(count("short")? == 0))?;
    node.kill()?;
    node.strip(&["commitlog"])?;
    node.start(&world, &[])?;
    assert_eq!(count("short")?, 0, "from the first request on");
    quern(&["topic", "set", "short", "--retention", "default"])?;
    wait_until("as long as the log", || Ok(count("short")? == 51))?;
    assert_eq!(count("long")?, 50);
    let settings = quern(&["topic", "set", "short", "-o", "json"])?;
    ensure!(settings.contains("\"retention_ms\": null"), "{settings}");

    for bad in ["999ms", "3661d"] {
        fails(&["topic", "set", "short", "--retention", bad], 2, "Q-3007")?;
        let create = ["topic", "create", "bad", "--retention", bad];
        fails(&create, 2, "Q-3007")?;
    }
    Ok(())
}

/// A topic that its first message makes is as the settings of the broker say.
#[test]
fn a_topic_made_by_its_first_message_is_like_the_template() -> Result<()> {
    let (world, node) = world_with_node(&[
        "--auto-create-topic-enable",
        "--default-topic-queue-nums",
        "3",
        "--auto-create-topic-type",
        "fifo",
        "--auto-create-topic-durability",
        "fast",
        "--auto-create-topic-retention",
        "7d",
    ])?;
    let at = node.namesrv.clone();
    let quern = |args: &[&str]| world.ok(&[args, &["--namesrv", &at]].concat());
    quern(&["produce", "made", "--order-key", "k", "x"])?;
    let json = quern(&["topic", "set", "made", "-o", "json"])?;
    let json: String = json.split_whitespace().collect();
    for part in [
        "\"read_queues\":3,\"write_queues\":3",
        "\"durability\":\"fast\"",
        "\"type\":\"fifo\"",
        "\"retention_ms\":604800000",
    ] {
        ensure!(json.contains(part), "{part}: {json}");
    }
    let refused = ["produce", "made", "x", "--namesrv", &at];
    world.fails(&refused, 2, "Q-3009")?;
    // By hand it is as said by hand.
    quern(&["topic", "create", "by-hand"])?;
    let json = quern(&["topic", "set", "by-hand", "-o", "json"])?;
    ensure!(json.contains("\"retention_ms\": null"), "{json}");
    let shown = quern(&["config", "show"])?;
    for (key, value) in [
        ("autoCreateTopicType", "fifo"),
        ("autoCreateTopicDurability", "fast"),
        ("autoCreateTopicRetention", "7d"),
    ] {
        let is_it = |line: &str| line.contains(key) && line.contains(value);
        ensure!(shown.lines().any(is_it), "{key}: {shown}");
    }
    for (flag, bad) in [
        ("--auto-create-topic-type", "odd"),
        ("--auto-create-topic-durability", "quorum"),
        ("--auto-create-topic-retention", "1ms"),
    ] {
        world.fails(&["start", flag, bad], 2, "Q-1012")?;
    }
    Ok(())
}
