//! Finding messages with real processes: by every name a message has, whoever was killed and whatever was
//! lost but the log; and sending one again, to all or to one group.

use anyhow::{Context as _, Result, ensure};
use quern_client::{Admin, Message, MessageSearch, MessageState};
use quern_harness::{Broker, Process, World, wait_until};
use tokio::runtime::Runtime;

use crate::sdk::connect;
use crate::world_with_node;

fn word(text: &str, n: usize) -> Result<&str> {
    text.split_whitespace().nth(n).context("a word")
}

/// Enough that what was sent before lies in segments that are no longer written to, and in an index file.
fn fill(world: &World, namesrv: &str) -> Result<()> {
    let line = |n: usize| {
        let key = if n % 10_000 == 7 { "k" } else { "other" };
        let body = format!("{n} {}", "x".repeat(400));
        format!("{{\"body\":\"{body}\",\"key\":[\"{key}\",\"n{n}\"]}}\n")
    };
    let lines: String = (0..40_000).map(line).collect();
    let produce = ["produce", "t", "-", "--ndjson", "--namesrv", namesrv];
    world.ok_with_input(&produce, lines.as_bytes())?;
    Ok(())
}

#[test]
fn a_message_is_found_by_every_name_it_has_through_crashes_and_from_the_log_alone() -> Result<()> {
    let (world, mut node) = world_with_node(&[])?;
    let at = node.namesrv.clone();
    let quern = |args: &[&str]| world.ok(&[args, &["--namesrv", &at]].concat());
    quern(&["topic", "create", "t", "--queues", "2"])?;
    quern(&["topic", "create", "u"])?;
    let more = ["--key", "k", "--tag", "red", "-H", "region=eu"];
    let said = quern(&[&["produce", "t", "one"], &more[..]].concat())?;
    let (id, queue, offset) = (word(&said, 0)?, word(&said, 3)?, word(&said, 5)?);
    fill(&world, &at)?;
    quern(&["produce", "u", "elsewhere", "--key", "k"])?;
    let said = quern(&["produce", "t", "later", "--delay", "1d", "--key", "k"])?;
    let (waits, handle) = (word(&said, 0)?, word(&said, 3)?);
    let said = quern(&["produce", "t", "back", "--tx", "rollback"])?;
    let back = word(&said, 0)?;
    let said = quern(&["produce", "t", "open", "--tx", "unknown"])?;
    let open = word(&said, 0)?;
    let get = |which: &[&str], format: &str| {
        quern(&[&["msg", "get", "--format", format], which].concat())
    };
    let position = get(&[id], "%h")?;
    let names: [&[&str]; 3] = [&[id], &[&position], &["t", queue, offset]];
    let keyed = ["msg", "search", "t", "--key", "k", "--format", "%v "];
    let check = |how: &str| -> Result<()> {
        for name in names {
            let found = get(name, "%t %q %o %i %g %k %p %v")?;
            let expected = format!("t {queue} {offset} {id} red k region=eu one");
            ensure!(found == expected, "{how}: {name:?}: {found}");
        }
        // Of this topic only, the oldest first, and not what is in no queue.
        let found = quern(&keyed)?;
        let numbers: Vec<_> = found.split(' ').filter(|it| !it.starts_with('x')).collect();
        ensure!(
            numbers == ["one", "7", "10007", "20007", "30007", ""],
            "{how}: {numbers:?}"
        );
        let newest = quern(&[&keyed[..], &["-n", "1"]].concat())?;
        ensure!(newest.starts_with("30007 "), "{how}: {newest}");
        let one = quern(&["msg", "search", "t", "--key", "n39999", "-o", "ndjson"])?;
        ensure!(
            one.lines().count() == 1 && one.contains("\"39999 "),
            "{how}: {one}"
        );
        for (id, state) in [
            (waits, "waits until"),
            (handle, "waits until"),
            (back, "taken back"),
            (open, "transaction is open"),
        ] {
            let found = quern(&["msg", "get", id])?;
            ensure!(found.contains(state), "{how}: {found}");
        }
        Ok(())
    };
    check("live")?;
    ensure!(node.stop()? == Some(0));
    node.start(&world, &[])?;
    check("after a clean end")?;
    for kept in [
        &["commitlog", "state", "index", "consumequeue"][..],
        &["commitlog"],
    ] {
        node.kill()?;
        node.strip(kept)?;
        node.start(&world, &[])?;
        check(&format!("of {kept:?}"))?;
    }
    Ok(())
}

