//! Builds the guests this crate ships or tests with, and makes components of them, so that a fresh
//! clone needs no extra command. They get a target directory of their own: the outer cargo holds
//! the lock of the usual one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const TARGET: &str = "wasm32-unknown-unknown";

/// The plugins we ship: folder of `filters-examples`, which is also the plugin's name, and package.
const BUILT_INS: &[(&str, &str)] = &[
    ("tag", "quern-filter-tag"),
    ("sql92", "quern-filter-sql92"),
    ("hash", "quern-selector-hash"),
    ("fifo", "quern-selector-fifo"),
    ("round-robin", "quern-selector-round-robin"),
    ("random", "quern-selector-random"),
    ("least-latency", "quern-selector-least-latency"),
    ("machine-room", "quern-selector-machine-room"),
    ("averagely", "quern-strategy-averagely"),
    ("averagely-by-circle", "quern-strategy-averagely-by-circle"),
    ("by-config", "quern-strategy-by-config"),
    ("by-machine-room", "quern-strategy-by-machine-room"),
    ("machine-room-nearby", "quern-strategy-machine-room-nearby"),
    ("consistent-hash", "quern-strategy-consistent-hash"),
    ("sticky", "quern-strategy-sticky"),
];

/// Examples for authors, which we test and do not ship: folder and package.
const EXAMPLES: &[(&str, &str)] = &[
    ("region-router", "quern-example-region-router"),
    ("percentage-rollout", "quern-example-percentage-rollout"),
    ("json-field", "quern-example-json-field"),
    ("pii-check", "quern-example-pii-check"),
    ("geo-fence", "quern-example-geo-fence"),
];

/// Guests of our tests: constant and package.
const TEST_GUESTS: &[(&str, &str)] = &[
    ("HOSTILE", "quern-hostile"),
    ("BODY_FILTER", "quern-example-json-field"),
    ("HOSTILE_SELECTOR", "quern-hostile-selector"),
    ("HOSTILE_STRATEGY", "quern-hostile-strategy"),
];

/// Settings of the outer build that must not reach the guests.
const FOREIGN: &[&str] = &[
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_TARGET",
    "CARGO_TARGET_DIR",
    "CARGO_BUILD_TARGET_DIR",
    "RUSTC",
    "RUSTDOC",
    "RUSTC_LINKER",
];

fn main() {
    let here = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let root = here.join("../..");
    for watched in [
        "wit",
        "guest-sdk",
        "filters-examples",
        "host/plugins/tests/guests",
        "host/plugins/build.rs",
        "Cargo.lock",
    ] {
        println!("cargo:rerun-if-changed={}", root.join(watched).display());
    }
    fetch_target(&root);
    let built = build(&root);
    let out = PathBuf::from(variable("OUT_DIR"));
    let component = |package: &str| {
        let module = built.join(package.replace('-', "_")).with_extension("wasm");
        let component = out.join(package).with_extension("wasm");
        write_component(&module, &component);
        format!("include_bytes!({component:?})")
    };
    let mut rust = "fn component(name: &str) -> &'static [u8] {\n    match name {\n".to_owned();
    for (name, package) in BUILT_INS {
        rust += &format!("        {name:?} => {},\n", component(package));
    }
    rust += "        _ => &[],\n    }\n}\n";
    println!("cargo:rustc-env=EXAMPLES={}", out.display());
    for (_, package) in EXAMPLES {
        component(package);
    }
    for (name, package) in TEST_GUESTS {
        rust += &format!("pub(crate) const {name}: &[u8] = {};\n", component(package));
    }
    let path = out.join("components.rs");
    fs::write(&path, rust)
        .unwrap_or_else(|error| panic!("{} cannot be written: {error}", path.display()));
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name} for build scripts"))
}

/// rustup brings what `rust-toolchain.toml` names with the toolchain itself, but adds nothing to one
/// that was there before.
fn fetch_target(root: &Path) {
    let output = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).current_dir(root).output();
        output.map(|output| (output.status.success(), output.stdout))
    };
    let Ok((true, sysroot)) = output(&variable("RUSTC"), &["--print", "sysroot"]) else {
        return;
    };
    let sysroot = PathBuf::from(String::from_utf8_lossy(&sysroot).trim());
    if !sysroot.join("lib/rustlib").join(TARGET).exists() {
        // Whatever comes of it: the guests' own build tells what is missing.
        let _ = output("rustup", &["target", "add", TARGET]);
    }
}

/// Compiles all guests in one run and says where they are.
fn build(root: &Path) -> PathBuf {
    let target = root.join("target").join("guests");
    let mut cargo = Command::new(variable("CARGO"));
    cargo
        .current_dir(root)
        .args(["build", "--release", "--locked", "--target", TARGET])
        .arg("--target-dir")
        .arg(&target)
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
        .env("CARGO_PROFILE_RELEASE_PANIC", "abort");
    let all = BUILT_INS.iter().chain(EXAMPLES).chain(TEST_GUESTS);
    for (_, package) in all {
        cargo.args(["-p", package]);
    }
    for name in FOREIGN {
        cargo.env_remove(name);
    }
    let status = cargo
        .status()
        .unwrap_or_else(|error| panic!("cargo could not be started for the guests: {error}"));
    assert!(
        status.success(),
        "the guests do not build for {TARGET}; if the target is missing: rustup target add {TARGET}"
    );
    target.join(TARGET).join("release")
}

fn write_component(module: &Path, component: &Path) {
    let bytes = fs::read(module)
        .unwrap_or_else(|error| panic!("{} is not there: {error}", module.display()));
    let encoded = wit_component::ComponentEncoder::default()
        .validate(true)
        .module(&bytes)
        .and_then(|encoder| encoder.encode())
        .unwrap_or_else(|error| panic!("{} makes no component: {error:#}", module.display()));
    fs::write(component, encoded)
        .unwrap_or_else(|error| panic!("{} cannot be written: {error}", component.display()));
}
