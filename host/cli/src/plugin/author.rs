//! What authors do without a broker: `quern plugin build`, `test` and `bench`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use quern_node::workbench::{Ready, Workbench, component_of};
use serde::Serialize;

use super::project;
use crate::failure::Failure;
use crate::output::{self, Output, thousands};

/// A case is asked again for so long, and so often at the most, to see how long it takes …
const TEST: Duration = Duration::from_millis(5);
const TIMES: usize = 1_000;
/// … and a batch of a benchmark for so long.
const BENCH: Duration = Duration::from_millis(300);
/// Messages of a benchmark's batches.
const BATCHES: [usize; 3] = [1, 32, 256];

pub(crate) fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error: std::io::Error| Failure::new(3, format!("{}: {error}", file.display()));
    std::fs::read(file).map_err(failed)
}

pub(super) fn write(file: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let written = std::fs::write(file, bytes);
    written.map_err(|error| Failure::new(1, format!("{}: {error}", file.display())))
}

pub(super) fn read_cases(file: Option<&Path>) -> Result<String, Failure> {
    let Some(file) = file else {
        return Ok(String::new());
    };
    let text = String::from_utf8(read(file)?);
    text.map_err(|error| Failure::usage(format!("{}: {error}", file.display())))
}

pub(super) fn build(
    module: Option<&Path>,
    cases: Option<&Path>,
    out: Option<PathBuf>,
) -> Result<(), Failure> {
    let out = match module {
        None => project::build(cases, out)?,
        Some(module) => {
            let cases = read_cases(cases)?;
            let component = component_of(&read(module)?, &cases);
            let component = component.map_err(|error| {
                Failure::usage(format!("Q-{} {}: {error}", error.code(), module.display()))
            })?;
            let out = out.unwrap_or_else(|| module.with_extension("component.wasm"));
            write(&out, &component)?;
            let size = thousands(component.len() as u64);
            eprintln!("a component of {size} bytes");
            out
        }
    };
    output::print(&format!("{}\n", out.display()))
}

pub(super) fn open(component: &Path, cases: Option<&Path>) -> Result<Workbench, Failure> {
    let more = read_cases(cases)?;
    let quern = std::env::current_exe()?;
    let opened = Workbench::open(&read(component)?, &more, quern);
    opened.map_err(|error| Failure::usage(error.to_string()))
}

#[derive(Serialize)]
struct Row {
    what: String,
    expected: String,
    said: String,
    passed: bool,
    /// Of one answer, the median of many.
    ns: Option<u64>,
    fuel: u64,
}

/// How long an answer takes: the median of many.
fn ns(bench: &mut Workbench, ready: &Ready, patience: Duration) -> u64 {
    let (began, mut taken) = (Instant::now(), Vec::with_capacity(TIMES));
    while taken.is_empty() || (began.elapsed() < patience && taken.len() < TIMES) {
        let asked = Instant::now();
        bench.ask(ready);
        taken.push(asked.elapsed().as_nanos() as u64);
    }
    taken.sort_unstable();
    taken[taken.len() / 2]
}

fn rows(bench: &mut Workbench) -> Vec<Row> {
    let mut rows = Vec::with_capacity(bench.cases());
    while let Some(tested) = bench.test(rows.len()) {
        let passed = tested.passed();
        let ready = tested.ready.as_ref();
        rows.push(Row {
            passed,
            what: tested.what,
            expected: tested.expected,
            said: tested.said,
            ns: ready.map(|ready| ns(bench, ready, TEST)),
            fuel: tested.fuel,
        });
    }
    rows
}

