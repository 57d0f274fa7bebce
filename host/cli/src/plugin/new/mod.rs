//! `quern plugin new`: a folder that builds, tests and uploads as it is. The SDK goes with it, so nothing has
//! to be published and a plugin keeps the SDK it was made with.

mod c;
mod go;
mod javascript;
mod python;
mod rust;

use std::path::{Path, PathBuf};

use clap::{Args as ClapArgs, ValueEnum};

use super::kind::Kind;
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
    #[arg(long, visible_alias = "language", value_enum, default_value_t = Language::Rust)]
    lang: Language,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Language {
    /// Needs cargo.
    Rust,
    /// JavaScript; needs Node.js and npm.
    #[value(alias = "javascript")]
    Js,
    /// Needs Python 3 with venv and pip; a component of 18 MB.
    #[value(alias = "py")]
    Python,
    /// Needs a clang that knows wasm32, or Python 3 with venv and pip.
    C,
    /// Needs Go 1.24.
    Go,
}

/// A list of name and text of files of ours, given by what comes before and after their names' stems.
macro_rules! files {
    ($(#[$about:meta])* $list:ident = $folder:literal, $end:literal, $($name:literal)*) => {
        $(#[$about])*
        pub(super) const $list: &[(&str, &str)] = &[
            $((concat!($name, $end), include_str!(concat!("../../../../../", $folder, $name, $end))),)*
        ];
    };
}
use files;

files! {
    /// The contract.
    WIT = "wit/", ".wit",
    "about" "allocation-strategy" "filter" "host" "queue-selector" "types" "worlds"
}

macro_rules! template {
    ($($name:literal)*) => {
        include_str!(concat!("../../../templates/", $($name),*))
    };
}
use template;

/// What a plugin begins with, in each language.
struct Start {
    cases: &'static str,
    rust: &'static str,
    javascript: &'static str,
    javascript_test: &'static str,
    python: &'static str,
    python_test: &'static str,
    c: &'static str,
    c_test: &'static str,
    go: &'static str,
    go_test: &'static str,
}

macro_rules! start {
    ($folder:literal) => {
        Start {
            cases: template!($folder "/cases.ndjson"),
            rust: template!($folder "/lib.rs"),
            javascript: template!($folder "/plugin.js"),
            javascript_test: template!($folder "/plugin.test.js"),
            python: template!($folder "/plugin.py"),
            python_test: template!($folder "/test_plugin.py"),
            c: template!($folder "/plugin.c"),
            c_test: template!($folder "/test_plugin.c"),
            go: template!($folder "/plugin.go"),
            go_test: template!($folder "/plugin_test.go"),
        }
    };
}

impl Kind {
    fn start(self) -> Start {
        match self {
            Self::Filter => start!("filter"),
            Self::BodyFilter => start!("body-filter"),
            Self::Selector => start!("selector"),
            Self::Allocation => start!("allocation"),
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::BodyFilter => "filter that reads bodies",
            Self::Selector => "queue selector",
            Self::Allocation => "allocation strategy",
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

/// Templates with their holes filled.
struct Filled {
    name: String,
    kind: Kind,
}

impl Filled {
    fn new(name: &str, kind: Kind) -> Self {
        Self {
            name: name.to_owned(),
            kind,
        }
    }

    fn fill(&self, template: &str) -> String {
        template
            .replace("{name}", &self.name)
            .replace("{kind}", self.kind.title())
            .replace("{code}", self.kind.name())
            .replace("{use}", &self.kind.used(&self.name))
            .replace("{cases}", self.kind.about_cases())
    }
}

/// Path and text of every file of a plugin's folder.
struct Folder(Vec<(PathBuf, String)>);

impl Folder {
    fn new<const FILES: usize>(own: [(&str, String); FILES]) -> Self {
        let own = own.into_iter().map(|(path, text)| (path.into(), text));
        Self(own.collect())
    }

    /// And these, within it.
    fn with(mut self, place: &str, files: &[(&str, &str)]) -> Self {
        let path = |name: &str| Path::new(place).join(name);
        let files = files.iter();
        let files = files.map(|(name, text)| (path(name), (*text).to_owned()));
        self.0.extend(files);
        self
    }
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let Args { name, kind, lang } = args;
    let is_letter = |it: char| it.is_ascii_alphanumeric() || it == '-' || it == '_';
    let begins = name.starts_with(|it: char| it.is_ascii_alphabetic());
    if !begins || !name.chars().all(is_letter) || name.len() > 64 || name == "quern-plugin" {
        return Err(Failure::usage(format!(
            "{name:?} can be no package; a letter, then up to 63 letters, digits, - and _"
        )));
    }
    let filled = Filled::new(name, *kind);
    let (own, program) = match lang {
        Language::Rust => (rust::folder(&filled), "cargo"),
        Language::Js => (javascript::folder(&filled), "npm"),
        Language::Python => (python::folder(&filled), "pip"),
        Language::C => (c::folder(&filled), "clang"),
        Language::Go => (go::folder(&filled), "go"),
    };
    let folder = Path::new(name);
    if folder.exists() {
        return Err(Failure::new(
            4,
            format!("{name} is there already; nothing was changed"),
        ));
    }
    // A folder of the name vendor would mean something to Go.
    let wit = match lang {
        Language::Go => "quern/wit",
        _ => "vendor/quern-plugin/wit",
    };
    for (path, text) in own.with(wit, WIT).0 {
        let path = folder.join(path);
        let failed =
            |error: std::io::Error| Failure::new(1, format!("{}: {error}", path.display()));
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        std::fs::write(&path, text).map_err(failed)?;
    }
    eprintln!(
        "a {} in {name}/, built by {program}; next: cd {name} && quern plugin test && quern plugin upload --activate",
        kind.title()
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

    fn sorted(mut names: Vec<String>) -> Vec<String> {
        names.sort();
        names
    }

    #[test]
    fn the_whole_sdk_and_the_whole_contract_go_with_a_plugin() {
        let listed = |files: &[(&str, &str)]| -> Vec<String> {
            files.iter().map(|(name, _)| (*name).to_owned()).collect()
        };
        assert_eq!(listed(rust::SDK), names("guest-sdk/src", ".rs"));
        assert_eq!(listed(javascript::SDK), names("guest-sdk/javascript", ""));
        let python = names("guest-sdk/python/quern_plugin", ".py");
        assert_eq!(listed(python::SDK), python);
        let c = [names("guest-sdk/c", ".c"), names("guest-sdk/c", ".h")];
        assert_eq!(sorted(listed(c::SDK)), sorted(c.concat()));
        assert_eq!(listed(go::SDK), names("guest-sdk/go", ".go"));
        let freestanding = names("guest-sdk/c/freestanding", "");
        assert_eq!(listed(c::FREESTANDING), freestanding);
        assert_eq!(listed(WIT), names("wit", ".wit"));
    }
}
