//! Who may use whom. Guarantees: every crate of the workspace has a row or belongs to a folder with
//! a rule; a row without a crate is an error, too, so that the table stays the truth.

use serde_json::Value;

use crate::finding::{Finding, Hit};

/// What one crate of ours may name.
pub struct Row {
    pub name: &'static str,
    /// Our own crates, in code that ships (build scripts included).
    pub uses: &'static [&'static str],
    /// Our own crates that its tests may name in addition.
    pub tests_use: &'static [&'static str],
}

/// The allowed edges among our own crates.
pub const ROWS: &[Row] = &[
    Row {
        name: "quern-protocol",
        uses: &[],
        tests_use: &[],
    },
    Row {
        name: "quern-quic",
        uses: &["quern-protocol"],
        tests_use: &[],
    },
    Row {
        name: "quern-client",
        uses: &["quern-protocol", "quern-quic"],
        tests_use: &["quernstone"],
    },
    Row {
        name: "quern-store",
        uses: &["quern-protocol"],
        tests_use: &[],
    },
    Row {
        name: "quern-plugins",
        uses: &[],
        tests_use: &["quern-plugin", "quern-filter-sql92"],
    },
    Row {
        name: "quern-broker",
        uses: &[
            "quern-protocol",
            "quern-quic",
            "quern-store",
            "quern-plugins",
        ],
        tests_use: &[],
    },
    Row {
        name: "quern-nameserver",
        uses: &["quern-protocol", "quern-quic"],
        tests_use: &[],
    },
    Row {
        name: "quern-node",
        uses: &[
            "quern-protocol",
            "quern-quic",
            "quern-store",
            "quern-plugins",
            "quern-broker",
            "quern-nameserver",
        ],
        tests_use: &["quern-client"],
    },
    Row {
        name: "quernstone",
        uses: &["quern-client", "quern-node"],
        tests_use: &[],
    },
    Row {
        name: "quern",
        uses: &["quern-protocol", "quern-quic", "quern-client", "quern-node"],
        tests_use: &["quern-harness"],
    },
    Row {
        name: "quern-plugin",
        uses: &[],
        tests_use: &[],
    },
    Row {
        name: "quern-hostile",
        uses: &["quern-plugin"],
        tests_use: &[],
    },
    Row {
        name: "quern-hostile-selector",
        uses: &["quern-plugin"],
        tests_use: &[],
    },
    Row {
        name: "quern-hostile-strategy",
        uses: &["quern-plugin"],
        tests_use: &[],
    },
    Row {
        name: "quern-harness",
        uses: &["quern-protocol", "quern-client"],
        tests_use: &[],
    },
    Row {
        name: "quern-golden",
        uses: &[],
        tests_use: &["quern-protocol", "quern-store"],
    },
    Row {
        name: "quern-bench",
        uses: &["quern-protocol", "quern-store"],
        tests_use: &[],
    },
    Row {
        name: "quern-power-cut",
        uses: &["quern-store"],
        tests_use: &[],
    },
    Row {
        name: "quern-bench-plugins",
        uses: &[
            "quern-protocol",
            "quern-plugin",
            "quern-plugins",
            "quern-filter-sql92",
            "quern-store",
        ],
        tests_use: &[],
    },
    Row {
        name: "quern-yardstick",
        uses: &["quern-protocol", "quern-quic", "quern-client"],
        tests_use: &[],
    },
    Row {
        name: "quern-tidy",
        uses: &[],
        tests_use: &[],
    },
];

/// Guests are many and alike: one rule for their folder.
const GUESTS: &str = "filters-examples/";
const GUEST_USES: &[&str] = &["quern-plugin"];

/// A foreign crate, or a family of them, that only some of ours may name; tests are no exception.
pub struct Fence {
    /// The name itself, or the beginning of it before a `-`.
    pub foreign: &'static str,
    pub only: &'static [&'static str],
}

/// The heavy or dangerous dependencies and the one crate that tames each.
pub const FENCES: &[Fence] = &[
    Fence {
        foreign: "quinn",
        only: &["quern-quic"],
    },
    Fence {
        foreign: "rustls",
        only: &["quern-quic", "quern-yardstick"],
    },
    Fence {
        foreign: "rcgen",
        only: &["quern-quic", "quern-yardstick"],
    },
    Fence {
        foreign: "socket2",
        only: &["quern-quic"],
    },
    Fence {
        foreign: "wasmtime",
        only: &["quern-plugins"],
    },
    Fence {
        foreign: "cranelift",
        only: &["quern-plugins"],
    },
    Fence {
        foreign: "memmap2",
        only: &["quern-store"],
    },
    Fence {
        foreign: "anyhow",
        only: &[
            "quern",
            "quern-harness",
            "quern-golden",
            "quern-tidy",
            "quern-bench",
            "quern-bench-plugins",
            "quern-power-cut",
            "quern-yardstick",
        ],
    },
    Fence {
        foreign: "fuser",
        only: &["quern-power-cut"],
    },
];

/// Foreign crates that would give one of ours what it must not have.
const FORBIDDEN: &[(&str, &[&str])] = &[
    (
        "quern-protocol",
        &["tokio", "rustix", "libc", "tempfile", "jiff"],
    ),
    ("quern-store", &["tokio", "hyper"]),
];

