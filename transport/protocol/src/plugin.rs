//! Plugins of one broker: a component comes in pieces, becomes a version of a name, and the name
//! stands for the version that is active.
//!
//! ```text
//! BeginUpload -> how much of it is here        (resume: a digest names its bytes for ever)
//! UploadChunk -> how much of it is here now    (bytes that are here already are not written twice)
//! FinishUpload -> compiled, tried, on the disk, in the log: a version of a name
//! ChangePlugin -> what the name stands for from now on
//! ```

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::{NameError, PluginName, QueueId, QueueOffset, TopicName};

/// SHA-256 of a component: the name of its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ComponentDigest(pub [u8; 32]);

impl fmt::Display for ComponentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A plugin by its name, `geo`, or one version of it, `geo@3`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PluginRef {
    pub name: PluginName,
    /// `None` = the one that is active.
    pub version: Option<u32>,
}

impl PluginRef {
    /// This version of it, and no other.
    pub fn exact(name: &PluginName, version: u32) -> Self {
        Self {
            name: name.clone(),
            version: Some(version),
        }
    }

    /// Whichever version is active.
    pub fn active(name: PluginName) -> Self {
        Self {
            name,
            version: None,
        }
    }
}

impl fmt::Display for PluginRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Some(version) => write!(f, "{}@{version}", self.name),
            None => write!(f, "{}", self.name),
        }
    }
}

/// Why a text names no plugin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPluginRef {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("{0:?} is no version; versions are 1, 2, 3 and so on, as in geo@3")]
    Version(String),
}

impl FromStr for PluginRef {
    type Err = BadPluginRef;

    fn from_str(text: &str) -> Result<Self, BadPluginRef> {
        let (name, version) = match text.split_once('@') {
            Some((name, version)) => (name, Some(version)),
            None => (text, None),
        };
        let number = |text: &str| {
            let number = text.parse().ok().filter(|number| *number > 0);
            number.ok_or_else(|| BadPluginRef::Version(text.to_owned()))
        };
        Ok(Self {
            name: PluginName::new(name)?,
            version: version.map(number).transpose()?,
        })
    }
}

/// What a plugin decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PluginKind {
    Filter,
    BodyFilter,
    QueueSelector,
    AllocationStrategy,
}

impl fmt::Display for PluginKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Filter => "filter",
            Self::BodyFilter => "body filter",
            Self::QueueSelector => "queue selector",
            Self::AllocationStrategy => "allocation strategy",
        })
    }
}

/// What a component says of itself, and what its trial found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginAbout {
    pub kind: PluginKind,
    /// What its author calls it, and the author's own version.
    pub calls_itself: String,
    pub author_version: String,
    pub summary: String,
    /// The expression language consumers may name instead of the plugin.
    pub language: Option<String>,
    /// Fuel one of the trial's messages took, on average.
    pub fuel_per_message: u64,
    /// The author's cases that passed: all of them.
    pub cases: u32,
}

/// Announces a component; nothing is stored yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeginUpload {
    pub digest: ComponentDigest,
    /// Bytes in all.
    pub size: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeginUploadReply {
    /// So many bytes from its beginning are here already.
    pub received: u64,
}

/// The body holds the next bytes, at most 1 MiB.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadChunk {
    pub digest: ComponentDigest,
    /// Where in the component they begin. Other than what has been received: nothing is written, and
    /// the reply says where to go on.
    pub at: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadChunkReply {
    pub received: u64,
}

/// All bytes are there: check, compile and try them, and make them a version of a name. Takes seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinishUpload {
    pub digest: ComponentDigest,
    pub name: PluginName,
    /// Its number, above all that the name has had, so that several brokers give the same one. `None` = the
    /// next.
    pub version: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinishUploadReply {
    pub version: u32,
    /// False: these bytes have been this version of this name before.
    pub is_new: bool,
    pub about: PluginAbout,
}

