//! `quern plugin new`: a folder that builds, tests and uploads as it is. The SDK goes with it, so nothing has
//! to be published and a plugin keeps the SDK it was made with.

mod javascript;
mod python;
mod rust;

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
    #[arg(long, visible_alias = "language", value_enum, default_value_t = Language::Rust)]
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
    /// Needs cargo.
    Rust,
    /// JavaScript; needs Node.js and npm.
    #[value(alias = "javascript")]
    Js,
    /// Needs Python 3 with venv and pip; a component of 18 MB.
    #[value(alias = "py")]
    Python,
}

macro_rules! wit {
    ($($name:literal)*) => {
        const WIT: &[(&str, &str)] = &[
            $((concat!($name, ".wit"), include_str!(concat!("../../../../../wit/", $name, ".wit"))),)*
        ];
    };
}

wit! { "about" "allocation-strategy" "filter" "host" "queue-selector" "types" "worlds" }

macro_rules! template {
    ($name:literal) => {
        include_str!(concat!("../../../templates/", $name))
    };
}
use template;

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::BodyFilter => "filter that reads bodies",
            Self::Selector => "queue selector",
            Self::Allocation => "allocation strategy",
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
            .replace("{kind}", self.kind.name())
            .replace("{use}", &self.kind.used(&self.name))
            .replace("{cases}", self.kind.about_cases())
    }
}

/// These files, in this folder.
fn within(folder: &str, files: &[(&str, &str)]) -> Vec<(PathBuf, String)> {
    let path = |name: &str| Path::new(folder).join(name);
    let files = files.iter();
    files
        .map(|(name, text)| (path(name), (*text).to_owned()))
        .collect()
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
    let (own, program) = match lang {
        Language::Rust => (rust::files(name, *kind), "cargo"),
        Language::Js => (javascript::files(name, *kind), "npm"),
        Language::Python => (python::files(name, *kind), "pip"),
    };
    let folder = Path::new(name);
    if folder.exists() {
        return Err(Failure::new(
            4,
            format!("{name} is there already; nothing was changed"),
        ));
    }
    let contract = within("vendor/quern-plugin/wit", WIT);
    for (path, text) in own.into_iter().chain(contract) {
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
        assert_eq!(listed(rust::SDK), names("guest-sdk/src", ".rs"));
        assert_eq!(listed(javascript::SDK), names("guest-sdk/javascript", ""));
        let python = names("guest-sdk/python/quern_plugin", ".py");
        assert_eq!(listed(python::SDK), python);
        assert_eq!(listed(WIT), names("wit", ".wit"));
    }
}
