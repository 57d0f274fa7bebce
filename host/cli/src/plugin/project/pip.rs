//! A plugin in Python: pip fetches what makes the component into an environment of the folder's own, once; CPython goes
//! into the component with the plugin's module.

use std::ffi::OsStr;
use std::fs;

use serde_json::json;

use super::{Built, Spent, run};
use crate::failure::Failure;

pub(super) const MANIFEST: &str = "pyproject.toml";
const REQUIREMENTS: &str = "requirements.txt";
const TOOL: &str = ".venv/bin/componentize-py";
const PYTHON: &str = ".venv/bin/python";
const COMPONENT: &str = "build/plugin.wasm";
const NEEDED: &str =
    "plugins in Python are built by Python 3.9 or newer with venv and pip: https://python.org";

/// What is read of `pyproject.toml`.
#[derive(Debug)]
struct Project {
    name: String,
    version: String,
    description: String,
    kind: String,
}

impl Project {
    /// The world of the contract; and the module that componentize-py looks for, with what it has to be, if the world has
    /// a resource.
    fn names(&self) -> Option<(&'static str, &'static str)> {
        match self.kind.as_str() {
            "filter" => Some(("filter-plugin", "filter")),
            "body-filter" => Some(("body-filter-plugin", "body_filter")),
            "selector" => Some(("queue-selector-plugin", "queue_selector")),
            "allocation" => Some(("allocation-strategy-plugin", "")),
            _ => None,
        }
    }
}

pub(super) fn build() -> Result<Built, Failure> {
    let project = project(&fs::read_to_string(MANIFEST)?)?;
    let (world, module) = project.names().ok_or_else(|| {
        Failure::usage(format!(
            "{MANIFEST} says of no plugin what it decides: kind = \"filter\" under [tool.quern], or body-filter, selector, \
             allocation"
        ))
    })?;
    let mut spent = Spent::default();
    if !is_installed() {
        spent.on("pip install", install)?;
    }
    fs::create_dir_all("build")?;
    fs::write("build/quern_entry.py", entry(&project))?;
    if !module.is_empty() {
        let (class, make) = match module {
            "queue_selector" => ("Selector", "selector"),
            _ => ("Subscription", "subscription"),
        };
        let text = format!("from quern_entry import export, it\n\n{class} = export.{make}(it)\n");
        fs::write(format!("build/{module}.py"), text)?;
    }
    spent.on("componentize-py", || componentize(world))?;
    Ok(Built {
        name: project.name,
        module: COMPONENT.into(),
        spent,
    })
}

/// The few keys that are needed, each on a line of its own.
fn project(text: &str) -> Result<Project, Failure> {
    let mut project = Project {
        name: String::new(),
        version: String::new(),
        description: String::new(),
        kind: String::new(),
    };
    let mut table = "";
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            table = line;
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        let value = value.trim().trim_matches(['"', '\'']).to_owned();
        match (table, key.trim()) {
            ("[project]", "name") => project.name = value,
            ("[project]", "version") => project.version = value,
            ("[project]", "description") => project.description = value,
            ("[tool.quern]", "kind") => project.kind = value,
            _ => {}
        }
    }
    match project.name.is_empty() || project.version.is_empty() {
        true => Err(Failure::usage(format!(
            "{MANIFEST} has no name or no version under [project]"
        ))),
        false => Ok(project),
    }
}

/// Whether pip has installed what is required now.
fn is_installed() -> bool {
    let changed = |file: &str| fs::metadata(file).and_then(|it| it.modified()).ok();
    match (changed(TOOL), changed(REQUIREMENTS)) {
        (Some(installed), Some(required)) => installed >= required,
        (installed, None) => installed.is_some(),
        (None, Some(_)) => false,
    }
}

fn install() -> Result<(), Failure> {
    let venv = run(OsStr::new("python3"), &["-m", "venv", ".venv"], NEEDED)?;
    let args = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--force-reinstall",
        "--requirement",
        REQUIREMENTS,
    ];
    if venv.status.success() && run(OsStr::new(PYTHON), &args, NEEDED)?.status.success() {
        return Ok(());
    }
    Err(Failure::new(
        1,
        format!("pip has not fetched what builds it; is the index reachable? {NEEDED}"),
    ))
}

/// The module a build begins at: it gives the author's plugin the bindings of its world.
fn entry(project: &Project) -> String {
    let about = json!({
        "name": project.name,
        "version": project.version,
        "description": project.description,
        "kind": project.kind,
    });
    let about = json!(about.to_string());
    format!(
        "# Written by quern plugin build.\n\
         import json\n\
         import types as python\n\n\
         import plugin\n\
         from componentize_py_types import Err\n\
         from quern_plugin import export\n\
         from wit_world.exports import about\n\
         from wit_world.imports import host, types\n\n\
         wit = python.SimpleNamespace(Err=Err, about=about, host=host, types=types)\n\
         it = export.Exported(plugin, json.loads({about}), wit)\n\n\n\
         class About:\n    def describe(self):\n        return it.describe()\n\n\n\
         if it.plugin.kind == \"allocation\":\n    AllocationStrategy = export.allocation(it)\n"
    )
}

fn componentize(world: &str) -> Result<(), Failure> {
    let args = [
        "--quiet",
        "--wit-path",
        "vendor/quern-plugin/wit",
        "--world",
        world,
        "componentize",
        "quern_entry",
        "--python-path",
        "build",
        "--python-path",
        "src",
        "--python-path",
        "vendor",
        "--stub-wasi",
        "--output",
        COMPONENT,
    ];
    let done = run(OsStr::new(TOOL), &args, NEEDED)?;
    match done.status.success() {
        true => Ok(()),
        false => Err(Failure::new(1, "src/plugin.py is no plugin, see above")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_says_its_name_and_what_it_decides() {
        let text = |kind: &str| {
            format!(
                "[project]\nname = \"geo\"\nversion = '1.2.3'\n[tool.other]\nkind = \"none\"\n[tool.quern]\nkind = \"{kind}\"\n"
            )
        };
        for (kind, module) in [
            ("filter", "filter"),
            ("body-filter", "body_filter"),
            ("selector", "queue_selector"),
            ("allocation", ""),
        ] {
            let project = project(&text(kind)).unwrap();
            assert_eq!((&*project.name, &*project.version), ("geo", "1.2.3"));
            assert_eq!(project.names().map(|it| it.1), Some(module));
            assert!(
                entry(&project).contains("json.loads(\"{"),
                "{}",
                entry(&project)
            );
        }
        assert_eq!(project(&text("colour")).unwrap().names(), None);
        assert!(project("[project]\nname = \"geo\"\n").is_err());
    }
}
