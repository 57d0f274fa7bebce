//! Groups of several real processes: each message to one member, whoever comes, goes or is killed.

use std::collections::HashMap;

use anyhow::{Context as _, Result, ensure};
use quern_harness::{World, wait_until};

use crate::world_with_node;

/// How often each line is in the files.
fn counts(world: &World, files: &[&str]) -> Result<HashMap<String, usize>> {
    let mut counts = HashMap::new();
    for file in files {
        let text = std::fs::read_to_string(world.path(file)).unwrap_or_default();
        for line in text.lines() {
            *counts.entry(line.to_owned()).or_default() += 1;
        }
    }
    Ok(counts)
}

/// A consumer that writes what it receives into a file, until it is told to stop.
fn member(world: &World, at: &str, file: &str) -> Result<std::process::Child> {
    let out = std::fs::File::create(world.path(file))?;
    let args = ["consume", "t", "--group", "g", "--follow", "--namesrv", at];
    let child = world.command(&args).stdout(out).spawn();
    child.with_context(|| format!("starting member {file}"))
}

fn owners(world: &World, at: &str) -> Result<Vec<String>> {
    let args = ["group", "describe", "g", "-o", "ndjson", "--namesrv", at];
    let described = world.run(&args)?;
    let lines = String::from_utf8_lossy(&described.stdout).into_owned();
    let owner = |line: &str| {
        let (_, rest) = line.split_once("\"owner\":\"")?;
        Some(rest.split('"').next()?.to_owned())
    };
    Ok(lines.lines().filter_map(owner).collect())
}

/// So many members have the queues, about as many each.
fn shared_by(world: &World, at: &str, members: usize) -> Result<bool> {
    let owners = owners(world, at)?;
    let mut each: HashMap<&String, usize> = HashMap::new();
    owners
        .iter()
        .for_each(|owner| *each.entry(owner).or_default() += 1);
    let (least, most) = (each.values().min(), each.values().max());
    let is_even = least
        .zip(most)
        .is_some_and(|(least, most)| most - least <= 1);
    Ok(owners.len() == 8 && each.len() == members && is_even)
}

#[test]
fn members_share_the_queues_and_a_killed_one_is_missed() -> Result<()> {
    let (world, mut node) = world_with_node(&[])?;
    let at = node.namesrv.clone();
    let quern = |args: &[&str]| world.ok(&[args, &["--namesrv", &at]].concat());
    quern(&["topic", "create", "t", "--queues", "8"])?;
    let produce = |from: usize, to: usize| -> Result<()> {
        let lines: String = (from..to).map(|n| format!("{n}\n")).collect();
        world.ok_with_input(&["produce", "t", "-", "--namesrv", &at], lines.as_bytes())?;
        Ok(())
    };
    let files = ["a", "b", "c"];
    let mut a = member(&world, &at, "a")?;
    let mut b = member(&world, &at, "b")?;
    wait_until("two members share the queues", || shared_by(&world, &at, 2))?;
    produce(0, 2_000)?;
    let all = |upto: usize| counts(&world, &files).map(|it| it.len() == upto);
    wait_until("all is received", || all(2_000))?;
    let once = counts(&world, &files)?;
    ensure!(once.values().all(|times| *times == 1), "nothing twice");
    ensure!(counts(&world, &["a"])?.len() > 100 && counts(&world, &["b"])?.len() > 100);
    // One more takes a share of its own; still nothing twice.
    let mut c = member(&world, &at, "c")?;
    wait_until("three members share the queues", || {
        shared_by(&world, &at, 3)
    })?;
    produce(2_000, 4_000)?;
    wait_until("all is received", || all(4_000))?;
    let once = counts(&world, &files)?;
    ensure!(once.values().all(|times| *times == 1), "nothing twice");
    // A broker that starts again knows whom it has promised what.
    node.kill()?;
    node.start(&world, &[])?;
    // A member is killed: what it had received and not committed comes again, to others.
    b.kill()?;
    b.wait()?;
    produce(4_000, 5_000)?;
    wait_until("all is received", || all(5_000))?;
    wait_until("two members share the queues", || shared_by(&world, &at, 2))?;
    // The others leave, and nobody has a queue.
    for child in [&mut a, &mut c] {
        let pid = child.id().to_string();
        std::process::Command::new("kill")
            .args(["-TERM", &pid])
            .status()?;
        ensure!(
            child.wait()?.success(),
            "a member that is told to stop leaves"
        );
    }
    ensure!(owners(&world, &at)?.is_empty());
    let lag = quern(&["group", "lag", "g", "-o", "json"])?;
    ensure!(lag.contains("\"lag\": 0"), "{lag}");
    Ok(())
}

#[test]
fn a_group_is_moved_looked_at_and_forgotten() -> Result<()> {
    let (world, node) = world_with_node(&[])?;
    let at = node.namesrv.clone();
    let quern = |args: &[&str]| world.ok(&[args, &["--namesrv", &at]].concat());
    quern(&["topic", "create", "t", "--queues", "2"])?;
    quern(&["produce", "t", "--count", "10", "x"])?;
    let read = |group: &str| -> Result<usize> {
        Ok(quern(&["consume", "t", "--group", group])?.lines().count())
    };
    ensure!(read("g")? == 10);
    ensure!(read("g")? == 0, "all of it is committed");
    quern(&["group", "reset", "g", "t", "--to", "first", "--dry-run"])?;
    ensure!(read("g")? == 0, "nothing was changed");
    quern(&["group", "reset", "g", "t", "--to", "first"])?;
    ensure!(read("g")? == 10);
    quern(&["group", "reset", "g", "t", "--to", "first"])?;
    ensure!(quern(&["group", "describe", "g", "-o", "ndjson"])?.contains("\"behind_ms\":"));
    quern(&["group", "clone", "g", "h", "t"])?;
    quern(&["group", "skip", "g", "t"])?;
    ensure!(read("g")? == 0);
    ensure!(read("h")? == 10);
    let groups = quern(&["group", "ls", "-o", "ndjson"])?;
    ensure!(groups.lines().count() == 2, "{groups}");
    quern(&["group", "rm", "g", "--yes"])?;
    world.fails(&["group", "describe", "g", "--namesrv", &at], 3, "Q-2001")?;
    world.fails(&["group", "rm", "h", "--namesrv", &at], 2, "say --yes")?;
    let unknown = [
        "consume",
        "t",
        "--group",
        "h",
        "--allocate",
        "nobody",
        "--namesrv",
        &at,
    ];
    world.fails(&unknown, 2, "Q-4207")?;
    Ok(())
}
