//! Filters that were good for long and fail now: they are not asked for a while, and others decide, or messages wait or
//! are passed, as the group wants.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use quern_harness::wait_until;

use crate::bench::{Bench, ROLLOUT};

/// Whatever is active was so for long.
const PROVEN: [&str; 2] = ["--plugin-probation", "1ms"];

/// Messages of these numbers, tagged so; what is kept by property, and what is not.
fn lines(numbers: std::ops::Range<usize>, tag: &str) -> String {
    let line = |n: usize| {
        let keep = u32::from(n.is_multiple_of(2));
        format!("{{\"body\":\"{n}\",\"tag\":\"{tag}\",\"properties\":{{\"keep\":\"{keep}\"}}}}\n")
    };
    numbers.map(line).collect()
}

impl Bench {
    /// A version that counts as good for long as soon as it is there; it lets all through and traps on a tag.
    fn proven() -> Result<Self> {
        let bench = Self::with(&PROVEN)?;
        bench.quern(&["topic", "create", "t", "--queues", "1"])?;
        bench.take_in("quern-hostile", "p")?;
        bench.warm()?;
        Ok(bench)
    }

    /// What is built in is compiled when it is first asked for, and a busy machine takes longer than clients wait.
    fn warm(&self) -> Result<()> {
        wait_until("what is built in to be compiled", || {
            let at = ["--namesrv", self.node.namesrv.as_str()];
            let consume = ["consume", "t", "--group", "warm", "--sql", "a = 1"];
            let output = self.world.run(&[&consume[..], &at].concat())?;
            Ok(output.status.success())
        })
    }

    fn open(&self) -> Result<usize> {
        let listed = self.listed("p")?;
        let open = listed["health"]["open"].as_array().context("breakers")?;
        Ok(open.len())
    }
}

#[test]
fn what_stands_in_decides_where_a_bound_filter_fails_and_while_it_is_not_asked() -> Result<()> {
    let mut bench = Bench::proven()?;
    let bind = [
        "plugin",
        "bind",
        "p",
        "--topic",
        "t",
        "--group",
        "g",
        "--expression",
        "poison",
    ];
    let refused = |otherwise: &str, code: &str| {
        bench.fails(&[&bind[..], &["--else", otherwise]].concat(), 2, code)
    };
    refused("sql92:keep =", "Q-4201")?;
    refused("hash", "Q-4210")?;
    refused("p:poison", "Q-3007")?;
    let bound = bench.quern(&[&bind[..], &["--else", "sql92:keep = 1"]].concat())?;
    ensure!(
        bound.contains("p \"poison\", else sql92 \"keep = 1\""),
        "{bound}"
    );
    let group = ["consume", "t", "--group", "g"];
    // A group's messages are printed as its workers are done with them, in any order.
    let numbers = |bench: &Bench| -> Result<BTreeSet<usize>> {
        let printed = bench.quern(&group)?;
        printed.lines().map(|it| Ok(it.parse()?)).collect()
    };
    let are = |bench: &Bench, right: BTreeSet<usize>| {
        let numbers = numbers(bench)?;
        ensure!(numbers == right, "{numbers:?}, not {right:?}");
        Ok(())
    };
    let even = |range: std::ops::Range<usize>| range.filter(|n| n.is_multiple_of(2));

    // A few: it is asked about the others, and lets them through.
    bench.produce("t", &lines(0..10, "a"))?;
    bench.produce("t", &lines(10..14, "poison"))?;
    bench.produce("t", &lines(14..20, "a"))?;
    are(&bench, (0..10).chain(even(10..14)).chain(14..20).collect())?;
    ensure!(bench.open()? == 0 && bench.listed("p")?["health"]["instead"] == 4);
    // Too many: it is not asked for a while, and nobody waits for it. Good for long, it is not quarantined.
    bench.produce("t", &lines(20..60, "poison"))?;
    are(&bench, even(20..60).collect())?;
    ensure!(bench.open()? == 1 && bench.states("p")? == ["active"]);
    let shown = bench.quern(&["plugin", "ls"])?;
    ensure!(
        shown.contains(" decided instead, 1 not asked now"),
        "{shown}"
    );
    // Then it is asked again, about what it can decide.
    let mut sent = 60;
    wait_until("it to be asked again", || {
        bench.produce("t", &lines(sent + 1..sent + 2, "a"))?;
        sent += 2;
        Ok(!numbers(&bench)?.is_empty())
    })?;
    ensure!(bench.open()? == 0);

    bench.node.kill()?;
    bench.node.strip(&["commitlog", "plugins"])?;
    bench.node.start(&bench.world, &[])?;
    let bound = bench.quern(&["plugin", "bindings"])?;
    ensure!(bound.contains("else sql92 \"keep = 1\""), "{bound}");
    // One that cannot be asked at all is stood in for, too.
    bench.produce("t", &lines(1_000..1_020, "poison"))?;
    are(&bench, even(1_000..1_020).collect())?;
    wait_until("it to be quarantined: it is new by now", || {
        Ok(bench.states("p")? == ["quarantined"])
    })?;
    bench.produce("t", &lines(1_020..1_030, "a"))?;
    are(&bench, even(1_020..1_030).collect())?;
    Ok(())
}