/// A second broker, on the name server of the first.
fn broker_b(world: &World, namesrv: &str) -> Result<Process> {
    let process = Broker::new(world, "broker-b", namesrv)?.start(world)?;
    wait_until("it to be registered", || {
        world.run(&["topic", "create", "both", "--namesrv", namesrv])?;
        let route = world.ok(&["topic", "route", "both", "--namesrv", namesrv])?;
        Ok(route.contains("broker-b"))
    })?;
    Ok(process)
}

/// Searches by time among messages that were stored at these times.
fn by_time(runtime: &Runtime, admin: &Admin, times: &[u64]) -> Result<()> {
    let found = |from: u64, to: u64, most| -> Result<(Vec<u64>, bool)> {
        let found = runtime.block_on(admin.find_by_time("t", from..=to, most))?;
        let times = found.messages.iter().map(|it| it.message.stored_at());
        Ok((times.collect(), found.more))
    };
    for (from, to) in [(0, 40), (5, 35), (20, 21)] {
        let within = times[from]..=times[to.min(39)];
        let expected: Vec<_> = times
            .iter()
            .copied()
            .filter(|it| within.contains(it))
            .collect();
        let (all, more) = found(*within.start(), *within.end(), 1_000)?;
        ensure!(all == expected && !more, "{all:?} {expected:?}");
        let (some, more) = found(*within.start(), *within.end(), 1)?;
        ensure!(
            some[..] == expected[..1] && more == (expected.len() > 1),
            "{some:?}"
        );
    }
    ensure!(found(times[39] + 1, u64::MAX, 10)?.0.is_empty());
    Ok(())
}

#[test]
fn messages_of_a_time_are_merged_of_all_queues_and_brokers() -> Result<()> {
    let (world, mut node) = world_with_node(&[])?;
    let at = node.namesrv.clone();
    let other = broker_b(&world, &at)?;
    let runtime = Runtime::new()?;
    let client = runtime.block_on(connect(&world, &node))?;
    let admin = client.admin();
    runtime.block_on(admin.create_topic("t", 2))?;
    let producer = runtime.block_on(client.producer("p").start())?;
    let mut times = Vec::new();
    for n in 0..40 {
        let sent = runtime.block_on(producer.send(Message::new("t", n.to_string()).key("k")))?;
        times.push(sent.stored_at());
    }
    times.sort_unstable();
    by_time(&runtime, &admin, &times)?;
    let by_key = |most| runtime.block_on(admin.find(&MessageSearch::key("t", "k").most(most)));
    let all = by_key(1_000)?;
    let brokers = |name: &str| {
        let of = all
            .messages
            .iter()
            .filter(|it| it.message.queue().broker.as_str() == name);
        of.count()
    };
    ensure!(
        all.messages.len() == 40 && !all.more,
        "{}",
        all.messages.len()
    );
    ensure!(brokers("broker-a") > 0 && brokers("broker-b") > 0);
    ensure!(
        all.messages
            .iter()
            .all(|it| it.state == MessageState::Queued)
    );
    let some = by_key(7)?;
    let last: Vec<_> = some
        .messages
        .iter()
        .map(|it| it.message.stored_at())
        .collect();
    ensure!(some.more && last == times[33..], "{last:?}");
    // One that cannot be asked is told, and the rest is there.
    other.kill()?;
    let some = by_key(1_000)?;
    ensure!(
        some.silent.len() == 1 && some.messages.len() == brokers("broker-a"),
        "{some:?}"
    );
    let some = runtime.block_on(admin.find_by_time("t", 0..=u64::MAX, 1_000))?;
    ensure!(
        some.silent.len() == 1 && some.messages.len() == brokers("broker-a"),
        "{some:?}"
    );
    node.kill()?;
    Ok(())
}

