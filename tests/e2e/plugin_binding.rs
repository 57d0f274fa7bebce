//! Filters that an operator binds to a group: consumers that know nothing of them receive what both their own
//! filter and these let through, from the next message on, and on every restart.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use quern_harness::{World, wait_until};
use serde_json::Value;

use crate::QUERN;
use crate::bench::{Bench, ROLLOUT};
use crate::plugin_life::{CASE, decided};
use crate::plugins::two_brokers;

const BIND: [&str; 7] = ["plugin", "bind", "rollout", "--topic", "t", "--group", "g"];
const UNBIND: [&str; 7] = [
    "plugin", "unbind", "rollout", "--topic", "t", "--group", "g",
];
const HALF: [&str; 2] = ["--param", "percent=50"];

impl Bench {
    /// A topic, and the example that takes a share of the keys, taken in under this name.
    fn with_rollout() -> Result<Self> {
        let bench = Self::bare()?;
        bench.quern(&["topic", "create", "t", "--queues", "2"])?;
        bench.take_in(ROLLOUT, "rollout")?;
        Ok(bench)
    }

    /// Sends messages of these numbers, every third with another tag than the rest.
    fn send_numbers(&self, numbers: std::ops::Range<usize>) -> Result<()> {
        let tag = |n: usize| if n.is_multiple_of(3) { "rare" } else { "usual" };
        let line = |n: usize| {
            let tag = tag(n);
            format!("{{\"body\":\"{n}\",\"key\":\"customer-{n}\",\"tag\":\"{tag}\"}}\n")
        };
        let lines: String = numbers.map(line).collect();
        self.produce("t", &lines)
    }

    fn consume(&self, args: &[&str]) -> Result<BTreeSet<usize>> {
        let printed = self.quern(&[&["consume", "t"], args].concat())?;
        Ok(printed.lines().map(str::parse).collect::<Result<_, _>>()?)
    }

    /// What the plugin lets through of all there is, by its own word to somebody of no group.
    fn half(&self) -> Result<BTreeSet<usize>> {
        self.consume(&[&["--plugin", "rollout"], &HALF[..]].concat())
    }
}

fn usual(all: std::ops::Range<usize>) -> BTreeSet<usize> {
    all.filter(|n| !n.is_multiple_of(3)).collect()
}

#[test]
fn running_consumers_get_what_both_let_through_until_it_is_unbound() -> Result<()> {
    let bench = Bench::with_rollout()?;
    let tagged = ["--tag", "usual", "--group"];
    let running = bench.run("g", &[&tagged[..], &["g"]].concat())?;
    let other = bench.run("other", &[&tagged[..], &["other"]].concat())?;
    bench.send_numbers(0..100)?;
    let mut expected = usual(0..100);
    running.has(&expected)?;

    let bound = bench.quern(&[&BIND[..], &HALF].concat())?;
    ensure!(bound.contains("rollout percent=50"), "{bound}");
    // Pulls are held at this moment; the first message they wake for is decided by both.
    bench.send_numbers(100..400)?;
    let half: BTreeSet<usize> = bench.half()?.into_iter().filter(|n| *n >= 100).collect();
    ensure!((100..200).contains(&half.len()), "{}", half.len());
    expected.extend(usual(100..400).intersection(&half));
    running.has(&expected)?;

    let unbound = bench.quern(&UNBIND)?;
    ensure!(!unbound.contains("rollout"), "{unbound}");
    bench.send_numbers(400..500)?;
    expected.extend(usual(400..500));
    running.has(&expected)?;
    other.has(&usual(0..500))?;
    let versions = bench.json(&["plugin", "info", "rollout"])?;
    // Twice by us, of 400 and of none; and of what the tag let through.
    ensure!(decided(&versions[0])? >= 400 + 200, "{versions}");
    Ok(())
}

