//! `ChangePlugin`, `ListPlugins`, `DescribePlugin`: which version a name stands for, and what all of them do.
//!
//! A version is loaded before its name stands for it, so that an activation fails rather than the deliveries
//! after it. The next look at a queue asks the new one; what a look has begun, it ends with the old one.

use std::sync::Arc;

use quern_plugins::{Components, Digest, Plugin, Runtime};
use quern_protocol::{
    Activation, ChangePlugin, ChangePluginReply, Code, ComponentDigest, DescribePlugin,
    DescribePluginReply, ListPluginsReply, PluginAbout, PluginChange, PluginFigures, PluginKind,
    PluginName, PluginRef, PluginSummary, PluginTrial, RecordKind, TrialKind, VersionReport,
    VersionState, WireError,
};

use crate::gate::Turn;
use crate::plugins::{Named, PluginRecord, Version, no_version};
use crate::upload::{kind, on_disk};
use crate::{Broker, join, reply, users};

pub(crate) async fn change(
    broker: &Arc<Broker>,
    request: ChangePlugin,
) -> Result<ChangePluginReply, WireError> {
    let turn = &broker.plugin_changes().await;
    let ChangePlugin { name, change } = request;
    let found = broker.state.plugins.find(&name);
    let named = found.filter(|it| !it.versions.is_empty());
    let named = named.ok_or_else(|| not_there(&name))?;
    let before = named.active;
    let after = match change {
        PluginChange::Remove { version } => {
            remove(broker, turn, &name, (&named, version)).await?;
            before
        }
        PluginChange::Activate { version } => {
            let version = version.unwrap_or_else(|| newest(&named));
            let users = users::refused(broker, &name, &named, version).await?;
            match users.refusal(&name) {
                Some(refused) => return Err(refused),
                None => Some(version),
            }
        }
        PluginChange::ActivateAnyway { version } => Some(version.unwrap_or_else(|| newest(&named))),
        PluginChange::RollBack => {
            let text = format!("no version of {name} that is still there was active before");
            let earlier = named.before();
            Some(earlier.ok_or_else(|| WireError::new(Code::NOTHING_TO_ROLL_BACK, text))?)
        }
        PluginChange::Disable => {
            is_unbound(broker, &name, None)?;
            None
        }
        PluginChange::Try {
            version,
            how,
            permille,
        } => {
            let trial = PluginTrial {
                version: version.unwrap_or_else(|| newest(&named)),
                how,
                permille,
                since: broker.store.now_ms(),
            };
            begin_trial(broker, turn, &name, (&named, trial)).await?;
            before
        }
        PluginChange::EndTrial => {
            if named.trial.is_some() {
                let record = PluginRecord::Tried(name.clone(), None);
                broker.change(turn, RecordKind::Plugin, &record).await?;
                regroup(broker, &name, &named, None);
            }
            before
        }
    };
    if after != before {
        stand(broker, turn, &name, (&named, after)).await?;
    }
    Ok(ChangePluginReply {
        before,
        active: after,
    })
}

/// The version that is meant where none is said.
pub(crate) fn newest(named: &Named) -> u32 {
    named.newest_there().unwrap_or(named.newest)
}

fn not_there(name: &PluginName) -> WireError {
    if Runtime::built_ins()
        .iter()
        .any(|it| it.name == name.as_str())
    {
        let text = format!("{name} is part of the broker and has no versions");
        return WireError::new(Code::RESERVED_NAME, text);
    }
    reply::no_plugin(name.as_str())
}

async fn begin_trial(
    broker: &Arc<Broker>,
    turn: &Turn,
    name: &PluginName,
    (named, trial): (&Named, PluginTrial),
) -> Result<(), WireError> {
    if !(1..=1_000).contains(&trial.permille) {
        let text = "a trial takes 1 to 1,000 parts of 1,000";
        return Err(reply::bad_request(text));
    }
    let Some(active) = named.active else {
        let text = format!("{name} has no active version to try another beside");
        return Err(WireError::new(Code::PLUGIN_NOT_READY, text));
    };
    if active == trial.version {
        let text = format!("{name}@{active} is active already");
        return Err(WireError::new(Code::PLUGIN_IN_USE, text));
    }
    if named.quarantined.contains_key(&trial.version) {
        let version = trial.version;
        let text = format!("{name}@{version} is quarantined; quern plugin info {name} says why");
        return Err(WireError::new(Code::PLUGIN_QUARANTINED, text));
    }
    load(broker, name, named, trial.version).await?;
    let record = PluginRecord::Tried(name.clone(), Some(trial));
    broker.change(turn, RecordKind::Plugin, &record).await?;
    tracing::info!(plugin = %name, ?trial, "a trial begins");
    regroup(broker, name, named, Some(trial.how));
    Ok(())
}