#[test]
fn one_is_sent_again_to_all_or_to_one_group_only() -> Result<()> {
    let (world, mut node) = world_with_node(&[])?;
    let at = node.namesrv.clone();
    let quern = |args: &[&str]| world.ok(&[args, &["--namesrv", &at]].concat());
    quern(&["topic", "create", "t"])?;
    let said = quern(&["produce", "t", "x", "--key", "k"])?;
    let id = word(&said, 0)?;
    let consumed = |group: &str| -> Result<usize> {
        let consume = ["consume", "t", "--group", group, "--format", "%i\\n"];
        let ids = quern(&consume)?;
        ensure!(ids.lines().all(|it| it == id), "{ids}");
        Ok(ids.lines().count())
    };
    ensure!((consumed("g")?, consumed("h")?) == (1, 1));
    for group in [None, Some("g")] {
        let group = group.map_or(vec![], |it| vec!["--group", it]);
        let told = quern(&[&["msg", "resend", id, "--dry-run"], &group[..]].concat())?;
        ensure!(told.contains("would go to broker-a"), "{told}");
    }
    ensure!((consumed("g")?, consumed("h")?) == (0, 0), "only asked");
    let sent = quern(&["msg", "resend", id])?;
    ensure!(sent.contains("topic t queue"), "{sent}");
    ensure!((consumed("g")?, consumed("h")?) == (1, 1));
    let sent = quern(&["msg", "resend", id, "--group", "g"])?;
    ensure!(sent.contains("topic %RETRY%g queue 0 offset 0"), "{sent}");
    node.kill()?;
    node.start(&world, &[])?;
    wait_until("the group to have it again", || Ok(consumed("g")? == 1))?;
    ensure!(consumed("h")? == 0, "only that group");
    let all = quern(&["msg", "get", id])?;
    let expected = [
        "the same id:",
        "%RETRY%g",
        "topic       t\n",
        "state       in its queue\n",
    ];
    ensure!(expected.iter().all(|it| all.contains(it)), "{all}");
    Ok(())
}

#[test]
fn what_cannot_be_found_or_sent_again_is_told_why() -> Result<()> {
    let (world, node) = world_with_node(&[])?;
    let at = ["--namesrv", node.namesrv.as_str()];
    let quern = |args: &[&str]| world.ok(&[args, &at[..]].concat());
    quern(&["topic", "create", "t", "--queues", "1"])?;
    let said = quern(&["produce", "t", "x", "--delay", "1d"])?;
    let (waits, handle) = (word(&said, 0)?, word(&said, 3)?);
    let said = quern(&["produce", "t", "y"])?;
    let id = word(&said, 0)?;
    quern(&["topic", "create", "closed"])?;
    let said = quern(&["produce", "closed", "z"])?;
    let closed = word(&said, 0)?;
    quern(&["topic", "set", "closed", "--perm", "r"])?;
    let long = "k".repeat(5_000);
    let cases: &[(&[&str], i32, &str)] = &[
        (&["get", "nothing"], 3, "Q-2013"),
        (&["get", "nothing", "--topic", "t"], 3, "Q-2013"),
        (&["get", id, "--topic", "nowhere"], 3, "Q-2003"),
        (&["get", id, "--broker", "broker-z"], 3, "Q-2013"),
        (&["get", "broker-a/1"], 3, "Q-2013"),
        (&["get", "broker-a/18446744073709551615"], 3, "Q-2013"),
        (&["get", "broker-z/4096"], 3, "Q-2003"),
        (&["get", "t", "0", "9"], 3, "Q-2013"),
        (&["get", "t", "7", "0"], 3, "Q-2001"),
        (&["get", "t", "zero", "0"], 2, "no number"),
        (&["get", "t", "0"], 2, "TOPIC QUEUE OFFSET"),
        (&["get", "t", "5000000000", "0"], 2, "no queue"),
        (&["get", ""], 2, "Q-3007"),
        (&["get", "a\nb"], 2, "Q-3007"),
        (&["search", "t"], 2, "--unique-key"),
        (&["search", "t", "--key", ""], 2, "Q-3007"),
        (&["search", "t", "--key", &long], 2, "Q-3007"),
        (
            &["search", "t", "--key", "a", "--unique-key", "b"],
            2,
            "cannot be used with",
        ),
        (
            &["search", "t", "--from", "2", "--to", "1"],
            2,
            "later than",
        ),
        (&["search", "t", "--from", "tomorrow"], 2, "or an age"),
        (&["search", "t", "--key", "a", "-n", "0"], 2, "1..=10000"),
        (&["search", "nowhere", "--key", "a"], 3, "Q-2003"),
        (&["trace", "nothing"], 3, "Q-2013"),
        (&["trace", "broker-a/12"], 3, "Q-2013"),
        (&["trace", "t", "0"], 2, "TOPIC QUEUE OFFSET"),
        (&["resend", waits], 4, "Q-2014"),
        (&["resend", handle], 4, "Q-2014"),
        (&["resend", "nothing"], 3, "Q-2013"),
        (&["resend", id, "--group", "nobody"], 3, "Q-2001"),
        (&["resend", id, "--group", "a b"], 2, "Q-2005"),
        (&["resend", closed], 5, "Q-2010"),
    ];
    for (args, exit, code) in cases {
        world.fails(&[&["msg"], *args, &at[..]].concat(), *exit, code)?;
    }
    ensure!(quern(&["msg", "search", "t", "--key", "none"])?.is_empty());
    Ok(())
}

