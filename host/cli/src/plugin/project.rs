//! The plugin of the folder one stands in: built by its own cargo, then made a component.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use quern_node::workbench::component_of;
use serde_json::Value;

use super::author::{read, read_cases, write};
use crate::failure::Failure;
use crate::output::thousands;

const TARGET: &str = "wasm32-unknown-unknown";
/// What a plugin must answer, beside its manifest.
const CASES: &str = "cases.ndjson";

/// What cargo has built: the package's name, and the module.
struct Built {
    name: String,
    module: PathBuf,
}

/// The component named, or that of the plugin of this folder, built anew.
pub(super) fn component(named: Option<PathBuf>) -> Result<PathBuf, Failure> {
    match named {
        Some(named) => Ok(named),
        None => build(None, None),
    }
}

/// Builds the plugin of this folder, and takes its cases along. Says where the component is.
pub(super) fn build(cases: Option<&Path>, out: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let here = Path::new(CASES);
    let cases = cases.or_else(|| here.exists().then_some(here));
    let cases_text = read_cases(cases)?;
    let Built { name, module } = cargo()?;
    let component = component_of(&read(&module)?, &cases_text);
    let component = component.map_err(|error| {
        let what = if error.code() == 4106 {
            cases.unwrap_or(here)
        } else {
            &module
        };
        Failure::usage(format!("Q-{} {}: {error}", error.code(), what.display()))
    })?;
    let out = out.unwrap_or_else(|| format!("{name}.wasm").into());
    write(&out, &component)?;
    eprintln!(
        "{}: a component of {} bytes",
        out.display(),
        thousands(component.len() as u64)
    );
    Ok(out)
}

fn cargo() -> Result<Built, Failure> {
    let manifest = std::fs::canonicalize("Cargo.toml").map_err(|_| {
        Failure::usage(
            "there is no Cargo.toml here; go into a plugin's folder (quern plugin new NAME makes one), or name the file",
        )
    })?;
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut cargo = Command::new(&program);
    let arguments = [
        "build",
        "--release",
        "--target",
        TARGET,
        "--message-format",
        "json-render-diagnostics",
    ];
    let child = cargo
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    let child = child.map_err(|error| {
        Failure::new(
            1,
            format!(
                "{} cannot be run: {error}; Rust comes from https://rustup.rs",
                program.display()
            ),
        )
    })?;
    let done = child.wait_with_output()?;
    if !done.status.success() {
        return Err(Failure::new(
            1,
            format!("cargo has not built it; if the target is missing: rustup target add {TARGET}"),
        ));
    }
    let messages = String::from_utf8_lossy(&done.stdout);
    let built = messages
        .lines()
        .filter_map(|line| artefact(&manifest, line))
        .next_back();
    built.ok_or_else(|| {
        Failure::usage("the package makes no plugin: its [lib] needs crate-type = [\"cdylib\"]")
    })
}

/// The module a line of cargo's speaks of, if it is this package's.
fn artefact(manifest: &Path, line: &str) -> Option<Built> {
    let message: Value = serde_json::from_str(line).ok()?;
    if message["reason"] != "compiler-artifact"
        || Path::new(message["manifest_path"].as_str()?) != manifest
    {
        return None;
    }
    let files = message["filenames"].as_array()?;
    let mut files = files.iter().filter_map(Value::as_str);
    let module = files.find(|it| it.ends_with(".wasm"))?;
    Some(Built {
        name: package(message["package_id"].as_str()?)?.to_owned(),
        module: module.into(),
    })
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
        let found = |line: &str| artefact(Path::new("/w/geo/Cargo.toml"), line).map(|it| it.name);
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
