//! The life of a plugin on a running broker: built, tested, uploaded, activated, rolled back, removed; and
//! what of it survives a crash.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use quern_client::{QueueId, QueueOffset};
use quern_harness::wait_until;

use crate::bench::{Bench, ROLLOUT, canary, module};

impl Bench {
    /// Four hundred orders.
    pub(crate) fn with_orders() -> Result<Self> {
        let bench = Self::bare()?;
        bench.quern(&["topic", "create", "orders", "--queues", "2"])?;
        let line = |n: usize| format!("{{\"body\":\"{n}\",\"key\":\"customer-{n}\"}}\n");
        bench.produce("orders", &(0..400).map(line).collect::<String>())?;
        Ok(bench)
    }

    /// The component of an example, with cases of its own or none.
    pub(crate) fn component(&self, package: &str, name: &str, cases: &str) -> Result<PathBuf> {
        let (out, file) = (self.world.path(name), self.world.path("cases.ndjson"));
        std::fs::write(&file, cases)?;
        let out_text = out.to_string_lossy().into_owned();
        let file = file.to_string_lossy().into_owned();
        let module = module(package);
        let build = [
            "plugin", "build", &module, "-o", &out_text, "--cases", &file,
        ];
        let said = self.world.ok(&build)?;
        ensure!(said.trim() == out_text, "{said}");
        Ok(out)
    }

    /// Messages a share of so many per cent lets through.
    pub(crate) fn share(&self, plugin: &str, percent: u32) -> Result<BTreeSet<usize>> {
        let param = format!("percent={percent}");
        let args = ["consume", "orders", "--plugin", plugin, "--param", &param];
        let printed = self.quern(&args)?;
        Ok(printed.lines().map(str::parse).collect::<Result<_, _>>()?)
    }

    /// State of each version, and the messages it has decided: asked about them, or because it had been before.
    fn versions(&self, name: &str) -> Result<Vec<(String, u64)>> {
        let versions = self.list(&["plugin", "info", name])?;
        let version = |it: &serde_json::Value| {
            let state = it["state"].as_str().context("a state")?;
            Ok((state.to_owned(), decided(it)?))
        };
        versions.iter().map(version).collect()
    }
}

/// Messages a version has decided, by what `quern plugin info` says of it.
pub(crate) fn decided(version: &serde_json::Value) -> Result<u64> {
    let asked = version["messages"].as_u64().context("a count")?;
    let mut counters = version["counters"].as_array().context("counters")?.iter();
    let remembered = counters.find(|it| it[0] == "quern:remembered");
    Ok(asked + remembered.and_then(|it| it[1].as_u64()).unwrap_or(0))
}

pub(crate) const CASE: &str = "{\"what\":\"everybody\",\"message\":{\"keys\":\"a\"},\
                    \"params\":{\"percent\":100},\"expect\":true}\n";