#[test]
fn what_is_bound_is_bound_after_a_crash_too_and_for_whoever_names_the_group() -> Result<()> {
    let mut bench = Bench::with_rollout()?;
    bench.quern(&[&BIND[..], &HALF].concat())?;
    for group in ["pops", "gone"] {
        let bind = [&BIND[..6], &[group], &HALF].concat();
        bench.quern(&bind)?;
    }
    let unbind = [&UNBIND[..6], &["gone"]].concat();
    bench.quern(&unbind)?;
    let before = bench.json(&["plugin", "bindings"])?;
    bench.send_numbers(0..300)?;
    bench.node.kill()?;
    bench.node.strip(&["commitlog", "plugins"])?;
    for entry in fs::read_dir(bench.world.path("data").join("plugins"))? {
        let path = entry?.path();
        match path.is_dir() {
            _ if path.ends_with("components") => {}
            true => fs::remove_dir_all(path)?,
            false => fs::remove_file(path)?,
        }
    }
    bench.node.start(&bench.world, &[])?;

    let bindings = bench.json(&["plugin", "bindings"])?;
    ensure!(bindings == before, "{bindings}");
    let groups = bindings.as_array().context("rows")?.iter();
    let groups: Vec<_> = groups.map(|it| (&it["group"], &it["filters"][0])).collect();
    let filter = Value::from("rollout percent=50");
    let right = [
        (&Value::from("g"), &filter),
        (&Value::from("pops"), &filter),
    ];
    ensure!(groups == right, "{groups:?}");
    let (all, half) = ((0..300).collect::<BTreeSet<_>>(), bench.half()?);
    ensure!((100..200).contains(&half.len()), "{}", half.len());
    ensure!(bench.consume(&["--group", "g"])? == half);
    ensure!(bench.consume(&["--group", "gone"])? == all);
    ensure!(bench.consume(&[])? == all, "nobody's");
    let pops = bench.run("pops", &["--group", "pops", "--pop"])?;
    pops.has(&half)
}

#[test]
fn a_shadow_of_a_bound_filter_is_compared_once_with_each_message_it_decides() -> Result<()> {
    let bench = Bench::with_rollout()?;
    bench.quern(&[&BIND[..], &HALF].concat())?;
    let component = bench.component(ROLLOUT, "second.wasm", CASE)?;
    let component = component.to_string_lossy();
    bench.quern(&["plugin", "upload", &component, "--name", "rollout"])?;
    bench.quern(&["plugin", "shadow", "rollout@2", "--share", "100%"])?;
    bench.send_numbers(0..300)?;
    let half = bench.consume(&["--group", "g", "--tag", "usual"])?;
    ensure!((60..140).contains(&half.len()), "{}", half.len());
    let trial = bench.json(&["plugin", "trial", "rollout"])?;
    let counts = ["decided", "agreed", "failed"].map(|it| trial[0][it].as_u64());
    // What the tag rules out, the bound filter is never asked about.
    ensure!(counts == [Some(200), Some(200), Some(0)], "{trial}");
    Ok(())
}

#[test]
fn all_brokers_have_what_is_bound() -> Result<()> {
    let world = World::new(QUERN)?;
    let (namesrv, _processes) = two_brokers(&world)?;
    let quern = |args: &[&str]| world.ok(&[args, &["--namesrv", &namesrv]].concat());
    let line = |n: usize| format!("{{\"body\":\"{n}\",\"tag\":\"{}\"}}\n", n % 2);
    let lines: String = (0..100).map(line).collect();
    let produce = ["produce", "orders", "--ndjson", "-", "--namesrv", &namesrv];
    world.ok_with_input(&produce, lines.as_bytes())?;
    let to = ["--topic", "orders", "--group", "g"];
    let bind = ["plugin", "bind", "tag", "--expression", "1"];
    let bound = quern(&[&bind[..], &to, &["-o", "json"]].concat())?;
    let bound: Value = serde_json::from_str(&bound)?;
    let right = serde_json::json!([{
        "topic": "orders", "group": "g", "filters": ["tag \"1\""], "brokers": ["broker-a", "broker-b"],
    }]);
    ensure!(bound == right, "{bound}");
    let odd = quern(&["consume", "orders", "--group", "g"])?;
    ensure!(odd.lines().count() == 50, "{odd}");
    quern(&[&["plugin", "unbind", "tag"], &to[..]].concat())?;
    ensure!(quern(&["plugin", "bindings"])?.is_empty());
    Ok(())
}