/// A strategy's trial begins or ends, in the place of the one there was: its groups are shared out by who decides now.
fn regroup(broker: &Arc<Broker>, name: &PluginName, named: &Named, now: Option<TrialKind>) {
    if named.kind() != Some(PluginKind::AllocationStrategy) {
        return;
    }
    let is_canary = |how| how == TrialKind::Canary;
    match now {
        _ if named.trial.is_some_and(|it| is_canary(it.how)) || now.is_some_and(is_canary) => {
            join::share_out_by(broker, name, None);
        }
        Some(_) => join::look_at(broker, name),
        None => {}
    }
}

/// Fails here, rather than where messages wait.
async fn load(
    broker: &Arc<Broker>,
    name: &PluginName,
    named: &Named,
    version: u32,
) -> Result<(), WireError> {
    let found = broker
        .shelf
        .exactly(&broker.state.plugins, name, version)
        .ok_or_else(|| no_version(name, named, version))?;
    broker.loaded(found).await?;
    Ok(())
}

/// From now on the name stands for this version, or for nothing.
pub(crate) async fn stand(
    broker: &Arc<Broker>,
    turn: &Turn,
    name: &PluginName,
    (named, version): (&Named, Option<u32>),
) -> Result<(), WireError> {
    if let Some(version) = version {
        load(broker, name, named, version).await?;
    }
    let activation = Activation {
        version,
        at: broker.store.now_ms(),
    };
    let record = PluginRecord::Stands(name.clone(), activation);
    broker.change(turn, RecordKind::Plugin, &record).await?;
    tracing::info!(plugin = %name, before = ?named.active, active = ?version, "what a name stands for");
    // The one begins anew, and nobody who says the name asks the other.
    for version in [named.active, version].into_iter().flatten() {
        let exact = PluginRef::exact(name, version);
        broker.breakers.forgive(&exact.to_string());
    }
    broker.filters.ask_again(name, named.language());
    // Who still asks the one before by its number gets an instance anew; all others give its memory back.
    let before = named.active.and_then(|it| broker.shelf.loaded(name, it));
    if let Some(before) = before {
        before.retire();
    }
    if named.kind() == Some(PluginKind::AllocationStrategy) {
        join::share_out_by(broker, name, version);
    }
    Ok(())
}

/// Consumers that know nothing of a binding must not come to wait for what is not there.
fn is_unbound(broker: &Broker, name: &PluginName, version: Option<u32>) -> Result<(), WireError> {
    let Some(user) = broker.state.bindings.user(name, version) else {
        return Ok(());
    };
    let text = format!("{name} is bound to {user}; first say: quern plugin unbind {name}");
    Err(WireError::new(Code::PLUGIN_IN_USE, text))
}

async fn remove(
    broker: &Arc<Broker>,
    turn: &Turn,
    name: &PluginName,
    (named, version): (&Named, u32),
) -> Result<(), WireError> {
    let Some(removed) = named.versions.get(&version) else {
        return Err(no_version(name, named, version));
    };
    is_unbound(broker, name, Some(version))?;
    if named.active == Some(version) {
        let text = format!(
            "{name}@{version} is active; activate another or say: quern plugin disable {name}"
        );
        return Err(WireError::new(Code::PLUGIN_IN_USE, text));
    }
    if named.trial.is_some_and(|it| it.version == version) {
        let text = format!("{name}@{version} is on trial; say: quern plugin trial {name} --end");
        return Err(WireError::new(Code::PLUGIN_IN_USE, text));
    }
    let record = PluginRecord::Removed(name.clone(), version);
    broker.change(turn, RecordKind::Plugin, &record).await?;
    broker.shelf.forget(name, version);
    if !broker.state.plugins.has(&removed.digest) {
        let digest = Digest::from(removed.digest.0);
        on_disk(broker, move |it| it.remove(&digest)).await?;
    }
    Ok(())
}