#[test]
fn versions_are_activated_rolled_back_and_survive_a_crash() -> Result<()> {
    let mut bench = Bench::with_orders()?;
    let first = bench.component(ROLLOUT, "rollout.wasm", "")?;
    let first = first.to_string_lossy().into_owned();
    let second = bench.component(ROLLOUT, "second.wasm", CASE)?;
    let second = second.to_string_lossy().into_owned();
    let tested = bench.world.ok(&["plugin", "test", &second])?;
    ensure!(tested.contains("everybody"), "{tested}");

    let by_try = ["plugin", "try", &first, "orders", "--param", "percent=20"];
    let tried = bench.quern(&by_try)?;
    let tried: BTreeSet<usize> = tried.lines().map(str::parse).collect::<Result<_, _>>()?;
    let latest = bench.quern(&[&by_try[..], &["-n", "10"]].concat())?;
    ensure!(latest.lines().count() < 20 && !bench.quern(&["plugin", "ls"])?.contains("rollout"));
    let refused = ["plugin", "try", &first, "orders", "--param", "percent=x"];
    bench.fails(&refused, 2, "is not a number")?;

    let uploaded = bench.quern(&["plugin", "upload", &first])?;
    ensure!(uploaded == "rollout@1\n", "{uploaded}");
    // A version can be tried before anybody meets it by the name alone.
    ensure!(bench.share("rollout@1", 100)?.len() == 400);
    let by_name = ["consume", "orders", "--plugin", "rollout"];
    bench.fails(&by_name, 1, "Q-4401")?;
    bench.quern(&["plugin", "activate", "rollout"])?;
    let (few, many) = (bench.share("rollout", 20)?, bench.share("rollout", 60)?);
    ensure!(few.is_subset(&many), "{few:?} {many:?}");
    ensure!(few == tried, "as it was tried");
    ensure!((40..=120).contains(&few.len()), "{}", few.len());
    ensure!((180..=300).contains(&many.len()), "{}", many.len());

    let again = bench.quern(&["plugin", "upload", &first])?;
    ensure!(
        again == "rollout@1\n",
        "the same bytes, the same version: {again}"
    );
    bench.activate_new(&second, "rollout")?;
    let judged = |bench: &Bench, version: usize| {
        Ok::<_, anyhow::Error>(bench.versions("rollout")?[version].1)
    };
    let before = judged(&bench, 0)?;
    ensure!(bench.share("rollout", 20)? == few);
    ensure!((judged(&bench, 0)?, judged(&bench, 1)?) == (before, 400));
    bench.quern(&["plugin", "rollback", "rollout"])?;
    ensure!(bench.share("rollout", 20)? == few);
    ensure!((judged(&bench, 0)?, judged(&bench, 1)?) == (before + 400, 400));

    bench.node.kill()?;
    // All but the log and the components is made anew.
    bench.node.strip(&["commitlog", "plugins"])?;
    std::fs::remove_dir_all(bench.node.data().join("plugins/cwasm"))?;
    bench.node.start(&bench.world, &[])?;
    let states = [("active".to_owned(), 0), ("retired".to_owned(), 0)];
    ensure!(bench.versions("rollout")? == states);
    ensure!(bench.share("rollout", 20)? == few);
    versions_end(&bench)?;
    ensure!(bench.share("rollout", 20)? == few);
    Ok(())
}

/// Of two versions the first is active; then the second, and the first is gone.
fn versions_end(bench: &Bench) -> Result<()> {
    let by_name = ["consume", "orders", "--plugin", "rollout"];
    bench.fails(&["plugin", "rm", "rollout@1"], 4, "Q-4403")?;
    bench.quern(&["plugin", "disable", "rollout"])?;
    bench.fails(&by_name, 1, "Q-4401")?;
    bench.quern(&["plugin", "rm", "rollout@1"])?;
    bench.fails(&["plugin", "activate", "rollout@1"], 3, "Q-2001")?;
    bench.quern(&["plugin", "activate", "rollout@2"])?;
    bench.fails(&["plugin", "rollback", "rollout"], 1, "Q-4404")?;
    Ok(())
}

#[test]
fn selectors_and_strategies_can_be_uploaded_too() -> Result<()> {
    let bench = Bench::with_orders()?;
    let upload = |package: &str, name: &str| -> Result<()> {
        let file = bench.component(package, &format!("{name}.wasm"), "")?;
        let file = file.to_string_lossy().into_owned();
        bench.quern(&["plugin", "upload", &file, "--activate"])?;
        Ok(())
    };
    upload("quern-example-region-router", "route")?;
    let said = bench.quern(&["produce", "orders", "--select", "route", "x"])?;
    ensure!(said.contains("by route@1 "), "{said}");
    upload("quern-strategy-sticky", "mine")?;
    let args = ["consume", "orders", "--group", "g", "--allocate", "mine"];
    ensure!(bench.quern(&args)?.lines().count() == 401);
    let wrong_kind = ["consume", "orders", "--plugin", "route"];
    bench.fails(&wrong_kind, 2, "is a queue selector, not a filter")?;
    let listed = bench.quern(&["plugin", "ls", "-o", "ndjson"])?;
    ensure!(listed.lines().count() == 2 + 15, "{listed}");
    Ok(())
}

