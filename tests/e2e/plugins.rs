//! What users meet of the plugins that decide for them: conditions on properties, and what a bad one
//! is told.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context as _, Result};
use quern_client::{Client, Message, Selector, Trust};
use quern_harness::{Broker, Process, World, free_port, wait_until};

use crate::{QUERN, world_with_node};

#[test]
fn conditions_on_properties_choose_messages() -> Result<()> {
    let (world, node) = world_with_node(&[])?;
    let at = ["--namesrv", &node.namesrv.clone()];
    let quern = |args: &[&str]| world.ok(&[args, &at].concat());
    quern(&["topic", "create", "orders", "--queues", "3"])?;
    let regions = ["eu", "us", "cn", ""];
    let line = |n: usize| {
        let region = match regions[n % 4] {
            "" => String::new(),
            region => format!("\"region\":\"{region}\","),
        };
        let amount = match n % 10 {
            9 => "many".to_owned(),
            _ => n.to_string(),
        };
        format!(
            "{{\"body\":\"{n}\",\"tag\":\"t{}\",\"properties\":{{{region}\"amount\":\"{amount}\"}}}}\n",
            n % 3
        )
    };
    let lines: String = (0..2_000).map(line).collect();
    let produce = ["produce", "orders", "--ndjson", "-", at[0], at[1]];
    world.ok_with_input(&produce, lines.as_bytes())?;

    type Wanted = fn(usize) -> bool;
    let cases: &[(&str, Wanted)] = &[
        ("region = 'eu' AND amount > 100", |n| {
            n % 4 == 0 && n % 10 != 9 && n > 100
        }),
        // "many" is an error beside a number, and never delivered; not even by its opposite.
        ("NOT (amount > 100)", |n| n % 10 != 9 && n <= 100),
        ("amount BETWEEN 5 AND 15 OR region IS NULL", |n| {
            n % 10 != 9 && ((5..=15).contains(&n) || n % 4 == 3)
        }),
        ("TAGS = 't1' AND region IN ('eu', 'cn')", |n| {
            n % 3 == 1 && n % 2 == 0
        }),
        ("amount CONTAINS 'an'", |n| n % 10 == 9),
        ("region = 'nowhere'", |_| false),
    ];
    for (condition, wanted) in cases {
        let printed = quern(&["consume", "orders", "--sql", condition])?;
        let mut found: Vec<usize> = printed.lines().map(str::parse).collect::<Result<_, _>>()?;
        found.sort_unstable();
        let wanted: Vec<usize> = (0..2_000).filter(|n| wanted(*n)).collect();
        assert_eq!(found, wanted, "{condition}");
    }
    Ok(())
}

#[test]
fn a_bad_condition_is_shown_with_a_mark_under_the_place() -> Result<()> {
    let (world, node) = world_with_node(&[])?;
    let at = ["--namesrv", node.namesrv.as_str()];
    world.ok(&["topic", "create", "t", at[0], at[1]])?;
    for (condition, shown) in [
        (
            "region = 'eu' AND AND amount > 1",
            "\n  region = 'eu' AND AND amount > 1\n                    ^^^\n",
        ),
        ("größe > 1", "\n  größe > 1\n    ^\n"),
        ("a = 'it", "\n  a = 'it\n      ^\n"),
        ("a = 1 b", "\n  a = 1 b\n        ^\n"),
        ("NOT a > 5", "\n  NOT a > 5\n  ^^^^^\n"),
        ("a >", "\n  a >\n     ^\n"),
    ] {
        let args = ["consume", "t", "--sql", condition, at[0], at[1]];
        world.fails(&args, 2, "Q-4201")?;
        world.fails(&args, 2, shown)?;
    }
    Ok(())
}