pub(super) fn test(component: &Path, cases: Option<&Path>, output: Output) -> Result<(), Failure> {
    let mut bench = open(component, cases)?;
    let rows = rows(&mut bench);
    output::rows(
        output,
        &rows,
        &["", "CASE", "SAID", "NS", "FUEL"],
        |row| {
            let said = match row.passed {
                true => row.said.clone(),
                false => format!("{}, expected {}", row.said, row.expected),
            };
            let mark = if row.passed { "ok" } else { "FAILED" };
            let ns = row.ns.map_or_else(String::new, thousands);
            vec![
                mark.to_owned(),
                row.what.clone(),
                said,
                ns,
                thousands(row.fuel),
            ]
        },
        "the component carries no cases; give some with --cases FILE",
    )?;
    let (version, summary) = bench.about();
    let failed = rows.iter().filter(|row| !row.passed).count();
    eprintln!(
        "{} {version}, {summary}: {} cases, {failed} failed",
        bench.kind(),
        rows.len()
    );
    if failed > 0 {
        return Err(Failure::new(9, format!("{failed} cases failed")));
    }
    let tried = bench.trial();
    tried.map_err(|error| Failure::new(9, error.to_string()))?;
    eprintln!("a broker would let it in");
    Ok(())
}

#[derive(Debug, clap::Args)]
pub(crate) struct BenchArgs {
    /// By default the plugin of this folder, built anew.
    component: Option<PathBuf>,
    /// A parameter of the plugin; may be given several times. By default those of its first case.
    #[arg(long, value_name = "NAME=VALUE", value_parser = crate::consume::param)]
    param: Vec<(String, String)>,
    /// What the plugin is asked, if it understands expressions.
    #[arg(long, value_name = "TEXT")]
    expression: Option<String>,
    /// Beside it, the built-in SQL92 with this condition.
    #[arg(long, value_name = "CONDITION")]
    sql: Option<String>,
    /// More cases than the component carries, for their messages.
    #[arg(long, value_name = "FILE")]
    cases: Option<PathBuf>,
    /// Form of the result.
    #[arg(short, long, value_enum, default_value_t = Output::Human)]
    output: Output,
}

#[derive(Serialize)]
struct BenchRow {
    /// Messages of one call; queues, of an allocation strategy.
    batch: usize,
    /// Of one message.
    ns: f64,
    fuel: f64,
    sql92_ns: Option<f64>,
}

pub(super) fn bench(args: BenchArgs) -> Result<(), Failure> {
    let component = project::component(args.component)?;
    let mut bench = open(&component, args.cases.as_deref())?;
    let asked = (args.expression.is_some() || !args.param.is_empty())
        .then(|| (args.expression.as_deref().unwrap_or(""), &args.param[..]));
    if cfg!(debug_assertions) {
        eprintln!("this quern is built without optimisation; a broker's takes less time");
    }
    let mut rows: Vec<BenchRow> = Vec::with_capacity(BATCHES.len());
    for messages in BATCHES {
        let ready = bench.load(asked, messages);
        let ready = ready.map_err(|error| Failure::usage(error.to_string()))?;
        let (batch, before) = (ready.len().max(1), bench.fuel());
        // A strategy is asked about a whole group, however many messages there are.
        if rows.last().is_some_and(|row| row.batch == batch) {
            break;
        }
        bench.ask(&ready);
        let fuel = bench.fuel() - before;
        let one = |ns: u64| ns as f64 / batch as f64;
        let mut row = BenchRow {
            batch,
            ns: one(ns(&mut bench, &ready, BENCH)),
            fuel: fuel as f64 / batch as f64,
            sql92_ns: None,
        };
        if let Some(condition) = &args.sql {
            let sql = bench.load_sql(condition, batch);
            let sql = sql.map_err(|error| Failure::usage(error.to_string()))?;
            row.sql92_ns = Some(one(ns(&mut bench, &sql, BENCH)));
        }
        rows.push(row);
    }
    let mut heading = vec!["BATCH", "NS A MESSAGE", "FUEL A MESSAGE"];
    heading.extend(args.sql.is_some().then_some("SQL92 NS"));
    output::rows(
        args.output,
        &rows,
        &heading,
        |row| {
            let figures = [Some(row.ns), Some(row.fuel), row.sql92_ns];
            let figures = figures.into_iter().flatten().map(|it| format!("{it:.1}"));
            std::iter::once(row.batch.to_string())
                .chain(figures)
                .collect()
        },
        "nothing was measured",
    )
}
