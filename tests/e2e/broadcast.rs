//! Broadcasting with real processes: every consumer has every message, and goes on where its own file says.

use anyhow::{Context as _, Result, ensure};
use quern_harness::wait_until;

use crate::world_with_node;

#[test]
fn every_consumer_has_every_message_and_goes_on_by_its_file() -> Result<()> {
    let (world, node) = world_with_node(&[])?;
    let at = node.namesrv.clone();
    let quern = |args: &[&str]| world.ok(&[args, &["--namesrv", &at]].concat());
    quern(&["topic", "create", "t", "--queues", "4"])?;
    quern(&["produce", "t", "--count", "100", "x"])?;
    let consume = |file: &str| {
        let consume = ["consume", "t", "--group", "g", "--format", "%q %o\\n"];
        quern(&[&consume[..], &["--broadcast", file]].concat())
    };
    ensure!(consume("a")?.lines().count() == 100);
    ensure!(consume("a")?.is_empty(), "all of it is consumed");
    ensure!(consume("b")?.lines().count() == 100, "each for itself");
    quern(&["produce", "t", "--count", "20", "x"])?;
    ensure!(consume("a")?.lines().count() == 20);
    // One that runs has its file to itself, and is killed in the middle of its work.
    let command = "echo $QUERN_QUEUE $QUERN_OFFSET >> ran; [ $QUERN_OFFSET != 3 ]";
    let follow = [
        "consume",
        "t",
        "--group",
        "g",
        "--follow",
        "--workers",
        "2",
        "--exec",
        command,
        "--broadcast",
        "c",
        "--namesrv",
        &at,
    ];
    let mut member = world.command(&follow).spawn().context("a consumer")?;
    let ran = || std::fs::read_to_string(world.path("ran")).unwrap_or_default();
    wait_until("all to be run", || Ok(ran().lines().count() == 120))?;
    let twice = [
        "consume",
        "t",
        "--group",
        "g",
        "--broadcast",
        "c",
        "--namesrv",
        &at,
    ];
    world.fails(&twice, 2, "another consumer uses it")?;
    let saved = || std::fs::read_to_string(world.path("c")).unwrap_or_default();
    let consumed = || -> u64 {
        let saved = saved();
        let offsets = saved
            .lines()
            .filter_map(|it| it.rsplit(' ').next()?.parse::<u64>().ok());
        offsets.skip(1).sum()
    };
    wait_until("the offsets to be saved", || Ok(consumed() == 120))?;
    member.kill()?;
    member.wait()?;
    ensure!(consume("c")?.is_empty(), "what failed does not come again");
    ensure!(
        quern(&["group", "ls", "-o", "ndjson"])?.is_empty(),
        "brokers keep nothing of it"
    );
    Ok(())
}

#[test]
fn a_file_of_something_else_is_left_alone() -> Result<()> {
    let (world, node) = world_with_node(&[])?;
    let at = &node.namesrv;
    world.ok(&["topic", "create", "t", "--namesrv", at])?;
    std::fs::write(world.path("d"), "something else")?;
    let foreign = [
        "consume",
        "t",
        "--group",
        "g",
        "--broadcast",
        "d",
        "--namesrv",
        at,
    ];
    world.fails(&foreign, 2, "does not begin with")?;
    Ok(())
}
