//! The yardstick measures a real broker, its smallest run: ours alone, a moment each. Needs the `quern`
//! binary beside its own, which `cargo test --workspace` builds.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn yardstick(args: &[&str], dir: &Path) -> Output {
    command(args, dir).output().expect("it can be run")
}

fn command(args: &[&str], dir: &Path) -> Command {
    let own = env!("CARGO_BIN_EXE_quern-yardstick");
    assert!(
        Path::new(own).with_file_name("quern").is_file(),
        "there is no `quern` beside {own}: cargo build --package quern"
    );
    let mut command = Command::new(own);
    command
        .arg("run")
        .arg("--cache")
        .arg(dir.join("cache"))
        .arg("--out")
        .arg(dir.join("out"))
        .args(args)
        .stdin(Stdio::null());
    command
}

/// The report there is in JSON, and what the data of a run has left.
fn kept(dir: &Path) -> (Value, usize) {
    let json = std::fs::read_to_string(dir.join("out/report.json")).expect("a report");
    let left = std::fs::read_dir(dir.join("cache/data")).expect("it was there");
    let report = serde_json::from_str(&json).expect("it is JSON");
    (report, left.count())
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

/// Ours alone, one turn.
const OURS: [&str; 6] = [
    "--peers",
    "quern",
    "--class",
    "cached",
    "--repetitions",
    "1",
];

#[test]
fn a_small_run_measures_our_broker() {
    let dir = tempfile::tempdir().expect("a directory");
    let work = "start,produce-1,produce-64,batch-32,drain-all,drain-tag,drain-sql,drain-sql-half,drain-own,fan-out-10,connections-1000,lossy-produce,lossy-drain,e2e-100,restart";
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
    let all: Vec<&str> = [&OURS[..], &small, &["--work", work]].concat();
    let output = yardstick(&all, dir.path());
    assert!(output.status.success(), "{}", said(&output));
    let (report, left) = kept(dir.path());
    assert_eq!(left, 0, "what a run wrote is removed");
    assert_eq!(report["is_complete"], true);
    assert!(figure(&report, "start", "seconds") > 0.0);
    assert!(figure(&report, "produce-64", "per_s") > 0.0);
    assert!(figure(&report, "produce-1", "ack_p50_us") > 0.0);
    assert!(figure(&report, "batch-32", "per_s") > 0.0);
    assert!(figure(&report, "batch-32", "ack_p99_us") > 0.0);
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
    // Where there can be such a path: one trip takes 20 ms and 64 are under way.
    if is_measured(&report, "lossy-produce") {
        assert!(figure(&report, "lossy-produce", "ack_p50_us") >= 20_000.0);
        assert!(figure(&report, "lossy-drain", "per_s") > 0.0);
    }
    let table = std::fs::read_to_string(dir.path().join("out/report.md")).expect("a table");
    assert!(table.contains("### Drain a backlog by tag"), "{table}");
}

#[test]
fn what_was_measured_before_ctrl_c_is_kept_and_marked() {
    let dir = tempfile::tempdir().expect("a directory");
    // Seconds of work after what is waited for.
    let work = ["--work", "start,produce-1,batch-32,e2e-100,e2e-1000"];
    let small = ["--warm", "0.2", "--seconds", "1", "--backlog", "100"];
    let all = [&OURS[..], &work, &small, &["--restart-mib", "1"]].concat();
    let mut running = command(&all, dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it can be run");
    let said = running.stderr.take().expect("it is piped");
    let mut lines = BufReader::new(said).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("  warm ")), "it measures");
    let pid = rustix::process::Pid::from_child(&running);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    let rest: Vec<String> = lines.collect();
    assert!(!running.wait().expect("it ends").success());
    let wanted = "the run did not reach its end: interrupted";
    assert!(rest.iter().any(|line| line == wanted), "{rest:#?}");
    let (report, left) = kept(dir.path());
    assert_eq!(left, 0, "what a run wrote is removed");
    assert_eq!(report["is_complete"], false);
    assert_eq!(report["ended_by"], "interrupted");
    assert!(figure(&report, "start", "seconds") > 0.0);
    let table = std::fs::read_to_string(dir.path().join("out/report.md")).expect("a table");
    assert!(table.contains("INCOMPLETE: interrupted."), "{table}");
}

#[test]
fn a_broker_that_does_not_come_up_is_told_in_its_own_words() {
    let dir = tempfile::tempdir().expect("a directory");
    let quern = Path::new(env!("CARGO_BIN_EXE_quern-yardstick")).with_file_name("quern");
    let broken = dir.path().join("broken");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" != start ] || {{ echo up; echo cannot begin today >&2; exit 3; }}\nexec '{}' \"$@\"\n",
        quern.display()
    );
    std::fs::write(&broken, script).expect("a script");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&broken, mode).expect("it can be run");
    let broken = broken.to_str().expect("a name");
    let work = [
        "--work",
        "start,batch-32",
        "--seconds",
        "0.2",
        "--backlog",
        "100",
    ];
    let small = ["--restart-mib", "1", "--quern", broken];
    let output = yardstick(&[&OURS[..], &work, &small].concat(), dir.path());
    let wanted =
        "quern broke off: it did not come up: quern ended (exit status: 3): cannot begin today";
    assert!(said(&output).contains(wanted), "{}", said(&output));
    let (report, left) = kept(dir.path());
    assert_eq!(left, 0, "what a run wrote is removed");
    assert_eq!(report["broke_off"][0]["name"], "quern");
    let cells = report["cells"].as_array().expect("a report has cells");
    assert!(cells.iter().all(|it| it["error"].is_string()), "{cells:#?}");
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
            vec!["--quick", "--peers", "quern", "--quern", "/nowhere/quern"],
            "SKIP quern: needs /nowhere/quern",
        ),
        (vec!["--seconds", "0"], "more than 0 seconds"),
        (vec!["--restart-mib", "1000000000"], "and a run needs 200"),
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
    // Told before anything is measured.
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("out"), "in the way").expect("a file");
    let output = yardstick(&["--quick", "--peers", "quern"], dir.path());
    assert!(!output.status.success());
    let wanted = format!("making {}: File exists", dir.path().join("out").display());
    assert!(said(&output).contains(&wanted), "{}", said(&output));
}
