//! Topics that are deleted: closed at once, back as they were when they are restored, gone when their time of
//! grace is over. All of it is in the log.

use anyhow::{Result, ensure};
use quern_harness::{Broker, said, wait_until};

use crate::bench::Bench;
use crate::world_with_node;

#[test]
fn a_deleted_topic_is_closed_and_comes_back_with_messages_and_offsets() -> Result<()> {
    // A broker that makes topics by their first message must not make this one.
    let (world, mut node) = world_with_node(&["--auto-create-topic-enable"])?;
    let at = node.namesrv.clone();
    let quern = |args: &[&str]| world.ok(&[args, &["--namesrv", &at]].concat());
    let fails =
        |args: &[&str], exit, code| world.fails(&[args, &["--namesrv", &at]].concat(), exit, code);
    quern(&["topic", "create", "t", "--queues", "2"])?;
    quern(&["produce", "t", "--count", "100", "kept"])?;
    quern(&["produce", "t", "--delay", "1s", "late"])?;
    let some = quern(&["consume", "t", "--group", "g", "--max", "40"])?;
    assert_eq!(some.lines().count(), 40);

    quern(&["topic", "rm", "t", "--yes"])?;
    // Whatever is asked of it, the answer says how it comes back.
    let closed: [&[&str]; 8] = [
        &["produce", "t", "x"],
        &["produce", "t", "x", "--order-key", "k"],
        &["produce", "t", "x", "--delay", "1s"],
        &["consume", "t"],
        &["topic", "create", "t"],
        &["topic", "set", "t", "--queues", "3"],
        &["topic", "describe", "t"],
        &["topic", "route", "t"],
    ];
    for args in closed {
        let text = fails(args, 3, "Q-2017")?;
        ensure!(text.contains("quern topic restore t"), "{args:?}: {text}");
        ensure!(text.contains("gone for good at 20"), "{args:?}: {text}");
    }
    let open = quern(&["topic", "ls", "-o", "ndjson"])?;
    ensure!(!open.contains("\"topic\":\"t\""), "{open}");
    let deleted = || quern(&["topic", "ls", "--deleted", "-o", "ndjson"]);
    // How many messages it has may change: one is for later.
    let gone_at = || -> Result<serde_json::Value> {
        let deleted: serde_json::Value = serde_json::from_str(&deleted()?)?;
        ensure!(deleted["topic"] == "t", "{deleted}");
        Ok(deleted["gone_at"].clone())
    };
    let before = gone_at()?;

    // The log alone says so.
    node.kill()?;
    node.strip(&["commitlog"])?;
    node.start(&world, &["--auto-create-topic-enable"])?;
    assert_eq!(gone_at()?, before);
    fails(&["produce", "t", "x"], 3, "Q-2017")?;

    quern(&["topic", "restore", "t"])?;
    // What was for later came meanwhile, or comes now.
    wait_until("the late one is there", || {
        Ok(quern(&["consume", "t"])?.lines().count() == 101)
    })?;
    let rest = quern(&["consume", "t", "--group", "g"])?;
    assert_eq!(rest.lines().count(), 61, "the group goes on where it was");
    quern(&["topic", "restore", "t"])?;
    assert_eq!(deleted()?, "");
    quern(&["produce", "t", "x"])?;
    Ok(())
}

/// One broker does not hear that a topic is deleted, and the other does not let it go yet.
#[test]
fn a_group_is_described_while_one_of_two_brokers_has_its_topic() -> Result<()> {
    let (world, node) = world_with_node(&[])?;
    let at = ["--namesrv", node.namesrv.as_str()];
    let quern = |args: &[&str]| world.ok(&[args, &at].concat());
    let broker = Broker::new(&world, "broker-b", at[1])?;
    let running = broker.start(&world)?;
    wait_until("the topic to be on both", || {
        world.run(&["topic", "create", "t", "--queues", "1", at[0], at[1]])?;
        Ok(quern(&["topic", "route", "t"])?.contains("broker-b"))
    })?;
    quern(&["produce", "t", "--count", "100", "x"])?;
    quern(&["consume", "t", "--group", "g"])?;
    assert_eq!(running.terminate()?, Some(0));
    quern(&["topic", "rm", "t", "--yes"])?;
    let _running = broker.start(&world)?;
    for ask in ["describe", "lag", "members"] {
        wait_until("the broker to tell of the group", || {
            let asked = ["group", ask, "g", "-o", "ndjson"];
            let asked = world.run(&[&asked[..], &at].concat())?;
            let told = said(&asked);
            // Until it is registered, nobody knows the group.
            ensure!(asked.status.success() || told.contains("Q-2001"), "{told}");
            Ok(asked.status.success() && (ask == "members" || told.contains("\"t\"")))
        })?;
    }
    Ok(())
}