#[test]
fn without_one_messages_wait_or_are_passed_and_a_second_group_is_too_much() -> Result<()> {
    let bench = Bench::proven()?;
    bench.produce("t", &lines(0..5, "a"))?;
    bench.produce("t", &lines(5..30, "poison"))?;
    bench.quern(&["group", "set", "passing", "--on-filter-failure", "pass"])?;
    let waiting = bench.run("waiting", &[&BY_P[2..], &["waiting"]].concat())?;
    waiting.has(&(0..5).collect())?;
    wait_until("it not to be asked", || Ok(bench.open()? == 1))?;
    ensure!(bench.states("p")? == ["active"]);
    let info = bench
        .world
        .run(&["plugin", "info", "p", "--namesrv", &bench.node.namesrv])?;
    let info = String::from_utf8_lossy(&info.stderr).into_owned();
    ensure!(
        info.contains("topic t, group waiting: it failed on"),
        "{info}"
    );
    let format = ["passing", "--format", "%v %p\\n"];
    let passed = bench.quern(&[&BY_P[..], &format].concat())?;
    ensure!(passed.lines().count() == 30, "{passed}");
    let noted = passed.lines().filter(|it| it.contains("QUERN_UNJUDGED=43"));
    ensure!(noted.count() >= 25, "{passed}");
    wait_until("it to be quarantined", || {
        Ok(bench.states("p")? == ["quarantined"])
    })?;
    let listed = bench.listed("p")?;
    let why = listed["health"]["quarantined"].as_str().context("why")?;
    ensure!(why.contains("another that uses it"), "{why}");
    // Messages wait for an operator, and nobody was told of one that was not judged.
    bench.fails(&[&BY_P[..], &["third"]].concat(), 1, "Q-4405")?;
    ensure!(waiting.printed()? == Vec::from_iter(0..5));
    Ok(())
}

#[test]
fn a_version_that_takes_far_more_fuel_than_the_one_before_gives_way() -> Result<()> {
    const EACH: usize = 20_000;
    let bench = Bench::bare()?;
    bench.quern(&["topic", "create", "t", "--queues", "4"])?;
    bench.take_in(ROLLOUT, "p")?;
    bench.warm()?;
    // With the square of the batch, on `heavy`.
    bench.upload("quern-hostile", "p")?;
    let line = |n: usize| format!("{{\"body\":\"{n}\",\"key\":\"k\"}}\n");
    let consume = [
        "consume",
        "t",
        "--group",
        "g",
        "--plugin",
        "p",
        "--param",
        "percent=100",
        "--expression",
        "heavy",
    ];
    // What has been said of a message is known, so each time others are sent.
    let consumes = || {
        bench.produce("t", &(0..EACH).map(line).collect::<String>())?;
        let printed = bench.quern(&consume)?;
        let count = printed.lines().count();
        ensure!(count == EACH, "{count}");
        Ok::<_, anyhow::Error>(())
    };
    consumes()?;
    bench.quern(&["plugin", "canary", "p@2", "--share", "100%"])?;
    wait_until("the trial to end by itself", || {
        consumes()?;
        Ok(bench.states("p")? == ["active", "ready"])
    })?;
    let ended = bench.trial()?;
    let why = ended["ended"].as_str().context("why")?;
    ensure!(why.contains(" fuel, by 99 of 100 calls, and "), "{why}");
    bench.quern(&["plugin", "activate", "p@2"])?;
    wait_until("the version before to stand in", || {
        consumes()?;
        Ok(bench.states("p")? == ["active", "quarantined"])
    })?;
    // Who goes back to an earlier one has reasons for it, whatever it takes.
    consumes()?;
    ensure!(bench.states("p")? == ["active", "quarantined"]);
    Ok(())
}

