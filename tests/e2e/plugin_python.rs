//! An author's way in Python, as in JavaScript. CPython inside makes components of 18 MB: building one takes a dozen
//! seconds of processor time and compiling it ten more, so these tests run when `QUERN_PYTHON_TESTS` is set, and say so
//! when it is not.

use anyhow::{Result, ensure};
use quern_harness::{World, said};

use crate::plugin_author::Author;
use crate::plugin_javascript::{runs, skip};
use crate::{QUERN, world_with_node};

const CASES: &str = include_str!("cases/languages.ndjson");

/// A new plugin whose first build has fetched what it needs; `false` = that is not asked for, or this machine cannot
/// build one.
fn begin(author: &Author<'_>, test: &str, name: &str, kind: &str) -> Result<bool> {
    if std::env::var_os("QUERN_PYTHON_TESTS").is_none() {
        skip(
            test,
            "takes a minute of processor time; QUERN_PYTHON_TESTS=1 runs it, with Python 3, venv and pip",
        );
        return Ok(false);
    }
    if !runs("python3") {
        skip(test, "Python 3 is not installed");
        return Ok(false);
    }
    let new = ["plugin", "new", name, "--language", "python"];
    author.ok("", &[&new[..], &["--kind", kind]].concat())?;
    let built = author.run(name, &["plugin", "build"])?;
    let told = said(&built);
    // What pip says of an index it does not reach, having told each of its tries.
    if !built.status.success() && told.contains("No matching distribution found") {
        skip(test, "pip does not reach an index that has componentize-py");
        return Ok(false);
    }
    ensure!(built.status.success(), "{told}");
    ensure!(told.contains("pip install ") && told.contains("componentize-py "));
    Ok(true)
}

#[test]
fn from_an_empty_directory_to_messages_that_are_let_through() -> Result<()> {
    let (world, node) = world_with_node(&[])?;
    let author = Author::new(&world)?;
    let at = ["--namesrv", node.namesrv.as_str()];
    let test = "from_an_empty_directory_to_messages_that_are_let_through";
    if !begin(&author, test, "eu-filter", "filter")? {
        return Ok(());
    }
    let file = author.folder.join("languages.ndjson");
    std::fs::write(&file, CASES)?;
    let cases = file.to_string_lossy();
    let asked = ["plugin", "test", "eu-filter.wasm", "--cases", &cases];
    let asked = author.ok("eu-filter", &[&asked[..], &["-o", "json"]].concat())?;
    let rows: Vec<serde_json::Value> = serde_json::from_str(&asked)?;
    ensure!(rows.len() == 6 + CASES.lines().count(), "{rows:?}");
    let failed: Vec<_> = rows.iter().filter(|row| row["passed"] != true).collect();
    ensure!(failed.is_empty(), "{failed:?}");

    world.ok(&["topic", "create", "orders", at[0], at[1]])?;
    let regions = ["eu", "us", "eu😀"];
    let line = |n: usize| {
        let properties = serde_json::json!({"region": regions[n % 3], "amount": n.to_string()});
        format!("{{\"body\":\"{n}\",\"properties\":{properties}}}\n")
    };
    let lines: String = (0..300).map(line).collect();
    let produce = ["produce", "orders", "--ndjson", "-", at[0], at[1]];
    world.ok_with_input(&produce, lines.as_bytes())?;
    let upload = [
        "plugin",
        "upload",
        "eu-filter.wasm",
        "--activate",
        at[0],
        at[1],
    ];
    author.ok("eu-filter", &upload)?;
    for (place, from) in regions.iter().enumerate() {
        let from = format!("from={from}");
        let consume = [
            "consume",
            "orders",
            "--plugin",
            "eu-filter",
            "--param",
            &from,
        ];
        let printed = world.ok(&[&consume[..], &at[..]].concat())?;
        let mut found: Vec<usize> = printed.lines().map(str::parse).collect::<Result<_, _>>()?;
        found.sort_unstable();
        let wanted: Vec<usize> = (100..300).filter(|n| n % 3 == place).collect();
        ensure!(found == wanted, "{from}: {found:?}");
    }
    Ok(())
}

#[test]
fn every_kind_of_plugin_begins_with_cases_it_passes() -> Result<()> {
    let world = World::new(QUERN)?;
    let author = Author::new(&world)?;
    let test = "every_kind_of_plugin_begins_with_cases_it_passes";
    for kind in ["body-filter", "selector", "allocation"] {
        let name = format!("my-{kind}");
        if !begin(&author, test, &name, kind)? {
            return Ok(());
        }
        let tested = author.ok(&name, &["plugin", "test", &format!("{name}.wasm")])?;
        let passed = tested.lines().filter(|line| line.starts_with("ok "));
        ensure!(passed.count() >= 5, "{kind}: {tested}");
    }
    Ok(())
}
