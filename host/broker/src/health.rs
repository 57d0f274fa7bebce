//! How plugins do at work: which messages they fail on, what became of those, and when it is too much.
//!
//! A version that fails on [`limits::QUARANTINE_FAULTS`] messages within [`limits::QUARANTINE_WINDOW`], and on more
//! than one in a thousand of those it is asked about, is quarantined: a name that stands for it falls back to
//! the version that was active before, or stands for nothing. The same message, however often it is asked
//! about, counts once: one that poisons a filter quarantines nothing. One that was active for long gets a breaker
//! first ([`crate::breakers`]). Of a strategy, sharings out of a group's queues
//! are counted as of others messages.
//! Of a version that says different things of one message (`Q-4107`) the number
//! alone counts.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quern_plugins::{Fault, Plugin};
use quern_protocol::{
    Code, FallBacks, GroupName, PluginFallBacksReply, PluginFaults, PluginHealthReply, PluginKind,
    PluginName, PluginRef, QueueId, QueueOffset, RecordKind, TopicId, Unjudged, VersionHealth,
    WireError,
};

use crate::gate::Turn;
use crate::plugins::{PluginRecord, Quarantine, versioned};
use crate::{Broker, join, limits, plugin_admin};

/// What a plugin is asked about, and may fail on: the same again counts once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Case {
    Message(TopicId, QueueId, QueueOffset),
    /// A message that has no place yet; a hash of what it is.
    Sent(u64),
    /// A sharing out of a group's queues.
    Generation(GroupName, u64),
}

/// Of all plugins, by the name and version they are loaded under, since this broker's start.
#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<HashMap<String, Count>>);

/// What a plugin was asked of late, and what it failed on.
#[derive(Debug, Default)]
pub(crate) struct Window {
    /// When it began, steady ms.
    since: u64,
    judged: u64,
    at_fault: HashSet<Case>,
}

#[derive(Debug, Default)]
struct Count {
    window: Window,
    unjudged: Unjudged,
    stood_in: StoodIn,
    last_fault: String,
}

/// What was done instead of asking a selector or a strategy again, how often.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StoodIn {
    pub(crate) refused: u64,
    pub(crate) in_turn: u64,
    pub(crate) kept: u64,
    pub(crate) averagely: u64,
    pub(crate) instead: u64,
}

/// What a call brought.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    /// Or sharings out.
    pub(crate) messages: usize,
    pub(crate) at_fault: &'a [Case],
    pub(crate) fault: Option<&'a Fault>,
    /// Steady ms.
    pub(crate) now: u64,
}

impl Asked<'_> {
    /// Whether it said different things of one message.
    pub(crate) fn is_impure(&self) -> bool {
        self.fault
            .is_some_and(|it| it.code == Code::PLUGIN_IMPURE.number)
    }
}

impl Window {
    /// Notes what a plugin did; why it is too much, if it is.
    pub(crate) fn asked(&mut self, asked: &Asked<'_>) -> Option<String> {
        if asked.now.saturating_sub(self.since) > limits::QUARANTINE_WINDOW {
            self.since = asked.now;
            self.clear();
        }
        self.judged += asked.messages as u64;
        let fault = asked.fault?;
        let room = limits::FAULTS_REMEMBERED.saturating_sub(self.at_fault.len());
        let at_fault = asked.at_fault.iter().take(room);
        self.at_fault.extend(at_fault.cloned());
        let (failed, judged) = (self.at_fault.len() as u64, self.judged);
        // Few of the messages are judged twice, so what they are of all says nothing.
        let is_too_much =
            failed >= limits::QUARANTINE_FAULTS && (asked.is_impure() || failed * 1_000 > judged);
        is_too_much.then(|| {
            let what = match asked.at_fault.first() {
                Some(Case::Generation(..)) => "sharings out",
                _ => "messages",
            };
            let within = limits::QUARANTINE_WINDOW / 1_000;
            let (code, last) = (fault.code, fault);
            format!(
                "it failed on {failed} of {judged} {what} within {within} s, last with Q-{code} {last}"
            )
        })
    }

    pub(crate) fn clear(&mut self) {
        self.judged = 0;
        self.at_fault.clear();
    }

    /// Whether it failed on nothing.
    pub(crate) fn is_clean(&self) -> bool {
        self.at_fault.is_empty()
    }
}

