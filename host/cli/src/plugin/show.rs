//! Plugins as tables.

use std::collections::BTreeMap;

use quern_client::{
    BrokerName, FallBacks, OpenBreaker, PluginFaults, PluginName, PluginRef, Unjudged,
    VersionHealth, VersionState,
};
use serde::Serialize;

use crate::connect::Options;
use crate::failure::Failure;
use crate::output::{self, Output, thousands};

fn number(version: Option<u32>) -> String {
    version.map_or_else(|| "-".to_owned(), |it| it.to_string())
}

#[derive(Serialize)]
pub(super) struct Changed {
    pub(super) plugin: String,
    pub(super) broker: String,
    pub(super) before: Option<u32>,
    pub(super) active: Option<u32>,
}

pub(super) fn changed(rows: &[Changed], output: Output) -> Result<(), Failure> {
    output::rows(
        output,
        rows,
        &["PLUGIN", "BROKER", "BEFORE", "ACTIVE"],
        |row| {
            let (plugin, broker) = (row.plugin.clone(), row.broker.clone());
            vec![plugin, broker, number(row.before), number(row.active)]
        },
        "no broker has it",
    )
}

/// How a version does: what it failed with, what became of the messages, why it is not asked any more.
#[derive(Default, Serialize)]
struct Health {
    traps: u64,
    out_of_fuel: u64,
    out_of_memory: u64,
    bad_answers: u64,
    failures: u64,
    stalled: u64,
    passed: u64,
    parked: u64,
    /// Of a selector: messages with an order key, and without.
    refused: u64,
    in_turn: u64,
    /// Of a strategy: sharings out.
    kept: u64,
    averagely: u64,
    /// Of a bound filter: messages another decided about.
    instead: u64,
    last_fault: String,
    quarantined: Option<String>,
    /// For whom it is not asked for a while, and why.
    open: Vec<String>,
}

impl Health {
    fn add(&mut self, it: &VersionHealth) {
        let PluginFaults {
            traps,
            out_of_fuel,
            out_of_memory,
            bad_answers,
            failures,
        } = it.faults;
        self.traps += traps;
        self.out_of_fuel += out_of_fuel;
        self.out_of_memory += out_of_memory;
        self.bad_answers += bad_answers;
        self.failures += failures;
        let Unjudged {
            stalled,
            passed,
            parked,
        } = it.unjudged;
        self.stalled += stalled;
        self.passed += passed;
        self.parked += parked;
        if !it.last_fault.is_empty() {
            self.last_fault.clone_from(&it.last_fault);
        }
        if let Some(quarantined) = &it.quarantined {
            let why = format!("{}@{}: {}", it.plugin, it.version, quarantined.why);
            self.quarantined = Some(why);
        }
    }

    fn stood_in(&mut self, it: &FallBacks) {
        self.refused += it.refused;
        self.in_turn += it.in_turn;
        self.kept += it.kept;
        self.averagely += it.averagely;
        self.instead += it.instead;
    }

    fn open(&mut self, it: &OpenBreaker) {
        let group = it.group.as_ref().map(|group| format!(", group {group}"));
        let (topic, group, why) = (&it.topic, group.unwrap_or_default(), &it.why);
        self.open.push(format!("topic {topic}{group}: {why}"));
    }

    /// Who did what, in few words: `5 traps, 2 out of fuel`.
    fn faults(&self) -> String {
        let kinds = [
            (self.traps, "traps"),
            (self.out_of_fuel, "out of fuel"),
            (self.out_of_memory, "out of memory"),
            (self.bad_answers, "bad answers"),
            (self.failures, "could not say"),
        ];
        in_words(&kinds)
    }

    fn unjudged(&self) -> String {
        let kinds = [
            (self.stalled, "stalled"),
            (self.passed, "passed"),
            (self.parked, "parked"),
            (self.refused, "refused"),
            (self.in_turn, "in turn"),
            (self.kept, "kept"),
            (self.averagely, "averagely"),
            (self.instead, "decided instead"),
            (self.open.len() as u64, "not asked now"),
        ];
        in_words(&kinds)
    }
}

fn in_words(kinds: &[(u64, &str)]) -> String {
    let some = kinds.iter().filter(|(count, _)| *count > 0);
    let some = some.map(|(count, what)| format!("{} {what}", thousands(*count)));
    some.collect::<Vec<_>>().join(", ")
}

/// What brokers say of how plugins do, by what the caller wants to know it of.
async fn health<K: Ord>(
    client: &quern_client::Client,
    key: impl Fn(BrokerName, PluginName, u32) -> K,
) -> Result<BTreeMap<K, Health>, Failure> {
    let mut all = BTreeMap::<K, Health>::new();
    for (broker, it) in client.admin().plugin_health().await? {
        let key = key(broker, it.plugin.clone(), it.version);
        all.entry(key).or_default().add(&it);
    }
    for (broker, it) in client.admin().plugin_fall_backs().await? {
        let key = key(broker, it.plugin.clone(), it.version);
        all.entry(key).or_default().stood_in(&it);
    }
    for (broker, states) in client.admin().binding_states().await? {
        for it in &states.open {
            if let Ok(exact) = it.plugin.parse::<PluginRef>() {
                let key = key(broker.clone(), exact.name, exact.version.unwrap_or(0));
                all.entry(key).or_default().open(it);
            }
        }
    }
    Ok(all)
}

#[derive(Serialize)]
struct Row {
    plugin: String,
    broker: String,
    kind: String,
    built_in: bool,
    active: Option<u32>,
    versions: u32,
    messages: u64,
    delivered: u64,
    faults: u64,
    health: Health,
}

