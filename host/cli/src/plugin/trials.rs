//! What a trial has come to.

use std::collections::BTreeMap;

use quern_client::{BrokerName, QueueId, TrialKind, TrialMove, TrialReport};
use serde::Serialize;

use crate::connect::Options;
use crate::failure::Failure;
use crate::output::{self, Output, thousands};

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
    /// A selector or a strategy would have decided otherwise.
    otherwise: u64,
    failed: u64,
    ended: Option<String>,
    disagreements: Vec<DisagreementRow>,
    moves: Vec<MoveRow>,
}

#[derive(Serialize)]
struct DisagreementRow {
    topic: String,
    queue: u32,
    offset: u64,
    let_through_by: &'static str,
}

/// A message, or a queue of a group, that would have gone elsewhere.
#[derive(Serialize)]
struct MoveRow {
    topic: String,
    key: Option<String>,
    group: Option<String>,
    /// `broker/queue`.
    queue: Option<String>,
    /// A queue, or a member.
    active: Option<String>,
    trial: Option<String>,
}

impl MoveRow {
    fn new(of: TrialMove) -> Self {
        let place = |(broker, queue): (BrokerName, QueueId)| format!("{broker}/{queue}");
        match of {
            TrialMove::Message {
                topic,
                key,
                active,
                trial,
            } => Self {
                topic: topic.to_string(),
                key: Some(key),
                group: None,
                queue: None,
                active: Some(place(active)),
                trial: Some(place(trial)),
            },
            TrialMove::Queue {
                group,
                topic,
                broker,
                queue,
                active,
                trial,
            } => Self {
                topic: topic.to_string(),
                key: None,
                group: Some(group.to_string()),
                queue: Some(place((broker, queue))),
                active,
                trial,
            },
        }
    }

    fn tell(&self) {
        let [active, trial] = [&self.active, &self.trial];
        let [active, trial] = [active, trial].map(|it| it.as_deref().unwrap_or("nobody"));
        let topic = &self.topic;
        match (&self.key, &self.group, &self.queue) {
            (Some(key), ..) => eprintln!("{topic}, {key:?}: in {active}, by the trial in {trial}"),
            (_, Some(group), Some(queue)) => {
                eprintln!("{topic} {queue} of {group}: {active}'s, by the trial {trial}'s");
            }
            _ => {}
        }
    }
}

impl TrialRow {
    fn new(plugin: &str, broker: String, report: TrialReport, moves: Vec<MoveRow>) -> Self {
        // Of a canary nothing is compared.
        let compared = report.agreed + report.only_active + report.only_trial;
        let (how, otherwise) = match report.trial.how {
            TrialKind::Shadow => ("shadow", report.decided - compared),
            TrialKind::Canary => ("canary", 0),
        };
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
            how,
            percent: f64::from(report.trial.permille) / 10.0,
            decided: report.decided,
            agreed: report.agreed,
            only_active: report.only_active,
            only_trial: report.only_trial,
            otherwise,
            failed: report.failed,
            ended: report.ended,
            disagreements: disagreements.collect(),
            moves,
        }
    }
}

pub(super) async fn trial(name: &str, options: &Options) -> Result<(), Failure> {
    let client = options.connect.client().await?;
    let described = client.admin().describe_plugin(name).await?;
    let mut moves = BTreeMap::<BrokerName, Vec<MoveRow>>::new();
    for (broker, it) in client.admin().trial_moves(name).await? {
        moves.entry(broker).or_default().push(MoveRow::new(it));
    }
    let rows = described.into_iter().filter_map(|(broker, it)| {
        let (report, moves) = (it.trial?, moves.remove(&broker).unwrap_or_default());
        Some(TrialRow::new(name, broker.to_string(), report, moves))
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
        "OTHERWISE",
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
            let counts = counts.into_iter().chain([row.otherwise, row.failed]);
            let counts = counts.map(thousands);
            let ended = row.ended.as_ref().map(|why| format!("ended: {why}"));
            let first = first.into_iter().chain(share).chain(counts);
            first.chain([ended.unwrap_or_default()]).collect()
        },
        "nothing is on trial",
    )?;
    if matches!(options.output, Output::Human) {
        rows.iter().flat_map(|it| &it.moves).for_each(MoveRow::tell);
    }
    Ok(())
}
