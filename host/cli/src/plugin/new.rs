//! `quern plugin new`: a folder that builds, tests and uploads as it is. The SDK goes with it, so nothing has
//! to be published and a plugin keeps the SDK it was made with.

use std::path::{Path, PathBuf};

use clap::{Args as ClapArgs, ValueEnum};

use crate::failure::Failure;
use crate::output;

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// The plugin's name, and the folder's.
    name: String,
    /// What it decides.
    #[arg(long, value_enum, default_value_t = Kind::Filter)]
    kind: Kind,
    /// What it is written in.
    #[arg(long, value_enum, default_value_t = Language::Rust)]
    lang: Language,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// Which messages a consumer gets, by what a message says of itself.
    Filter,
    /// The same, reading bodies too.
    BodyFilter,
    /// Which queue a message goes to.
    Selector,
    /// Who of a group consumes which queue.
    Allocation,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Language {
    Rust,
}

macro_rules! sdk {
    ($($name:literal)*) => {
        /// Name and text of each file of the SDK, but for its bindings: those are generated.
        const SDK: &[(&str, &str)] = &[
            $((concat!($name, ".rs"), include_str!(concat!("../../../../guest-sdk/src/", $name, ".rs"))),)*
        ];
    };
}

sdk! {
    "about" "arena" "batch" "export" "filter" "function" "java" "lib" "needs" "panics" "refusal" "selector" "shares"
    "strategy"
}

/// `guest-sdk/src/bindings.rs` with its macros carried out; see `build.rs`.
const BINDINGS: &str = include_str!(concat!(env!("OUT_DIR"), "/bindings.rs"));

macro_rules! wit {
    ($($name:literal)*) => {
        const WIT: &[(&str, &str)] = &[
            $((concat!($name, ".wit"), include_str!(concat!("../../../../wit/", $name, ".wit"))),)*
        ];
    };
}

wit! { "about" "allocation-strategy" "filter" "host" "queue-selector" "types" "worlds" }

/// What versions the SDK is built with: the workspace says so.
const WORKSPACE: &str = include_str!("../../../../Cargo.toml");
const LOCK: &str = include_str!("../../../../Cargo.lock");
const TOOLCHAIN: &str = include_str!("../../../../rust-toolchain.toml");

macro_rules! template {
    ($name:literal) => {
        include_str!(concat!("../../templates/", $name))
    };
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::BodyFilter => "filter that reads bodies",
            Self::Selector => "queue selector",
            Self::Allocation => "allocation strategy",
        }
    }

    fn code(self) -> &'static str {
        match self {
            Self::Filter => template!("filter/lib.rs"),
            Self::BodyFilter => template!("body-filter/lib.rs"),
            Self::Selector => template!("selector/lib.rs"),
            Self::Allocation => template!("allocation/lib.rs"),
        }
    }

    fn cases(self) -> &'static str {
        match self {
            Self::Filter => template!("filter/cases.ndjson"),
            Self::BodyFilter => template!("body-filter/cases.ndjson"),
            Self::Selector => template!("selector/cases.ndjson"),
            Self::Allocation => template!("allocation/cases.ndjson"),
        }
    }

    /// How it is used once it is on the brokers.
    fn used(self, name: &str) -> String {
        match self {
            Self::Filter => format!("quern consume orders --plugin {name} --param min=100"),
            Self::BodyFilter => format!("quern consume orders --plugin {name} --param text=paid"),
            Self::Selector => format!("quern produce orders --select {name} 'hello'"),
            Self::Allocation => format!("quern consume orders --group billing --allocate {name}"),
        }
    }

    fn about_cases(self) -> &'static str {
        match self {
            Self::Filter | Self::BodyFilter => {
                "`message` is what the filter is asked about (`topic`, `tags`, `keys`, `orderKey`, `properties`, `body`), `params` \
                 what\nit is set to. Either `expect` says whether the message is let through, or `refused` why the parameters \
                 are not accepted."
            }
            Self::Selector => {
                "`message` is what shall find its queue (`sequence` counts the messages of a sender), `queues` those there are, \
                 each\n`broker/id:zone`. `expect` says which, counted from 0 in the order of brokers and ids."
            }
            Self::Allocation => {
                "`members` are those of the group, each `id:zone*weight`, `queues` what is shared out, each `broker/id:zone=owner`; \
                 zone,\nweight and today's owner may be missing. `expect` names each queue's member, counted from 0 in the order \
                 of ids, null for nobody."
            }
        }
    }
}

/// What stands behind `key = ` in a manifest of ours.
fn line<'a>(text: &'a str, key: &str) -> &'a str {
    let mut lines = text.lines();
    let found = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
    found.unwrap_or_default()
}

fn quoted<'a>(text: &'a str, key: &str) -> &'a str {
    line(text, key).trim_matches('"')
}

/// The one crate of others that the SDK uses: version and checksum, as our own lock has them.
fn runtime() -> (&'static str, &'static str) {
    let (_, package) = LOCK
        .split_once("name = \"wit-bindgen\"\n")
        .unwrap_or_default();
    (quoted(package, "version"), quoted(package, "checksum"))
}

fn sdk_manifest() -> String {
    let (version, _) = runtime();
    format!(
        "[package]\nname = \"quern-plugin\"\nversion = \"{}\"\nedition = \"{}\"\nlicense = \"{}\"\n\
         publish = false\ndescription = \"What a plugin author links\"\n\n[dependencies]\n\
         wit-bindgen = {{ version = \"={version}\", default-features = false, features = [\"realloc\"] }}\n",
        env!("CARGO_PKG_VERSION"),
        quoted(WORKSPACE, "edition"),
        quoted(WORKSPACE, "license"),
    )
}

