//! Settings: from the lines of files, the environment and arguments to a [`Config`] that can be run, with
//! a memory of where each value comes from. [`KEYS`] is the one table of them.

mod ignored;
mod key;
mod keys;
mod paper;
mod properties;
mod values;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use quern_protocol::{Cleanup, Code, ConfigEntry, ConfigOrigin};

use crate::config::{Config, Roles};
use key::{Draft, Place};
pub use key::{Flag, Key, Shorthand};
pub use keys::{KEYS, SHORTHANDS};
pub use paper::tables;
pub use values::delay;

/// A value that somebody gave a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Whose setting is meant.
    pub of: Roles,
    pub key: String,
    pub value: String,
    pub origin: ConfigOrigin,
}

/// Where the values of a configuration come from, and what was given in vain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins {
    of: BTreeMap<(&'static str, Roles), ConfigOrigin>,
    ignored: Vec<(Roles, ConfigEntry)>,
}

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadSetting {
    #[error("{origin}: {key} = {value:?} {why}; allowed: {allowed}")]
    Value {
        origin: ConfigOrigin,
        key: &'static str,
        value: String,
        why: String,
        allowed: &'static str,
    },
    #[error("{origin}: {value:?} {why}")]
    Shorthand {
        origin: ConfigOrigin,
        value: String,
        why: String,
    },
    #[error("{origin}: there is no setting {key:?}{hint}")]
    Unknown {
        origin: ConfigOrigin,
        key: String,
        hint: String,
    },
    #[error("{path}:{line}: {why}", path = path.display())]
    Line {
        path: PathBuf,
        line: u32,
        why: String,
    },
    #[error("{path} cannot be read: {why}", path = path.display())]
    File { path: PathBuf, why: String },
}

impl BadSetting {
    pub fn code(&self) -> Code {
        Code::BAD_CONFIG
    }
}

/// What a file of this role says, line by line; its problems, all of them.
pub fn read(path: &Path, of: Roles) -> Result<Vec<Given>, BadSetting> {
    let unreadable = |why: String| BadSetting::File {
        path: path.to_owned(),
        why,
    };
    let bytes = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|error| unreadable(error.to_string()))?;
    let lines = properties::parse(&text).map_err(|bad| BadSetting::Line {
        path: path.to_owned(),
        line: bad.line,
        why: bad.why,
    })?;
    let given = lines.into_iter().map(|it| Given {
        of,
        key: it.key,
        value: it.value,
        origin: ConfigOrigin::File {
            path: path.display().to_string(),
            line: it.line,
        },
    });
    Ok(given.collect())
}

/// A flag that stands for several settings, as those.
pub fn expand(
    shorthand: &Shorthand,
    value: &str,
    origin: &ConfigOrigin,
) -> Result<Vec<Given>, BadSetting> {
    let expanded = (shorthand.expand)(value).map_err(|why| BadSetting::Shorthand {
        origin: origin.clone(),
        value: value.to_owned(),
        why,
    })?;
    let given = expanded.into_iter().map(|(key, value)| Given {
        of: shorthand.of,
        key: key.to_owned(),
        value,
        origin: origin.clone(),
    });
    Ok(given.collect())
}

/// The configuration that comes of what was given, the later before the earlier; all that is wrong with
/// it otherwise.
pub fn resolve(roles: Roles, given: Vec<Given>) -> Result<Config, Vec<BadSetting>> {
    let mut draft = Draft {
        config: Config::new(roles),
        places: Vec::new(),
    };
    let mut bad = Vec::new();
    for it in given {
        if let Err(error) = take(&mut draft, it) {
            bad.push(error);
        }
    }
    bad.extend(misplaced(&draft));
    bad.extend(contradicting(&draft.config));
    match bad.is_empty() {
        true => Ok(draft.config),
        false => Err(bad),
    }
}

fn take(draft: &mut Draft, given: Given) -> Result<(), BadSetting> {
    let Some(key) = find(given.of, &given.key) else {
        return ignore(draft, given);
    };
    let acted = (key.act)(draft, &given.value);
    acted.map_err(|why| BadSetting::Value {
        origin: given.origin.clone(),
        key: key.name,
        value: given.value,
        why,
        allowed: key.allowed,
    })?;
    let origins = &mut draft.config.origins.of;
    origins.insert((key.name, key.of), given.origin);
    Ok(())
}