#[test]
fn what_is_no_plugin_or_no_name_for_it_is_told_so() -> Result<()> {
    let bench = Bench::with_orders()?;
    let garbage = bench.world.path("garbage.wasm");
    std::fs::write(&garbage, "not wasm at all")?;
    let garbage = garbage.to_string_lossy().into_owned();
    bench.fails(&["plugin", "upload", &garbage], 2, "Q-4101")?;
    bench.fails(
        &["plugin", "upload", &module(ROLLOUT), "--name", "m"],
        2,
        "quern plugin build",
    )?;
    let wrong = "{\"params\":{\"percent\":0},\"message\":{\"keys\":\"a\"},\"expect\":true}\n";
    let wrong = bench.component(ROLLOUT, "wrong.wasm", wrong)?;
    let wrong = wrong.to_string_lossy().into_owned();
    bench.fails(&["plugin", "upload", &wrong], 2, "Q-4106")?;
    bench
        .world
        .fails(&["plugin", "test", &wrong], 9, "1 cases failed")?;
    let rollout = bench.component(ROLLOUT, "rollout.wasm", "")?;
    let rollout = rollout.to_string_lossy().into_owned();
    let upload = |name: &'static str| ["plugin", "upload", &rollout, "--name", name];
    bench.fails(&upload("sql92"), 2, "Q-3004")?;
    bench.fails(&upload("a b"), 2, "Q-2005")?;
    bench.quern(&["plugin", "upload", &rollout, "--activate"])?;
    let router = bench.component("quern-example-region-router", "router.wasm", "")?;
    let router = router.to_string_lossy().into_owned();
    bench.fails(
        &["plugin", "upload", &router, "--name", "rollout"],
        4,
        "Q-2002",
    )?;
    let consume = ["consume", "orders", "--plugin"];
    bench.fails(&[&consume[..], &["nobody"]].concat(), 3, "Q-2001")?;
    bench.fails(&[&consume[..], &["rollout@7"]].concat(), 3, "Q-2001")?;
    bench.fails(&[&consume[..], &["rollout"]].concat(), 2, "Q-4202")?;
    let share = ["rollout", "--param", "percent=many"];
    bench.fails(&[&consume[..], &share].concat(), 2, "Q-4202")?;
    bench.fails(&["plugin", "activate", "sql92"], 2, "Q-3004")?;
    Ok(())
}

/// Messages of the trial: a key unless the number is divisible by 3, one queue, in order.
const TRIED: usize = 5_000;

/// What the active version lets through, and the one on trial.
fn by_active(n: usize) -> bool {
    !n.is_multiple_of(3)
}

/// Two versions of `p` that decide otherwise, and what is in the one queue they decide about.
fn two_versions() -> Result<(Bench, Vec<usize>)> {
    let bench = Bench::with_orders()?;
    bench.quern(&["topic", "create", "t", "--queues", "1"])?;
    let line = |n: usize| {
        let key = match by_active(n) {
            true => ",\"key\":\"k\"",
            false => "",
        };
        format!("{{\"body\":\"{n}\",\"tag\":\"a\"{key}}}\n")
    };
    let lines: String = (0..TRIED).map(line).collect();
    let at = bench.node.namesrv.clone();
    let produce = ["produce", "t", "--ndjson", "-", "--namesrv", &at];
    bench.world.ok_with_input(&produce, lines.as_bytes())?;
    for package in [ROLLOUT, "quern-hostile", "quern-example-geo-fence"] {
        let file = bench.component(package, "p.wasm", "")?;
        bench.quern(&["plugin", "upload", &file.to_string_lossy()])?;
    }
    bench.quern(&["plugin", "activate", "p@1"])?;
    let printed = bench.quern(&["consume", "t"])?;
    let queue: Vec<usize> = printed.lines().map(str::parse).collect::<Result<_, _>>()?;
    ensure!(queue.len() == TRIED);
    Ok((bench, queue))
}

impl Bench {
    /// Offsets that are let through; messages tagged `poison` make the second version trap.
    fn tried(&self) -> Result<Vec<usize>> {
        let by_plugin = [
            "--plugin",
            "p",
            "--param",
            "percent=100",
            "--expression",
            "poison",
        ];
        let printed = self.quern(&[&["consume", "t"], &by_plugin[..]].concat())?;
        Ok(printed.lines().map(str::parse).collect::<Result<_, _>>()?)
    }
}

