//! A plugin in JavaScript: npm fetches what its lock names, once; QuickJS goes into the component with the main module.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::json;

use super::{Built, Spent, run};
use crate::failure::Failure;

pub(super) const MANIFEST: &str = "package.json";
/// What makes the component: a package of npm's that `package.json` names.
const TOOL: &str = "node_modules/componentize-qjs/bin/componentize-qjs";
/// What npm has installed, and what it shall.
const INSTALLED: &str = "node_modules/.package-lock.json";
const LOCK: &str = "package-lock.json";
const SDK: &str = "vendor/quern-plugin";
/// Written anew by each build.
const ENTRY: &str = "build/entry.js";
const COMPONENT: &str = "build/plugin.wasm";
const NODE: &str =
    "plugins in JavaScript are built by Node.js 18 or newer and its npm: https://nodejs.org";

/// What is read of `package.json`.
#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    #[serde(default)]
    description: String,
    #[serde(default = "main")]
    main: String,
    quern: Option<Quern>,
}

#[derive(Deserialize)]
struct Quern {
    kind: Kind,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Filter,
    BodyFilter,
    Selector,
    Allocation,
}

impl Kind {
    /// As the SDK names it, the world of the contract, and the interface as JavaScript names it.
    fn names(self) -> [&'static str; 3] {
        match self {
            Self::Filter => ["filter", "filter-plugin", "filter"],
            Self::BodyFilter => ["body-filter", "body-filter-plugin", "bodyFilter"],
            Self::Selector => ["selector", "queue-selector-plugin", "queueSelector"],
            Self::Allocation => [
                "allocation",
                "allocation-strategy-plugin",
                "allocationStrategy",
            ],
        }
    }
}

fn main() -> String {
    "index.js".to_owned()
}

pub(super) fn build() -> Result<Built, Failure> {
    let package = package(&fs::read_to_string(MANIFEST)?)?;
    let mut spent = Spent::default();
    if !is_installed() {
        spent.on("npm ci", install)?;
    }
    if !Path::new(TOOL).exists() {
        return Err(Failure::usage(format!(
            "{MANIFEST} does not name componentize-qjs, which makes the component: npm install --save-dev --save-exact \
             componentize-qjs@0.4.5"
        )));
    }
    fs::create_dir_all("build")?;
    fs::write(ENTRY, entry(&package))?;
    spent.on("componentize-qjs", || componentize(&package))?;
    Ok(Built {
        name: package.name,
        module: COMPONENT.into(),
        spent,
    })
}

fn package(text: &str) -> Result<Package, Failure> {
    let package: Package = serde_json::from_str(text)
        .map_err(|error| Failure::usage(format!("{MANIFEST}: {error}")))?;
    match package.quern {
        Some(_) => Ok(package),
        None => Err(Failure::usage(format!(
            "{MANIFEST} says of no plugin what it decides: \"quern\": {{ \"kind\": \"filter\" }}, or body-filter, \
             selector, allocation"
        ))),
    }
}

/// Whether npm has installed what the lock says now.
fn is_installed() -> bool {
    let changed = |file: &str| fs::metadata(file).and_then(|it| it.modified()).ok();
    match (changed(INSTALLED), changed(LOCK)) {
        (Some(installed), Some(locked)) => installed >= locked,
        (installed, None) => installed.is_some(),
        (None, Some(_)) => false,
    }
}

fn install() -> Result<(), Failure> {
    // Without a lock, npm makes one.
    let how = match Path::new(LOCK).exists() {
        true => "ci",
        false => "install",
    };
    let args = [how, "--no-audit", "--no-fund", "--loglevel", "error"];
    let npm = if cfg!(windows) { "npm.cmd" } else { "npm" };
    let done = run(OsStr::new(npm), &args, NODE)?;
    match done.status.success() {
        true => Ok(()),
        false => Err(Failure::new(
            1,
            format!(
                "npm {how} has not fetched what builds it; is the registry reachable? npm ping"
            ),
        )),
    }
}

/// The module a build begins at: it gives the author's plugin the interfaces of the contract.
fn entry(package: &Package) -> String {
    let [kind, _, interface] = names(package);
    let main = package.main.trim_start_matches("./");
    let about = json!({
        "name": package.name,
        "version": package.version,
        "description": package.description,
        "kind": kind,
    });
    format!(
        "// Written by quern plugin build.\n\
         import {{ exported }} from \"quern-plugin\";\n\
         import host from \"quern:plugin/host@0.1.0\";\n\
         import * as main from {};\n\n\
         const plugin = exported(main.default, {about}, host);\n\
         export const about = plugin.about;\n\
         export const {interface} = plugin.{interface};\n",
        json!(format!("../{main}")),
    )
}

fn names(package: &Package) -> [&'static str; 3] {
    let kind = package.quern.as_ref().map_or(Kind::Filter, |it| it.kind);
    kind.names()
}

fn componentize(package: &Package) -> Result<(), Failure> {
    let [_, world, _] = names(package);
    let wit = format!("{SDK}/wit");
    let args = [
        TOOL,
        "--wit",
        &wit,
        "--world",
        world,
        "--js",
        ENTRY,
        "--module-root",
        ".",
        "--output",
        COMPONENT,
        "--sync",
        "--stub-wasi",
    ];
    let done = run(OsStr::new("node"), &args, NODE)?;
    match done.status.success() {
        true => Ok(()),
        false => Err(Failure::new(
            1,
            format!("{} is no plugin, see above", package.main),
        )),
    }
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
            let entry = entry(&package(&text(kind)).unwrap());
            let export = format!("export const {interface} = plugin.{interface};");
            assert!(entry.contains(&export), "{entry}");
            assert!(entry.contains("from \"../src/plugin.js\""), "{entry}");
            assert!(entry.contains(&format!("\"kind\":\"{kind}\"")), "{entry}");
        }
        assert!(package(&text("colour")).is_err());
        assert!(package("{\"name\":\"geo\",\"version\":\"1\"}").is_err());
    }
}
