//! Plugins as tables.

use quern_client::{TrialKind, TrialReport, VersionState};
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
}

pub(super) async fn ls(options: &Options) -> Result<(), Failure> {
    let client = options.connect.client().await?;
    let listed = client.admin().list_plugins().await?;
    let rows: Vec<Row> = listed
        .into_iter()
        .map(|(broker, it)| Row {
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
        &["PLUGIN", "BROKER", "KIND", "ACTIVE", "MESSAGES", "FAULTS"],
        |row| {
            let active = match row.built_in {
                true => "built in".to_owned(),
                false => format!("{} of {}", number(row.active), row.versions),
            };
            let (plugin, broker) = (row.plugin.clone(), row.broker.clone());
            let (messages, faults) = (thousands(row.messages), thousands(row.faults));
            vec![plugin, broker, row.kind.clone(), active, messages, faults]
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
}

pub(super) async fn info(name: &str, options: &Options) -> Result<(), Failure> {
    let client = options.connect.client().await?;
    let mut rows = Vec::new();
    for (broker, described) in client.admin().describe_plugin(name).await? {
        rows.extend(described.versions.into_iter().map(|it| {
            let figures = it.figures.unwrap_or_default();
            VersionRow {
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
        "SUMMARY",
    ];
    output::rows(
        options.output,
        &rows,
        &heading,
        |row| {
            let state = match row.is_here {
                true => row.state.to_owned(),
                false => format!("{}, bytes missing", row.state),
            };
            let figures = [row.messages, row.delivered, row.faults].map(thousands);
            let words = [row.author_version.clone()];
            let digest = row.digest.get(..12).unwrap_or_default().to_owned();
            let first = [row.broker.clone(), row.version.to_string(), state, digest];
            let last = [row.summary.clone()];
            first
                .into_iter()
                .chain(words)
                .chain(figures)
                .chain(last)
                .collect()
        },
        "it has no versions left",
    )
}

#[derive(Serialize)]
struct TrialRow {
    plugin: String,
    broker: String,
    version: u32,
    how: &'static str,
    percent: f64,
    decided: u64,
    agreed: u64,
    only_active: u64,
    only_trial: u64,
    failed: u64,
    ended: Option<String>,
    disagreements: Vec<DisagreementRow>,
}

#[derive(Serialize)]
struct DisagreementRow {
    topic: String,
    queue: u32,
    offset: u64,
    let_through_by: &'static str,
}

impl TrialRow {
    fn new(plugin: &str, broker: String, report: TrialReport) -> Self {
        let disagreements = report.disagreements.into_iter().map(|it| DisagreementRow {
            topic: it.topic.to_string(),
            queue: it.queue.0,
            offset: it.offset.0,
            let_through_by: if it.by_trial { "trial" } else { "active" },
        });
        Self {
            plugin: plugin.to_owned(),
            broker,
            version: report.trial.version,
            how: match report.trial.how {
                TrialKind::Shadow => "shadow",
                TrialKind::Canary => "canary",
            },
            percent: f64::from(report.trial.permille) / 10.0,
            decided: report.decided,
            agreed: report.agreed,
            only_active: report.only_active,
            only_trial: report.only_trial,
            failed: report.failed,
            ended: report.ended,
            disagreements: disagreements.collect(),
        }
    }
}

pub(super) async fn trial(name: &str, options: &Options) -> Result<(), Failure> {
    let client = options.connect.client().await?;
    let described = client.admin().describe_plugin(name).await?;
    let rows = described.into_iter().filter_map(|(broker, it)| {
        let report = it.trial?;
        Some(TrialRow::new(name, broker.to_string(), report))
    });
    let rows: Vec<TrialRow> = rows.collect();
    let heading = [
        "BROKER",
        "VERSION",
        "TRIAL",
        "SHARE",
        "DECIDED",
        "AGREED",
        "ONLY ACTIVE",
        "ONLY TRIAL",
        "FAILED",
        "",
    ];
    output::rows(
        options.output,
        &rows,
        &heading,
        |row| {
            let first = [row.broker.clone(), row.version.to_string()];
            let share = [row.how.to_owned(), format!("{}%", row.percent)];
            let counts = [row.decided, row.agreed, row.only_active, row.only_trial];
            let counts = counts.into_iter().chain([row.failed]).map(thousands);
            let ended = row.ended.as_ref().map(|why| format!("ended: {why}"));
            let first = first.into_iter().chain(share).chain(counts);
            first.chain([ended.unwrap_or_default()]).collect()
        },
        "nothing is on trial",
    )
}

fn state(state: VersionState) -> &'static str {
    match state {
        VersionState::Ready => "ready",
        VersionState::Active => "active",
        VersionState::Retired => "retired",
        VersionState::Shadow => "shadow",
        VersionState::Canary => "canary",
    }
}