fn ignore(draft: &mut Draft, given: Given) -> Result<(), BadSetting> {
    let Some(reason) = ignored::reason(given.of, &given.key) else {
        return Err(BadSetting::Unknown {
            hint: hint(given.of, &given.key),
            origin: given.origin,
            key: given.key,
        });
    };
    let ignored = &mut draft.config.origins.ignored;
    ignored.retain(|(of, entry)| *of != given.of || entry.key != given.key);
    let entry = ConfigEntry {
        key: given.key,
        value: given.value,
        origin: given.origin,
        ignored: Some(reason.to_owned()),
    };
    ignored.push((given.of, entry));
    Ok(())
}

/// Directories that were named, and are not where the data directory has them.
fn misplaced(draft: &Draft) -> Vec<BadSetting> {
    let is_elsewhere = |it: &&Place| {
        let here = std::path::absolute(draft.config.data.join(it.below));
        here.ok() != std::path::absolute(&it.given).ok()
    };
    let elsewhere = draft.places.iter().filter(is_elsewhere);
    let bad = elsewhere.filter_map(|it| {
        let key = find(Roles::Broker, it.key)?;
        Some(BadSetting::Value {
            origin: draft.config.origin(key),
            key: key.name,
            value: it.given.display().to_string(),
            why: format!("is not {}", (key.show)(&draft.config)),
            allowed: key.allowed,
        })
    });
    bad.collect()
}

/// What is compacted is kept for ever.
fn contradicting(config: &Config) -> Option<BadSetting> {
    let template = &config.topic_template;
    if template.cleanup == Cleanup::Delete || template.retention.is_none() {
        return None;
    }
    let key = find(Roles::Broker, "autoCreateTopicCleanup")?;
    Some(BadSetting::Value {
        origin: config.origin(key),
        key: key.name,
        value: (key.show)(config),
        why: "does not go with autoCreateTopicRetention".to_owned(),
        allowed: key.allowed,
    })
}

fn find(of: Roles, name: &str) -> Option<&'static Key> {
    let mut all = KEYS.iter().filter(|key| key.of.overlap(of));
    all.find(|key| key.name == name || key.also.contains(&name))
}

/// What somebody may have meant who wrote this.
fn hint(of: Roles, unknown: &str) -> String {
    let other = match of {
        Roles::NameServer => Roles::Broker,
        _ => Roles::NameServer,
    };
    if find(other, unknown).is_some() || ignored::reason(other, unknown).is_some() {
        let whose = match other {
            Roles::NameServer => "a name server's; they have a file of their own: --namesrv-config",
            _ => "a broker's",
        };
        return format!("; it is {whose}");
    }
    let used = KEYS.iter().filter(|key| key.of.overlap(of));
    let names = used.map(|key| key.name).chain(ignored::names(of));
    let lower = unknown.to_lowercase();
    let distance = |name: &&str| strsim::damerau_levenshtein(&name.to_lowercase(), &lower);
    match names.min_by_key(distance) {
        Some(near) if distance(&near) <= near.len() / 3 => format!("; did you mean {near}?"),
        _ => "; `quern config keys` shows those there are".to_owned(),
    }
}

impl Config {
    /// Every setting of a role, as it is.
    pub fn entries(&self, of: Roles) -> Vec<ConfigEntry> {
        let keys = KEYS.iter().filter(|key| key.of.overlap(of));
        let entries = keys.map(|key| ConfigEntry {
            key: key.name.to_owned(),
            value: (key.show)(self),
            origin: self.origin(key),
            ignored: None,
        });
        let ignored = self.origins.ignored.iter();
        let ignored = ignored.filter(|(role, _)| role.overlap(of));
        entries.chain(ignored.map(|(_, it)| it.clone())).collect()
    }

    /// What was given and has no effect.
    pub(crate) fn ignored(&self) -> Vec<ConfigEntry> {
        let ignored = self.origins.ignored.iter();
        ignored.map(|(_, it)| it.clone()).collect()
    }

    fn origin(&self, key: &Key) -> ConfigOrigin {
        let known = self.origins.of.get(&(key.name, key.of));
        known.cloned().unwrap_or_else(|| {
            match (key.show)(self) == (key.show)(&Self::new(self.roles)) {
                true => ConfigOrigin::Default,
                false => ConfigOrigin::Program,
            }
        })
    }
}