/// Whether a trial of this share takes an offset of the one queue.
fn takes(permille: u32, offset: usize) -> bool {
    canary(permille).takes(QueueId(0), QueueOffset(offset as u64))
}

#[test]
fn a_shadow_decides_nothing_and_its_counts_are_exact() -> Result<()> {
    let (bench, queue) = two_versions()?;
    let active: Vec<usize> = queue.iter().copied().filter(|n| by_active(*n)).collect();
    for share in [400, 1_000] {
        let text = format!("{}%", share / 10);
        bench.quern(&["plugin", "shadow", "p@2", "--share", &text])?;
        ensure!(bench.tried()? == active);
        let taken = || (0..TRIED).filter(|offset| takes(share, *offset));
        let only_trial = taken().filter(|offset| !by_active(queue[*offset])).count();
        let trial = bench.trial()?;
        let counts =
            ["decided", "only_trial", "only_active", "failed"].map(|it| trial[it].as_u64());
        let right = [taken().count(), only_trial, 0, 0].map(|it| Some(it as u64));
        ensure!(counts == right, "{share}: {trial}");
        ensure!(taken().count() > 0 && (share == 1_000) == (taken().count() == TRIED));
        let named = trial["disagreements"].as_array().map(Vec::len);
        ensure!(named == Some(32), "{trial}");
    }
    ensure!(bench.versions("p")?[1].0 == "shadow");
    bench.quern(&["plugin", "trial", "p", "--end"])?;
    ensure!(bench.versions("p")?[1].0 == "ready");
    Ok(())
}

#[test]
fn a_canary_decides_its_share_and_ends_when_it_fails() -> Result<()> {
    let (mut bench, queue) = two_versions()?;
    bench.fails(&["plugin", "canary", "p@1", "--share", "5%"], 4, "Q-4403")?;
    bench.fails(&["plugin", "canary", "p@2", "--share", "0"], 2, "per cent")?;
    bench.quern(&["plugin", "canary", "p@2", "--share", "40%"])?;
    bench.fails(&["plugin", "rm", "p@2"], 4, "Q-4403")?;
    let messages = queue.iter().copied().enumerate();
    let right = messages.filter(|(offset, n)| takes(400, *offset) || by_active(*n));
    let right: Vec<usize> = right.map(|(_, n)| n).collect();
    ensure!(bench.tried()? == right);
    bench.node.kill()?;
    bench.node.start(&bench.world, &[])?;
    ensure!(bench.tried()? == right, "the same share after a crash");
    let decided = (0..TRIED).filter(|n| takes(400, *n)).count() as u64;
    ensure!(bench.trial()?["decided"] == decided);

    // What it fails on is decided by the active version; after five of those it is over.
    bench.quern(&["plugin", "canary", "p@2", "--share", "100%"])?;
    let poison = [
        "produce", "t", "--tag", "poison", "--key", "k", "--count", "6", "7777",
    ];
    bench.quern(&poison)?;
    let all = bench.tried()?;
    ensure!(
        all.len() == TRIED + 6 && all.ends_with(&[7777; 6]),
        "{}",
        all.len()
    );
    wait_until("the trial to end by itself", || {
        Ok(bench.versions("p")?[1].0 == "ready")
    })?;
    let ended = bench.trial()?;
    ensure!(
        ended["ended"]
            .as_str()
            .is_some_and(|it| it.contains("failed")),
        "{ended}"
    );
    ensure!(bench.tried()?.len() == right_by_active() + 6);

    // The third wants parameters that nobody gives.
    bench.quern(&["plugin", "canary", "p@3", "--share", "100%"])?;
    ensure!(bench.tried()?.len() == right_by_active() + 6);
    wait_until("the trial to end by itself", || {
        Ok(bench.versions("p")?[2].0 == "ready")
    })?;
    Ok(())
}

fn right_by_active() -> usize {
    (0..TRIED).filter(|n| by_active(*n)).count()
}
