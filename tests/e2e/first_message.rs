//! From the command line to the disk and back, with real processes: what a newcomer does, what a
//! crash does, and what bad input gets.
use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;
use std::net::UdpSocket;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use quern_harness::{Node, World, free_port, wait_until};

const QUERN: &str = env!("CARGO_BIN_EXE_quern");

fn world_with_node(more: &[&str]) -> Result<(World, Node)> {
    let world = World::new(QUERN)?;
    let mut node = Node::new(&world, "data")?;
    node.start(&world, more)?;
    Ok((world, node))
}

#[test]
fn messages_travel_and_the_tag_filter_chooses() -> Result<()> {
    let (world, mut node) = world_with_node(&[])?;
    let at = ["--namesrv", &node.namesrv.clone()];
    let quern = |args: &[&str]| world.ok(&[args, &at].concat());
    quern(&["topic", "create", "orders", "--queues", "3"])?;
    let lines: String = (0..3_000)
        .map(|n| {
            format!(
                "{{\"body\":\"b{n}\",\"tag\":\"t{}\",\"key\":\"k{n}\"}}\n",
                n % 7
            )
        })
        .collect();
    let produce = ["produce", "orders", "--ndjson", "-", at[0], at[1]];
    world.ok_with_input(&produce, lines.as_bytes())?;
    // Aa and BB have one hash: only the component, reading the texts, can tell them apart.
    quern(&["produce", "orders", "--tag", "Aa", "twin one"])?;
    quern(&["produce", "orders", "--tag", "BB", "twin two"])?;

    let count = |tag: &str| -> Result<usize> {
        Ok(quern(&["consume", "orders", "--tag", tag])?.lines().count())
    };
    for n in 0..7 {
        let expected = (0..3_000).filter(|m| m % 7 == n).count();
        assert_eq!(count(&format!("t{n}"))?, expected, "t{n}");
    }
    assert_eq!(count("t1 || t2")?, 858);
    assert_eq!(count("nobody")?, 0);
    assert_eq!(quern(&["consume", "orders", "--tag", "Aa"])?, "twin one\n");
    assert_eq!(quern(&["consume", "orders", "--tag", "BB"])?, "twin two\n");
    assert_eq!(quern(&["consume", "orders"])?.lines().count(), 3_002);

    // A group goes on where it stopped, exactly.
    let group = [
        "consume", "orders", "--group", "g", "-n", "1000", "--format", "%k\\n",
    ];
    let mut keys: Vec<String> = Vec::new();
    for _ in 0..4 {
        keys.extend(quern(&group)?.lines().map(str::to_owned));
    }
    assert_eq!(keys.len(), 3_002);
    keys.retain(|key| !key.is_empty());
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 3_000);

    // A clean stop, and everything is there again: topics, messages, offsets.
    assert_eq!(node.stop()?, Some(0));
    node.start(&world, &[])?;
    assert!(node.said().contains("closed cleanly"), "{}", node.said());
    assert_eq!(quern(&["consume", "orders"])?.lines().count(), 3_002);
    assert_eq!(quern(&group)?, "");
    let last = quern(&["consume", "orders", "--from", "last"])?;
    assert_eq!(last, "");
    quern(&["topic", "rm", "orders", "--yes"])?;
    world.fails(&["consume", "orders", at[0], at[1]], 3, "Q-2003")?;
    Ok(())
}

/// Kills the broker at random moments under load; every acknowledged message is there, once, in
/// its order, unharmed.
#[test]
fn thirty_kills_lose_nothing_that_was_acknowledged() -> Result<()> {
    let (world, mut node) = world_with_node(&[])?;
    let namesrv = node.namesrv.clone();
    world.ok(&[
        "topic",
        "create",
        "load",
        "--queues",
        "4",
        "--namesrv",
        &namesrv,
    ])?;
    let mut random = Random(0x5eed);
    let mut acknowledged: HashMap<String, String> = HashMap::new();
    let runtime = tokio::runtime::Runtime::new()?;
    for round in 0..30 {
        let acks =
            runtime.block_on(load(&world, &namesrv, round, &mut node, random.next() % 60))?;
        acknowledged.extend(acks);
        node.start(&world, &[])?;
    }
    ensure!(
        acknowledged.len() > 1_000,
        "only {} sends",
        acknowledged.len()
    );
    let all = world.ok(&["consume", "load", "-o", "ndjson", "--namesrv", &namesrv])?;
    let mut seen: HashMap<String, String> = HashMap::new();
    let mut next: BTreeMap<u64, u64> = BTreeMap::new();
    for line in all.lines() {
        let message: serde_json::Value = serde_json::from_str(line)?;
        let text = |name: &str| message[name].as_str().unwrap().to_owned();
        let (queue, offset) = (
            message["queue"].as_u64().unwrap(),
            message["offset"].as_u64(),
        );
        let next = next.entry(queue).or_default();
        assert_eq!(offset, Some(*next), "queue {queue} has a gap or a repeat");
        *next += 1;
        let body = text("body");
        let (head, hash) = body.rsplit_once(' ').unwrap();
        assert_eq!(hash, checksum(head), "a body was changed");
        assert!(
            seen.insert(text("id"), body).is_none(),
            "a message is there twice"
        );
    }
    for (id, body) in &acknowledged {
        assert_eq!(seen.get(id), Some(body), "an acknowledged message is lost");
    }
    Ok(())
}

