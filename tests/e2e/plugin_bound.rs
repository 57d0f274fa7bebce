//! A bound filter on trial, and failing: consumers know nothing of it, and get what they must all the same.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use quern_client::{QueueId, QueueOffset};

use crate::bench::{Bench, ROLLOUT, canary};

const HOSTILE: &str = "quern-hostile";
const MESSAGES: usize = 4_000;

impl Bench {
    /// Two versions of `p`: a share of the keys, and all but what is tagged `poison`.
    fn with_bound(percent: u32) -> Result<Self> {
        let bench = Self::bare()?;
        bench.quern(&["topic", "create", "t", "--queues", "1"])?;
        bench.take_in(ROLLOUT, "p")?;
        bench.upload(HOSTILE, "p")?;
        bench.bind("p", "g", percent)?;
        Ok(bench)
    }

    fn bind(&self, plugin: &str, group: &str, percent: u32) -> Result<()> {
        let percent = format!("percent={percent}");
        let asked = ["--param", &percent, "--expression", "poison"];
        let bind = ["plugin", "bind", plugin, "--topic", "t", "--group", group];
        self.quern(&[&bind[..], &asked].concat())?;
        Ok(())
    }

    fn send_tagged(&self, numbers: std::ops::Range<usize>, tag: &str) -> Result<()> {
        let line =
            |n: usize| format!("{{\"body\":\"{n}\",\"key\":\"customer-{n}\",\"tag\":\"{tag}\"}}\n");
        self.produce("t", &numbers.map(line).collect::<String>())
    }

    /// Numbers a group receives, with their places.
    fn of_group(&self, args: &[&str]) -> Result<Vec<(u64, usize)>> {
        let format = ["--format", "%o %v\\n"];
        let printed = self.quern(&[&["consume", "t"], args, &format[..]].concat())?;
        let lines = printed.lines().map(|line| {
            let (offset, number) = line.split_once(' ').context("two numbers")?;
            Ok((offset.parse()?, number.parse()?))
        });
        lines.collect()
    }
}

#[test]
fn a_canary_of_a_bound_filter_decides_its_share_of_what_reaches_it() -> Result<()> {
    let mut bench = Bench::with_bound(50)?;
    bench.send_tagged(0..MESSAGES, "a")?;
    let half = ["--plugin", "p", "--param", "percent=50"];
    let half: BTreeSet<_> = bench.of_group(&half)?.into_iter().collect();
    let all = bench.of_group(&[])?;
    ensure!(all.len() == MESSAGES && (1_000..3_000).contains(&half.len()));
    bench.quern(&["plugin", "canary", "p@2", "--share", "40%"])?;
    let takes = |offset| canary(400).takes(QueueId(0), QueueOffset(offset));
    let right = all.iter().filter(|it| takes(it.0) || half.contains(it));
    let right: Vec<_> = right.copied().collect();
    ensure!(half.len() < right.len() && right.len() < MESSAGES);
    ensure!(bench.of_group(&["--group", "g"])? == right);
    let taken = all.iter().filter(|it| takes(it.0)).count() as u64;
    let report = bench.trial()?;
    ensure!(
        report["decided"] == taken && report["failed"] == 0,
        "{report}"
    );

    // The same after a crash, and for another group it is bound to.
    bench.bind("p", "h", 50)?;
    bench.node.kill()?;
    bench.node.start(&bench.world, &[])?;
    ensure!(bench.of_group(&["--group", "h"])? == right);

    // What it fails on, the active one decides, and after five of those its trial is over.
    bench.quern(&["plugin", "canary", "p@2", "--share", "100%"])?;
    bench.send_tagged(MESSAGES..MESSAGES + 20, "poison")?;
    let poison = bench.of_group(&["--plugin", "p@1", "--param", "percent=50", "--from", "4000"])?;
    ensure!(bench.of_group(&["--group", "g"])? == poison, "{poison:?}");
    quern_harness::wait_until("the trial to end by itself", || {
        Ok(bench.states("p")? == ["active", "ready"])
    })
}

#[test]
fn a_bound_filter_that_fails_too_often_gives_way() -> Result<()> {
    let bench = Bench::with_bound(100)?;
    bench.quern(&["plugin", "activate", "p@2"])?;
    bench.send_tagged(0..30, "a")?;
    bench.send_tagged(30..60, "poison")?;
    bench.send_tagged(60..90, "a")?;
    // It waits before the first of these until the version before stands in, which lets all through.
    let numbers = |args: &[&str]| -> Result<Vec<usize>> {
        let mut numbers: Vec<_> = bench.of_group(args)?.into_iter().map(|it| it.1).collect();
        numbers.sort_unstable();
        Ok(numbers)
    };
    let all: Vec<_> = (0..90).collect();
    let received = numbers(&["--group", "g"])?;
    ensure!(received == all, "{received:?}");
    ensure!(bench.states("p")? == ["active", "quarantined"]);
    let listed = bench.listed("p")?;
    let health = &listed["health"];
    let why = health["quarantined"].as_str().context("why")?;
    ensure!(
        why.contains("p@2: it failed on ") && why.contains("Q-4301"),
        "{why}"
    );
    ensure!(health["stalled"].as_u64() > Some(0), "{listed}");
    let bindings = bench.json(&["plugin", "bindings"])?;
    let right = "p percent=100 \"poison\"";
    ensure!(
        bindings[0]["filters"][0] == right,
        "it stays bound: {bindings}"
    );

    // Bound by its number while it was in service, it has nobody to stand in: messages wait, or are passed with a note.
    bench.quern(&["plugin", "activate", "p@2"])?;
    bench.bind("p@2", "pinned", 100)?;
    bench.send_tagged(90..120, "poison")?;
    ensure!(
        numbers(&["--group", "g"])?.len() == 30,
        "and the name falls back again"
    );
    ensure!(bench.states("p")? == ["active", "quarantined"]);
    bench.fails(&["consume", "t", "--group", "pinned"], 1, "Q-4405")?;
    bench.quern(&["group", "set", "pinned", "--on-filter-failure", "pass"])?;
    let format = ["--group", "pinned", "--format", "%v %p\\n"];
    let passed = bench.quern(&[&["consume", "t"], &format[..]].concat())?;
    let noted = passed
        .lines()
        .filter(|it| it.contains("QUERN_UNJUDGED=4405"));
    ensure!(noted.count() == 120, "{passed}");
    Ok(())
}
