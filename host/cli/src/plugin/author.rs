//! What authors do without a broker: `quern plugin build` and `quern plugin test`.

use std::path::{Path, PathBuf};

use quern_node::workbench::{Workbench, component_of};
use serde::Serialize;

use crate::failure::Failure;
use crate::output::{self, Output, thousands};

pub(crate) fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error: std::io::Error| Failure::new(3, format!("{}: {error}", file.display()));
    std::fs::read(file).map_err(failed)
}

fn read_cases(file: Option<&Path>) -> Result<String, Failure> {
    let Some(file) = file else {
        return Ok(String::new());
    };
    let text = String::from_utf8(read(file)?);
    text.map_err(|error| Failure::usage(format!("{}: {error}", file.display())))
}

pub(super) fn build(
    module: &Path,
    cases: Option<&Path>,
    out: Option<PathBuf>,
) -> Result<(), Failure> {
    let cases = read_cases(cases)?;
    let component = component_of(&read(module)?, &cases);
    let component = component.map_err(|error| {
        Failure::usage(format!("Q-{} {}: {error}", error.code(), module.display()))
    })?;
    let out = out.unwrap_or_else(|| module.with_extension("component.wasm"));
    std::fs::write(&out, &component)
        .map_err(|error| Failure::new(1, format!("{}: {error}", out.display())))?;
    let size = thousands(component.len() as u64);
    eprintln!("a component of {size} bytes");
    output::print(&format!("{}\n", out.display()))
}

#[derive(Serialize)]
struct Row {
    what: String,
    expected: String,
    said: String,
    passed: bool,
    fuel: u64,
}

pub(super) fn test(component: &Path, cases: Option<&Path>, output: Output) -> Result<(), Failure> {
    let more = read_cases(cases)?;
    let quern = std::env::current_exe()?;
    let opened = Workbench::open(&read(component)?, &more, quern);
    let mut bench = opened.map_err(|error| Failure::usage(error.to_string()))?;
    let rows: Vec<Row> = bench
        .test()
        .into_iter()
        .map(|it| Row {
            passed: it.passed(),
            what: it.what,
            expected: it.expected,
            said: it.said,
            fuel: it.fuel,
        })
        .collect();
    output::rows(
        output,
        &rows,
        &["", "CASE", "SAID", "FUEL"],
        |row| {
            let said = match row.passed {
                true => row.said.clone(),
                false => format!("{}, expected {}", row.said, row.expected),
            };
            let mark = if row.passed { "ok" } else { "FAILED" };
            vec![mark.to_owned(), row.what.clone(), said, thousands(row.fuel)]
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
        return Err(Failure::new(1, format!("{failed} cases failed")));
    }
    let tried = bench.trial();
    tried.map_err(|error| Failure::new(1, error.to_string()))?;
    eprintln!("a broker would let it in");
    Ok(())
}
