//! Before a name stands for another version, those who use it are asked: what they want of the plugin, the new version
//! has to accept, or nothing changes and the operator is told whom it would refuse.

use anyhow::{Result, ensure};
use quern_harness::wait_until;

use crate::bench::{Bench, ROLLOUT};

impl Bench {
    fn wait_for_member(&self, group: &str) -> Result<()> {
        wait_until("a member", || {
            let members = self.list(&["group", "members", group]);
            Ok(members.is_ok_and(|it| !it.is_empty()))
        })
    }

    /// Activating a version is refused, for this reason and because of all of these.
    fn is_refused(&self, plugin: &str, code: &str, because_of: &[&str]) -> Result<()> {
        let said = self.fails(&["plugin", "activate", plugin], 2, code)?;
        for who in because_of {
            ensure!(said.contains(who), "{who} is not named: {said}");
        }
        ensure!(
            said.contains(&format!("quern plugin activate {plugin} --force")),
            "{said}"
        );
        Ok(())
    }
}

#[test]
fn a_version_that_refuses_what_groups_ask_is_not_activated() -> Result<()> {
    let bench = Bench::bare()?;
    bench.quern(&["topic", "create", "t", "--queues", "1"])?;
    bench.take_in(ROLLOUT, "p")?;
    // It wants parameters that nobody gives.
    bench.upload("quern-example-geo-fence", "p")?;
    let all = ["--plugin", "p", "--param", "percent=100"];
    let running = bench.run("g", &[&["--group", "g"], &all[..]].concat())?;
    bench.wait_for_member("g")?;
    let bind = ["plugin", "bind", "p", "--topic", "t", "--group", "h"];
    bench.quern(&[&bind[..], &["--param", "percent=50"]].concat())?;
    let own = "group g, topic t: p percent=100: Q-4202";
    let bound = "group h, topic t: p percent=50: Q-4202";
    bench.is_refused("p@2", "Q-4202", &[own, bound, "what 2 of those"])?;
    ensure!(bench.states("p")? == ["active", "ready"]);
    let line = |n: usize| format!("{{\"body\":\"{n}\",\"key\":\"k\"}}\n");
    bench.produce("t", &line(1))?;
    running.has(&[1].into())?;

    // An operator may want it all the same; who asks for what it refuses waits, or is told.
    bench.quern(&["plugin", "activate", "p@2", "--force"])?;
    ensure!(bench.states("p")? == ["retired", "active"]);
    bench.fails(&[&["consume", "t"], &all[..]].concat(), 2, "Q-4202")?;
    // Who is refused already is no reason to stay.
    bench.quern(&["plugin", "activate", "p@1"])?;
    bench.quern(&["plugin", "unbind", "p", "--topic", "t", "--group", "h"])?;
    ensure!(bench.list(&["plugin", "bindings"])?.is_empty());
    Ok(())
}

#[test]
fn so_are_those_whose_selectors_and_strategies_have_parameters() -> Result<()> {
    let bench = Bench::bare()?;
    bench.quern(&["topic", "create", "t", "--queues", "1"])?;
    for (name, first, second) in [
        ("s", "quern-hostile-selector", "quern-selector-hash"),
        ("a", "quern-hostile-strategy", "quern-strategy-averagely"),
    ] {
        bench.take_in(first, name)?;
        bench.upload(second, name)?;
    }
    let by_selector = [
        "produce",
        "t",
        "--select",
        "s",
        "--select-param",
        "mode=x",
        "1",
    ];
    bench.quern(&by_selector)?;
    bench.is_refused("s@2", "Q-4202", &["topic t: s mode=x: Q-4202"])?;
    let by = [
        "--group",
        "g",
        "--allocate",
        "a",
        "--allocate-param",
        "mode=x",
    ];
    let running = bench.run("g", &by)?;
    bench.wait_for_member("g")?;
    bench.is_refused("a@2", "Q-4202", &["group g: a mode=x: Q-4202"])?;
    ensure!(bench.states("s")? == ["active", "ready"]);
    ensure!(bench.states("a")? == ["active", "ready"]);
    // Nobody uses it any more.
    running.stop()?;
    wait_until("the member to be gone", || {
        Ok(bench.quern(&["plugin", "activate", "a@2"]).is_ok())
    })?;
    bench.quern(&["plugin", "activate", "s@2", "--force"])?;
    bench.fails(&by_selector, 2, "Q-4202")?;
    Ok(())
}