/// What a name stands for from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PluginChange {
    /// `None` = the newest version. Refused where that does not accept what somebody asks of the active one.
    Activate { version: Option<u32> },
    /// The version that was active before the one that is.
    RollBack,
    /// Nothing: who names the plugin without a version has to wait.
    Disable,
    /// One version goes; its number is not given again.
    Remove { version: u32 },
    /// A version decides a share of the messages, or runs beside the one that does. `None` = the newest.
    Try {
        version: Option<u32>,
        how: TrialKind,
        /// Of 1,000 parts of each queue, so many; of a selector's order keys; of a strategy's groups.
        permille: u32,
    },
    /// The trial there is ends.
    EndTrial,
    /// The same as [`Self::Activate`], whoever has to wait.
    ActivateAnyway { version: Option<u32> },
}

/// How a version is tried before the name stands for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TrialKind {
    /// The active one decides; where the other would have decided otherwise is counted.
    Shadow,
    /// It decides its share.
    Canary,
}

/// A version on trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginTrial {
    pub version: u32,
    pub how: TrialKind,
    pub permille: u32,
    /// Since when, ms since 1970.
    pub since: u64,
}

/// Offsets a trial holds together: one look rarely meets two versions.
const TRIAL_BLOCK: u64 = 1_024;

impl PluginTrial {
    /// Whether a message is in the trial's share: a pure function, so that whoever looks again, on whichever
    /// broker, meets the same version.
    pub fn takes(&self, queue: QueueId, offset: QueueOffset) -> bool {
        self.has(u64::from(queue.0) << 40 ^ (offset.0 / TRIAL_BLOCK))
    }

    /// Whether all that has this key is in the trial's share, a pure function, too: messages of one order key meet
    /// one version of a selector, and all queues of a group are shared out by one version of a strategy.
    pub fn takes_key(&self, key: &str) -> bool {
        let fnv = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        self.has(key.bytes().fold(0xcbf2_9ce4_8422_2325, fnv))
    }

    fn has(&self, mut hash: u64) -> bool {
        // SplitMix64's finisher: neighbours fall far apart.
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        hash ^= hash >> 31;
        hash % 1_000 < u64::from(self.permille)
    }
}

/// A message the two versions decided otherwise about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disagreement {
    pub topic: TopicName,
    pub queue: QueueId,
    pub offset: QueueOffset,
    /// Let through by the version on trial, not by the active one; or the other way round.
    pub by_trial: bool,
}

/// What a trial has come to since this broker started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialReport {
    pub trial: PluginTrial,
    /// Messages the version on trial has decided, or has decided beside the active one.
    pub decided: u64,
    /// Of a shadow: both let through or both did not, both chose the same queue, or gave it to the same member; only
    /// the active one let through; only the one on trial did. What selectors and strategies on trial decide otherwise,
    /// [`crate::TrialMoves`] tells.
    pub agreed: u64,
    pub only_active: u64,
    pub only_trial: u64,
    /// Messages it failed on: the active one decided.
    pub failed: u64,
    /// The first 32 of each side.
    pub disagreements: Vec<Disagreement>,
    /// Why it has ended by itself; `None` = it goes on, or an operator has ended it.
    pub ended: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangePlugin {
    pub name: PluginName,
    pub change: PluginChange,
}

/// The active version before and after; durable when this arrives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangePluginReply {
    pub before: Option<u32>,
    pub active: Option<u32>,
}

/// What a plugin did since this broker loaded it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginFigures {
    /// Calls into the guest, and messages decided by them.
    pub calls: u64,
    pub messages: u64,
    /// Of these, those a filter let through.
    pub delivered: u64,
    /// Calls that failed: traps, fuel, memory, wrong answers.
    pub faults: u64,
    pub fuel: u64,
}

