//! A plugin in Rust, built by its own cargo.

use std::path::Path;

use serde_json::Value;

use super::{Built, Spent, Tool};
use crate::failure::Failure;

pub(super) const MANIFEST: &str = "Cargo.toml";
const TARGET: &str = "wasm32-unknown-unknown";

pub(super) fn build() -> Result<Built, Failure> {
    let manifest = std::fs::canonicalize(MANIFEST)?;
    let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let cargo = Tool {
        program: &program,
        missing: "Rust comes from https://rustup.rs",
    };
    let arguments = [
        "build",
        "--release",
        "--target",
        TARGET,
        "--message-format",
        "json-render-diagnostics",
    ];
    let mut spent = Spent::default();
    let failed =
        format!("cargo has not built it; if the target is missing: rustup target add {TARGET}");
    let printed = spent.on("cargo", || cargo.run(&arguments, &failed))?;
    let messages = String::from_utf8_lossy(&printed);
    let built = messages
        .lines()
        .filter_map(|line| artefact(&manifest, line))
        .next_back();
    let (name, module) = built.ok_or_else(|| {
        Failure::usage("the package makes no plugin: its [lib] needs crate-type = [\"cdylib\"]")
    })?;
    Ok(Built {
        name,
        module: module.into(),
        spent,
    })
}

/// The package's name and the module, if a line of cargo's speaks of this package.
fn artefact(manifest: &Path, line: &str) -> Option<(String, String)> {
    let message: Value = serde_json::from_str(line).ok()?;
    if message["reason"] != "compiler-artifact"
        || Path::new(message["manifest_path"].as_str()?) != manifest
    {
        return None;
    }
    let files = message["filenames"].as_array()?;
    let mut files = files.iter().filter_map(Value::as_str);
    let module = files.find(|it| it.ends_with(".wasm"))?;
    let name = package(message["package_id"].as_str()?)?;
    Some((name.to_owned(), module.to_owned()))
}

/// The name in `path+file:///home/me/geo#0.1.0` or `path+file:///home/me/plugin#geo@0.1.0`.
fn package(id: &str) -> Option<&str> {
    let (path, version) = id.rsplit_once('#')?;
    match version.split_once('@') {
        Some((name, _)) => Some(name),
        None => path.rsplit('/').next(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_known_by_its_manifest_and_named_by_its_package() {
        let line = |id: &str, file: &str| {
            format!(
                "{{\"reason\":\"compiler-artifact\",\"manifest_path\":\"/w/geo/Cargo.toml\",\
                 \"package_id\":\"{id}\",\"filenames\":[\"{file}\"]}}"
            )
        };
        let found = |line: &str| artefact(Path::new("/w/geo/Cargo.toml"), line).map(|it| it.0);
        let by_folder = line("path+file:///w/geo#0.1.0", "/t/geo.wasm");
        assert_eq!(found(&by_folder).as_deref(), Some("geo"));
        let by_name = line("path+file:///w/geo#geo-2@0.1.0", "/t/geo_2.wasm");
        assert_eq!(found(&by_name).as_deref(), Some("geo-2"));
        assert_eq!(
            found(&line("path+file:///w/geo#0.1.0", "/t/libgeo.rlib")),
            None
        );
        assert_eq!(found(&by_name.replace("/w/geo/", "/w/other/")), None);
        assert_eq!(found("no JSON"), None);
    }
}
