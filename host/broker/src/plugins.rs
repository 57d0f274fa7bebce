//! Plugins of strangers: names, their versions, and which version a name stands for. The truth is in the
//! log; the bytes lie beside it, under their digest ([`quern_plugins::Components`]).
//!
//! ```text
//! received --Added--> ready --Tried--> shadow or canary --Stands--> active --Stands--> retired
//!                       └───────────────Stands──────────────────────^ └── a roll-back ──┘
//! Quarantined: it failed too often, and is not asked until it is activated again.
//! Removed ends a version that is none of active, shadow, canary; its number is never given again.
//! ```

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use quern_protocol::{
    Activation, Code, ComponentDigest, GroupBindings, PluginAbout, PluginFilter, PluginKind,
    PluginName, PluginRef, PluginTrial, Quarantined, Retry, TrialKind, VersionState, WireError,
};
use serde::{Deserialize, Serialize};

use crate::replays::{Mark, ReplayBegan};
use crate::{limits, state};

/// A version as it was taken in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Version {
    pub(crate) digest: ComponentDigest,
    /// Bytes.
    pub(crate) size: u64,
    /// ms since 1970.
    pub(crate) added_at: u64,
    pub(crate) about: PluginAbout,
}

/// A name, its versions, and what it stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Named {
    /// The highest number ever given.
    pub(crate) newest: u32,
    pub(crate) versions: BTreeMap<u32, Version>,
    pub(crate) active: Option<u32>,
    /// Latest last.
    pub(crate) activations: Vec<Activation>,
    pub(crate) trial: Option<PluginTrial>,
    /// Records of their own, in a snapshot too.
    #[serde(skip)]
    pub(crate) quarantined: BTreeMap<u32, Quarantine>,
}

/// Since when, and why, a version is not asked any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Quarantine {
    /// ms since 1970.
    pub(crate) at: u64,
    pub(crate) why: String,
}

impl Quarantine {
    /// As administrators are told of it.
    pub(crate) fn told(&self) -> Quarantined {
        Quarantined {
            at: self.at,
            why: self.why.clone(),
        }
    }
}

/// Name and number of a version, as it is loaded; `None` = it has no versions.
pub(crate) fn versioned(plugin: &str) -> Option<(PluginName, u32)> {
    let exact = plugin.parse::<PluginRef>().ok()?;
    Some((exact.name, exact.version?))
}

impl Named {
    /// All versions decide the same kind of thing; `None` = none is left.
    pub(crate) fn kind(&self) -> Option<PluginKind> {
        let newest = self.versions.values().next_back()?;
        Some(newest.about.kind)
    }

    /// The newest of those that have not been removed.
    pub(crate) fn newest_there(&self) -> Option<u32> {
        self.versions.keys().next_back().copied()
    }

    pub(crate) fn language(&self) -> Option<&str> {
        let version = self.active.or_else(|| self.newest_there())?;
        self.versions.get(&version)?.about.language.as_deref()
    }

    /// The version of these bytes.
    pub(crate) fn version_of(&self, digest: &ComponentDigest) -> Option<u32> {
        let mut versions = self.versions.iter();
        let found = versions.find(|(_, version)| version.digest == *digest);
        found.map(|(number, _)| *number)
    }

    pub(crate) fn state(&self, version: u32) -> VersionState {
        if self.quarantined.contains_key(&version) {
            return VersionState::Quarantined;
        }
        if self.active == Some(version) {
            return VersionState::Active;
        }
        if let Some(trial) = self.trial.filter(|it| it.version == version) {
            return match trial.how {
                TrialKind::Shadow => VersionState::Shadow,
                TrialKind::Canary => VersionState::Canary,
            };
        }
        let mut activations = self.activations.iter();
        match activations.any(|it| it.version == Some(version)) {
            true => VersionState::Retired,
            false => VersionState::Ready,
        }
    }

    /// The version that was active before the one that is, if it is still there.
    pub(crate) fn before(&self) -> Option<u32> {
        let mut earlier = self.activations.iter().rev().filter_map(|it| it.version);
        earlier.find(|it| {
            Some(*it) != self.active
                && self.versions.contains_key(it)
                && !self.quarantined.contains_key(it)
        })
    }
}

