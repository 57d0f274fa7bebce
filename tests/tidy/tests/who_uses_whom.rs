//! The layers of the architecture, checked over what cargo says the manifests ask for.

use std::process::Command;

use quern_tidy::crates::{Edge, Package, ROWS, check, default_binaries, packages};
use quern_tidy::finding::expect_none;

fn metadata() -> String {
    let out = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        // In a member's folder that member would be the only default one.
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .output()
        .expect("cargo started this test, so it can be started");
    assert!(
        out.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn workspace() -> Vec<Package> {
    packages(&metadata()).expect("cargo answers in its own format")
}

/// README's first command names no binary.
#[test]
fn cargo_run_has_one_binary_to_choose_from() {
    let binaries = default_binaries(&metadata()).expect("cargo answers in its own format");
    assert_eq!(binaries, ["quern"]);
}

#[test]
fn every_crate_uses_only_whom_it_may() {
    let packages = workspace();
    assert!(packages.len() >= ROWS.len());
    expect_none(&check(&packages));
}

/// The table itself is tested by adding one wrong edge at a time to the real workspace.
#[test]
fn a_wrong_edge_is_caught() {
    let wrong = [
        ("quern-protocol", "quern-quic", false),
        ("quern-protocol", "tokio", false),
        ("quern-store", "quern-plugins", false),
        ("quern-store", "tokio", false),
        ("quern-plugins", "quern-broker", true),
        ("quern-client", "quern-broker", true),
        ("quern", "quern-broker", false),
        ("quern", "quern-store", true),
        ("quern-broker", "quern-nameserver", false),
        ("quern-broker", "quern-harness", false),
        ("quern", "quern-harness", false),
        ("quern-broker", "quinn", false),
        ("quern-client", "rustls-pki-types", true),
        ("quern-broker", "wasmtime", true),
        ("quern-broker", "wasmtime-environ", false),
        ("quern-broker", "memmap2", false),
        ("quern-broker", "anyhow", false),
        ("quern-filter-tag", "quern-protocol", false),
    ];
    let real = workspace();
    let before = check(&real).len();
    for (from, to, only_tests) in wrong {
        let mut changed = real.clone();
        let package = changed
            .iter_mut()
            .find(|p| p.name == from)
            .unwrap_or_else(|| panic!("no crate {from}"));
        package.uses.push(Edge {
            to: to.to_owned(),
            only_tests,
        });
        assert!(check(&changed).len() > before, "{from} -> {to} passed");
    }
}

#[test]
fn a_crate_without_a_row_and_a_row_without_a_crate_are_caught() {
    let mut changed = workspace();
    let before = check(&changed).len();
    changed.push(Package {
        name: "quern-attic".to_owned(),
        manifest: "host/attic/Cargo.toml".to_owned(),
        uses: Vec::new(),
    });
    assert_eq!(check(&changed).len(), before + 1);
    changed.retain(|p| p.name != "quern-golden" && p.name != "quern-attic");
    assert_eq!(check(&changed).len(), before + 1);
}

#[test]
fn an_answer_that_is_no_metadata_is_an_error() {
    for answer in ["", "{}", "{\"packages\": [{}]}"] {
        assert!(packages(answer).is_err(), "{answer:?} was taken");
    }
}
