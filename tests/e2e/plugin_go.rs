//! An author's way in Go, as in JavaScript. Go's own toolchain is all that is needed; on a machine without, each test says
//! so and ends.

use std::process::Command;

use anyhow::{Result, ensure};
use quern_harness::{Node, World, said};

use crate::plugin_author::Author;
use crate::plugin_javascript::skip;
use crate::plugin_languages::{Misdeed, Orders, are_noticed, judges_as_all_do};
use crate::{QUERN, world_with_node};

/// Whether Go is here, and new enough to export functions.
fn has_go(test: &str) -> bool {
    let version = Command::new("go").arg("version").output();
    let version = version.map(|it| String::from_utf8_lossy(&it.stdout).into_owned());
    let version = version.unwrap_or_default();
    let minor = version
        .split("go1.")
        .nth(1)
        .and_then(|it| it.split(['.', ' ']).next());
    let is_able = minor
        .and_then(|it| it.parse::<u32>().ok())
        .is_some_and(|it| it >= 24);
    if !is_able {
        skip(test, "Go 1.24 or newer is not installed");
    }
    is_able
}

fn new(author: &Author<'_>, name: &str, kind: &str) -> Result<()> {
    author
        .ok(
            "",
            &["plugin", "new", name, "--language", "go", "--kind", kind],
        )
        .map(|_| ())
}

#[test]
fn from_an_empty_directory_to_messages_that_are_let_through() -> Result<()> {
    if !has_go("from_an_empty_directory_to_messages_that_are_let_through") {
        return Ok(());
    }
    let (world, node) = world_with_node(&[])?;
    let author = Author::new(&world)?;
    new(&author, "eu-filter", "filter")?;
    judges_as_all_do(&author, "eu-filter", &[])?;
    delivered(&world, &node, &author)
}

/// A filter that allocates so much for each message that its memory has to be swept many times.
const WASTEFUL: &str = r#"package main

import "quernplugin/quern"

var last []byte

func init() {
	quern.Export(quern.Filter{
		About: quern.About{Language: "WASTE", Reads: []string{"region", "amount:int"}},
		Compile: func(expression string, _ *quern.Params) (any, error) {
			if expression == "no" {
				var none *quern.Refusal
				return nil, none
			}
			if len(expression) > 2 {
				return nil, &quern.Refusal{Reason: "too long", At: 2, Len: 1, Help: "write two letters"}
			}
			return expression, nil
		},
		Matches: func(m *quern.Message, p *quern.Params) (bool, error) {
			for range 5 {
				last = make([]byte, 100_000)
			}
			copy(last, p.Compiled.(string))
			region, _ := m.Text("region")
			amount, has := m.Integer("amount")
			return has && amount >= 100 && region == string(last[:2]), nil
		},
	})
}

func main() {}
"#;

fn delivered(world: &World, node: &Node, author: &Author<'_>) -> Result<()> {
    let orders = Orders::send(world, node, 600)?;
    orders.upload(author, "eu-filter", &[])?;
    orders.come_by_param("eu-filter")?;
    new(author, "wasteful", "filter")?;
    let folder = author.folder.join("wasteful");
    std::fs::write(folder.join("plugin.go"), WASTEFUL)?;
    let module = std::fs::read_to_string(folder.join("go.mod"))?;
    let module = module.replacen("module quernplugin", "module \"quernplugin\" // mine", 1);
    ensure!(module.contains("// mine"), "{module}");
    std::fs::write(folder.join("go.mod"), module)?;
    std::fs::remove_file(folder.join("cases.ndjson"))?;
    orders.upload(author, "wasteful", &[])?;
    let args = ["--plugin", "wasteful", "--expression", "us"];
    orders.come(&args, |it| it == "us")?;
    let told = orders.refusal("wasteful", "eu-west")?;
    let refused = orders.refusal("wasteful", "no")?;
    ensure!(refused.contains("a *Refusal that is nil"), "{refused}");
    for text in ["too long", "\n  eu-west\n    ^\n", "write two letters"] {
        ensure!(told.contains(text), "{text}: {told}");
    }
    Ok(())
}

const MISDEEDS: [Misdeed; 8] = [
    (
        "panic",
        "panic(\"no idea\")",
        "panic: no idea (plugin.go:14)",
    ),
    (
        "index",
        "return region[len(region)] == 0, nil",
        "index out of range [5] with length 5 (plugin.go:16)",
    ),
    (
        "error",
        "return false, errors.New(\"no idea of it\")",
        "no idea of it",
    ),
    (
        "name",
        "m.Text(\"regoin\")",
        "regoin is read, and is not in Reads",
    ),
    ("wait", "<-make(chan int)", "stopped"),
    ("deep", "return deep(region) != \"\", nil", "failed"),
    (
        "hoard",
        "for { all = append(all, make([]byte, 100_000)) }",
        "failed",
    ),
    (
        "loop",
        "for { _ = region }",
        "more computing than it is allowed",
    ),
];

