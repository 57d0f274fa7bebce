//! An author's way in Python, as in JavaScript. CPython inside makes components of 18 MB: building one takes a dozen
//! seconds of processor time and compiling it ten more, so these tests run when `QUERN_PYTHON_TESTS` is set, and say so
//! when it is not.

use anyhow::{Result, ensure};
use quern_harness::{World, said};

use crate::plugin_author::Author;
use crate::plugin_javascript::{runs, skip};
use crate::plugin_languages::{Orders, judges_as_all_do};
use crate::{QUERN, world_with_node};

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
    let test = "from_an_empty_directory_to_messages_that_are_let_through";
    if !begin(&author, test, "eu-filter", "filter")? {
        return Ok(());
    }
    // Building it anew takes long.
    let built = ["eu-filter.wasm"];
    judges_as_all_do(&author, "eu-filter", &built)?;
    let orders = Orders::send(&world, &node, 300)?;
    orders.upload(&author, "eu-filter", &built)?;
    orders.come_by_param("eu-filter")?;
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
