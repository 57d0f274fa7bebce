//! The plugin of the folder one stands in: built by the tools of its language, then made a component with its
//! author's cases inside.

mod cargo;
mod clang;
mod go;
mod npm;
mod pip;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, io};

use quern_node::workbench::component_of;

use serde_json::{Value, json};

use super::author::{read, read_cases, write};
use super::kind::Kind;
use crate::failure::Failure;
use crate::output::thousands;

/// What a plugin must answer, beside its manifest.
const CASES: &str = "cases.ndjson";
/// The contract, where an interpreter has to be told of it, and what it is told to make.
const CONTRACT: &str = "vendor/quern-plugin/wit";
const COMPONENT: &str = "build/plugin.wasm";

/// What a manifest says.
struct Package {
    name: String,
    version: String,
    description: String,
    kind: Kind,
}

impl Package {
    /// As the SDKs are told it.
    fn about(&self) -> Value {
        json!({
            "name": self.name,
            "version": self.version,
            "description": self.description,
            "kind": self.kind.name(),
        })
    }
}

/// What the tools of its language have built: the package's name, and a module or a component.
struct Built {
    name: String,
    module: PathBuf,
    spent: Spent,
}

/// Where the time went: on what, and how much of it.
#[derive(Default)]
struct Spent(Vec<(&'static str, Duration)>);

impl Spent {
    fn on<T>(&mut self, what: &'static str, work: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let done = work();
        self.0.push((what, began.elapsed()));
        done
    }

    fn told(&self) -> String {
        let steps = self.0.iter();
        let steps = steps.map(|(what, took)| format!("{what} {:.1} s", took.as_secs_f64()));
        steps.collect::<Vec<_>>().join(", ")
    }
}

/// The manifest of languages that have none of their own for what plugins say.
const PLUGIN_TOML: &str = "plugin.toml";

fn plugin_toml() -> Result<Package, Failure> {
    let text = fs::read_to_string(PLUGIN_TOML);
    let text = text.map_err(|error| Failure::usage(format!("{PLUGIN_TOML}: {error}")))?;
    let found = |wanted| key(&text, "[plugin]", wanted);
    let needed = |wanted| {
        let text = format!("{PLUGIN_TOML} has no {wanted} under [plugin]");
        found(wanted).ok_or_else(|| Failure::usage(text))
    };
    let how = "kind = \"filter\" under [plugin]";
    Ok(Package {
        name: needed("name")?,
        version: needed("version")?,
        description: found("description").unwrap_or_default(),
        kind: Kind::named(found("kind").as_deref(), PLUGIN_TOML, how)?,
    })
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
    let is_here = |manifest: &str| Path::new(manifest).exists();
    let mut built = if is_here(cargo::MANIFEST) {
        cargo::build()?
    } else if is_here(npm::MANIFEST) {
        npm::build()?
    } else if is_here(pip::MANIFEST) {
        pip::build()?
    } else if is_here(go::MANIFEST) {
        go::build()?
    } else if is_here(PLUGIN_TOML) {
        clang::build()?
    } else {
        return Err(Failure::usage(
            "there is no Cargo.toml here, no package.json, no pyproject.toml and no plugin.toml; go into a plugin's folder \
             (quern plugin new NAME makes one), or name the file",
        ));
    };
    let module = read(&built.module)?;
    let component = built
        .spent
        .on("component", || component_of(&module, &cases_text));
    let component = component.map_err(|error| {
        let what = if error.code() == 4106 {
            cases.unwrap_or(here)
        } else {
            &built.module
        };
        Failure::usage(format!("Q-{} {}: {error}", error.code(), what.display()))
    })?;
    let out = out.unwrap_or_else(|| format!("{}.wasm", built.name).into());
    write(&out, &component)?;
    eprintln!(
        "{}: a component of {} bytes; {}",
        out.display(),
        thousands(component.len() as u64),
        built.spent.told()
    );
    Ok(out)
}

/// A program of an author's toolchain, and where it comes from.
struct Tool<'a> {
    program: &'a str,
    missing: &'static str,
}

impl Tool<'_> {
    /// Runs it to its end; what it prints is returned, what it says to people is shown, and `failed` is said besides if
    /// it ends badly.
    fn run(&self, args: &[&str], failed: &str) -> Result<Vec<u8>, Failure> {
        self.run_with(&[], args, failed)
    }

    /// The same, with these in its environment.
    fn run_with(
        &self,
        environment: &[(&str, &str)],
        args: &[&str],
        failed: &str,
    ) -> Result<Vec<u8>, Failure> {
        let Self { program, missing } = self;
        let mut command = Command::new(program);
        command.envs(environment.iter().copied());
        let command = command.args(args).stdin(Stdio::null());
        let child = command.stdout(Stdio::piped()).spawn();
        let child = child.map_err(|error| {
            let what = match error.kind() {
                io::ErrorKind::NotFound => format!("{program} is not installed"),
                _ => format!("{program} cannot be run: {error}"),
            };
            Failure::new(1, format!("{what}; {missing}"))
        })?;
        let output = child.wait_with_output()?;
        match output.status.success() {
            true => Ok(output.stdout),
            false => Err(Failure::new(1, failed)),
        }
    }
}

/// The value of a key of TOML that stands on a line of its own: all that manifests are read for.
fn key(text: &str, wanted_table: &str, wanted: &str) -> Option<String> {
    let mut table = "";
    text.lines().map(str::trim).find_map(|line| {
        if line.starts_with('[') {
            table = line;
        }
        let (key, value) = line.split_once('=').filter(|_| table == wanted_table)?;
        (key.trim() == wanted).then(|| unquoted(value.trim()).to_owned())
    })
}

/// What stands between quotes of either kind, if there are any.
fn unquoted(value: &str) -> &str {
    let quote = value.chars().next().filter(|it| matches!(it, '"' | '\''));
    let within = quote.and_then(|quote| value.strip_prefix(quote)?.split(quote).next());
    within.unwrap_or(value)
}

/// Whether a file is there, and made no earlier than what it is made by, if that is there.
fn is_newer(made: &str, by: &str) -> bool {
    let changed = |file: &str| fs::metadata(file).and_then(|it| it.modified()).ok();
    changed(made).is_some_and(|made| changed(by).is_none_or(|by| made >= by))
}
