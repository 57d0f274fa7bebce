//! Topics while they are used: their settings change, and hold after a crash.

use anyhow::Result;

use crate::world_with_node;

#[test]
fn settings_change_while_a_topic_is_used_and_survive_a_kill() -> Result<()> {
    let (world, mut node) = world_with_node(&[])?;
    let at = node.namesrv.clone();
    let quern = |args: &[&str]| world.ok(&[args, &["--namesrv", &at]].concat());
    quern(&[
        "topic",
        "create",
        "t",
        "--queues",
        "1",
        "--durability",
        "fast",
    ])?;
    // Without the spaces between its parts.
    let settings = || -> Result<String> {
        let json = quern(&["topic", "set", "t", "-o", "json"])?;
        Ok(json.split_whitespace().collect())
    };
    assert!(settings()?.contains("\"durability\":\"fast\""));
    quern(&["produce", "t", "--count", "100", "written"])?;
    quern(&[
        "topic",
        "set",
        "t",
        "--queues",
        "3",
        "--durability",
        "local",
    ])?;
    // A send has its own say.
    quern(&[
        "produce",
        "t",
        "--count",
        "100",
        "--durability",
        "fast",
        "sent",
    ])?;
    // More queues are used at once, by a producer that asks for the route now.
    quern(&["produce", "t", "--count", "3", "spread"])?;
    let described = quern(&["topic", "describe", "t"])?;
    assert_eq!(described.lines().count(), 1 + 3, "{described}");
    let before = settings()?;
    node.kill()?;
    node.start(&world, &[])?;
    assert_eq!(settings()?, before);
    assert!(before.contains("\"write_queues\":3"), "{before}");
    assert!(before.contains("\"durability\":\"local\""), "{before}");
    // The process died and the machine did not: what was fast is there as well.
    let bodies = quern(&["consume", "t", "--format", "%v\n"])?;
    for (body, count) in [("written", 100), ("sent", 100), ("spread", 3)] {
        let found = bodies.lines().filter(|line| *line == body).count();
        assert_eq!(found, count, "{body}");
    }
    // What a topic allows, and the cure in the text of what it does not.
    let fails =
        |args: &[&str], exit, code| world.fails(&[args, &["--namesrv", &at]].concat(), exit, code);
    quern(&["topic", "set", "t", "--type", "fifo"])?;
    let text = fails(&["produce", "t", "x"], 2, "Q-3009")?;
    assert!(text.contains("takes fifo messages only"), "{text}");
    quern(&["produce", "t", "x", "--order-key", "k"])?;
    quern(&["topic", "set", "t", "--perm", "4", "--type", "mixed"])?;
    let text = fails(&["produce", "t", "x"], 5, "Q-2010")?;
    assert!(text.contains("quern topic set t --perm rw"), "{text}");
    assert!(settings()?.contains("\"perm\":\"r\",\"type\":\"mixed\""));
    quern(&["topic", "set", "t", "--perm", "rw"])?;
    quern(&["produce", "t", "x"])?;
    // Back to the broker's own.
    quern(&["topic", "set", "t", "--durability", "default"])?;
    assert!(settings()?.contains("\"durability\":null"));
    Ok(())
}
