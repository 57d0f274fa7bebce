//! A hundred plugins and ten thousand subscriptions, as a broker has them after a restart: what each plugin takes to be
//! there again, and what memory all of it needs. Compiled by child processes, so that none of their memory is counted.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use quern_plugins::{
    Batch, Compiler, Config, Plugin, Runtime, Subscription, Verdict, Worker, component_of,
};

const PLUGINS: usize = 100;
const SUBSCRIPTIONS: usize = 10_000;
/// A delivery thread for each core of a small machine.
const THREADS: usize = 2;
const RESTART_GOAL_MS: f64 = 1.0;
const MEMORY_GOAL_MB: f64 = 200.0;

/// What was measured, beside what it shall not be above.
pub(crate) struct Figure {
    what: String,
    measured: f64,
    goal: f64,
    unit: &'static str,
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what,
            measured,
            goal,
            unit,
        } = self;
        let verdict = if measured <= goal {
            "reached"
        } else {
            "MISSED"
        };
        write!(
            f,
            "{what:<72} {measured:>9.2} {unit:<2}   goal {goal} {unit}, {verdict}"
        )
    }
}

/// An example as cargo has built it.
fn module() -> Result<Vec<u8>> {
    let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../target/guests");
    let built = guests.join("wasm32-unknown-unknown/release/quern_example_percentage_rollout.wasm");
    fs::read(&built).with_context(|| format!("{}; cargo test builds it", built.display()))
}

/// As many components of one module as there are plugins: what they carry along tells them apart.
fn components(dir: &Path) -> Result<Vec<PathBuf>> {
    let module = module()?;
    let one = |number: usize| {
        let case = format!(
            "{{\"what\":\"{number}\",\"message\":{{\"keys\":\"a\"}},\"params\":{{\"percent\":100}},\"expect\":true}}\n"
        );
        let file = dir.join(format!("{number}.wasm"));
        fs::write(&file, component_of(&module, &case)?)?;
        Ok(file)
    };
    (0..PLUGINS).map(one).collect()
}

fn runtime(dir: &Path) -> Result<Runtime> {
    let config = Config {
        compiler: Compiler::Child(std::env::current_exe()?),
        dir: Some(dir.join("plugins")),
        ..Config::default()
    };
    Ok(Runtime::new(&config)?)
}

/// Of this process, MB.
fn resident() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let mut lines = status.lines();
    let rss = lines.find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = rss.and_then(|it| it.trim().strip_suffix(" kB"));
    Ok(kib.context("a resident size")?.parse::<f64>()? * 1024.0 / 1e6)
}

/// Every plugin from its file, and how long each took, ms, in order of size.
fn load(runtime: &Runtime, files: &[PathBuf]) -> Result<(Vec<Arc<Plugin>>, Vec<f64>)> {
    let (mut plugins, mut taken) = (Vec::new(), Vec::new());
    for (number, file) in files.iter().enumerate() {
        let began = Instant::now();
        let bytes = fs::read(file)?;
        plugins.push(runtime.load(&format!("p{number}@1"), &bytes)?);
        taken.push(began.elapsed().as_secs_f64() * 1e3);
    }
    taken.sort_by(f64::total_cmp);
    Ok((plugins, taken))
}

/// A hundredth of all subscriptions each, no two alike.
fn subscribe(worker: &mut Worker, plugins: &[Arc<Plugin>]) -> Result<Vec<Subscription>> {
    let subscribe = |number: usize| {
        let percent = format!("{}", 100.0 - number as f64 / SUBSCRIPTIONS as f64);
        let params = [("percent".to_owned(), percent)];
        let plugin = &plugins[number % plugins.len()];
        Ok(worker.subscribe(plugin, "", &params)?)
    };
    (0..SUBSCRIPTIONS).map(subscribe).collect()
}

fn ask_all(worker: &mut Worker, subscriptions: &[Subscription]) -> Result<()> {
    for subscription in subscriptions {
        let mut batch = Batch::new(subscription.needs());
        batch.begin_message();
        batch.text(Some("customer-4711"));
        batch.end_message();
        let judged = worker.judge(subscription, &batch);
        ensure!(judged.verdicts == [Verdict::Deliver], "{judged:?}");
    }
    Ok(())
}

pub(crate) fn run() -> Result<Vec<Figure>> {
    let dir = tempfile::tempdir()?;
    let files = components(dir.path())?;
    let began = Instant::now();
    let first = runtime(dir.path())?;
    for file in &files {
        first.admit(&fs::read(file)?, |_| ())?;
    }
    let cold = began.elapsed().as_secs_f64() * 1e3 / PLUGINS as f64;
    drop(first);

    let before = resident()?;
    let runtime = runtime(dir.path())?;
    let (plugins, taken) = load(&runtime, &files)?;
    let loaded = resident()?;
    let mut workers: Vec<Worker> = (0..THREADS).map(|_| runtime.worker()).collect();
    let mut subscriptions = Vec::new();
    for worker in &mut workers {
        if subscriptions.is_empty() {
            subscriptions = subscribe(worker, &plugins)?;
        }
        ask_all(worker, &subscriptions)?;
    }
    let all = resident()?;
    let (median, slowest) = (taken[PLUGINS / 2], taken[PLUGINS - 1]);
    Ok(vec![
        Figure {
            what: format!(
                "a plugin after a restart, median of {PLUGINS} (slowest {slowest:.2}; cold, let in {cold:.0})"
            ),
            measured: median,
            goal: RESTART_GOAL_MS,
            unit: "ms",
        },
        Figure {
            what: format!(
                "{SUBSCRIPTIONS} subscriptions on {PLUGINS} plugins, {THREADS} threads (code alone {:.0})",
                loaded - before
            ),
            measured: all - before,
            goal: MEMORY_GOAL_MB,
            unit: "MB",
        },
    ])
}