/// The body of a plugin record (kind 35), version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PluginRecord {
    Added(PluginName, u32, Version),
    /// The name stands for this version from now on; `None` = for nothing.
    Stands(PluginName, Activation),
    Removed(PluginName, u32),
    /// All of a name, in a snapshot.
    Whole(PluginName, Named),
    /// A version is on trial from now on; `None` = none is.
    Tried(PluginName, Option<PluginTrial>),
    /// A version is not asked from now on, until it is activated.
    Quarantined(PluginName, u32, Quarantine),
    /// All that is bound to a group for a topic from now on.
    Bound(GroupBindings),
    /// Where an activation began to decide for a group.
    Marked(Mark),
    /// A group goes back to what was decided before.
    Replaying(ReplayBegan),
    /// The same, and what stands in for each.
    BoundElse(GroupBindings, Vec<Option<PluginFilter>>),
}

impl state::Body for PluginRecord {
    const VERSION: u8 = 1;
}

/// One version of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Meant {
    pub(crate) name: PluginName,
    pub(crate) version: u32,
    pub(crate) digest: ComponentDigest,
}

/// All names.
#[derive(Debug, Default)]
pub(crate) struct Plugins(RwLock<BTreeMap<PluginName, Named>>);

impl Plugins {
    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<PluginName, Named>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies a record of the log. Applying one twice changes nothing.
    pub(crate) fn apply(&self, record: PluginRecord) {
        let mut names = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match record {
            PluginRecord::Added(name, number, version) => {
                let named = names.entry(name).or_default();
                named.newest = named.newest.max(number);
                named.versions.insert(number, version);
            }
            PluginRecord::Stands(name, activation) => {
                let named = names.entry(name).or_default();
                named.active = activation.version;
                if let Some(version) = activation.version {
                    named.quarantined.remove(&version);
                }
                // Whatever was tried was tried beside another.
                named.trial = None;
                if named.activations.last() != Some(&activation) {
                    named.activations.push(activation);
                }
                let beyond = named.activations.len().saturating_sub(limits::ACTIVATIONS);
                named.activations.drain(..beyond);
            }
            PluginRecord::Removed(name, number) => {
                if let Some(named) = names.get_mut(&name) {
                    named.versions.remove(&number);
                    named.quarantined.remove(&number);
                }
            }
            PluginRecord::Whole(name, named) => {
                names.insert(name, named);
            }
            PluginRecord::Tried(name, trial) => {
                names.entry(name).or_default().trial = trial;
            }
            PluginRecord::Quarantined(name, number, quarantine) => {
                let named = names.entry(name).or_default();
                named.quarantined.insert(number, quarantine);
            }
            // Kept by [`crate::bindings`] and [`crate::replays`].
            PluginRecord::Bound(_)
            | PluginRecord::BoundElse(..)
            | PluginRecord::Marked(_)
            | PluginRecord::Replaying(_) => {}
        }
    }

    /// The records that make names like these.
    pub(crate) fn snapshot(&self) -> Vec<PluginRecord> {
        let names = self.read();
        let records = names.iter().flat_map(|(name, named)| {
            let quarantined = named
                .quarantined
                .iter()
                .map(|(version, it)| PluginRecord::Quarantined(name.clone(), *version, it.clone()));
            std::iter::once(PluginRecord::Whole(name.clone(), named.clone())).chain(quarantined)
        });
        records.collect()
    }

    /// Since when a version has decided, if it does and something else did before.
    pub(crate) fn marked_since(&self, name: &PluginName, version: u32) -> Option<u64> {
        self.read().get(name)?.marked_since(version)
    }

    pub(crate) fn find(&self, name: &PluginName) -> Option<Named> {
        self.read().get(name).cloned()
    }

    pub(crate) fn list(&self) -> Vec<(PluginName, Named)> {
        let names = self.read();
        let names = names.iter();
        names
            .map(|(name, named)| (name.clone(), named.clone()))
            .collect()
    }