#[test]
fn what_cannot_be_bound_is_refused_and_what_is_bound_stays() -> Result<()> {
    let bench = Bench::with_rollout()?;
    let to = ["--topic", "t", "--group", "g"];
    let bind = |what: &str, more: &[&'static str]| {
        let mut args = vec!["plugin".to_owned(), "bind".to_owned(), what.to_owned()];
        args.extend(to.iter().chain(more).map(|it| (*it).to_owned()));
        args
    };
    for (what, more, exit, code) in [
        ("nobody", &[][..], 3, "Q-2001"),
        ("rollout@7", &HALF[..], 3, "Q-2001"),
        ("hash", &[], 2, "Q-4210"),
        ("sticky", &[], 2, "Q-4210"),
        ("rollout", &[], 2, "Q-4202"),
        ("rollout", &["--param", "percent=lots"], 2, "Q-4202"),
        ("sql92", &["--expression", "a ="], 2, "Q-4201"),
    ] {
        let args = bind(what, more);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        bench.fails(&args, exit, code)?;
    }
    let elsewhere = [
        "plugin", "bind", "tag", "--topic", "nowhere", "--group", "g",
    ];
    bench.fails(&elsewhere, 3, "Q-2001")?;
    bench.fails(&UNBIND, 3, "Q-4209")?;
    bench.quern(&[&BIND[..], &HALF].concat())?;
    let by_property = ["--expression", "a IS NULL"];
    let second = [&["plugin", "bind", "sql92"], &to[..], &by_property].concat();
    bench.quern(&second)?;
    let fourth = ["plugin", "bind", "tag", "--expression", "usual"];
    let said = bench.fails(&[&fourth[..], &to].concat(), 2, "Q-4208")?;
    ensure!(said.contains("rollout and sql92"), "{said}");
    // What is there already is replaced where it is, and that is no fourth.
    bench.quern(&[&BIND[..], &["--param", "percent=100"]].concat())?;
    let bindings = bench.json(&["plugin", "bindings"])?;
    let right = ["rollout percent=100", "sql92 \"a IS NULL\""];
    ensure!(
        bindings[0]["filters"] == serde_json::json!(right),
        "{bindings}"
    );
    // Messages would wait for it, and their consumers know nothing of it.
    bench.fails(&["plugin", "disable", "rollout"], 4, "Q-4403")?;
    bench.send_numbers(0..9)?;
    ensure!(bench.consume(&["--group", "g"])?.len() == 9);
    Ok(())
}

#[test]
fn what_bound_filters_say_of_a_message_is_told_with_its_trace() -> Result<()> {
    let bench = Bench::with_rollout()?;
    let none = ["--param", "percent=0"];
    bench.quern(&[&BIND[..], &none].concat())?;
    let running = bench.run("g", &["--tag", "usual", "--group", "g"])?;
    let other = bench.run("other", &["--group", "other"])?;
    bench.send_numbers(1..2)?;
    other.has(&BTreeSet::from([1]))?;
    let found = bench.json(&["msg", "search", "t", "--key", "customer-1"])?;
    let id = found[0]["id"].as_str().context("an id")?.to_owned();
    let mut shown = Value::Null;
    wait_until("the group to be past it", || {
        shown = bench.json(&["msg", "trace", &id])?;
        let groups = shown["groups"].as_array().context("groups")?;
        let ours = groups.iter().find(|it| it["group"] == "g");
        Ok(ours.is_some_and(|it| it["consumed"] == true && !it["opinions"][0].is_null()))
    })?;
    let groups = shown["groups"].as_array().context("groups")?.iter();
    let ours = groups.clone().find(|it| it["group"] == "g").context("g")?;
    let opinions = ours["opinions"].as_array().context("opinions")?;
    let said = opinions
        .iter()
        .map(|it| [&it["plugin"], &it["role"], &it["said"]].map(|it| it.as_str().unwrap_or("")));
    let said: Vec<_> = said.collect();
    let right = [
        ["tag", "decides", "delivers"],
        ["rollout@1", "bound", "rejects"],
    ];
    ensure!(said == right, "{said:?}");
    let other = groups.clone().find(|it| it["group"] == "other");
    ensure!(other.context("other")?["opinions"] == serde_json::json!([]));
    let page = bench.quern(&["msg", "trace", &id])?;
    ensure!(page.contains("passed over"), "{page}");
    let line = "g: rollout@1, bound to the group, rejects";
    ensure!(page.contains(line), "{page}");
    ensure!(running.printed()?.is_empty());
    Ok(())
}
