//! An author's way in JavaScript, from an empty directory to messages that are let through, and that languages do not
//! differ. Node.js and npm make the components, and npm's registry has what they need: on a machine without, each test
//! says so and ends. What a broker makes of such a component is tested everywhere, with one that is in
//! `tests/golden/plugins/javascript`.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use quern_harness::{Node, World, said};

use crate::plugin_author::Author;
use crate::plugin_languages::{CASES, Misdeed, OWN_CASES, are_noticed};
use crate::{QUERN, world_with_node};

/// What npm says when it is the network that fails.
const UNREACHABLE: [&str; 8] = [
    "ENOTFOUND",
    "EAI_AGAIN",
    "ECONNREFUSED",
    "ECONNRESET",
    "ETIMEDOUT",
    "ENETUNREACH",
    "EHOSTUNREACH",
    "ENOTCACHED",
];

/// Printed whether the test passes or not.
pub(crate) fn skip(test: &str, why: &str) {
    // Nobody to tell is fine.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}

pub(crate) fn runs(program: &str) -> bool {
    let mut command = Command::new(program);
    let command = command.arg("--version").stdin(Stdio::null());
    command.output().is_ok_and(|it| it.status.success())
}

/// A new plugin whose first build has fetched what it needs; `false` = this machine cannot build one.
fn begin(author: &Author<'_>, test: &str, name: &str, kind: &str) -> Result<bool> {
    if !runs("node") || !runs("npm") {
        skip(test, "Node.js and npm are not installed");
        return Ok(false);
    }
    let new = ["plugin", "new", name, "--language", "js", "--kind", kind];
    author.ok("", &new)?;
    let built = author.run(name, &["plugin", "build"])?;
    let told = said(&built);
    if !built.status.success() && UNREACHABLE.iter().any(|it| told.contains(it)) {
        skip(test, "npm does not reach its registry");
        return Ok(false);
    }
    ensure!(built.status.success(), "{told}");
    ensure!(told.contains("npm ci ") && told.contains("componentize-qjs "));
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
    languages_judge_alike(&author)?;
    delivered(&world, &node, &author)?;
    what_it_does_is_noticed(&author)?;
    what_is_none_is_noticed(&author)
}

/// Values of every width in one batch, so that where one ends decides where the next begins.
fn delivered(world: &World, node: &Node, author: &Author<'_>) -> Result<()> {
    let at = ["--namesrv", node.namesrv.as_str()];
    world.ok(&["topic", "create", "orders", at[0], at[1]])?;
    let regions = ["eu", "us", "eu😀", "日本", "Île", ""];
    let region = |n: usize| regions[n % regions.len()];
    let line = |n: usize| {
        let properties = serde_json::json!({"region": region(n), "amount": n.to_string()});
        let amount = if n.is_multiple_of(7) {
            "none"
        } else {
            "amount"
        };
        let properties = properties.to_string().replace("amount", amount);
        format!("{{\"body\":\"{n}\",\"properties\":{properties}}}\n")
    };
    let lines: String = (0..600).map(line).collect();
    let produce = ["produce", "orders", "--ndjson", "-", at[0], at[1]];
    world.ok_with_input(&produce, lines.as_bytes())?;
    let upload = ["plugin", "upload", "--activate", at[0], at[1]];
    author.ok("eu-filter", &upload)?;
    for (from, min) in [
        ("eu", 100),
        ("eu😀", 1),
        ("日本", 590),
        ("Île", 0),
        ("de", 0),
    ] {
        let params = [format!("from={from}"), format!("min={min}")];
        let params = ["--param", params[0].as_str(), "--param", params[1].as_str()];
        let consume = ["consume", "orders", "--plugin", "eu-filter", at[0], at[1]];
        let printed = world.ok(&[&consume[..], &params[..]].concat())?;
        let mut found: Vec<usize> = printed.lines().map(str::parse).collect::<Result<_, _>>()?;
        found.sort_unstable();
        let is_wanted = |n: &usize| region(*n) == from && *n >= min && !n.is_multiple_of(7);
        let wanted: Vec<usize> = (0..600).filter(is_wanted).collect();
        ensure!(found == wanted, "{from} {min}: {found:?}");
    }
    Ok(())
}

const MISDEEDS: [Misdeed; 6] = [
    ("type", "return m.region.nothing.at.all", "TypeError"),
    ("clock", "return Date.now() > 0", "a plugin has no clock"),
    (
        "chance",
        "return Math.random() < 2",
        "a plugin has no randomness",
    ),
    ("deep", "return ((f) => f(f))((f) => f(f) + 1)", "failed"),
    (
        "hoard",
        "for (const all = []; ; ) all.push({ m })",
        "failed",
    ),
    ("loop", "for (;;);", "more computing than it is allowed"),
];

fn what_it_does_is_noticed(author: &Author<'_>) -> Result<()> {
    let does = |(region, code, _): Misdeed| format!("case '{region}': {code};");
    let code = format!(
        "import {{ filter }} from 'quern-plugin';\nexport default filter({{ reads: ['region'], accept: (m) => {{\n\
         switch (m.region) {{ {} }} return true; }} }});\n",
        MISDEEDS.map(does).concat()
    );
    std::fs::write(author.folder.join("eu-filter/src/plugin.js"), code)?;
    are_noticed(author, "eu-filter", &MISDEEDS)
}

/// What is no plugin is told when it is built.
fn what_is_none_is_noticed(author: &Author<'_>) -> Result<()> {
    let folder = author.folder.join("eu-filter");
    for (code, text) in [
        ("export default 7 +;", "is no plugin, see above"),
        (
            "export const filter = 7;",
            "has no plugin as its default export",
        ),
        (
            "import { selector } from 'quern-plugin'; export default selector({ select: () => 0 });",
            "package.json says quern.kind is filter",
        ),
    ] {
        std::fs::write(folder.join("src/plugin.js"), code)?;
        author.fails("eu-filter", &["plugin", "build"], 1, text)?;
    }
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
        let tested = author.ok(&name, &["plugin", "test"])?;
        let passed = tested.lines().filter(|line| line.starts_with("ok "));
        ensure!(passed.count() >= 5, "{kind}: {tested}");
    }
    Ok(())
}

