//! What a group may be kept from: broadcasting, and beginning with what is there.

use anyhow::{Result, ensure};

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
