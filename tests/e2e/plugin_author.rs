//! An author's way from an empty directory to a message that is let through. Cargo runs without a network: what
//! a plugin links is in the SDK that `quern plugin new` writes, but for one crate that building this workspace
//! has fetched.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use quern_harness::{World, said};

use crate::{QUERN, world_with_node};

/// A build fetches, compiles and tries, on machines that do much else.
const PATIENCE: Duration = Duration::from_secs(900);

/// Where cargo, rustup and npm keep what they have.
fn kept(variable: &str, folder: &str) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Ok(path.into());
    }
    let home = std::env::home_dir().context("whoever builds has a home")?;
    Ok(home.join(folder))
}

/// Somebody who has `quern` and cargo, and perhaps npm.
pub(crate) struct Author<'a> {
    world: &'a World,
    pub(crate) folder: PathBuf,
}

impl<'a> Author<'a> {
    pub(crate) fn new(world: &'a World) -> Result<Self> {
        let folder = world.path("plugins");
        std::fs::create_dir(&folder)?;
        Ok(Self { world, folder })
    }

    fn command(&self, folder: &str, args: &[&str]) -> Result<Command> {
        let mut command = self.world.command(args);
        // How this machine reaches registries.
        let reaches = |name: &str| {
            let name = name.to_ascii_lowercase();
            let begins = ["npm_config_", "pip_", "node_extra_ca"];
            name.ends_with("_proxy") || begins.iter().any(|it| name.starts_with(it))
        };
        let settings = std::env::vars().filter(|(name, _)| reaches(name));
        command
            .envs(settings)
            .env("NPM_CONFIG_CACHE", kept("NPM_CONFIG_CACHE", ".npm")?)
            .env(
                "NPM_CONFIG_USERCONFIG",
                kept("NPM_CONFIG_USERCONFIG", ".npmrc")?,
            )
            .current_dir(self.folder.join(folder))
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("CARGO_HOME", kept("CARGO_HOME", ".cargo")?)
            .env("RUSTUP_HOME", kept("RUSTUP_HOME", ".rustup")?)
            .env("CARGO_NET_OFFLINE", "true")
            .env("GOCACHE", kept("GOCACHE", ".cache/go-build")?)
            // What all plugins link is built once.
            .env("CARGO_TARGET_DIR", self.folder.join("target"));
        Ok(command)
    }

    /// What a command makes of the folder.
    pub(crate) fn run(&self, folder: &str, args: &[&str]) -> Result<Output> {
        let command = self.command(folder, args)?;
        self.world.finish_within(command, PATIENCE)
    }

    pub(crate) fn ok(&self, folder: &str, args: &[&str]) -> Result<String> {
        let output = self.run(folder, args)?;
        ensure!(output.status.success(), "quern {args:?}: {}", said(&output));
        Ok(String::from_utf8(output.stdout)?)
    }

    pub(crate) fn fails(&self, folder: &str, args: &[&str], exit: i32, text: &str) -> Result<()> {
        let output = self.run(folder, args)?;
        let told = said(&output);
        ensure!(
            output.status.code() == Some(exit) && told.contains(text),
            "quern {args:?} should exit with {exit} and say {text}: {told}"
        );
        Ok(())
    }
}