#[test]
fn one_order_key_is_one_queue_in_order() -> Result<()> {
    let (world, node) = world_with_node(&[])?;
    let at = ["--namesrv", &node.namesrv.clone()];
    let quern = |args: &[&str]| world.ok(&[args, &at].concat());
    quern(&["topic", "create", "orders", "--queues", "5"])?;
    let line = |n: usize| {
        format!(
            "{{\"body\":\"{n}\",\"order_key\":\"customer-{}\"}}\n",
            n % 17
        )
    };
    let lines: String = (0..2_000).map(line).collect();
    let produce = ["produce", "orders", "--ndjson", "-", at[0], at[1]];
    world.ok_with_input(&produce, lines.as_bytes())?;
    let printed = quern(&["consume", "orders", "-o", "ndjson"])?;
    let mut queues: HashMap<usize, u64> = HashMap::new();
    let mut by_queue: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for line in printed.lines() {
        let message: serde_json::Value = serde_json::from_str(line)?;
        let n: usize = message["body"].as_str().context("a body")?.parse()?;
        let queue = message["queue"].as_u64().context("a queue")?;
        assert_eq!(
            *queues.entry(n % 17).or_insert(queue),
            queue,
            "customer-{}",
            n % 17
        );
        by_queue.entry(queue).or_default().push(n);
    }
    assert_eq!(by_queue.values().map(Vec::len).sum::<usize>(), 2_000);
    assert!(by_queue.len() > 2, "17 keys over 5 queues: {queues:?}");
    for (queue, messages) in by_queue {
        assert!(messages.is_sorted(), "queue {queue}: {messages:?}");
    }

    let said = quern(&["produce", "orders", "--order-key", "customer-1", "x"])?;
    let queue = format!("queue {} ", queues[&1]);
    assert!(
        said.contains(&queue) && said.contains(" by hash 0.1.0"),
        "{said}"
    );
    let in_turn: Vec<String> = (0..5)
        .map(|_| quern(&["produce", "orders", "--select", "round-robin", "x"]))
        .collect::<Result<_>>()?;
    let mut seen: Vec<&str> = in_turn
        .iter()
        .filter_map(|it| it.split(' ').nth(3))
        .collect();
    seen.sort_unstable();
    assert_eq!(seen, ["0", "1", "2", "3", "4"], "{in_turn:?}");
    let unknown = ["produce", "orders", "--select", "nobody", "x", at[0], at[1]];
    world.fails(&unknown, 1, "Q-4206")?;
    let param = [
        "produce",
        "orders",
        "--select",
        "hash",
        "--select-param",
        "a=b",
        "x",
        at[0],
        at[1],
    ];
    world.fails(&param, 2, "there is no such parameter")?;
    Ok(())
}

/// A name server and two brokers, and a topic on both.
pub(crate) fn two_brokers(world: &World) -> Result<(String, [Process; 3])> {
    let namesrv = format!("127.0.0.1:{}", free_port()?);
    let args = ["start", "--namesrv-only", "--namesrv-listen", &namesrv];
    let server = world.start(&args, "Ctrl-C drains")?;
    let broker = |name: &str| Broker::new(world, name, &namesrv)?.start(world);
    let (first, second) = (broker("broker-a")?, broker("broker-b")?);
    wait_until("the topic to be on both", || {
        let create = [
            "topic",
            "create",
            "orders",
            "--queues",
            "3",
            "--namesrv",
            &namesrv,
        ];
        world.run(&create)?;
        let route = world.run(&["topic", "route", "orders", "--namesrv", &namesrv])?;
        let route = String::from_utf8_lossy(&route.stdout).into_owned();
        Ok(route.contains("broker-a") && route.contains("broker-b"))
    })?;
    Ok((namesrv, [server, first, second]))
}

/// Whichever of two brokers is asked, it chooses among the queues of both; what it does not have
/// itself goes to the other.
#[test]
fn two_brokers_choose_alike() -> Result<()> {
    let world = World::new(QUERN)?;
    let (namesrv, _processes) = two_brokers(&world)?;
    let ca = world.path(".local/share/quern/dev-ca/ca.pem");
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let client = Client::builder()
            .namesrv([&namesrv])
            .trust(Trust::ca_file(&ca)?);
        let client = client.build().await?;
        let mut queues = HashMap::new();
        for round in 0..3 {
            let producer = client
                .producer("p")
                .select(Selector::named("fifo"))
                .start()
                .await?;
            for n in 0..60 {
                let key = format!("customer-{n}");
                let message = Message::new("orders", format!("{round} {n}")).order_by(&key);
                let sent = producer.send(message).await?;
                assert_eq!(sent.selector(), Some("fifo 0.1.0"));
                let queue = queues.entry(key).or_insert_with(|| sent.queue().clone());
                assert_eq!(queue, sent.queue(), "round {round}, {n}");
            }
        }
        let on = |name: &str| {
            queues
                .values()
                .filter(|it| it.broker.as_str() == name)
                .count()
        };
        assert!(on("broker-a") > 10 && on("broker-b") > 10, "{queues:?}");
        client.close().await;
        anyhow::Ok(())
    })?;
    let all = world.ok(&["consume", "orders", "--namesrv", &namesrv])?;
    assert_eq!(all.lines().count(), 180, "each message is somewhere, once");
    Ok(())
}