/// As `mqadmin` shows the message of that test.
fn shows(shown: &str, id: &str) -> Result<()> {
    let properties = format!("{{UNIQ_KEY={id}}}");
    for part in [
        "Topic:               t\n",
        "Tags:                [a]\n",
        "Keys:                [k]\n",
        "Queue Offset:        0\n",
        "Message Body:        hello\n",
        "[consumerGroup=g, trackType=CONSUMED,",
        &properties,
    ] {
        ensure!(shown.contains(part), "{part}: {shown}");
    }
    Ok(())
}

#[test]
fn mqadmins_questions_are_answered_by_its_own_names() -> Result<()> {
    let (world, node) = world_with_node(&[])?;
    let at = ["-n", node.namesrv.as_str()];
    let quern = |args: &[&str]| world.ok(&[&["mqadmin"], args, &at[..]].concat());
    let namesrv = ["--namesrv", node.namesrv.as_str()];
    let own = |args: &[&str]| world.ok(&[args, &namesrv[..]].concat());
    own(&["topic", "create", "t", "--queues", "1"])?;
    let more = ["--key", "k", "--tag", "a", "--trace"];
    let said = own(&[&["produce", "t", "hello"], &more[..]].concat())?;
    let id = word(&said, 0)?;
    let unread = quern(&["queryMsgById", "-i", id])?;
    ensure!(unread.contains("WARN: No Consumer"), "{unread}");
    own(&["consume", "t", "--group", "g"])?;
    let handle = own(&["msg", "get", id, "--format", "%h"])?;
    let ways: [&[&str]; 4] = [
        &["queryMsgById", "-i", id],
        &["queryMsgById", "-i", &handle],
        &["queryMsgByUniqueKey", "-i", id, "-t", "t"],
        &[
            "queryMsgByOffset",
            "-t",
            "t",
            "-b",
            "broker-a",
            "-i",
            "0",
            "-o",
            "0",
        ],
    ];
    for way in ways {
        shows(&quern(way)?, id)?;
    }
    let by_key = quern(&["queryMsgByKey", "-t", "t", "-k", "k"])?;
    ensure!(
        by_key.lines().count() == 2 && by_key.contains(id),
        "{by_key}"
    );
    let trace = quern(&["queryMsgTraceById", "-i", id])?;
    ensure!(
        trace.contains("Pub") && trace.contains("success"),
        "{trace}"
    );
    let sent = quern(&["queryMsgById", "-i", id, "-s", "true"])?;
    ensure!(sent.ends_with("sent again to queue 0 of t\n"), "{sent}");
    ensure!(own(&["consume", "t", "--group", "g", "--format", "%i"])? == id);
    let cases: &[(&[&str], i32, &str)] = &[
        (&["queryMsgById", "-i", "nothing"], 3, "Q-2013"),
        (&["queryMsgTraceById", "-i", "nothing"], 3, "Q-2013"),
        (&["queryMsgByKey", "-t", "t"], 2, "-k"),
        (
            &[
                "queryMsgByOffset",
                "-t",
                "t",
                "-b",
                "b",
                "-i",
                "0",
                "-o",
                "0",
            ],
            3,
            "Q-2013",
        ),
    ];
    for (args, exit, code) in cases {
        world.fails(&[&["mqadmin"], *args, &at[..]].concat(), *exit, code)?;
    }
    Ok(())
}