impl Health {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Count>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what a plugin did; why it is too much, if it is.
    pub(crate) fn asked(&self, plugin: &str, asked: &Asked<'_>) -> Option<String> {
        let mut counts = self.lock();
        // Not for every batch of every plugin there is: a name is made when it has something to say.
        if !counts.contains_key(plugin) {
            counts.insert(plugin.to_owned(), Count::default());
        }
        let count = counts.get_mut(plugin)?;
        if let Some(fault) = asked.fault {
            count.last_fault = format!("Q-{} {fault}", fault.code);
        }
        count.window.asked(asked)
    }

    /// What became of messages it was to judge and did not.
    pub(crate) fn unjudged(&self, plugin: &str, note: impl FnOnce(&mut Unjudged)) {
        let mut counts = self.lock();
        note(&mut counts.entry(plugin.to_owned()).or_default().unjudged);
    }

    /// What was done where it failed.
    pub(crate) fn stood_in(&self, plugin: &str, note: impl FnOnce(&mut StoodIn)) {
        let mut counts = self.lock();
        note(&mut counts.entry(plugin.to_owned()).or_default().stood_in);
    }

    /// The version begins anew.
    fn forgive(&self, plugin: &str) {
        if let Some(count) = self.lock().get_mut(plugin) {
            count.window.clear();
        }
    }

    fn of(&self, plugin: &str) -> (Unjudged, String) {
        let counts = self.lock();
        let found = counts.get(plugin);
        found.map_or_else(Default::default, |it| (it.unjudged, it.last_fault.clone()))
    }
}

impl Broker {
    /// Whether a version is so new that it is taken out of service at once when it fails too often. What came before one
    /// that was good for long may be the worse answer; and what has no versions has nothing before it.
    pub(crate) fn is_new(&self, plugin: &str) -> bool {
        let Some((name, version)) = versioned(plugin) else {
            return false;
        };
        let Some(named) = self.state.plugins.find(&name) else {
            return false;
        };
        let mut activations = named.activations.iter().rev();
        let active = activations.find(|it| it.version == Some(version));
        let added = named.versions.get(&version).map(|it| it.added_at);
        let since = active.map_or_else(|| added.unwrap_or(0), |it| it.at);
        let age = self.store.now_ms().saturating_sub(since);
        u128::from(age) < self.config.plugin_probation.as_millis()
    }
}

/// Takes a version out of service that fails too often, on every restart too: the log says so, and why.
pub(crate) fn quarantine(broker: &Arc<Broker>, plugin: &str, why: String) {
    // What is part of the broker, or of its configuration, has no versions and no other to fall back to.
    let Some((name, version)) = versioned(plugin) else {
        return;
    };
    let broker = Arc::clone(broker);
    tokio::spawn(async move {
        let turn = broker.plugin_changes().await;
        if let Err(error) = put_aside(&broker, &turn, (&name, version), why).await {
            tracing::warn!(plugin = %name, version, %error, "a plugin could not be quarantined");
        }
    });
}

async fn put_aside(
    broker: &Arc<Broker>,
    turn: &Turn,
    (name, version): (&PluginName, u32),
    why: String,
) -> Result<(), WireError> {
    let Some(named) = broker.state.plugins.find(name) else {
        return Ok(());
    };
    if named.quarantined.contains_key(&version) || !named.versions.contains_key(&version) {
        return Ok(());
    }
    let quarantine = Quarantine {
        at: broker.store.now_ms(),
        why,
    };
    tracing::error!(plugin = %name, version, why = quarantine.why, "a plugin is quarantined");
    if named.active == Some(version) {
        // First, so that a crash between the two leaves nothing that fails in service.
        let earlier = named.before();
        if let Err(error) = plugin_admin::stand(broker, turn, name, (&named, earlier)).await {
            tracing::warn!(plugin = %name, ?earlier, %error, "the version before cannot stand in");
            plugin_admin::stand(broker, turn, name, (&named, None)).await?;
        }
    }
    let record = PluginRecord::Quarantined(name.clone(), version, quarantine);
    broker.change(turn, RecordKind::Plugin, &record).await?;
    if let Some(plugin) = broker.shelf.loaded(name, version) {
        plugin.retire();
    }
    if named.kind() == Some(PluginKind::AllocationStrategy) {
        join::share_out_by(broker, name, Some(version));
    }
    // Activated again, it begins anew.
    let exact = PluginRef::exact(name, version).to_string();
    broker.health.forgive(&exact);
    broker.breakers.forgive(&exact);
    broker.filters.ask_again(name, named.language());
    Ok(())
}