impl PluginFigures {
    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            calls: self.calls + other.calls,
            messages: self.messages + other.messages,
            delivered: self.delivered + other.delivered,
            faults: self.faults + other.faults,
            fuel: self.fuel + other.fuel,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListPlugins {}

/// One name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginSummary {
    pub name: PluginName,
    pub kind: PluginKind,
    /// Part of the broker: always there, without versions.
    pub built_in: bool,
    pub active: Option<u32>,
    /// The newest version; 0 = none.
    pub newest: u32,
    /// Versions there are.
    pub versions: u32,
    /// Of all its versions.
    pub figures: PluginFigures,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListPluginsReply {
    pub plugins: Vec<PluginSummary>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescribePlugin {
    pub name: PluginName,
}

/// Where a version stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum VersionState {
    /// It has never been active.
    Ready,
    Active,
    /// It was active.
    Retired,
    /// It runs beside the active one.
    Shadow,
    /// It decides a share.
    Canary,
    /// It failed too often and is not asked any more.
    Quarantined,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionReport {
    pub version: u32,
    pub state: VersionState,
    /// False: its bytes are not on this broker. Uploading them again brings them back.
    pub is_here: bool,
    pub digest: ComponentDigest,
    /// Bytes.
    pub size: u64,
    /// ms since 1970.
    pub added_at: u64,
    pub about: PluginAbout,
    /// `None` = nobody has used it since this broker started.
    pub figures: Option<PluginFigures>,
    /// What the guest counts for itself. Names that begin with `quern:` are the broker's: `quern:remembered` counts the
    /// messages that nobody was asked about, for the verdict was known.
    pub counters: Vec<(String, u64)>,
}

/// A change of what the name stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activation {
    /// `None` = nothing from then on.
    pub version: Option<u32>,
    /// ms since 1970.
    pub at: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescribePluginReply {
    pub built_in: bool,
    /// Oldest first. Of a built-in: one, with number 0.
    pub versions: Vec<VersionReport>,
    /// The latest ones, oldest first.
    pub activations: Vec<Activation>,
    pub trial: Option<TrialReport>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_takes_its_share_of_blocks_evenly_and_more_of_it_keeps_what_it_had() {
        let trial = |permille| PluginTrial {
            version: 2,
            how: TrialKind::Canary,
            permille,
            since: 0,
        };
        let blocks = (0..8).flat_map(|queue| (0..4_000).map(move |block| (queue, block)));
        let blocks: Vec<_> = blocks.collect();
        for (permille, least, most) in [(0, 0, 0), (50, 1_450, 1_750), (1_000, 32_000, 32_000)] {
            let took = blocks.iter().filter(|(queue, block)| {
                let at = |offset| trial(permille).takes(QueueId(*queue), QueueOffset(offset));
                let first = at(block * TRIAL_BLOCK);
                assert_eq!(first, at(block * TRIAL_BLOCK + TRIAL_BLOCK - 1));
                assert!(
                    !first
                        || trial(permille + 100)
                            .takes(QueueId(*queue), QueueOffset(block * TRIAL_BLOCK))
                );
                first
            });
            let took = took.count();
            assert!((least..=most).contains(&took), "{permille}: {took}");
        }
    }

    #[test]
    fn a_trial_takes_its_share_of_keys_evenly_and_more_of_it_keeps_what_it_had() {
        let trial = |permille| PluginTrial {
            version: 2,
            how: TrialKind::Canary,
            permille,
            since: 0,
        };
        for (permille, least, most) in [(0, 0, 0), (50, 900, 1_100), (1_000, 20_000, 20_000)] {
            let keys = (0..20_000).map(|n| format!("customer-{n}"));
            let taken = keys.filter(|key| trial(permille).takes_key(key));
            let taken: Vec<_> = taken.collect();
            assert!(taken.iter().all(|key| trial(permille + 100).takes_key(key)));
            assert!(
                (least..=most).contains(&taken.len()),
                "{permille}: {}",
                taken.len()
            );
        }
    }

    #[test]
    fn a_plugin_is_named_with_or_without_a_version() {
        let read = |text: &str| text.parse::<PluginRef>();
        for (text, version) in [("geo", None), ("geo@3", Some(3)), ("a.b-c_9@1", Some(1))] {
            let parsed = read(text).unwrap();
            assert_eq!(parsed.version, version);
            assert_eq!(parsed.to_string(), text);
        }
        for bad in ["", "@1", "geo@", "geo@0", "geo@x", "geo@1@2", "ge o", "géo"] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