pub(super) async fn ls(options: &Options) -> Result<(), Failure> {
    let client = options.connect.client().await?;
    let listed = client.admin().list_plugins().await?;
    let mut health = health(&client, |broker, name, _| (broker, name)).await?;
    let rows: Vec<Row> = listed
        .into_iter()
        .map(|(broker, it)| Row {
            health: health
                .remove(&(broker.clone(), it.name.clone()))
                .unwrap_or_default(),
            plugin: it.name.to_string(),
            broker: broker.to_string(),
            kind: it.kind.to_string(),
            built_in: it.built_in,
            active: it.active,
            versions: it.versions,
            messages: it.figures.messages,
            delivered: it.figures.delivered,
            faults: it.figures.faults,
        })
        .collect();
    output::rows(
        options.output,
        &rows,
        &[
            "PLUGIN", "BROKER", "KIND", "ACTIVE", "MESSAGES", "FAULTS", "UNJUDGED",
        ],
        |row| {
            let active = match (row.built_in, &row.health.quarantined) {
                (true, _) => "built in".to_owned(),
                (false, None) => format!("{} of {}", number(row.active), row.versions),
                (false, Some(_)) => {
                    format!(
                        "{} of {}, one quarantined",
                        number(row.active),
                        row.versions
                    )
                }
            };
            let (plugin, broker) = (row.plugin.clone(), row.broker.clone());
            let (faults, unjudged) = (row.health.faults(), row.health.unjudged());
            let first = [
                plugin,
                broker,
                row.kind.clone(),
                active,
                thousands(row.messages),
            ];
            first.into_iter().chain([faults, unjudged]).collect()
        },
        "there are none",
    )
}

#[derive(Serialize)]
struct VersionRow {
    plugin: String,
    broker: String,
    version: u32,
    state: &'static str,
    is_here: bool,
    digest: String,
    size: u64,
    /// ms since 1970.
    added_at: u64,
    kind: String,
    calls_itself: String,
    author_version: String,
    summary: String,
    language: Option<String>,
    fuel_per_message: u64,
    cases: u32,
    calls: u64,
    messages: u64,
    delivered: u64,
    faults: u64,
    fuel: u64,
    counters: Vec<(String, u64)>,
    health: Health,
}

impl VersionRow {
    fn cells(&self) -> Vec<String> {
        let state = match self.is_here {
            true => self.state.to_owned(),
            false => format!("{}, bytes missing", self.state),
        };
        let digest = self.digest.get(..12).unwrap_or_default().to_owned();
        vec![
            self.broker.clone(),
            self.version.to_string(),
            state,
            digest,
            self.author_version.clone(),
            thousands(self.messages),
            thousands(self.delivered),
            self.health.faults(),
            self.health.unjudged(),
            self.summary.clone(),
        ]
    }
}

pub(super) async fn info(name: &str, options: &Options) -> Result<(), Failure> {
    let client = options.connect.client().await?;
    let mut rows = Vec::new();
    let mut health = health(&client, |broker, name, version| (broker, name, version)).await?;
    let plugin = PluginName::new(name).map_err(|error| Failure::usage(error.to_string()))?;
    for (broker, described) in client.admin().describe_plugin(name).await? {
        rows.extend(described.versions.into_iter().map(|it| {
            let figures = it.figures.unwrap_or_default();
            let key = (broker.clone(), plugin.clone(), it.version);
            VersionRow {
                health: health.remove(&key).unwrap_or_default(),
                plugin: name.to_owned(),
                broker: broker.to_string(),
                version: it.version,
                state: state(it.state),
                is_here: it.is_here,
                digest: it.digest.to_string(),
                size: it.size,
                added_at: it.added_at,
                kind: it.about.kind.to_string(),
                calls_itself: it.about.calls_itself,
                author_version: it.about.author_version,
                summary: it.about.summary,
                language: it.about.language,
                fuel_per_message: it.about.fuel_per_message,
                cases: it.about.cases,
                calls: figures.calls,
                messages: figures.messages,
                delivered: figures.delivered,
                faults: figures.faults,
                fuel: figures.fuel,
                counters: it.counters,
            }
        }));
    }
    let heading = [
        "BROKER",
        "VERSION",
        "STATE",
        "DIGEST",
        "AUTHOR'S",
        "MESSAGES",
        "DELIVERED",
        "FAULTS",
        "UNJUDGED",
        "SUMMARY",
    ];
    output::rows(
        options.output,
        &rows,
        &heading,
        VersionRow::cells,
        "it has no versions left",
    )?;
    rows.iter().for_each(tell);
    Ok(())
}

/// How brokers tell of messages nobody had to be asked about.
const REMEMBERED: &str = "quern:remembered";

/// What a table has no room for.
fn tell(row: &VersionRow) {
    let mut counters = row.counters.iter();
    if let Some((_, count)) = counters.find(|(name, _)| name == REMEMBERED) {
        eprintln!(
            "{} remembers what it has said: {} messages it was not asked about again",
            row.broker,
            thousands(*count)
        );
    }
    for open in &row.health.open {
        let (plugin, version, broker) = (&row.plugin, row.version, &row.broker);
        eprintln!("{plugin}@{version} is not asked for a while on {broker}, {open}");
    }
    if let Some(why) = &row.health.quarantined {
        eprintln!("quarantined on {}, {why}", row.broker);
    } else if !row.health.last_fault.is_empty() {
        let (plugin, version) = (&row.plugin, row.version);
        eprintln!(
            "{plugin}@{version} failed last with {}",
            row.health.last_fault
        );
    }
}

fn state(state: VersionState) -> &'static str {
    match state {
        VersionState::Ready => "ready",
        VersionState::Active => "active",
        VersionState::Retired => "retired",
        VersionState::Shadow => "shadow",
        VersionState::Canary => "canary",
        VersionState::Quarantined => "quarantined",
    }
}
