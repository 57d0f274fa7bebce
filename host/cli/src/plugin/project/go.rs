//! A plugin in Go, built by its own toolchain for the system that Go calls wasip1, of which nothing is left in a component.

use std::fs;
use std::path::Path;

use quern_node::workbench::of_world;

use super::{Built, COMPONENT, Package, Spent, Tool, plugin_toml};
use crate::failure::Failure;

pub(super) const MANIFEST: &str = "go.mod";
const MODULE: &str = "build/module.wasm";
const CONTRACT: &str = "quern/wit";
const GO: Tool<'_> = Tool {
    program: "go",
    missing: "plugins in Go are built by Go 1.24 or newer: https://go.dev/dl",
};

pub(super) fn build() -> Result<Built, Failure> {
    let package = plugin_toml()?;
    let module = fs::read_to_string(MANIFEST)?;
    let module = module_of(&module);
    let module = module.ok_or_else(|| Failure::usage("go.mod has no line: module NAME"))?;
    fs::create_dir_all("build")?;
    let mut spent = Spent::default();
    let tag = format!("quern_{}", package.kind.name().replace('-', "_"));
    let said = said(&package, module);
    let args = [
        &["build", "-buildmode=c-shared", "-trimpath", "-tags", &tag],
        &["-ldflags", &said, "-o", MODULE, "."][..],
    ];
    let target = [("GOOS", "wasip1"), ("GOARCH", "wasm")];
    let failed = "go has not built it, see above";
    spent.on("go", || GO.run_with(&target, &args.concat(), failed))?;
    // Go has no way to put this into what it builds.
    let world = package.kind.world();
    let typed = of_world(fs::read(MODULE)?, Path::new(CONTRACT), &world);
    let typed = typed.map_err(|error| {
        Failure::usage(format!("Q-{} {CONTRACT}, {world}: {error}", error.code()))
    })?;
    fs::write(COMPONENT, typed)?;
    Ok(Built {
        name: package.name,
        module: COMPONENT.into(),
        spent,
    })
}

/// The module's path, as `go.mod` names it: it may stand in quotes, and a comment behind it.
fn module_of(manifest: &str) -> Option<&str> {
    manifest.lines().find_map(|line| {
        let line = line.split("//").next()?.trim();
        let path = line.strip_prefix("module")?;
        let name = path.trim().trim_matches(['"', '`']);
        (path.starts_with(char::is_whitespace) && !name.is_empty()).then_some(name)
    })
}

/// What the linker is told: to leave out what debuggers need, and what `plugin.toml` says.
fn said(package: &Package, module: &str) -> String {
    let mut all = String::from("-s -w");
    for (variable, value) in [
        ("name", &*package.name),
        ("version", &package.version),
        ("description", &package.description),
        ("kind", package.kind.name()),
    ] {
        // There is no way to write both quotes.
        let quote = if value.contains('\'') { '"' } else { '\'' };
        let value = value.replace(quote, "");
        all += &format!(" -X {quote}{module}/quern.{variable}={value}{quote}");
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::kind::Kind;

    #[test]
    fn the_module_is_named_as_go_reads_it() {
        for (manifest, name) in [
            ("module quernplugin\n\ngo 1.24\n", Some("quernplugin")),
            ("// of mine\n  module\tmine // it is\r\n", Some("mine")),
            ("module \"example.com/mine\"//\n", Some("example.com/mine")),
            ("module `mine`\n", Some("mine")),
            ("modules mine\n// module mine\nmodule // mine\n", None),
        ] {
            assert_eq!(module_of(manifest), name, "{manifest}");
        }
    }

    #[test]
    fn what_the_manifest_says_reaches_the_linker_as_one_word_each() {
        let package = |description: &str| Package {
            name: "geo".to_owned(),
            version: "1.2.3".to_owned(),
            description: description.to_owned(),
            kind: Kind::BodyFilter,
        };
        let told = said(&package("what it is"), "mine");
        assert!(told.contains(" -X 'mine/quern.kind=body-filter'"), "{told}");
        assert!(
            told.contains(" -X 'mine/quern.description=what it is'"),
            "{told}"
        );
        let told = said(&package("it's \"this\""), "mine");
        assert!(
            told.contains(" -X \"mine/quern.description=it's this\""),
            "{told}"
        );
    }
}
