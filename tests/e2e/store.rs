//! `quern store` on the data of a node that has stopped: it checks, lists and gives back what is there.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};

use anyhow::{Context as _, Result, ensure};
use quern_harness::{Node, World};

use crate::world_with_node;

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

fn path(node: &Node) -> String {
    node.data().to_string_lossy().into_owned()
}

#[test]
fn what_was_stored_is_checked_listed_and_given_back() -> Result<()> {
    let (world, mut node) = world_with_node(&[])?;
    let at = node.namesrv.clone();
    world.ok(&["topic", "create", "t", "--namesrv", &at])?;
    let mut lines: String = (0..500)
        .map(|n| {
            format!(
                "{{\"body\":\"b{n}\",\"tag\":\"t{}\",\"key\":[\"k{n}\",\"all\"],\"properties\":{{\"n\":\"{n}\"}}}}\n",
                n % 3
            )
        })
        .collect();
    lines += "{\"body_hex\":\"00ff80\"}\n{\"body\":\"\"}\n";
    let produce = ["produce", "t", "--ndjson", "-", "--namesrv"];
    world.ok_with_input(&[&produce[..], &[&at]].concat(), lines.as_bytes())?;
    let format = "%g|%k|%p|%v\\n";
    let without_ids = |text: String| -> Vec<String> {
        let strip = |line: &str| {
            let id = line.find("UNIQ_KEY=").map_or(line.len(), |at| at + 9);
            let (before, after) = line.split_at(id);
            let rest = after.find(['|', ',']).map_or("", |end| &after[end..]);
            format!("{before}{rest}")
        };
        let mut lines: Vec<String> = text.lines().map(strip).collect();
        lines.sort_unstable();
        lines
    };
    // A body that is no text is no line either.
    let consume = |at: &str, tag: &str| {
        let args = [
            "consume",
            "t",
            "--tag",
            tag,
            "--format",
            format,
            "--namesrv",
            at,
        ];
        world.ok(&args)
    };
    let stored = without_ids(consume(&at, "t0 || t1 || t2")?);
    ensure!(stored.len() == 500);

    // Not while somebody writes there.
    let dir = path(&node);
    world.fails(&["store", "check", &dir], 4, "Q-4003")?;
    assert_eq!(node.stop()?, Some(0));
    let checked = world.ok(&["store", "check", &dir])?;
    ensure!(
        checked.contains("messages 502 ") && checked.contains("nothing is damaged"),
        "{checked}"
    );
    let listed = world.ok(&["store", "inspect", &dir, "--topic", "t", "-n", "1000"])?;
    ensure!(listed.lines().count() == 503, "{listed}");
    let exported = world.ok(&["store", "export", &dir, "--topic", "t"])?;
    ensure!(exported.lines().count() == 502);
    world.fails(
        &["store", "export", &dir, "--topic", "u"],
        3,
        "no message of topic",
    )?;

    // What comes out goes in again, and is the same.
    let mut other = Node::new(&world, "other")?;
    other.start(&world, &[])?;
    world.ok(&["topic", "create", "t", "--namesrv", &other.namesrv])?;
    let into_other = [&produce[..], &[other.namesrv.as_str()]].concat();
    world.ok_with_input(&into_other, exported.as_bytes())?;
    ensure!(without_ids(consume(&other.namesrv, "t0 || t1 || t2")?) == stored);
    assert_eq!(other.stop()?, Some(0));
    let again = world.ok(&["store", "export", &path(&other), "--topic", "t"])?;
    ensure!(sorted(&again) == sorted(&exported));
    Ok(())
}

fn flip(world: &World, dir: &str, at: u64) -> Result<()> {
    let segment = world.path(dir).join("commitlog/00000000000000000000.seg");
    let mut file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(segment)?;
    let mut byte = [0];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut byte)?;
    file.seek(SeekFrom::Start(at))?;
    file.write_all(&[byte[0] ^ 1])?;
    Ok(())
}

#[test]
fn damage_is_found_where_it_is_and_never_served() -> Result<()> {
    let (world, mut node) = world_with_node(&[])?;
    let at = node.namesrv.clone();
    world.ok(&["topic", "create", "t", "--namesrv", &at])?;
    for n in 0..10 {
        world.ok(&["produce", "t", &format!("message {n}"), "--namesrv", &at])?;
    }
    assert_eq!(node.stop()?, Some(0));
    let dir = path(&node);
    let groups = [
        "store", "inspect", &dir, "--what", "groups", "-n", "100", "-o", "ndjson",
    ];
    let groups = world.ok(&groups)?;
    // The first are topics and stamps of silence.
    let fifth = groups
        .lines()
        .filter(|line| line.contains("\"data\""))
        .nth(5);
    let fifth: serde_json::Value = serde_json::from_str(fifth.context("there are ten")?)?;
    let position = fifth["position"].as_u64().context("a number")?;
    flip(&world, &dir, position + 70)?;
    let said = world.fails(&["store", "check", &dir], 9, "Q-4007")?;
    ensure!(said.contains(&position.to_string()), "{said}");
    // All but the one message that was in the damaged group.
    let left = world.ok(&["store", "export", &dir, "--topic", "t"])?;
    ensure!(left.lines().count() == 9, "{left}");
    // A start reads on from the last checkpoint; whoever reads the damaged message is told.
    node.start(&world, &[])?;
    world.fails(&["consume", "t", "--namesrv", &at], 1, "Q-4007")?;
    assert_eq!(node.stop()?, Some(0));
    // A start that has to read all of the log refuses.
    std::fs::remove_file(node.data().join("state"))?;
    node.refuses(&world, 1, "quern store repair")?;
    flip(&world, &dir, position + 70)?;
    world.ok(&["store", "check", &dir])?;
    node.start(&world, &[])?;
    ensure!(
        world
            .ok(&["consume", "t", "--namesrv", &at])?
            .lines()
            .count()
            == 10
    );
    Ok(())
}