/// One crate of the workspace as cargo tells it.
#[derive(Debug, Clone)]
pub struct Package {
    pub name: String,
    /// Its path from the root of the workspace.
    pub manifest: String,
    pub uses: Vec<Edge>,
}

/// A dependency a manifest names.
#[derive(Debug, Clone)]
pub struct Edge {
    pub to: String,
    pub only_tests: bool,
}

/// Reads the answer of `cargo metadata --no-deps`.
pub fn packages(metadata: &str) -> Result<Vec<Package>, String> {
    let answer: Value = serde_json::from_str(metadata).map_err(|e| e.to_string())?;
    let root = answer["workspace_root"].as_str().unwrap_or("");
    let list = answer["packages"]
        .as_array()
        .ok_or("the answer names no packages")?;
    list.iter().map(|value| package(value, root)).collect()
}

/// Names of the binaries that a plain `cargo run` has to choose from.
pub fn default_binaries(metadata: &str) -> Result<Vec<String>, String> {
    let answer: Value = serde_json::from_str(metadata).map_err(|e| e.to_string())?;
    let list = |value: &Value, what: &str| {
        let found = value.as_array().cloned();
        found.ok_or_else(|| format!("the answer names no {what}"))
    };
    let defaults = list(&answer["workspace_default_members"], "default members")?;
    let mut binaries = Vec::new();
    for package in list(&answer["packages"], "packages")? {
        if !defaults.contains(&package["id"]) {
            continue;
        }
        for target in list(&package["targets"], "targets")? {
            let kinds = list(&target["kind"], "kinds of a target")?;
            if kinds.contains(&Value::from("bin")) {
                binaries.push(target["name"].as_str().unwrap_or("").to_owned());
            }
        }
    }
    Ok(binaries)
}

fn package(value: &Value, root: &str) -> Result<Package, String> {
    let text = |v: &Value, key: &str| {
        v[key]
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| format!("`{key}` is missing in {v}"))
    };
    let uses = value["dependencies"]
        .as_array()
        .ok_or("a package without dependencies")?
        .iter()
        .map(|dep| {
            Ok(Edge {
                to: text(dep, "name")?,
                only_tests: dep["kind"].as_str() == Some("dev"),
            })
        })
        .collect::<Result<_, String>>()?;
    let manifest = text(value, "manifest_path")?.replace('\\', "/");
    let relative = manifest.strip_prefix(root).unwrap_or(&manifest);
    Ok(Package {
        name: text(value, "name")?,
        manifest: relative.trim_start_matches('/').to_owned(),
        uses,
    })
}

/// Everything the tables above forbid.
pub fn check(packages: &[Package]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in packages {
        findings.extend(own_edges(package, packages));
        findings.extend(foreign_edges(package));
    }
    for row in ROWS {
        if !packages.iter().any(|p| p.name == row.name) {
            findings.push(Finding {
                file: "tests/tidy/src/crates.rs".to_owned(),
                hit: Hit::new(0, format!("a row for `{}`, which is no crate", row.name)),
                rule: "who-uses-whom",
                fix: "remove the row",
            });
        }
    }
    findings
}

fn own_edges(package: &Package, all: &[Package]) -> Vec<Finding> {
    let row = ROWS.iter().find(|r| r.name == package.name);
    let (uses, tests_use) = match row {
        Some(row) => (row.uses, row.tests_use),
        None if package.manifest.starts_with(GUESTS) => (GUEST_USES, &[] as &[&str]),
        None => {
            return vec![finding(
                package,
                "a crate without a row".to_owned(),
                "add a row to tests/tidy/src/crates.rs, and the crate to docs/architecture.md",
            )];
        }
    };
    package
        .uses
        .iter()
        .filter(|edge| all.iter().any(|p| p.name == edge.to))
        .filter(|edge| {
            let to = edge.to.as_str();
            !(uses.contains(&to) || (edge.only_tests && tests_use.contains(&to)))
        })
        .map(|edge| {
            finding(
                package,
                format!("`{}` must not use `{}`", package.name, edge.to),
                "move the code to the room it belongs in (docs/architecture.md, who may use whom)",
            )
        })
        .collect()
}

fn foreign_edges(package: &Package) -> Vec<Finding> {
    let name = package.name.as_str();
    let mut findings = Vec::new();
    for edge in &package.uses {
        let family = |foreign: &str| {
            edge.to == foreign
                || edge
                    .to
                    .strip_prefix(foreign)
                    .is_some_and(|rest| rest.starts_with('-'))
        };
        let fence = FENCES
            .iter()
            .find(|f| family(f.foreign) && !f.only.contains(&name));
        if let Some(fence) = fence {
            findings.push(finding(
                package,
                format!(
                    "`{name}` names `{}`; only {} may",
                    edge.to,
                    fence.only.join(", ")
                ),
                "go through the crate that fences it off",
            ));
        }
        let forbidden = FORBIDDEN
            .iter()
            .any(|(ours, foreign)| *ours == name && foreign.contains(&edge.to.as_str()));
        if forbidden && !edge.only_tests {
            findings.push(finding(
                package,
                format!("`{name}` names `{}`", edge.to),
                "keep sockets, clocks and runtimes out: pass what it needs as a value",
            ));
        }
    }
    findings
}

fn finding(package: &Package, what: String, fix: &'static str) -> Finding {
    Finding {
        file: package.manifest.clone(),
        hit: Hit::new(0, what),
        rule: "who-uses-whom",
        fix,
    }
}
