//! The papers against the tree as it is: commands, paths, codes, tables. Each rule is also shown a
//! text it must catch, so that none passes for want of looking.

use quern_tidy::finding::{Finding, expect_none};
use quern_tidy::lexer::RustText;
use quern_tidy::papers::{
    Guest, Known, ci_entry, compatibility, counts, decisions, documented_paths, error_codes, links,
    machine_paths, mentioned_codes, readme_commands, required, tested_guests,
};
use quern_tidy::tree::Tree;

const README: &str = "README.md";
const ARCHITECTURE: &str = "docs/architecture.md";
const CODES: &str = "transport/protocol/src/error.rs";
/// Papers that everybody who finds the project looks for.
const PAPERS: &[&str] = &[
    README,
    ARCHITECTURE,
    "docs/compatibility.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "LICENSE",
    "NOTICE",
    "deny.toml",
    ".ci/run",
];

fn tree() -> Tree {
    Tree::open().expect("the repository this test stands in can be read")
}

/// Runs a check over a paper that must exist.
fn with_paper(path: &str, check: impl Fn(&str) -> Vec<Finding>) {
    let tree = tree();
    match required(path, tree.text(path)) {
        Ok(text) => expect_none(&check(text)),
        Err(missing) => expect_none(&[missing]),
    }
}

/// The rule finds something in `text`, and says so with `word`.
#[track_caller]
fn caught(findings: Vec<Finding>, word: &str) {
    let shown: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(
        shown.iter().any(|f| f.contains(word)),
        "no finding about `{word}` in {shown:?}"
    );
}

#[test]
fn the_papers_are_there() {
    let tree = tree();
    let missing: Vec<Finding> = PAPERS
        .iter()
        .filter_map(|path| required(path, tree.text(path)).err())
        .collect();
    expect_none(&missing);
    caught(vec![required("X", None).unwrap_err()], "missing");
}

#[test]
fn the_readme_begins_with_the_two_commands() {
    with_paper(README, readme_commands);
    let good = "# Q\n```text\ntree\n```\n```console\n$ git clone x\n$ cargo run --release -- demo  # real\n```\n```sh\n# all\ncargo test\n```\n";
    expect_none(&readme_commands(good));
    caught(readme_commands("# Q\n"), "command 1");
    caught(readme_commands(&good.replace("demo", "start")), "command 1");
    caught(
        readme_commands(&good.replace("cargo test", "make")),
        "command 2",
    );
}

#[test]
fn the_ci_entry_runs_what_a_person_runs() {
    with_paper(".ci/run", ci_entry);
    let good = "#!/usr/bin/env bash\nset -euo pipefail\ncargo fmt --all --check\ncargo clippy -- -D warnings\ncargo test\n";
    expect_none(&ci_entry(good));
    caught(ci_entry(&good.replace("set -euo", "set -eu")), "begin");
    caught(ci_entry(&good.replace("--all ", "")), "fmt");
    caught(ci_entry(&good.replace(" -D warnings", "")), "clippy");
    caught(ci_entry(&format!("{good}echo done\n")), "end");
    caught(
        ci_entry(&good.replace("cargo test", "cargo test || true")),
        "end",
    );
}

#[cfg(unix)]
#[test]
fn the_ci_entry_can_be_executed() {
    use std::os::unix::fs::PermissionsExt;
    let file = tree().root.join(".ci/run");
    let mode = file.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o111, 0o111, "chmod +x .ci/run");
}

#[test]
fn documented_paths_exist() {
    let tree = tree();
    let files: Vec<String> = tree.files.iter().map(|f| f.path.clone()).collect();
    let exists = |path: &str| tree.exists(path);
    let known = Known {
        files: &files,
        exists: &exists,
    };
    let mut findings = Vec::new();
    for path in [README, ARCHITECTURE, "CONTRIBUTING.md"] {
        match required(path, tree.text(path)) {
            Ok(text) => findings.extend(documented_paths(path, text, &known)),
            Err(missing) => findings.push(missing),
        }
    }
    expect_none(&findings);

    let bad = [
        "`host/attic/`",
        "`host/store/src/attic.rs`",
        "`store/attic.rs`",
        "`docs/{compatibility,attic}.md`",
    ];
    for text in bad {
        caught(documented_paths("x.md", text, &known), "attic");
    }
    let good = "`tests/tidy/`, `tidy/lexer.rs`, `tidy/src/lexer.rs`, `transport/{protocol,quic}`, \
                `and/or`, `target/debug/quern`, `text/plain`\n```\nhost/attic/x.rs `host/attic`\n```\n";
    expect_none(&documented_paths("x.md", good, &known));
}

#[test]
fn links_lead_somewhere() {
    let tree = tree();
    let exists = |path: &str| tree.exists(path);
    let mut findings = Vec::new();
    for file in tree.files.iter().filter(|f| f.path.ends_with(".md")) {
        findings.extend(links(&file.path, &file.text, &exists));
    }
    expect_none(&findings);
    caught(links("docs/a.md", "[x](attic.md)", &exists), "attic.md");
    caught(links("a.md", "[x](../out.md)", &exists), "out.md");
    expect_none(&links(
        "docs/a.md",
        "[x](../Cargo.toml#L1) [y](https://example.org/a) [z](#here)",
        &exists,
    ));
}