#[test]
fn what_it_does_is_noticed() -> Result<()> {
    if !has_go("what_it_does_is_noticed") {
        return Ok(());
    }
    let world = World::new(QUERN)?;
    let author = Author::new(&world)?;
    new(&author, "my-filter", "filter")?;
    let does = |(region, code, _): Misdeed| format!("case \"{region}\":\n{code}\n");
    let code = format!(
        "package main\nimport (\"errors\"; \"time\"; \"quernplugin/quern\")\nvar all [][]byte\n\
         func deep(of string) string {{ return deep(of + \"x\") + of }}\n\
         func accept(m *quern.Message, _ *quern.Params) (bool, error) {{\nregion, _ := m.Text(\"region\")\n\
         _ = errors.New\n_ = time.Now\nif region == \"eu\" {{ return time.Now().Unix() == 1000, nil }}\n\n\nswitch region {{\n{}}}\nreturn true, nil }}\n\
         func init() {{ quern.Export(quern.Filter{{About: quern.About{{Reads: []string{{\"region\"}}}}, Matches: accept}}) }}\n\
         func main() {{}}\n",
        MISDEEDS.map(does).concat()
    );
    let folder = author.folder.join("my-filter");
    std::fs::write(folder.join("plugin.go"), &code)?;
    are_noticed(&author, "my-filter", &MISDEEDS)?;
    for (from, to, command, exit, text) in [
        ("return true", "return tru", "build", 1, "undefined: tru"),
        (
            "quern.Filter{",
            "quern.BodyFilter{",
            "test",
            2,
            "kind is filter, and a plugin of kind body-filter is given",
        ),
        (
            ", Matches: accept",
            "",
            "test",
            2,
            "the filter has no Matches",
        ),
        (
            "{\"region\"}",
            "{\"@regoin\"}",
            "test",
            2,
            "a message has no @regoin; there are @tag",
        ),
    ] {
        std::fs::write(folder.join("plugin.go"), code.replace(from, to))?;
        author.fails("my-filter", &["plugin", command], exit, text)?;
    }
    Ok(())
}

#[test]
fn every_kind_of_plugin_begins_with_cases_it_passes() -> Result<()> {
    if !has_go("every_kind_of_plugin_begins_with_cases_it_passes") {
        return Ok(());
    }
    let world = World::new(QUERN)?;
    let author = Author::new(&world)?;
    for kind in ["filter", "body-filter", "selector", "allocation"] {
        let name = format!("my-{kind}");
        new(&author, &name, kind)?;
        let tested = author.ok(&name, &["plugin", "test"])?;
        let passed = tested.lines().filter(|line| line.starts_with("ok "));
        ensure!(passed.count() >= 5, "{kind}: {tested}");
        let mut go = Command::new("go");
        let ran = go
            .args(["test", "./..."])
            .current_dir(author.folder.join(&name))
            .output()?;
        ensure!(ran.status.success(), "{kind}: {}", said(&ran));
    }
    Ok(())
}

/// Where Go is not, the error says what is missing and where it comes from.
#[test]
fn what_is_missing_is_said() -> Result<()> {
    let world = World::new(QUERN)?;
    world.ok(&["plugin", "new", "eu-filter", "--language", "go"])?;
    let build = || {
        let mut command = world.command(&["plugin", "build"]);
        command
            .current_dir(world.path("eu-filter"))
            .env("PATH", "/nonexistent");
        Ok::<_, anyhow::Error>(said(&world.finish(command)?))
    };
    let told = build()?;
    for text in ["go is not installed", "Go 1.24", "https://go.dev/dl"] {
        ensure!(told.contains(text), "{told}");
    }
    std::fs::write(
        world.path("eu-filter/plugin.toml"),
        "[plugin]\nname = \"eu-filter\"\n",
    )?;
    let told = build()?;
    ensure!(
        told.contains("plugin.toml has no version under [plugin]"),
        "{told}"
    );
    std::fs::remove_file(world.path("eu-filter/plugin.toml"))?;
    let told = build()?;
    ensure!(told.contains("plugin.toml: "), "{told}");
    Ok(())
}
