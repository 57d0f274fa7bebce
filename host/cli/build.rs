//! Writes the guest SDK's bindings out in full, for `quern plugin new`: so a plugin's author needs none of
//! the crates that generate them, and builds in seconds. The truth stays `guest-sdk/src/bindings.rs`, whose
//! calls of the generator are carried out here instead of in a macro.

use std::path::{Path, PathBuf};
use std::{env, fs};

use wit_bindgen_core::wit_parser::Resolve;
use wit_bindgen_core::{Files, WorldGenerator as _};
use wit_bindgen_rust::{Opts, WithOption};

const CALL: &str = "wit_bindgen::generate!({";
const CALL_ENDS: &str = "});";

fn main() {
    let here = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let sdk = here.join("../../guest-sdk/src/bindings.rs");
    let wit = here.join("../../wit");
    for watched in [&sdk, &wit, &here.join("build.rs")] {
        println!("cargo:rerun-if-changed={}", watched.display());
    }
    let source = fs::read_to_string(&sdk)
        .unwrap_or_else(|error| panic!("{} cannot be read: {error}", sdk.display()));
    let mut out = String::with_capacity(source.len() * 16);
    let mut rest = source.as_str();
    while let Some((before, call)) = rest.split_once(CALL) {
        let (call, after) = call
            .split_once(CALL_ENDS)
            .unwrap_or_else(|| panic!("a call of the generator in {} does not end", sdk.display()));
        out += before;
        out += &expand(&wit, call);
        rest = after;
    }
    out += rest;
    let path = PathBuf::from(variable("OUT_DIR")).join("bindings.rs");
    fs::write(&path, out)
        .unwrap_or_else(|error| panic!("{} cannot be written: {error}", path.display()));
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name} for build scripts"))
}

/// What the macro makes of these options, as text.
fn expand(wit: &Path, call: &str) -> String {
    let mut resolve = Resolve::default();
    resolve
        .push_dir(wit)
        .unwrap_or_else(|error| panic!("{} does not parse: {error:#}", wit.display()));
    let inline = text(call, "inline").unwrap_or_else(|| panic!("no world is named in {call}"));
    let package = resolve
        .push_str("bindings", inline)
        .unwrap_or_else(|error| panic!("{inline} does not parse: {error:#}"));
    let world = resolve
        .select_world(&[package], None)
        .unwrap_or_else(|error| panic!("{inline} is no world: {error:#}"));
    let owned = |key| text(call, key).map(str::to_owned);
    let options = Opts {
        generate_all: call.contains("generate_all,"),
        pub_export_macro: call.contains("pub_export_macro: true,"),
        export_macro_name: owned("export_macro_name"),
        default_bindings_module: owned("default_bindings_module"),
        with: with(call),
        format: true,
        ..Opts::default()
    };
    let mut files = Files::default();
    options
        .build()
        .generate(&mut resolve, world, &mut files)
        .unwrap_or_else(|error| panic!("no bindings for {inline}: {error:#}"));
    let (_, code) = files.iter().next().expect("a world has one file");
    String::from_utf8_lossy(code).into_owned()
}

/// The string that is given for an option.
fn text<'a>(call: &'a str, key: &str) -> Option<&'a str> {
    let (_, value) = call.split_once(&format!("{key}: \""))?;
    Some(value.split_once('"')?.0)
}

/// Whose bindings are elsewhere: lines `"interface": path,`.
fn with(call: &str) -> Vec<(String, WithOption)> {
    let Some((_, listed)) = call.split_once("with: {") else {
        return Vec::new();
    };
    let (listed, _) = listed.split_once('}').expect("a list of options ends");
    let one = |line: &str| {
        let (interface, path) = line.trim().trim_end_matches(',').rsplit_once(": ")?;
        let option = match path {
            "generate" => WithOption::Generate,
            path => WithOption::Path(path.to_owned()),
        };
        Some((interface.trim_matches('"').to_owned(), option))
    };
    listed.lines().filter_map(one).collect()
}