/// `PluginHealth`: who failed, how, and what became of it.
pub(crate) fn health(broker: &Broker) -> PluginHealthReply {
    let in_use = broker.shelf.in_use();
    let row = |name: PluginName, version: u32, plugin: Option<&Plugin>, loaded_as: &str| {
        let (unjudged, last_fault) = broker.health.of(loaded_as);
        let metrics = plugin.map(Plugin::metrics).unwrap_or_default();
        VersionHealth {
            plugin: name,
            version,
            quarantined: None,
            faults: PluginFaults {
                traps: metrics.traps,
                out_of_fuel: metrics.out_of_fuel,
                out_of_memory: metrics.out_of_memory,
                bad_answers: metrics.bad_answers,
                failures: metrics.failures,
            },
            unjudged,
            last_fault,
        }
    };
    let mut rows = Vec::new();
    for (name, named) in broker.state.plugins.list() {
        for version in named.versions.keys() {
            let plugin = broker.shelf.loaded(&name, *version);
            let loaded_as = PluginRef::exact(&name, *version).to_string();
            let mut row = row(name.clone(), *version, plugin.as_deref(), &loaded_as);
            row.quarantined = named.quarantined.get(version).map(Quarantine::told);
            rows.push(row);
        }
    }
    for plugin in in_use.iter().filter(|it| !it.name().contains('@')) {
        if let Ok(name) = PluginName::new(plugin.name()) {
            rows.push(row(name, 0, Some(plugin), plugin.name()));
        }
    }
    PluginHealthReply { versions: rows }
}

/// `PluginFallBacks`: what was done instead, of those it was done for.
pub(crate) fn fall_backs(broker: &Broker) -> PluginFallBacksReply {
    let counts = broker.health.lock();
    let rows = counts.iter().filter_map(|(plugin, count)| {
        let StoodIn {
            refused,
            in_turn,
            kept,
            averagely,
            instead,
        } = count.stood_in;
        if refused + in_turn + kept + averagely + instead == 0 {
            return None;
        }
        let named = plugin.parse::<PluginRef>().ok()?;
        Some(FallBacks {
            plugin: named.name,
            version: named.version.unwrap_or(0),
            refused,
            in_turn,
            kept,
            averagely,
            instead,
        })
    });
    let mut versions: Vec<_> = rows.collect();
    versions.sort_by(|a, b| (&a.plugin, a.version).cmp(&(&b.plugin, b.version)));
    PluginFallBacksReply { versions }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault() -> Fault {
        Fault {
            code: 4301,
            plugin: "geo@1".into(),
            version: "0.1.0".into(),
            message: "stopped".to_owned(),
        }
    }

    fn ask(health: &Health, now: u64, messages: usize, at_fault: &[u64]) -> Option<String> {
        let case = |offset: &u64| Case::Message(TopicId(1), QueueId(0), QueueOffset(*offset));
        let (fault, at_fault): (_, Vec<_>) = (fault(), at_fault.iter().map(case).collect());
        let asked = Asked {
            messages,
            at_fault: &at_fault,
            fault: (!at_fault.is_empty()).then_some(&fault),
            now,
        };
        health.asked("geo@1", &asked)
    }

    #[test]
    fn many_messages_are_too_much_and_one_however_often_is_not() {
        let health = Health::default();
        for now in 0..50 {
            assert_eq!(ask(&health, now, 10, &[7]), None);
        }
        assert_eq!(ask(&health, 50, 10, &[1, 2, 3]), None);
        let why = ask(&health, 51, 10, &[4]).unwrap();
        assert!(why.contains("5 of 520 messages"), "{why}");
        assert!(why.contains("Q-4301"), "{why}");
        // So few of so many are not too much, and what is long ago counts no more.
        let health = Health::default();
        assert_eq!(ask(&health, 0, 10_000, &[1, 2, 3, 4, 5]), None);
        let impure = Fault {
            code: Code::PLUGIN_IMPURE.number,
            ..fault()
        };
        let differ =
            [1, 2].map(|offset| Case::Message(TopicId(1), QueueId(0), QueueOffset(offset)));
        let asked = Asked {
            messages: 10_000,
            at_fault: &differ,
            fault: Some(&impure),
            now: 1,
        };
        assert!(health.asked("geo@1", &asked).is_some());
        let later = limits::QUARANTINE_WINDOW + 1;
        assert_eq!(ask(&health, later, 100, &[6, 7, 8, 9]), None);
        assert!(ask(&health, later + 1, 1, &[10]).is_some());
    }
}