/// A disk has flipped a bit in the middle of the log: the start says what to do, and after it all is
/// there but the messages of the one damaged group.
#[test]
fn a_damaged_log_is_repaired_and_the_rest_is_consumed() -> Result<()> {
    let (world, mut node) = world_with_node(&[])?;
    let at = node.namesrv.clone();
    world.ok(&["topic", "create", "t", "--queues", "1", "--namesrv", &at])?;
    for n in 0..10 {
        world.ok(&["produce", "t", &format!("message {n}"), "--namesrv", &at])?;
    }
    let dir = path(&node);
    world.fails(&["store", "repair", &dir, "--yes"], 4, "Q-4003")?;
    node.kill()?;
    let listed = world.ok(&[
        "store", "inspect", &dir, "--topic", "t", "-n", "100", "-o", "ndjson",
    ])?;
    let sixth: serde_json::Value = serde_json::from_str(listed.lines().nth(5).context("ten")?)?;
    let position = sixth["position"].as_u64().context("a number")?;
    flip(&world, &dir, position + 60)?;
    node.refuses(&world, 1, "quern store repair")?;
    ensure!(
        world
            .ok(&["explain", "Q-4007"])?
            .contains("quern store repair")
    );

    let dry = world.ok(&["store", "repair", &dir, "--dry-run"])?;
    ensure!(dry.contains("5 to 5") && dry.contains(" t "), "{dry}");
    world.fails(&["store", "check", &dir], 9, "quern store repair")?;
    world.fails(&["store", "repair", &dir], 2, "--yes")?;
    let done = world.ok(&["store", "repair", &dir, "--yes", "-o", "json"])?;
    let done: serde_json::Value = serde_json::from_str(&done)?;
    let kept = done["lost"][0]["kept_in"].as_str().context("it is kept")?;
    ensure!(node.data().join(kept).metadata()?.len() > 100, "{done}");
    ensure!(
        world
            .ok(&["store", "check", &dir])?
            .contains("nothing is damaged")
    );
    ensure!(
        world
            .ok(&["store", "repair", &dir, "--yes"])?
            .contains("nothing has to be")
    );

    let rest = |world: &World| -> Result<Vec<String>> {
        let format = ["consume", "t", "--format", "%o %v\\n", "--namesrv", &at];
        Ok(world.ok(&format)?.lines().map(str::to_owned).collect())
    };
    node.start(&world, &[])?;
    let expected = |upto: usize| -> Vec<String> {
        let left = (0..upto).filter(|n| *n != 5);
        left.map(|n| format!("{n} message {n}")).collect()
    };
    assert_eq!(rest(&world)?, expected(10));
    world.ok(&["produce", "t", "message 10", "--namesrv", &at])?;
    assert_eq!(rest(&world)?, expected(11));
    // The log alone says so, too.
    assert_eq!(node.stop()?, Some(0));
    node.strip(&["commitlog"])?;
    node.start(&world, &[])?;
    assert_eq!(rest(&world)?, expected(11));
    Ok(())
}

/// Few segments are kept: the oldest go, what is left survives a kill, and the commit log
/// alone is enough to have it all back.
#[test]
fn old_segments_go_and_the_log_alone_is_enough() -> Result<()> {
    let few = ["--log-max-bytes", "25165824"];
    let (world, mut node) = world_with_node(&few)?;
    let at = node.namesrv.clone();
    world.ok(&["topic", "create", "t", "--namesrv", &at])?;
    let lines: String = (0..40_000)
        .map(|n| format!("{{\"body\":\"{}\",\"key\":\"k{n}\"}}\n", "x".repeat(1_000)))
        .collect();
    let produce = ["produce", "t", "--ndjson", "-", "--namesrv", &at];
    world.ok_with_input(&produce, lines.as_bytes())?;
    let keys = |world: &World| world.ok(&["consume", "t", "--format", "%k\n", "--namesrv", &at]);
    let first = |world: &World| -> Result<String> {
        let described = world.ok(&["topic", "describe", "t", "--namesrv", &at])?;
        Ok(described.lines().skip(1).map(str::to_owned).collect())
    };
    // What goes, goes in the background.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while keys(&world)?.lines().count() > 30_000 {
        ensure!(std::time::Instant::now() < deadline, "nothing went");
        world.ok(&["produce", "t", "one more", "--namesrv", &at])?;
    }
    node.kill()?;
    node.start(&world, &few)?;
    let (kept, described) = (keys(&world)?, first(&world)?);
    ensure!(
        kept.lines().count() > 100 && kept.contains("k2999"),
        "{kept}"
    );
    assert_eq!(node.stop()?, Some(0));
    // What is left begins with messages, and says only later which topic they are of.
    let dir = node.data().to_string_lossy().into_owned();
    let exported = world.ok(&["store", "export", &dir, "--topic", "t"])?;
    assert_eq!(exported.lines().count(), kept.lines().count());
    node.strip(&["commitlog"])?;
    node.start(&world, &few)?;
    assert_eq!(sorted(&keys(&world)?), sorted(&kept));
    assert_eq!(first(&world)?, described);
    Ok(())
}