#[test]
fn from_an_empty_directory_to_messages_that_are_let_through() -> Result<()> {
    let (world, node) = world_with_node(&[])?;
    let author = Author::new(&world)?;
    let at = ["--namesrv", node.namesrv.as_str()];
    author.ok("", &["plugin", "new", "eu-filter"])?;
    let there = ["plugin", "new", "eu-filter"];
    author.fails("", &there, 4, "is there already")?;
    author.fails("", &["plugin", "build"], 2, "there is no Cargo.toml here")?;
    let built = author.ok("eu-filter", &["plugin", "build"])?;
    ensure!(built == "eu-filter.wasm\n", "{built}");
    let tested = author.ok("eu-filter", &["plugin", "test", "-o", "json"])?;
    let tested: Vec<serde_json::Value> = serde_json::from_str(&tested)?;
    let is_whole = |row: &serde_json::Value| {
        let refused = row["said"]
            .as_str()
            .is_some_and(|it| it.starts_with("refused"));
        let ns = row["ns"].as_u64().is_some_and(|it| it > 0);
        row["passed"] == true && (refused || (ns && row["fuel"].as_u64().is_some_and(|it| it > 0)))
    };
    ensure!(
        tested.len() == 6 && tested.iter().all(is_whole),
        "{tested:?}"
    );

    world.ok(&["topic", "create", "orders", at[0], at[1]])?;
    let regions = ["eu", "us"];
    let line = |n: usize| {
        let properties = format!("{{\"region\":\"{}\",\"amount\":\"{n}\"}}", regions[n % 2]);
        format!("{{\"body\":\"{n}\",\"properties\":{properties}}}\n")
    };
    let lines: String = (0..300).map(line).collect();
    let produce = ["produce", "orders", "--ndjson", "-", at[0], at[1]];
    world.ok_with_input(&produce, lines.as_bytes())?;
    author.ok(
        "eu-filter",
        &["plugin", "upload", "--activate", at[0], at[1]],
    )?;
    for (params, wanted) in [
        (&["min=250"][..], 250..300),
        (&["min=290", "from=us"], 291..300),
        (&[], 100..300),
    ] {
        let params: Vec<_> = params.iter().flat_map(|it| ["--param", *it]).collect();
        let consume = ["consume", "orders", "--plugin", "eu-filter", at[0], at[1]];
        let printed = world.ok(&[&consume, &params[..]].concat())?;
        let mut found: Vec<usize> = printed.lines().map(str::parse).collect::<Result<_, _>>()?;
        found.sort_unstable();
        let wanted: Vec<usize> = wanted.step_by(2).collect();
        ensure!(found == wanted, "{params:?}: {found:?}");
    }
    let tried = author.ok("eu-filter", &["plugin", "try", "orders", at[0], at[1]])?;
    ensure!(tried.lines().count() == 100, "{tried}");
    is_noticed(&author)
}

/// What an author gets wrong, and what a message costs.
fn is_noticed(author: &Author<'_>) -> Result<()> {
    let sql = "region = 'eu' AND amount >= 100";
    let bench = ["plugin", "bench", "--sql", sql, "-o", "json"];
    let rows: Vec<serde_json::Value> = serde_json::from_str(&author.ok("eu-filter", &bench)?)?;
    let batches: Vec<_> = rows.iter().map(|row| row["batch"].as_u64()).collect();
    ensure!(batches == [Some(1), Some(32), Some(256)], "{rows:?}");
    for figure in ["ns", "fuel", "sql92_ns"] {
        let is_there = |row: &serde_json::Value| row[figure].as_f64().is_some_and(|it| it > 0.0);
        ensure!(rows.iter().all(is_there), "{figure}: {rows:?}");
    }
    let folder = author.folder.join("eu-filter");
    let cases = std::fs::read_to_string(folder.join("cases.ndjson"))?;
    let wrong = cases.replacen("\"expect\": true", "\"expect\": false", 1);
    std::fs::write(folder.join("cases.ndjson"), wrong)?;
    author.fails("eu-filter", &["plugin", "test"], 9, "true, expected false")?;
    std::fs::write(folder.join("cases.ndjson"), "{\"expect\": 1.5}\n")?;
    author.fails("eu-filter", &["plugin", "test"], 2, "cases.ndjson")?;
    let code = std::fs::read_to_string(folder.join("src/lib.rs"))?;
    let wrong = code.replace("region: text", "region: colour");
    std::fs::write(folder.join("src/lib.rs"), wrong)?;
    let what = "a filter reads text, integer";
    author.fails("eu-filter", &["plugin", "build"], 1, what)?;
    author.fails("", &["plugin", "new", "1st"], 2, "can be no package")?;
    Ok(())
}

#[test]
fn every_kind_of_plugin_begins_with_cases_it_passes() -> Result<()> {
    let world = World::new(QUERN)?;
    let author = Author::new(&world)?;
    for kind in ["filter", "body-filter", "selector", "allocation"] {
        let name = format!("my-{kind}");
        author.ok("", &["plugin", "new", &name, "--kind", kind])?;
        let tested = author.ok(&name, &["plugin", "test"])?;
        let passed = tested.lines().filter(|line| line.starts_with("ok "));
        ensure!(passed.count() >= 5, "{kind}: {tested}");
        let bench = author.ok(&name, &["plugin", "bench", "-o", "ndjson"])?;
        let batches = if kind == "allocation" { 1 } else { 3 };
        ensure!(bench.lines().count() == batches, "{kind}: {bench}");
    }
    Ok(())
}
