//! A store killed at every system call that changes anything: what it had acknowledged is there when
//! it starts again, and nothing that was never written. strace does the killing.
//!
//! `cargo test` kills it here and there; `tests/kill` at every single call.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, ensure};
use quern_harness::World;

use crate::QUERN;

const SCRIPTS: [&str; 7] = [
    "write",
    "roll",
    "truncate",
    "recover",
    "checkpoint",
    "retain",
    "keep",
];
/// Calls that leave something behind; dying in any other is dying in the next of these.
const CALLS: [&str; 13] = [
    "openat",
    "mkdir",
    "pwrite64",
    "write",
    "fdatasync",
    "fsync",
    "rename",
    "fallocate",
    "unlink",
    "ftruncate",
    "mkdirat",
    "unlinkat",
    "exit_group",
];
/// Points of a script that the sample takes.
const SAMPLE: usize = 8;

/// The n-th call of its name, counted from one as strace does.
struct Point {
    call: String,
    nth: usize,
}

fn has_strace() -> bool {
    let tried = Command::new("strace")
        .args(["-o", "/dev/null", "true"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    tried.is_ok_and(|status| status.success())
}

/// `quern store exercise` under strace; what it printed.
fn exercise(world: &World, dir: &Path, script: &str, strace: &[&str]) -> Result<(bool, String)> {
    let output = Command::new("strace")
        .args(strace)
        .args([QUERN, "store", "exercise"])
        .arg(dir)
        .args(["--script", script])
        .current_dir(world.path(""))
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8(output.stdout)?;
    Ok((output.status.success(), said))
}

/// Every call of a script that leaves something behind, from its first look at the directory on.
fn points(world: &World, script: &str) -> Result<Vec<Point>> {
    let (dir, log) = (world.path("counted"), world.path("calls"));
    let trace = format!("trace={}", CALLS.join(","));
    let log_name = log.to_string_lossy().into_owned();
    let (ended, _) = exercise(world, &dir, script, &["-o", &log_name, "-e", &trace])?;
    ensure!(ended, "{script} does not come to its end");
    let mut counts = std::collections::BTreeMap::new();
    let mut begun = false;
    let mut points = Vec::new();
    let name = dir.to_string_lossy().into_owned();
    for line in std::fs::read_to_string(log)?.lines() {
        let Some((call, arguments)) = line.split_once('(') else {
            continue;
        };
        let nth = counts.entry(call.to_owned()).or_insert(0);
        *nth += 1;
        begun |= arguments.contains(&name);
        let leaves_something = call != "openat" || arguments.contains("O_CREAT");
        if begun && leaves_something {
            points.push(Point {
                call: call.to_owned(),
                nth: *nth,
            });
        }
    }
    std::fs::remove_dir_all(dir)?;
    Ok(points)
}

/// Kills a run there, then has another look for what it said and do it all again.
fn kill(world: &World, script: &str, Point { call, nth }: &Point) -> Result<()> {
    let at = format!("{script}-{call}-{nth}");
    let (dir, file) = (world.path(&at), world.path(&format!("{at}.said")));
    let trace = format!("trace={call}");
    let inject = format!("inject={call}:signal=KILL:when={nth}");
    let strace = ["-o", "/dev/null", "-e", &trace, "-e", &inject];
    let (ended, said) = exercise(world, &dir, script, &strace)?;
    ensure!(!ended, "{at}: it was not killed");
    std::fs::write(&file, said)?;
    let (dir_name, file_name) = (dir.to_string_lossy(), file.to_string_lossy());
    let again = [
        "store", "exercise", &dir_name, "--script", script, "--said", &file_name,
    ];
    world.ok(&again).context(at)?;
    world.ok(&["store", "check", &dir_name])?;
    std::fs::remove_dir_all(dir)?;
    std::fs::remove_file(file)?;
    Ok(())
}

#[test]
fn killed_at_its_system_calls_it_keeps_what_it_acknowledged() -> Result<()> {
    if !has_strace() {
        eprintln!("SKIP F1 kill at every system call: needs strace, and leave to trace");
        return Ok(());
    }
    let all = std::env::var_os("QUERN_KILL").is_some_and(|it| it == "all");
    let world = World::new(QUERN)?;
    let mut total = 0;
    for script in SCRIPTS {
        let points = points(&world, script)?;
        ensure!(points.len() > 40, "{script} makes {} calls", points.len());
        let step = if all {
            1
        } else {
            points.len().div_ceil(SAMPLE)
        };
        let chosen: Vec<&Point> = points.iter().step_by(step).collect();
        let next = AtomicUsize::new(0);
        let work = || -> Result<()> {
            while let Some(point) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                kill(&world, script, point)?;
            }
            Ok(())
        };
        std::thread::scope(|scope| -> Result<()> {
            let other = scope.spawn(work);
            work()?;
            other
                .join()
                .map_err(|_| anyhow::anyhow!("a thread panicked"))?
        })?;
        let (killed, calls) = (chosen.len(), points.len());
        eprintln!("{script:<12} killed at {killed:>4} of {calls:>4} calls, nothing lost");
        total += killed;
    }
    eprintln!("{:<12} {total} points", "all");
    Ok(())
}