/// Sends until the broker is killed; returns what was acknowledged.
async fn load(
    world: &World,
    namesrv: &str,
    round: usize,
    node: &mut Node,
    live_ms: u64,
) -> Result<Vec<(String, String)>> {
    use quern_client::{Client, Message, Trust};
    let ca = world.path(".local/share/quern/dev-ca/ca.pem");
    let client = Client::builder()
        .namesrv([namesrv])
        .trust(Trust::ca_file(&ca)?)
        .request_timeout(std::time::Duration::from_secs(2))
        .build()
        .await?;
    let producer = client.producer("load").start().await?;
    let mut sends = Vec::new();
    for n in 0..4_000 {
        let head = format!("{round} {n} {}", "x".repeat(n * 7 % 900));
        let body = format!("{head} {}", checksum(&head));
        let sending = producer.send(Message::new("load", body.clone()).tag("t"));
        sends.push(tokio::spawn(async move {
            let sent = sending.await.ok()?;
            Some((sent.message_id().to_owned(), body))
        }));
    }
    tokio::time::sleep(std::time::Duration::from_millis(live_ms)).await;
    node.kill()?;
    let mut acknowledged = Vec::new();
    for send in sends {
        acknowledged.extend(send.await?);
    }
    Ok(acknowledged)
}

/// FNV-1a: enough to see a changed body.
fn checksum(text: &str) -> String {
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    format!("{:016x}", text.bytes().fold(0xcbf2_9ce4_8422_2325, mix))
}

/// A seeded generator, so that a failing run can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[test]
fn of_two_name_servers_one_may_die_unnoticed() -> Result<()> {
    let world = World::new(QUERN)?;
    let ports = [free_port()?, free_port()?];
    let servers = ports.map(|port| format!("127.0.0.1:{port}"));
    let start = |listen: &str| {
        let args = ["start", "--namesrv-only", "--namesrv-listen", listen];
        world.start(&args, "Ctrl-C drains")
    };
    let (first, _second) = (start(&servers[0])?, start(&servers[1])?);
    let broker = format!("127.0.0.1:{}", free_port()?);
    // RocketMQ's own separator works too.
    let both = servers.join(";");
    let data = world.path("data").to_string_lossy().into_owned();
    let _broker = world.start(
        &[
            "start",
            "--broker-only",
            "--namesrv",
            &both,
            "--listen",
            &broker,
            "--data",
            &data,
            "--segment-size",
            "8388608",
        ],
        "Ctrl-C drains",
    )?;
    wait_until("both name servers to know the broker", || {
        let known = |server: &String| {
            let create = ["topic", "create", "t", "--namesrv", server];
            let code = world.run(&create)?.status.code();
            let route = world.run(&["topic", "route", "t", "--namesrv", server])?;
            anyhow::Ok(matches!(code, Some(0 | 4)) && route.status.success())
        };
        Ok(known(&servers[0])? && known(&servers[1])?)
    })?;
    let send = |body: &str| world.ok(&["produce", "t", body, "--namesrv", &both]);
    send("before")?;
    first.kill()?;
    for n in 0..5 {
        send(&format!("after {n}"))?;
    }
    let all = world.ok(&["consume", "t", "--namesrv", &both])?;
    assert_eq!(all.lines().count(), 6);
    // A new topic is known where anybody is left to know it.
    world.ok(&["topic", "create", "u", "--namesrv", &both])?;
    world.ok(&["produce", "u", "x", "--namesrv", &both])?;
    Ok(())
}

#[test]
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
        (&["--name", "a b"], 2, "Q-2005"),
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