/// How consumers ask `p`, which traps on what is tagged so.
const BY_P: [&str; 7] = [
    "consume",
    "t",
    "--plugin",
    "p",
    "--expression",
    "poison",
    "--group",
];

#[test]
fn nothing_is_lost_and_nothing_comes_twice_over_a_restart_while_it_is_not_asked() -> Result<()> {
    let mut bench = Bench::proven()?;
    let mut consumer = [
        &BY_P[2..],
        &["g", "--param", "percent=100", "--param", "key=keep"],
    ]
    .concat();
    let running = bench.run("out", &consumer)?;
    bench.produce("t", &lines(0..20, "a"))?;
    bench.produce("t", &lines(20..60, "poison"))?;
    bench.produce("t", &lines(60..80, "a"))?;
    running.has(&(0..20).collect())?;
    wait_until("it not to be asked", || Ok(bench.open()? == 1))?;
    bench.node.kill()?;
    bench.node.start(&bench.world, &PROVEN)?;
    // It is forgotten, and found out again.
    wait_until("it not to be asked again", || Ok(bench.open()? == 1))?;
    ensure!(bench.states("p")? == ["active"]);
    ensure!(running.printed()? == Vec::from_iter(0..20));
    // A corrected one is asked at once, and by all that waited.
    bench.take_in(ROLLOUT, "p")?;
    running.has(&(0..80).collect())?;
    running.stop()?;
    ensure!(bench.open()? == 0);
    // All is committed.
    consumer.insert(0, "t");
    consumer.insert(0, "consume");
    ensure!(bench.quern(&consumer)?.is_empty());
    Ok(())
}

#[test]
fn messages_are_parked_once_each_by_looks_that_ask_again() -> Result<()> {
    let bench = Bench::proven()?;
    bench.quern(&["group", "set", "g", "--on-filter-failure", "park"])?;
    bench.produce("t", &lines(0..10, "a"))?;
    bench.produce("t", &lines(10..22, "poison"))?;
    bench.produce("t", &lines(22..40, "a"))?;
    let running = bench.run("out", &[&BY_P[2..], &["g"]].concat())?;
    // What nobody is asked about is not parked: it waits, and comes.
    running.has(&(0..10).chain(22..40).collect())?;
    let dead = bench.list(&["dlq", "ls", "g"])?;
    ensure!(dead.len() == 12, "{dead:?}");
    bench.produce("t", &lines(40..50, "a"))?;
    running.has(&(0..10).chain(22..50).collect())?;
    ensure!(bench.open()? == 0 && bench.states("p")? == ["active"]);
    running.stop()?;
    Ok(())
}

#[test]
fn one_that_has_to_be_left_alone_for_the_third_time_is_quarantined() -> Result<()> {
    let bench = Bench::proven()?;
    bench.quern(&["group", "set", "g", "--on-filter-failure", "pass"])?;
    let running = bench.run("out", &[&BY_P[2..], &["g"]].concat())?;
    let mut sent = 0;
    let mut send = |count: usize, tag: &str| {
        bench.produce("t", &lines(sent..sent + count, tag))?;
        sent += count;
        Ok::<_, anyhow::Error>(BTreeSet::from_iter(0..sent))
    };
    for round in 0..2 {
        running.has(&send(10, "poison")?)?;
        ensure!(bench.open()? == 1, "{round}");
        wait_until("it to be asked again", || {
            running.has(&send(1, "a")?)?;
            Ok(bench.open()? == 0)
        })?;
        ensure!(bench.states("p")? == ["active"], "{round}");
    }
    running.has(&send(10, "poison")?)?;
    wait_until("it to be quarantined", || {
        Ok(bench.states("p")? == ["quarantined"])
    })?;
    let listed = bench.listed("p")?;
    let why = listed["health"]["quarantined"].as_str().context("why")?;
    ensure!(why.contains("3 times within 10 minutes"), "{why}");
    running.has(&send(5, "a")?)?;
    running.stop()?;
    Ok(())
}