/// One file of cases, once as it is and once with an emoji behind every value that is no number.
fn languages_judge_alike(author: &Author<'_>) -> Result<()> {
    author.ok("", &["plugin", "new", "in-rust"])?;
    author.ok("in-rust", &["plugin", "build"])?;
    let emoji: String = CASES.lines().map(with_emoji).collect::<Result<_>>()?;
    ensure!(emoji.matches('🦀').count() > 30, "{emoji}");
    let file = author.folder.join("languages.ndjson");
    std::fs::write(&file, format!("{CASES}{emoji}"))?;
    let cases = file.to_string_lossy();
    for name in ["in-rust", "eu-filter"] {
        let component = format!("{name}.wasm");
        let args = [
            "plugin", "test", &component, "--cases", &cases, "-o", "json",
        ];
        let rows: Vec<serde_json::Value> = serde_json::from_str(&author.ok(name, &args)?)?;
        ensure!(
            rows.len() == OWN_CASES + 2 * CASES.lines().count(),
            "{rows:?}"
        );
        let failed: Vec<_> = rows.iter().filter(|row| row["passed"] != true).collect();
        ensure!(failed.is_empty(), "{name}: {failed:?}");
    }
    Ok(())
}

/// A case with an emoji behind each text; what was expected still is.
fn with_emoji(line: &str) -> Result<String> {
    let mut case: serde_json::Value = serde_json::from_str(line)?;
    let texts = [("/message/properties", "region"), ("/params", "from")];
    if case.get("refused").is_none() && case["message"]["properties"]["region"] != "" {
        // What is set by default has to be said, to be set to something else.
        let from = case["params"]["from"].as_str().unwrap_or("eu").to_owned();
        case["params"]["from"] = from.into();
        for (place, name) in texts {
            let value = case.pointer_mut(place).and_then(|it| it.get_mut(name));
            if let Some(value) = value {
                *value = format!("{}🦀", value.as_str().unwrap_or_default()).into();
            }
        }
    }
    Ok(format!("{case}\n"))
}

/// Where npm is not, the error says what is missing and where it comes from.
#[test]
fn what_is_missing_is_said() -> Result<()> {
    let world = World::new(QUERN)?;
    let new = ["plugin", "new", "eu-filter", "--language", "js"];
    world.ok(&new)?;
    let mut command = world.command(&["plugin", "build"]);
    command
        .current_dir(world.path("eu-filter"))
        .env("PATH", Path::new("/nonexistent"));
    let told = said(&world.finish(command)?);
    for text in ["npm is not installed", "Node.js 18", "https://nodejs.org"] {
        ensure!(told.contains(text), "{told}");
    }
    std::fs::remove_file(world.path("eu-filter/package-lock.json"))?;
    std::fs::write(world.path("eu-filter/package.json"), "{}")?;
    let mut command = world.command(&["plugin", "build"]);
    command.current_dir(world.path("eu-filter"));
    let told = said(&world.finish(command)?);
    ensure!(told.contains("package.json: missing field"), "{told}");
    Ok(())
}