fn lock(name: &str) -> String {
    let (version, checksum) = runtime();
    let sdk = env!("CARGO_PKG_VERSION");
    let ours = [
        format!(
            "name = \"{name}\"\nversion = \"0.1.0\"\ndependencies = [\n \"quern-plugin\",\n]\n"
        ),
        format!(
            "name = \"quern-plugin\"\nversion = \"{sdk}\"\ndependencies = [\n \"wit-bindgen\",\n]\n"
        ),
        format!(
            "name = \"wit-bindgen\"\nversion = \"{version}\"\n\
             source = \"registry+https://github.com/rust-lang/crates.io-index\"\nchecksum = \"{checksum}\"\n"
        ),
    ];
    let mut packages = ours.map(|it| format!("\n[[package]]\n{it}"));
    packages.sort();
    let head = "# This file is automatically @generated by Cargo.\n# It is not intended for manual editing.\n";
    format!("{head}version = 4\n{}", packages.concat())
}

/// Path and text of every file.
fn files(name: &str, kind: Kind) -> Vec<(PathBuf, String)> {
    let fill = |template: &str| {
        template
            .replace("{name}", name)
            .replace("{edition}", quoted(WORKSPACE, "edition"))
            .replace("{kind}", kind.name())
            .replace("{use}", &kind.used(name))
            .replace("{cases}", kind.about_cases())
    };
    let toolchain = format!(
        "[toolchain]\nchannel = {}\nprofile = \"minimal\"\ntargets = {}\n",
        line(TOOLCHAIN, "channel"),
        line(TOOLCHAIN, "targets")
    );
    let own = [
        ("Cargo.toml", fill(template!("Cargo.toml.in"))),
        ("Cargo.lock", lock(name)),
        ("README.md", fill(template!("README.md.in"))),
        ("rust-toolchain.toml", toolchain),
        (".gitignore", "/target\n/*.wasm\n".to_owned()),
        ("cases.ndjson", kind.cases().to_owned()),
        ("src/lib.rs", kind.code().to_owned()),
        ("vendor/quern-plugin/Cargo.toml", sdk_manifest()),
        ("vendor/quern-plugin/src/bindings.rs", BINDINGS.to_owned()),
    ];
    let within = |folder: &str, (name, text): &(&str, &str)| {
        let path = Path::new("vendor/quern-plugin").join(folder).join(name);
        (path, (*text).to_owned())
    };
    let own = own.into_iter().map(|(path, text)| (path.into(), text));
    own.chain(SDK.iter().map(|file| within("src", file)))
        .chain(WIT.iter().map(|file| within("wit", file)))
        .collect()
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let Args { name, kind, lang } = args;
    let Language::Rust = lang;
    let is_letter = |it: char| it.is_ascii_alphanumeric() || it == '-' || it == '_';
    let begins = name.starts_with(|it: char| it.is_ascii_alphabetic());
    if !begins || !name.chars().all(is_letter) || name.len() > 64 || name == "quern-plugin" {
        return Err(Failure::usage(format!(
            "{name:?} can be no package of Rust; a letter, then up to 63 letters, digits, - and _"
        )));
    }
    let folder = Path::new(name);
    if folder.exists() {
        return Err(Failure::new(
            4,
            format!("{name} is there already; nothing was changed"),
        ));
    }
    for (path, text) in files(name, *kind) {
        let path = folder.join(path);
        let failed =
            |error: std::io::Error| Failure::new(1, format!("{}: {error}", path.display()));
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        std::fs::write(&path, text).map_err(failed)?;
    }
    eprintln!(
        "a {} in {name}/; next: cd {name} && quern plugin test && quern plugin upload --activate",
        kind.name()
    );
    output::print(&format!("{name}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of the files of a folder of the repository, sorted.
    fn names(folder: &str, end: &str) -> Vec<String> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../..")
            .join(folder);
        let entries = std::fs::read_dir(path)
            .unwrap()
            .map(|it| it.unwrap().file_name());
        let names = entries.map(|it| it.to_string_lossy().into_owned());
        let mut names: Vec<_> = names
            .filter(|it| it.ends_with(end) && it != "bindings.rs")
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_whole_sdk_and_the_whole_contract_go_with_a_plugin() {
        let listed = |files: &[(&str, &str)]| -> Vec<String> {
            files.iter().map(|(name, _)| (*name).to_owned()).collect()
        };
        assert_eq!(listed(SDK), names("guest-sdk/src", ".rs"));
        assert_eq!(listed(WIT), names("wit", ".wit"));
    }

    #[test]
    fn what_is_taken_from_our_own_manifests_is_there() {
        for (path, text) in files("eu-filter", Kind::Filter) {
            let end = path.extension().and_then(|it| it.to_str());
            let is_made = matches!(end, Some("toml" | "lock" | "md"));
            let holes = ["\"\"", "{name}", "{kind}", "{use}", "{cases}", "{edition}"];
            let found = holes.iter().find(|hole| is_made && text.contains(**hole));
            assert_eq!(found, None, "{}: {text}", path.display());
        }
        assert!(BINDINGS.contains("fn matches") && !BINDINGS.contains("generate!({"));
        let (version, checksum) = runtime();
        assert!(line(WORKSPACE, "wit-bindgen").contains(&format!("\"{version}\"")));
        assert_eq!(checksum.len(), 64);
    }
}