pub(crate) fn list(broker: &Broker) -> ListPluginsReply {
    let in_use = broker.shelf.in_use();
    let figures_of = |name: &str| {
        let found = in_use.iter().find(|it| it.name() == name);
        found.map(|it| figures(it)).unwrap_or_default()
    };
    let built_ins = Runtime::built_ins().iter().filter_map(|it| {
        Some(PluginSummary {
            name: PluginName::new(it.name).ok()?,
            kind: kind(it.kind),
            built_in: true,
            active: None,
            newest: 0,
            versions: 0,
            figures: figures_of(it.name),
        })
    });
    let names = broker.state.plugins.list().into_iter();
    let names = names.filter_map(|(name, named)| {
        let versions = named.versions.keys();
        let loaded = versions.filter_map(|version| broker.shelf.loaded(&name, *version));
        let total = loaded.fold(PluginFigures::default(), |sum, it| sum.plus(&figures(&it)));
        Some(PluginSummary {
            kind: named.kind()?,
            name,
            built_in: false,
            active: named.active,
            newest: named.newest,
            versions: named.versions.len() as u32,
            figures: total,
        })
    });
    ListPluginsReply {
        plugins: names.chain(built_ins).collect(),
    }
}

pub(crate) async fn describe(
    broker: &Arc<Broker>,
    request: DescribePlugin,
) -> Result<DescribePluginReply, WireError> {
    let name = request.name;
    let mut built_ins = Runtime::built_ins().iter();
    if built_ins.any(|it| it.name == name.as_str()) {
        let exact = PluginRef::active(name);
        let found = broker.shelf.find(&broker.state.plugins, &exact);
        let found = found.unwrap_or_else(|| Err(not_there(&exact.name)))?;
        let plugin = broker.loaded(found).await?;
        return Ok(DescribePluginReply {
            built_in: true,
            versions: vec![built_in(&plugin)],
            activations: Vec::new(),
            trial: None,
        });
    }
    let named = broker.state.plugins.find(&name);
    let named = named.ok_or_else(|| not_there(&name))?;
    let digests = named.versions.values();
    let digests: Vec<_> = digests.map(|it| Digest::from(it.digest.0)).collect();
    let here = move |it: &Components| Ok(digests.iter().map(|one| it.is_whole(one)).collect());
    let here: Vec<bool> = on_disk(broker, here).await?;
    let versions = named.versions.iter().zip(here);
    let versions = versions.map(|((number, version), is_here)| {
        let plugin = broker.shelf.loaded(&name, *number);
        report(*number, &named, version, is_here, plugin.as_deref())
    });
    Ok(DescribePluginReply {
        built_in: false,
        versions: versions.collect(),
        activations: named.activations,
        trial: broker.trials.report(&name, named.trial),
    })
}

fn report(
    number: u32,
    named: &Named,
    version: &Version,
    is_here: bool,
    plugin: Option<&Plugin>,
) -> VersionReport {
    VersionReport {
        version: number,
        state: named.state(number),
        is_here,
        digest: version.digest,
        size: version.size,
        added_at: version.added_at,
        about: version.about.clone(),
        figures: plugin.map(figures),
        counters: plugin.map(Plugin::counters).unwrap_or_default(),
    }
}

fn built_in(plugin: &Plugin) -> VersionReport {
    let digest = plugin.digest().parse::<Digest>();
    VersionReport {
        version: 0,
        state: VersionState::Active,
        is_here: true,
        digest: ComponentDigest(digest.map_or([0; 32], |it| *it.bytes())),
        size: 0,
        added_at: 0,
        about: PluginAbout {
            kind: kind(plugin.kind()),
            calls_itself: plugin.name().to_owned(),
            author_version: plugin.version().to_owned(),
            summary: plugin.summary().to_owned(),
            language: plugin.language().map(str::to_owned),
            fuel_per_message: 0,
            cases: 0,
        },
        figures: Some(figures(plugin)),
        counters: plugin.counters(),
    }
}

fn figures(plugin: &Plugin) -> PluginFigures {
    let metrics = plugin.metrics();
    PluginFigures {
        calls: metrics.calls,
        messages: metrics.messages,
        delivered: metrics.delivered,
        faults: metrics.faults(),
        fuel: metrics.fuel,
    }
}