    /// A version, quarantined or not; `None` = it is not there.
    pub(crate) fn exactly(&self, name: &PluginName, number: u32) -> Option<Meant> {
        let names = self.read();
        let version = names.get(name)?.versions.get(&number)?;
        Some(Meant {
            name: name.clone(),
            version: number,
            digest: version.digest,
        })
    }

    /// Whether some version has these bytes.
    pub(crate) fn has(&self, digest: &ComponentDigest) -> bool {
        let names = self.read();
        names
            .values()
            .any(|named| named.version_of(digest).is_some())
    }

    /// Who speaks an expression language.
    pub(crate) fn speaker(&self, language: &str) -> Option<PluginName> {
        let names = self.read();
        let mut names = names.iter();
        let found = names.find(|(_, named)| named.language() == Some(language));
        found.map(|(name, _)| name.clone())
    }

    /// The version a name has on trial.
    pub(crate) fn on_trial(&self, name: &PluginName) -> Option<(PluginTrial, Meant)> {
        let names = self.read();
        let named = names.get(name)?;
        let trial = named.trial?;
        let version = named.versions.get(&trial.version)?;
        let meant = Meant {
            name: name.clone(),
            version: trial.version,
            digest: version.digest,
        };
        Some((trial, meant))
    }

    /// The version that is meant, or was last.
    pub(crate) fn latest(&self, named: &PluginRef) -> PluginRef {
        let names = self.read();
        let found = names.get(&named.name);
        let last = |it: &Named| it.activations.iter().rev().find_map(|it| it.version);
        PluginRef {
            name: named.name.clone(),
            version: named.version.or_else(|| found.and_then(last)),
        }
    }

    /// What is meant by a name, with or without a version; `None` = there is no such name.
    pub(crate) fn meant(&self, named: &PluginRef) -> Option<Result<Meant, WireError>> {
        let names = self.read();
        let found = names
            .get(&named.name)
            .filter(|it| !it.versions.is_empty())?;
        let Some(number) = named.version.or(found.active) else {
            let name = &named.name;
            let mut earlier = found.activations.iter().rev();
            let last = earlier.find_map(|it| it.version);
            let last = last.and_then(|it| Some((it, found.quarantined.get(&it)?)));
            if let Some((version, quarantine)) = last {
                return Some(Err(is_quarantined(name, version, quarantine)));
            }
            let newest = found.versions.keys().next_back().copied().unwrap_or(1);
            let text = format!(
                "plugin {name} has no active version; activate one: quern plugin activate \
                 {name}@{newest}"
            );
            return Some(Err(WireError::new(Code::PLUGIN_NOT_READY, text)));
        };
        if let Some(quarantine) = found.quarantined.get(&number) {
            return Some(Err(is_quarantined(&named.name, number, quarantine)));
        }
        Some(match found.versions.get(&number) {
            Some(version) => Ok(Meant {
                name: named.name.clone(),
                version: number,
                digest: version.digest,
            }),
            None => Err(no_version(&named.name, found, number)),
        })
    }
}

fn is_quarantined(name: &PluginName, version: u32, quarantine: &Quarantine) -> WireError {
    let text = format!(
        "{name}@{version} is quarantined: {}; once it may be asked again: quern plugin activate \
         {name}@{version}",
        quarantine.why
    );
    WireError {
        // Not by itself; but who waits for it goes on once an operator has activated it.
        retry: Retry::Here,
        ..WireError::new(Code::PLUGIN_QUARANTINED, text).after_ms(1_000)
    }
}

