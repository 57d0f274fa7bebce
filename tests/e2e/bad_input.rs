//! What bad input gets: a code, a reason, a way out; and nobody else notices.

use std::io::Write as _;
use std::net::UdpSocket;
use std::process::Stdio;

use anyhow::{Context as _, Result};
use quern_harness::{Node, World, free_port};

use crate::{QUERN, world_with_node};

#[test]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn bad_input_gets_a_code_a_reason_and_a_way_out() -> Result<()> {
    let (world, node) = world_with_node(&[])?;
    let at = ["--namesrv", node.namesrv.as_str()];
    world.ok(&["topic", "create", "t", at[0], at[1]])?;
    let large = world.path("large");
    std::fs::write(&large, vec![b'x'; 4 * 1024 * 1024 + 1])?;
    let large = large.to_string_lossy().into_owned();
    let nowhere = format!("127.0.0.1:{}", free_port()?);
    let cases: &[(&[&str], i32, &str)] = &[
        (&["produce", "nothere", "x", at[0], at[1]], 3, "Q-2003"),
        (&["consume", "nothere", at[0], at[1]], 3, "Q-2003"),
        (&["topic", "create", "bad name", at[0], at[1]], 2, "Q-2005"),
        (&["topic", "create", "t", at[0], at[1]], 4, "Q-2002"),
        (
            &["topic", "create", "q", "--queues", "0", at[0], at[1]],
            2,
            "Q-3007",
        ),
        (&["topic", "describe", "nothere", at[0], at[1]], 3, "Q-2001"),
        (&["topic", "set", "nothere", at[0], at[1]], 3, "Q-2001"),
        (
            &["topic", "set", "t", "--queues", "2000", at[0], at[1]],
            2,
            "Q-3007",
        ),
        (
            &["topic", "set", "t", "--durability", "sync", at[0], at[1]],
            2,
            "there are fast, local, replicated and quorum; or default",
        ),
        (
            &["produce", "t", "--durability", "quorum", "x", at[0], at[1]],
            2,
            "Q-3008",
        ),
        (
            &["produce", "t", "--tag", "a|b", "x", at[0], at[1]],
            2,
            "Q-3005",
        ),
        (
            &["produce", "t", "-H", "TAGS=x", "x", at[0], at[1]],
            2,
            "Q-3004",
        ),
        (
            &["produce", "t", "--file", &large, at[0], at[1]],
            2,
            "Q-1002",
        ),
        (&["consume", "t", "--tag", "||", at[0], at[1]], 2, "Q-4201"),
        (
            &["topic", "ls", "--namesrv", &nowhere, "--timeout", "0.5"],
            6,
            "Q-2006",
        ),
        (&["topic", "ls", "--namesrv", "nonsense"], 2, "Q-1012"),
        (&["explain", "Q-1"], 3, "no error code"),
        (&["produce", "t"], 2, "nothing to send"),
    ];
    for (args, exit, code) in cases {
        world.fails(args, *exit, code)?;
    }
    assert!(world.ok(&["explain", "Q-2003"])?.contains("NO_ROUTE"));
    // A line that is no message stops at its number; what came before is stored.
    let mut child = world
        .command(&["produce", "t", "--ndjson", "-", at[0], at[1]])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("piped")?;
    stdin.write_all(b"{\"body\":\"fine\"}\nnot json\n")?;
    drop(stdin);
    let output = child.wait_with_output()?;
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr)?.contains("line 2"));
    assert_eq!(world.ok(&["consume", "t", at[0], at[1]])?, "fine\n");
    Ok(())
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn bad_starts_get_a_code_and_change_nothing() -> Result<()> {
    let (world, node) = world_with_node(&[])?;
    let data = node.data().to_string_lossy().into_owned();
    let free = || -> Result<String> { Ok(format!("127.0.0.1:{}", free_port()?)) };
    let foreign = world.path("foreign");
    std::fs::create_dir(&foreign)?;
    std::fs::write(foreign.join("letter.txt"), "dear")?;
    let foreign = foreign.to_string_lossy().into_owned();
    let newer = world.path("newer");
    std::fs::create_dir(&newer)?;
    std::fs::write(newer.join("FORMAT"), "quern store format 7\nlog 00\n")?;
    let newer = newer.to_string_lossy().into_owned();
    let other = world.path("other").to_string_lossy().into_owned();
    let (a, b) = (free()?, free()?);
    let cases: &[(&[&str], i32, &str)] = &[
        (
            &["--data", &data, "--listen", &a, "--namesrv-listen", &b],
            4,
            "Q-4003",
        ),
        (
            &["--data", &foreign, "--listen", &a, "--namesrv-listen", &b],
            4,
            "Q-4004",
        ),
        (
            &["--data", &newer, "--listen", &a, "--namesrv-listen", &b],
            4,
            "Q-4005",
        ),
        (
            &[
                "--data",
                &other,
                "--listen",
                &a,
                "--namesrv-listen",
                &b,
                "--durability",
                "replicated",
            ],
            2,
            "Q-1012",
        ),
        (
            &[
                "--data",
                &other,
                "--listen",
                &node.broker,
                "--namesrv-listen",
                &b,
            ],
            4,
            "Q-1010",
        ),
        (
            &[
                "--data",
                &other,
                "--listen",
                &a,
                "--namesrv-listen",
                &node.namesrv,
            ],
            4,
            "Q-1010",
        ),
        (
            &[
                "--data",
                "/proc/quern",
                "--listen",
                &a,
                "--namesrv-listen",
                &b,
            ],
            5,
            "Q-4006",
        ),
        (
            &[
                "--data",
                &other,
                "--listen",
                "0.0.0.0:0",
                "--namesrv-listen",
                &b,
            ],
            2,
            "Q-1012",
        ),
        (
            &["--broker-only", "--data", &other, "--listen", &a],
            2,
            "Q-1012",
        ),
        (&["--name", "a b"], 2, "Q-1012"),
    ];
    for (args, exit, code) in cases {
        world.fails(&[&["start"], *args].concat(), *exit, code)?;
    }
    assert_eq!(std::fs::read_dir(&foreign)?.count(), 1);
    assert_eq!(std::fs::read_dir(&newer)?.count(), 1);
    Ok(())
}

#[test]
fn garbage_on_the_port_and_strangers_harm_nobody() -> Result<()> {
    let (world, node) = world_with_node(&["--dev"])?;
    let at = ["--namesrv", node.namesrv.as_str()];
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    for n in 0..2_000usize {
        let garbage: Vec<u8> = (0..n % 1_300).map(|i| (i * n + n) as u8).collect();
        socket.send_to(&garbage, &node.broker)?;
        socket.send_to(&garbage, &node.namesrv)?;
    }
    // Auto-created by its first message, as --dev promises.
    world.ok(&["produce", "made", "x", at[0], at[1]])?;
    // A user with another development CA is refused, and told why.
    let stranger = World::new(QUERN)?;
    let mut own = Node::new(&stranger, "own")?;
    own.start(&stranger, &[])?;
    stranger.fails(&["topic", "ls", at[0], at[1]], 5, "Q-1009")?;
    assert_eq!(world.ok(&["consume", "made", at[0], at[1]])?, "x\n");
    Ok(())
}
