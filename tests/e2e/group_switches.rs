//! What a group may be kept from: broadcasting, beginning with what is there, and topics.

use anyhow::{Result, ensure};
use quern_harness::wait_until;

use crate::world_with_node;

/// What a group may not do is refused, and begins where it has to.
#[test]
fn a_group_that_may_not_broadcast_or_begin_at_the_first_message_does_not() -> Result<()> {
    let (world, mut node) = world_with_node(&[])?;
    let at = node.namesrv.clone();
    let quern = |args: &[&str]| world.ok(&[args, &["--namesrv", &at]].concat());
    quern(&["topic", "create", "t", "--queues", "3"])?;
    quern(&["produce", "t", "--count", "30", "before"])?;
    let file = world.path("offsets").to_string_lossy().into_owned();
    let broadcast = ["consume", "t", "--group", "b", "--broadcast", &file];
    quern(&["group", "set", "b", "--broadcast", "off"])?;
    let refused = [&broadcast[..], &["--namesrv", &at]].concat();
    let text = world.fails(&refused, 5, "Q-2018")?;
    ensure!(text.contains("quern group set b --broadcast on"), "{text}");
    // As its member it consumes.
    let member = ["consume", "t", "--group", "b"];
    assert_eq!(quern(&member)?.lines().count(), 30);

    for group in ["new", "popped"] {
        quern(&["group", "set", group, "--from-min", "off"])?;
    }
    node.kill()?;
    node.start(&world, &[])?;
    world.fails(&refused, 5, "Q-2018")?;
    let new = ["consume", "t", "--group", "new", "--from", "first"];
    let popped = [
        "consume", "t", "--group", "popped", "--pop", "--from", "first",
    ];
    assert_eq!(quern(&new)?, "");
    assert_eq!(quern(&popped)?, "");
    quern(&["produce", "t", "--count", "6", "after"])?;
    // All that came since, from queues it had not looked at either.
    for args in [&new[..], &popped[..]] {
        let got = quern(args)?;
        assert_eq!(
            got.lines().filter(|it| *it == "after").count(),
            6,
            "{args:?}"
        );
        assert_eq!(got.lines().count(), 6, "{args:?}");
    }
    quern(&["group", "set", "b", "--broadcast", "on"])?;
    assert_eq!(quern(&broadcast)?.lines().count(), 36);
    let held = quern(&["group", "set", "new", "-o", "ndjson"])?;
    ensure!(
        held.contains("\"broadcast\":true,\"from_min\":false"),
        "{held}"
    );
    Ok(())
}

/// A group is kept from one topic, by all ways to consume it and across a crash; its member waits and goes on.
#[test]
fn a_group_does_not_consume_what_it_is_forbidden() -> Result<()> {
    let (world, mut node) = world_with_node(&[])?;
    let at = node.namesrv.clone();
    let quern = |args: &[&str]| world.ok(&[args, &["--namesrv", &at, "--timeout", "30"]].concat());
    for topic in ["t", "u"] {
        quern(&["topic", "create", topic, "--queues", "2"])?;
        quern(&["produce", topic, "--count", "4", "before"])?;
    }
    let file = world.path("offsets").to_string_lossy().into_owned();
    let ways: [&[&str]; 3] = [&[], &["--pop"], &["--broadcast", &file]];
    let forbid = ["group", "set", "g", "--forbid", "t", "--by", "ann@console"];
    let row = quern(&[&forbid[..], &["-o", "ndjson"]].concat())?;
    let told = "\"forbidden\":[{\"topic\":\"t\",\"by\":\"ann@console\"}]";
    ensure!(row.contains(told), "{row}");
    node.kill()?;
    node.start(&world, &[])?;
    for way in ways {
        let consume = ["consume", "t", "--group", "g", "--namesrv", &at];
        let text = world.fails(&[&consume[..], way].concat(), 5, "Q-2030")?;
        ensure!(text.contains("ann@console"), "{text}");
        ensure!(text.contains("quern group set g --allow t"), "{text}");
    }
    // Another topic of the group, and another group of the topic, go on.
    assert_eq!(quern(&["consume", "u", "--group", "g"])?.lines().count(), 4);
    assert_eq!(quern(&["consume", "t", "--group", "h"])?.lines().count(), 4);

    quern(&["group", "set", "g", "--allow", "t"])?;
    let command = "cat >> ran; echo >> ran";
    let follow = [
        "consume", "t", "--group", "g", "--follow", "--exec", command,
    ];
    let follow = [&follow[..], &["--namesrv", &at, "--timeout", "30"]].concat();
    let mut member = world.command(&follow).spawn()?;
    let ran = || {
        let ran = std::fs::read_to_string(world.path("ran")).unwrap_or_default();
        ran.lines().filter(|it| !it.is_empty()).count()
    };
    wait_until("all to be consumed", || Ok(ran() == 4))?;
    quern(&forbid)?;
    quern(&["produce", "t", "--count", "4", "meanwhile"])?;
    // Others consume them meanwhile; the member of this group gets none.
    assert_eq!(quern(&["consume", "t", "--group", "h"])?.lines().count(), 4);
    assert_eq!(ran(), 4, "nothing of what is forbidden");
    quern(&["group", "set", "g", "--allow", "t"])?;
    wait_until("the member to go on", || Ok(ran() == 8))?;
    member.kill()?;
    member.wait()?;
    Ok(())
}