pub(crate) fn no_version(name: &PluginName, named: &Named, version: u32) -> WireError {
    let numbers: Vec<String> = named.versions.keys().map(u32::to_string).collect();
    let text = format!(
        "plugin {name} has no version {version} here; there are {}",
        numbers.join(", ")
    );
    WireError::new(Code::NOT_FOUND, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(byte: u8) -> Version {
        Version {
            digest: ComponentDigest([byte; 32]),
            size: 1,
            added_at: 1,
            about: PluginAbout {
                kind: PluginKind::Filter,
                calls_itself: "geo".to_owned(),
                author_version: "0.1.0".to_owned(),
                summary: String::new(),
                language: Some("GEO".to_owned()),
                fuel_per_message: 1,
                cases: 0,
            },
        }
    }

    fn stands(version: Option<u32>, at: u64) -> PluginRecord {
        PluginRecord::Stands(name(), Activation { version, at })
    }

    fn name() -> PluginName {
        PluginName::new("geo").unwrap()
    }

    #[test]
    fn a_name_stands_for_what_was_activated_last_and_numbers_are_not_given_again() {
        let plugins = Plugins::default();
        let meant = |text: &str| {
            let meant = plugins.meant(&text.parse().unwrap())?;
            Some(meant.map(|it| it.version).map_err(|error| error.code))
        };
        assert_eq!(meant("geo"), None);
        for number in 1..=3 {
            plugins.apply(PluginRecord::Added(name(), number, version(number as u8)));
        }
        assert_eq!(meant("geo"), Some(Err(Code::PLUGIN_NOT_READY.number)));
        assert_eq!(meant("geo@2"), Some(Ok(2)));
        assert_eq!(meant("geo@4"), Some(Err(Code::NOT_FOUND.number)));
        plugins.apply(stands(Some(1), 1));
        plugins.apply(stands(Some(3), 2));
        plugins.apply(stands(Some(3), 2));
        assert_eq!(meant("geo"), Some(Ok(3)));
        let now = || plugins.find(&name()).unwrap();
        assert_eq!((now().before(), now().activations.len()), (Some(1), 2));
        let states = [1, 2, 3].map(|it| now().state(it));
        let right = [
            VersionState::Retired,
            VersionState::Ready,
            VersionState::Active,
        ];
        assert_eq!(states, right);
        assert_eq!(plugins.speaker("GEO"), Some(name()));
        plugins.apply(PluginRecord::Removed(name(), 1));
        assert_eq!((now().before(), now().newest), (None, 3));
        plugins.apply(stands(None, 3));
        let again = Plugins::default();
        let snapshot = plugins.snapshot();
        snapshot.iter().for_each(|it| again.apply(it.clone()));
        assert_eq!(again.snapshot(), snapshot);
        assert_eq!(now().before(), Some(3));
        plugins.apply(PluginRecord::Removed(name(), 2));
        plugins.apply(PluginRecord::Removed(name(), 3));
        assert_eq!((meant("geo"), now().newest), (None, 3));
    }

    #[test]
    fn a_quarantined_version_is_asked_by_nobody_until_it_is_activated() {
        let plugins = Plugins::default();
        let meant = |text: &str| {
            let meant = plugins.meant(&text.parse().unwrap()).unwrap();
            meant.map(|it| it.version).map_err(|error| error.code)
        };
        let now = || plugins.find(&name()).unwrap();
        for number in 1..=3 {
            plugins.apply(PluginRecord::Added(name(), number, version(number as u8)));
            plugins.apply(stands(Some(number), number.into()));
        }
        let quarantine = || Quarantine {
            at: 7,
            why: "it failed".to_owned(),
        };
        plugins.apply(PluginRecord::Quarantined(name(), 2, quarantine()));
        assert_eq!(now().before(), Some(1), "not the one that failed");
        plugins.apply(stands(None, 9));
        let code = Code::PLUGIN_QUARANTINED.number;
        let not_ready = Code::PLUGIN_NOT_READY.number;
        assert_eq!((meant("geo"), meant("geo@2")), (Err(not_ready), Err(code)));
        plugins.apply(stands(Some(2), 10));
        plugins.apply(stands(None, 11));
        plugins.apply(PluginRecord::Quarantined(name(), 2, quarantine()));
        assert_eq!((meant("geo"), meant("geo@1")), (Err(code), Ok(1)));
        assert_eq!(plugins.exactly(&name(), 2).map(|it| it.version), Some(2));
        let again = Plugins::default();
        let snapshot = plugins.snapshot();
        snapshot.iter().for_each(|it| again.apply(it.clone()));
        assert_eq!(again.snapshot(), snapshot);
        assert_eq!(again.find(&name()).unwrap().quarantined[&2], quarantine());
        assert_eq!(now().state(2), VersionState::Quarantined);
        plugins.apply(stands(Some(2), 12));
        assert_eq!(
            (meant("geo"), now().state(2)),
            (Ok(2), VersionState::Active)
        );
    }
}