#[test]
fn after_its_grace_a_topic_is_gone_and_its_name_is_free() -> Result<()> {
    let (world, mut node) = world_with_node(&[])?;
    let at = node.namesrv.clone();
    let quern = |args: &[&str]| world.ok(&[args, &["--namesrv", &at]].concat());
    let fails =
        |args: &[&str], exit, code| world.fails(&[args, &["--namesrv", &at]].concat(), exit, code);
    let deleted = || quern(&["topic", "ls", "--deleted", "-o", "ndjson"]);
    let messages =
        |topic: &str| Ok::<_, anyhow::Error>(quern(&["consume", topic])?.lines().count());
    for topic in ["short", "now", "again"] {
        quern(&["topic", "create", topic, "--queues", "1"])?;
        quern(&["produce", topic, "--count", "10", "old"])?;
        quern(&["consume", topic, "--group", "g", "--max", "5"])?;
        quern(&["topic", "rm", topic, "--yes"])?;
    }
    // Said again, its time is another; --now ends it.
    quern(&["topic", "rm", "short", "--grace", "200ms", "--yes"])?;
    quern(&["topic", "rm", "now", "--now", "--yes"])?;
    wait_until("the short one is gone", || {
        Ok(!deleted()?.contains("\"short\""))
    })?;
    for topic in ["short", "now"] {
        let text = fails(&["topic", "restore", topic], 3, "Q-2001")?;
        ensure!(text.contains("ls --deleted"), "{text}");
        fails(&["consume", topic], 3, "Q-2003")?;
        quern(&["topic", "create", topic, "--queues", "1"])?;
        assert_eq!(messages(topic)?, 0, "it is another topic");
        quern(&["produce", topic, "new"])?;
        let got = quern(&["consume", topic, "--group", "g"])?;
        assert_eq!(got, "new\n", "offsets went with the old one");
    }
    // One whose time is over while nobody is there goes at the next start.
    quern(&["topic", "rm", "again", "--grace", "1s", "--yes"])?;
    node.kill()?;
    node.start(&world, &[])?;
    wait_until("the last one is gone, too", || Ok(deleted()?.is_empty()))?;
    fails(&["topic", "restore", "again"], 3, "Q-2001")?;

    let refused: [(&[&str], i32, &str); 4] = [
        (
            &["topic", "rm", "short", "--grace", "31d", "--yes"],
            2,
            "Q-3007",
        ),
        (&["topic", "rm", "none", "--yes"], 3, "Q-2001"),
        (&["topic", "restore", "none"], 3, "Q-2001"),
        (&["topic", "rm", "%RETRY%g", "--yes"], 2, "Q-3004"),
    ];
    for (args, exit, code) in refused {
        fails(args, exit, code)?;
    }
    assert_eq!(messages("short")?, 1);
    Ok(())
}

/// Who consumes when a topic is deleted waits, and goes on when it is back.
#[test]
fn a_consumer_that_runs_goes_on_when_its_topic_is_restored() -> Result<()> {
    let bench = Bench::bare()?;
    bench.quern(&["topic", "create", "t", "--queues", "2"])?;
    let running = bench.run("out", &["--group", "g"])?;
    bench.quern(&["produce", "t", "before"])?;
    wait_until("it consumes", || Ok(running.lines()? == ["before"]))?;
    bench.quern(&["topic", "rm", "t", "--yes"])?;
    bench.fails(&["produce", "t", "lost"], 3, "Q-2017")?;
    bench.quern(&["topic", "restore", "t"])?;
    bench.quern(&["produce", "t", "after"])?;
    wait_until("it goes on", || Ok(running.lines()?.len() > 1))?;
    assert_eq!(running.lines()?, ["before", "after"]);
    Ok(())
}
