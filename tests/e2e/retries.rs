//! Messages that a group cannot consume, with real processes: they come again, later each time, whoever is
//! killed between, and end as dead letters that can be sent back.

use anyhow::{Context as _, Result, ensure};
use quern_harness::wait_until;

use crate::world_with_node;

#[test]
fn a_poisoned_message_is_retried_through_crashes_and_holds_up_nobody() -> Result<()> {
    let (world, mut node) = world_with_node(&[])?;
    let at = node.namesrv.clone();
    let quern = |args: &[&str]| world.ok(&[args, &["--namesrv", &at]].concat());
    quern(&["topic", "create", "t", "--queues", "1"])?;
    let set = [
        "group",
        "set",
        "g",
        "--retries",
        "2",
        "--retry-delays",
        "1s,1500ms",
    ];
    ensure!(quern(&[&set[..], &["-o", "ndjson"]].concat())?.contains("[1000,1500]"));
    quern(&["produce", "t", "poison"])?;
    world.ok_with_input(&["produce", "t", "-", "--namesrv", &at], b"good\n")?;
    // Each run of the command writes a line: the body, and how often it was given back.
    let command = "read it; echo $it $QUERN_ATTEMPTS >> ran; [ $it != poison ]";
    let consume = [
        "consume", "t", "--group", "g", "--follow", "--exec", command,
    ];
    let consume = [&consume[..], &["--namesrv", &at]].concat();
    let mut member = world.command(&consume).spawn()?;
    let ran = || std::fs::read_to_string(world.path("ran")).unwrap_or_default();
    let has = |lines: &'static [&str]| move |text: &str| lines.iter().all(|it| text.contains(it));
    let first = has(&["poison 0\n", "good 0\n"]);
    wait_until("both to be tried", || Ok(first(&ran())))?;
    // The broker and the member are killed while the message waits, and it comes all the same.
    node.kill()?;
    member.kill()?;
    member.wait()?;
    node.start(&world, &[])?;
    let mut member = world.command(&consume).spawn()?;
    let all = has(&["poison 1\n", "poison 2\n"]);
    wait_until("it to come twice more", || Ok(all(&ran())))?;
    let letters = || quern(&["dlq", "ls", "g", "-o", "ndjson"]);
    wait_until("it to be a dead letter", || Ok(!letters()?.is_empty()))?;
    let letter = letters()?;
    // The last commit may not have been: `poison 0` can come again with the member that was killed. Each that came
    // ends as a letter of its own, in its own time.
    let of = |line: &str| ran().lines().filter(|it| *it == line).count();
    let came = of("poison 0");
    ensure!(letter.lines().count() <= came, "{letter}");
    // Where one came, there is a letter only for each time it was given up and nothing has been done about it. It may be
    // given up once more before anybody looks.
    let dealt_with = |before: &str, times: usize| {
        let now = letters()?;
        let is_gone = before.lines().all(|it| !now.contains(it));
        let left = of("poison 2") - times;
        let is_all = came > 1 || now.lines().count() <= left;
        ensure!(is_gone && is_all, "{now}: {}", ran());
        Ok(())
    };
    for part in ["\"topic\":\"t\"", "\"attempts\":3", "exit status: 1"] {
        ensure!(letter.contains(part), "{letter}");
    }
    ensure!(of("poison 2") <= of("poison 0"), "{}", ran());
    let before = of("poison 0");
    quern(&["dlq", "resend", "g"])?;
    wait_until("it to be tried again", || Ok(of("poison 0") > before))?;
    dealt_with(&letter, 1)?;
    wait_until(
        "it to be a dead letter again",
        || Ok(!letters()?.is_empty()),
    )?;
    let letter = letters()?;
    quern(&["dlq", "rm", "g", "--yes"])?;
    dealt_with(&letter, 2)?;
    let pid = member.id().to_string();
    let mut term = std::process::Command::new("kill");
    let told = term.args(["-TERM", &pid]).status();
    told.context("telling the member to stop")?;
    ensure!(member.wait()?.success());
    Ok(())
}

#[test]
fn a_message_that_takes_long_holds_up_no_other_and_is_not_passed_by_the_commit() -> Result<()> {
    let (world, node) = world_with_node(&[])?;
    let at = node.namesrv.clone();
    let quern = |args: &[&str]| world.ok(&[args, &["--namesrv", &at]].concat());
    quern(&["topic", "create", "t", "--queues", "1"])?;
    let lines: String = (0..40).map(|n| format!("{n}\n")).collect();
    world.ok_with_input(&["produce", "t", "-", "--namesrv", &at], lines.as_bytes())?;
    // The third does not end before it is allowed to.
    let command = "read it; if [ $it = 2 ]; then [ -e go ] || exec sleep 60; fi; echo $it >> ran";
    let consume = [
        "consume",
        "t",
        "--group",
        "g",
        "--follow",
        "--exec",
        command,
        "--workers",
        "4",
    ];
    let consume = [&consume[..], &["--namesrv", &at]].concat();
    let mut member = world.command(&consume).spawn()?;
    let ran = || std::fs::read_to_string(world.path("ran")).unwrap_or_default();
    let others = |text: &str| {
        (0..40)
            .filter(|n| *n != 2)
            .all(|n| text.lines().any(|it| it == n.to_string()))
    };
    wait_until("the others to be consumed", || Ok(others(&ran())))?;
    let lag = || quern(&["group", "lag", "g", "-o", "ndjson"]);
    wait_until("a commit", || Ok(lag()?.contains("\"lag\":38")))?;
    member.kill()?;
    member.wait()?;
    std::fs::write(world.path("go"), "")?;
    let mut member = world.command(&consume).spawn()?;
    // What was behind it comes again with it.
    wait_until("it to come again", || Ok(ran().lines().count() == 39 + 38))?;
    ensure!(ran().lines().any(|it| it == "2"), "{}", ran());
    let mut term = std::process::Command::new("kill");
    term.args(["-TERM", &member.id().to_string()]).status()?;
    ensure!(member.wait()?.success());
    ensure!(lag()?.contains("\"lag\":0"), "{}", lag()?);
    Ok(())
}
