//! A version of a filter that rejects what it should not is rolled back, and what it has rejected is judged again.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use quern_harness::wait_until;

use crate::bench::{Bench, ROLLOUT, Running};

/// Lets through all that is not tagged `poison`.
const GOOD: &str = "quern-hostile";
const ASKED: [&str; 4] = ["--param", "percent=50", "--expression", "poison"];

impl Bench {
    /// The second version of `p` rejects about half of the keys that the first lets through, which is active.
    fn with_a_bad_version() -> Result<Self> {
        let bench = Self::bare()?;
        bench.quern(&["topic", "create", "t", "--queues", "4"])?;
        bench.take_in(GOOD, "p")?;
        bench.upload(ROLLOUT, "p")?;
        let bind = ["plugin", "bind", "p", "--topic", "t", "--group", "bound"];
        bench.quern(&[&bind[..], &ASKED].concat())?;
        Ok(bench)
    }

    fn send_keyed(&self, numbers: std::ops::Range<usize>) -> Result<()> {
        let line = |n: usize| format!("{{\"body\":\"{n}\",\"key\":\"customer-{n}\"}}\n");
        self.produce("t", &numbers.map(line).collect::<String>())
    }

    /// Waits until a group has committed all there is.
    fn is_through(&self, group: &str) -> Result<()> {
        wait_until("the group to be through", || {
            let queues = self.list(&["group", "describe", group])?;
            let lag = queues.iter().map(|it| it["lag"].as_u64());
            Ok(!queues.is_empty() && lag.sum::<Option<u64>>() == Some(0))
        })
    }

    /// Who has gone back, and how many messages are judged again.
    fn replayed(&self, args: &[&str]) -> Result<Vec<(String, u64)>> {
        let printed = self.quern(&[&["plugin"], args, &["-o", "json"]].concat())?;
        // A roll-back says first what the name stands for.
        let last = serde_json::Deserializer::from_str(&printed).into_iter();
        let last = last.last().unwrap_or(Ok(serde_json::Value::Null))?;
        let rows: Vec<serde_json::Value> = serde_json::from_value(last)?;
        let row = |it: &serde_json::Value| {
            let group = it["group"].as_str().unwrap_or_default().to_owned();
            (group, it["messages"].as_u64().unwrap_or_default())
        };
        Ok(rows.iter().map(row).collect())
    }
}

/// Nobody has received anything twice, and each all of these.
fn have(members: &[Running], numbers: usize) -> Result<()> {
    let all: BTreeSet<usize> = (0..numbers).collect();
    members.iter().try_for_each(|it| it.has(&all))
}

#[test]
fn what_a_version_has_rejected_wrongly_is_judged_again_and_nothing_else() -> Result<()> {
    let mut bench = Bench::with_a_bad_version()?;
    let named = [&["--group", "named", "--plugin", "p"], &ASKED[..]].concat();
    let members = [
        bench.run("named", &named)?,
        bench.run("bound", &["--group", "bound"])?,
    ];
    let through = |bench: &Bench| {
        ["named", "bound"]
            .iter()
            .try_for_each(|it| bench.is_through(it))
    };
    bench.send_keyed(0..100)?;
    have(&members, 100)?;
    through(&bench)?;
    bench.fails(&["plugin", "replay", "p"], 1, "Q-4404")?;

    bench.quern(&["plugin", "activate", "p@2"])?;
    bench.send_keyed(100..300)?;
    through(&bench)?;
    for member in &members {
        let received = member.printed()?.len();
        ensure!((150..250).contains(&received), "{received}");
    }
    bench.fails(&["plugin", "replay", "p@2"], 4, "Q-4403")?;

    // What the first version has decided since is not delivered again either.
    bench.quern(&["plugin", "rollback", "p"])?;
    bench.send_keyed(300..350)?;
    through(&bench)?;
    let both = [("bound".to_owned(), 200), ("named".to_owned(), 200)];
    ensure!(bench.replayed(&["replay", "p"])? == both);
    have(&members, 350)?;
    through(&bench)?;
    ensure!(bench.replayed(&["replay", "p@2"])? == []);

    // Where a version began to decide is known after a crash, too.
    bench.quern(&["plugin", "activate", "p@2"])?;
    bench.send_keyed(350..450)?;
    through(&bench)?;
    bench.node.kill()?;
    bench.node.strip(&["commitlog", "plugins"])?;
    bench.node.start(&bench.world, &[])?;
    through(&bench)?;
    let both = both.map(|(group, _)| (group, 100));
    ensure!(bench.replayed(&["rollback", "p", "--replay"])? == both);
    have(&members, 450)?;
    through(&bench)?;
    have(&members, 450)
}

#[test]
fn a_group_that_pops_goes_back_too_and_one_that_commits_nothing_does_not() -> Result<()> {
    let bench = Bench::with_a_bad_version()?;
    let take = |group: &str, more: &[&str]| -> Result<BTreeSet<usize>> {
        let args = ["consume", "t", "--group", group, "--plugin", "p"];
        let printed = bench.quern(&[&args[..], &ASKED, more].concat())?;
        let numbers: Vec<usize> = printed.lines().map(str::parse).collect::<Result<_, _>>()?;
        let once: BTreeSet<usize> = numbers.iter().copied().collect();
        ensure!(once.len() == numbers.len(), "{group}: {numbers:?}");
        Ok(once)
    };
    bench.send_keyed(0..50)?;
    ensure!(take("pops", &["--pop"])?.len() == 50);
    bench.quern(&["plugin", "activate", "p@2"])?;
    bench.send_keyed(50..200)?;
    let few = take("pops", &["--pop"])?;
    ensure!((40..110).contains(&few.len()), "{few:?}");
    let file = bench.world.path("offsets");
    let looked = take("looks", &["--broadcast", &file.to_string_lossy()])?;
    ensure!(few.is_subset(&looked) && looked.len() < 200, "{looked:?}");
    ensure!(bench.replayed(&["rollback", "p", "--replay"])? == [("pops".to_owned(), 150)]);
    let rest: BTreeSet<usize> = (50..200).filter(|it| !few.contains(it)).collect();
    ensure!(take("pops", &["--pop"])? == rest);
    ensure!(take("pops", &["--pop"])?.is_empty());

    // Only what filters decided can be decided again; and by whom it was has to be there still.
    bench.quern(&["plugin", "rm", "p@2"])?;
    bench.fails(&["plugin", "replay", "p@2"], 3, "Q-2001")?;
    bench.fails(&["plugin", "replay", "nobody"], 3, "Q-2001")?;
    bench.take_in("quern-example-region-router", "route")?;
    bench.fails(&["plugin", "replay", "route"], 2, "Q-4210")?;
    Ok(())
}
