//! A plugin in Python: pip fetches what makes the component into an environment of the folder's own, once; CPython goes
//! into the component with the plugin's module.

use std::fs;

use serde_json::json;

use super::{Built, COMPONENT, CONTRACT, Package, Spent, Tool, is_newer, key};
use crate::failure::Failure;
use crate::plugin::kind::Kind;

pub(super) const MANIFEST: &str = "pyproject.toml";
const REQUIREMENTS: &str = "requirements.txt";
/// Written anew by each build.
const ENTRY: &str = "quern_entry";
const NEEDED: &str =
    "plugins in Python are built by Python 3.9 or newer with venv and pip: https://python.org";
/// Python in the folder's own environment.
pub(super) const OWN_PYTHON: &str = ".venv/bin/python";
const COMPONENTIZE: Tool<'_> = Tool {
    program: ".venv/bin/componentize-py",
    missing: NEEDED,
};

pub(super) fn build() -> Result<Built, Failure> {
    let package = package(&fs::read_to_string(MANIFEST)?)?;
    let mut spent = Spent::default();
    fetch(COMPONENTIZE.program, NEEDED, &mut spent)?;
    fs::create_dir_all("build")?;
    for (module, text) in modules(&package) {
        fs::write(format!("build/{module}.py"), text)?;
    }
    spent.on("componentize-py", || componentize(package.kind))?;
    Ok(Built {
        name: package.name,
        module: COMPONENT.into(),
        spent,
    })
}

fn package(text: &str) -> Result<Package, Failure> {
    let found = |table, wanted| key(text, table, wanted);
    let project = |wanted| found("[project]", wanted);
    let needed = |wanted| {
        let text = format!("{MANIFEST} has no {wanted} under [project]");
        project(wanted).ok_or_else(|| Failure::usage(text))
    };
    let kind = found("[tool.quern]", "kind");
    Ok(Package {
        name: needed("name")?,
        version: needed("version")?,
        description: project("description").unwrap_or_default(),
        kind: Kind::named(
            kind.as_deref(),
            MANIFEST,
            "kind = \"filter\" under [tool.quern]",
        )?,
    })
}

/// Has pip fetch what `requirements.txt` names, unless the program it is wanted for is there already; `missing` says what
/// is needed besides.
pub(super) fn fetch(
    program: &str,
    missing: &'static str,
    spent: &mut Spent,
) -> Result<(), Failure> {
    match is_newer(program, REQUIREMENTS) {
        true => Ok(()),
        false => spent.on("pip install", || install(missing)),
    }
}

fn install(missing: &'static str) -> Result<(), Failure> {
    let failed = "pip has not fetched what builds it; is the index reachable?";
    let tool = |program| Tool { program, missing };
    tool("python3").run(&["-m", "venv", ".venv"], failed)?;
    let quiet = ["--quiet", "--disable-pip-version-check"];
    let what = ["--force-reinstall", "--requirement", REQUIREMENTS];
    let pip = ["-m", "pip", "install"];
    tool(OWN_PYTHON).run(&[&pip[..], &quiet, &what].concat(), failed)?;
    Ok(())
}

/// Name and text of the modules that give the author's plugin the bindings of its world. The first is where a build
/// begins; the other the one componentize-py looks for, if the world has a resource.
fn modules(package: &Package) -> Vec<(String, String)> {
    let about = json!(package.about().to_string());
    let entry = format!(
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
    );
    let resource = match package.kind {
        Kind::Filter | Kind::BodyFilter => Some("Subscription = export.subscription(it)"),
        Kind::Selector => Some("Selector = export.selector(it)"),
        Kind::Allocation => None,
    };
    let resource = resource.map(|resource| {
        let module = package.kind.interface().replace('-', "_");
        (
            module,
            format!("from {ENTRY} import export, it\n\n{resource}\n"),
        )
    });
    let entry = (ENTRY.to_owned(), entry);
    std::iter::once(entry).chain(resource).collect()
}

fn componentize(kind: Kind) -> Result<(), Failure> {
    let world = kind.world();
    let contract = ["--quiet", "--wit-path", CONTRACT, "--world", &world];
    let paths = ["build", "src", "vendor"].map(|it| ["--python-path", it]);
    let out = ["--stub-wasi", "--output", COMPONENT];
    let code = [&["componentize", ENTRY], paths.as_flattened(), &out].concat();
    COMPONENTIZE.run(
        &[&contract[..], &code].concat(),
        "src/plugin.py is no plugin, see above",
    )?;
    Ok(())
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
            ("filter", Some("filter")),
            ("body-filter", Some("body_filter")),
            ("selector", Some("queue_selector")),
            ("allocation", None),
        ] {
            let package = package(&text(kind)).unwrap();
            assert_eq!((&*package.name, &*package.version), ("geo", "1.2.3"));
            let modules = modules(&package);
            assert!(modules[0].1.contains("json.loads(\"{"), "{}", modules[0].1);
            assert_eq!(modules.get(1).map(|it| it.0.as_str()), module);
        }
        assert!(package(&text("colour")).is_err());
        assert!(package("[project]\nname = \"geo\"\n[tool.quern]\nkind = \"filter\"\n").is_err());
    }
}
