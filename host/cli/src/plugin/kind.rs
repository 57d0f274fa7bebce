//! The four kinds of plugin, each said once: manifests, `--kind`, languages and the contract all call them after these.

use clap::ValueEnum;

use crate::failure::Failure;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// Which messages a consumer gets, by what a message says of itself.
    Filter,
    /// The same, reading bodies too.
    BodyFilter,
    /// Which queue a message goes to.
    Selector,
    /// Who of a group consumes which queue.
    Allocation,
}

impl Kind {
    /// As manifests name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::BodyFilter => "body-filter",
            Self::Selector => "selector",
            Self::Allocation => "allocation",
        }
    }

    /// The interface of the contract it exports; its world is called after it, and each language writes it in its own way.
    pub(super) fn interface(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::BodyFilter => "body-filter",
            Self::Selector => "queue-selector",
            Self::Allocation => "allocation-strategy",
        }
    }

    pub(super) fn world(self) -> String {
        format!("{}-plugin", self.interface())
    }

    /// The kind a manifest names; `how` it does, for one that does not.
    pub(super) fn named(text: Option<&str>, manifest: &str, how: &str) -> Result<Self, Failure> {
        let all = Self::value_variants();
        let found = text.and_then(|text| all.iter().find(|it| it.name() == text));
        found.copied().ok_or_else(|| {
            let names: Vec<_> = all.iter().map(|it| it.name()).collect();
            let names = names.join(", ");
            Failure::usage(format!(
                "{manifest} does not say what the plugin decides: {how}, with one of {names}"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_and_manifests_say_the_same() {
        for kind in Kind::value_variants() {
            let by_flag = kind.to_possible_value().unwrap();
            assert_eq!(by_flag.get_name(), kind.name());
            let named = Kind::named(Some(kind.name()), "m", "h").ok();
            assert_eq!(named, Some(*kind));
        }
        assert!(Kind::named(Some("colour"), "m", "h").is_err());
        assert!(Kind::named(None, "m", "h").is_err());
    }
}
