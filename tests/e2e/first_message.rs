//! From the command line to the disk and back, through crashes and the loss of a name server.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Result, ensure};
use quern_harness::{Node, World, free_port, wait_until};

use crate::{QUERN, world_with_node};

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
    quern(&["topic", "rm", "orders", "--now", "--yes"])?;
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