#[test]
fn no_text_names_a_path_of_one_machine() {
    let mut findings = Vec::new();
    for file in &tree().files {
        findings.extend(machine_paths(&file.path, &file.text));
    }
    expect_none(&findings);
    let folder = "work";
    caught(
        machine_paths("a.md", &format!("see /{folder}/x")),
        "absolute",
    );
    caught(
        machine_paths("a.md", &format!("\"/{folder}/x\"")),
        "absolute",
    );
    expect_none(&machine_paths(
        "a.md",
        &format!("host/{folder}/x ~/{folder}/x"),
    ));
}

#[test]
fn error_codes_are_unique_and_ordered() {
    with_paper(CODES, error_codes);
    let table = |lines: &str| error_codes(&format!("codes! {{\n{lines}\n}}"));
    expect_none(&table("1001 A Never\n \"2000 X\"\n2001 B Here"));
    caught(table(""), "no line");
    caught(table("1001 A Never\n1001 B Here"), "does not follow");
    caught(table("1002 A Never\n1001 B Here"), "does not follow");
    caught(table("1001 A Never\n1002 A Here"), "twice");
    caught(table("4600 A Never"), "no block");
}

#[test]
fn papers_mention_codes_that_exist() {
    let tree = tree();
    let Some(codes) = tree.text(CODES) else {
        panic!("{CODES} is missing");
    };
    let mut findings = Vec::new();
    for file in tree.files.iter().filter(|f| f.path.ends_with(".md")) {
        findings.extend(mentioned_codes(&file.path, &file.text, codes));
    }
    expect_none(&findings);
    let table = "2001 NOT_FOUND Never";
    caught(mentioned_codes("a.md", "see Q-2002", table), "Q-2002");
    expect_none(&mentioned_codes("a.md", "see Q-2001, Q-nnnn", table));
}

#[test]
fn every_guest_is_named_by_a_test() {
    let tree = tree();
    let guests: Vec<Guest> = tree
        .files
        .iter()
        .filter_map(|f| {
            let folder = f.path.strip_suffix("/Cargo.toml")?;
            let ours = folder.starts_with("filters-examples/");
            let name = f.text.lines().find_map(|l| l.strip_prefix("name = \""))?;
            ours.then(|| Guest {
                folder: folder.to_owned(),
                package: name.trim_end_matches('"').to_owned(),
            })
        })
        .collect();
    assert!(!guests.is_empty(), "no guest in filters-examples/");
    expect_none(&tested_guests(&guests, &tree.rust()));

    let guest = [Guest {
        folder: "filters-examples/x".to_owned(),
        package: "quern-filter-x".to_owned(),
    }];
    let only_built = RustText::new(
        "host/plugins/src/a.rs",
        "const A: &str = \"quern-filter-x\";",
    );
    caught(tested_guests(&guest, &[only_built]), "quern-filter-x");
    let tested = RustText::new("host/plugins/tests/a.rs", "load(\"quern_filter_x\")");
    expect_none(&tested_guests(&guest, &[tested]));
}

#[test]
fn the_compatibility_table_is_valid() {
    with_paper("docs/compatibility.md", compatibility);
    let good = "works 1 · improved 1 · planned 1 · not applicable 0\n| id | feature | status | notes |\n|---|---|---|---|\n\
                | AA-01 | a | works | - |\n| AA-02 | b | improved because it is typed now | - |\n| BB-01 | c | planned | - |\n";
    expect_none(&compatibility(good));
    assert_eq!((counts(good).works, counts(good).improved), (1, 1));
    caught(compatibility("no table"), "no row");
    caught(
        compatibility(&good.replace("planned | -", "soon | -")),
        "status",
    );
    caught(
        compatibility(&good.replace("because it is typed now", "")),
        "status",
    );
    caught(compatibility(&good.replace("AA-02", "AA-01")), "twice");
    caught(compatibility(&good.replace("AA-02", "AA-00")), "order");
    caught(compatibility(&good.replace("BB-01", "b1")), "no id");
    caught(
        compatibility(&good.replace("| c | planned", "| planned")),
        "cells",
    );
    caught(
        compatibility(&good.replace("works 1 ", "works 9 ")),
        "counts",
    );
}

#[test]
fn decisions_are_numbered_and_complete() {
    let tree = tree();
    let papers: Vec<(&str, &str)> = tree
        .files
        .iter()
        .filter(|f| f.path.starts_with("docs/decisions/"))
        .map(|f| (f.path.as_str(), f.text.as_str()))
        .collect();
    assert!(!papers.is_empty(), "docs/decisions is empty");
    expect_none(&decisions(&papers));
    let whole = "# A\nStatus: accepted\n## Context\n## Decision\n## Consequences\n";
    expect_none(&decisions(&[("docs/decisions/0001-a.md", whole)]));
    caught(decisions(&[("docs/decisions/0002-a.md", whole)]), "0001");
    caught(
        decisions(&[(
            "docs/decisions/0001-a.md",
            &whole.replace("## Dec", "# Dec"),
        )]),
        "Decision",
    );
}
