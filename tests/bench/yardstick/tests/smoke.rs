//! The yardstick measures a real broker, its smallest run: ours alone, a moment each. Needs the `quern`
//! binary beside its own, which `cargo test --workspace` builds.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn yardstick(args: &[&str], dir: &Path) -> Output {
    let own = env!("CARGO_BIN_EXE_quern-yardstick");
    assert!(
        Path::new(own).with_file_name("quern").is_file(),
        "there is no `quern` beside {own}: cargo build --package quern"
    );
    Command::new(own)
        .arg("run")
        .arg("--cache")
        .arg(dir.join("cache"))
        .arg("--out")
        .arg(dir.join("out"))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("it can be run")
}

fn said(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

/// The figure of our cell for this work.
fn figure(report: &Value, work: &str, name: &str) -> f64 {
    let cells = report["cells"].as_array().expect("a report has cells");
    let cell = cells.iter().find(|it| it["work"] == work);
    let cell = cell.unwrap_or_else(|| panic!("{work} was not measured: {report:#}"));
    assert_eq!(cell["error"], Value::Null, "{work}");
    assert_eq!(cell["failed"], 0, "{work}");
    let figure = &cell["figures"][name]["median"];
    figure
        .as_f64()
        .unwrap_or_else(|| panic!("{work} has no {name}: {cell:#}"))
}

/// False, and said, where this machine cannot make a path with loss and delay.
fn is_measured(report: &Value, work: &str) -> bool {
    let cells = report["cells"].as_array().expect("a report has cells");
    let cell = cells.iter().find(|it| it["work"] == work);
    let why = cell.and_then(|it| it["error"].as_str());
    match why {
        Some(why) if why.starts_with("no path with loss and delay here") => {
            println!("SKIPPED {work}: {why}");
            false
        }
        _ => true,
    }
}

#[test]
fn a_small_run_measures_our_broker() {
    let dir = tempfile::tempdir().expect("a directory");
    let work = "start,produce-1,produce-64,batch-32,drain-all,drain-tag,drain-sql,drain-sql-half,drain-own,fan-out-10,connections-1000,lossy-produce,lossy-drain,e2e-100,restart";
    let args = [
        "--peers",
        "quern",
        "--class",
        "cached",
        "--repetitions",
        "1",
    ];
    let small = [
        "--seconds",
        "0.3",
        "--warm",
        "0.2",
        "--backlog",
        "2000",
        "--restart-mib",
        "1",
    ];
    let all: Vec<&str> = [&args[..], &small, &["--work", work]].concat();
    let output = yardstick(&all, dir.path());
    assert!(output.status.success(), "{}", said(&output));
    let json = std::fs::read_to_string(dir.path().join("out/report.json")).expect("a report");
    let report: Value = serde_json::from_str(&json).expect("it is JSON");
    assert_eq!(report["is_complete"], true);
    assert!(figure(&report, "start", "seconds") > 0.0);
    assert!(figure(&report, "produce-64", "per_s") > 0.0);
    assert!(figure(&report, "produce-1", "ack_p50_us") > 0.0);
    let p99 = figure(&report, "e2e-100", "e2e_p99_us");
    assert!(p99 >= figure(&report, "e2e-100", "e2e_p50_us"));
    for drain in [
        "drain-all",
        "drain-tag",
        "drain-sql",
        "drain-sql-half",
        "drain-own",
        "fan-out-10",
    ] {
        assert!(figure(&report, drain, "per_s") > 0.0);
    }
    assert!(figure(&report, "restart", "seconds") > 0.0);
    assert!(figure(&report, "connections-1000", "connection_kib") > 0.0);
    assert!(figure(&report, "batch-32", "per_s") > 0.0);
    assert!(figure(&report, "batch-32", "ack_p99_us") > 0.0);
    // Where there can be such a path: one trip takes 20 ms and 64 are under way.
    if is_measured(&report, "lossy-produce") {
        assert!(figure(&report, "lossy-produce", "ack_p50_us") >= 20_000.0);
        assert!(figure(&report, "lossy-drain", "per_s") > 0.0);
    }
    let table = std::fs::read_to_string(dir.path().join("out/report.md")).expect("a table");
    assert!(table.contains("### Drain a backlog by tag"), "{table}");
    let left = std::fs::read_dir(dir.path().join("cache/data")).expect("it was there");
    assert_eq!(left.count(), 0, "what a run wrote is removed");
}

#[test]
fn what_cannot_be_measured_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let cases = [
        (
            vec!["--peers", "rabbit"],
            "`rabbit`; there is quern, nats, rocketmq, rocketmq-rust, kafka",
        ),
        (vec!["--work", "produce-7"], "produce-64"),
        (
            vec!["--peers", "quern", "--quern", "/nowhere/quern"],
            "SKIP quern: needs /nowhere/quern",
        ),
        (vec!["--seconds", "0"], "more than 0 seconds"),
    ];
    for (args, wanted) in cases {
        let output = yardstick(&args, dir.path());
        assert!(!output.status.success(), "{args:?}");
        assert!(
            said(&output).contains(wanted),
            "{args:?}: {}",
            said(&output)
        );
    }
}
