//! A plugin in JavaScript: npm fetches what its lock names, once; QuickJS goes into the component with the main module.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::json;

use super::{Built, COMPONENT, CONTRACT, Package, Spent, Tool, is_newer};
use crate::failure::Failure;
use crate::plugin::kind::Kind;

pub(super) const MANIFEST: &str = "package.json";
/// What makes the component: a package of npm's that `package.json` names.
const TOOL: &str = "node_modules/componentize-qjs/bin/componentize-qjs";
/// What npm has installed, and what it shall.
const INSTALLED: &str = "node_modules/.package-lock.json";
const LOCK: &str = "package-lock.json";
/// Written anew by each build.
const ENTRY: &str = "build/entry.js";
const NEEDED: &str =
    "plugins in JavaScript are built by Node.js 18 or newer and its npm: https://nodejs.org";
const NPM: Tool<'_> = Tool {
    program: if cfg!(windows) { "npm.cmd" } else { "npm" },
    missing: NEEDED,
};
const NODE: Tool<'_> = Tool {
    program: "node",
    missing: NEEDED,
};

/// What is read of `package.json`.
#[derive(Deserialize)]
struct Manifest {
    name: String,
    version: String,
    #[serde(default)]
    description: String,
    #[serde(default = "main")]
    main: String,
    #[serde(default)]
    quern: Quern,
}

#[derive(Default, Deserialize)]
struct Quern {
    kind: Option<String>,
}

fn main() -> String {
    "index.js".to_owned()
}

pub(super) fn build() -> Result<Built, Failure> {
    let (package, main) = package(&fs::read_to_string(MANIFEST)?)?;
    let mut spent = Spent::default();
    if !is_newer(INSTALLED, LOCK) {
        spent.on("npm ci", install)?;
    }
    if !Path::new(TOOL).exists() {
        return Err(Failure::usage(format!(
            "{MANIFEST} does not name componentize-qjs, which makes the component: npm install --save-dev --save-exact \
             componentize-qjs@0.4.5"
        )));
    }
    fs::create_dir_all("build")?;
    fs::write(ENTRY, entry(&package, &main))?;
    spent.on("componentize-qjs", || componentize(package.kind, &main))?;
    Ok(Built {
        name: package.name,
        module: COMPONENT.into(),
        spent,
    })
}

/// And its main module.
fn package(text: &str) -> Result<(Package, String), Failure> {
    let manifest: Manifest = serde_json::from_str(text)
        .map_err(|error| Failure::usage(format!("{MANIFEST}: {error}")))?;
    let how = "\"quern\": { \"kind\": \"filter\" }";
    let package = Package {
        kind: Kind::named(manifest.quern.kind.as_deref(), MANIFEST, how)?,
        name: manifest.name,
        version: manifest.version,
        description: manifest.description,
    };
    Ok((package, manifest.main))
}

fn install() -> Result<(), Failure> {
    // Without a lock, npm makes one.
    let how = match Path::new(LOCK).exists() {
        true => "ci",
        false => "install",
    };
    let args = [how, "--no-audit", "--no-fund", "--loglevel", "error"];
    let failed =
        format!("npm {how} has not fetched what builds it; is the registry reachable? npm ping");
    NPM.run(&args, &failed)?;
    Ok(())
}

/// The module a build begins at: it gives the author's plugin the interfaces of the contract.
fn entry(package: &Package, main: &str) -> String {
    let interface = camel(package.kind.interface());
    let main = json!(format!("../{}", main.trim_start_matches("./")));
    let about = package.about();
    format!(
        "// Written by quern plugin build.\n\
         import {{ exported }} from \"quern-plugin\";\n\
         import host from \"quern:plugin/host@0.1.0\";\n\
         import * as main from {main};\n\n\
         const plugin = exported(main.default, {about}, host);\n\
         export const about = plugin.about;\n\
         export const {interface} = plugin.{interface};\n",
    )
}

/// `queueSelector` for `queue-selector`.
fn camel(name: &str) -> String {
    let mut words = name.split('-');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| {
        let (initial, rest) = word.split_at(1);
        name + &initial.to_uppercase() + rest
    })
}

fn componentize(kind: Kind, main: &str) -> Result<(), Failure> {
    let world = kind.world();
    let contract = ["--wit", CONTRACT, "--world", &world];
    let code = ["--js", ENTRY, "--module-root", ".", "--output", COMPONENT];
    let args = [&[TOOL], &contract[..], &code, &["--sync", "--stub-wasi"]].concat();
    NODE.run(&args, &format!("{main} is no plugin, see above"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_exports_what_the_kind_has() {
        let text = |kind: &str| {
            format!(
                "{{\"name\":\"geo\",\"version\":\"1.2.3\",\"main\":\"./src/plugin.js\",\"quern\":{{\"kind\":\"{kind}\"}}}}"
            )
        };
        for (kind, interface) in [
            ("filter", "filter"),
            ("body-filter", "bodyFilter"),
            ("selector", "queueSelector"),
            ("allocation", "allocationStrategy"),
        ] {
            let (package, main) = package(&text(kind)).unwrap();
            let entry = entry(&package, &main);
            let export = format!("export const {interface} = plugin.{interface};");
            assert!(entry.contains(&export), "{entry}");
            assert!(entry.contains("from \"../src/plugin.js\""), "{entry}");
            assert!(entry.contains(&format!("\"kind\":\"{kind}\"")), "{entry}");
        }
        assert!(package(&text("colour")).is_err());
        assert!(package("{\"name\":\"geo\",\"version\":\"1\"}").is_err());
    }
}
