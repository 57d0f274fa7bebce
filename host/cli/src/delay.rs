//! `quern delay …`: messages that wait for their time: ls, cancel.

use std::collections::BTreeMap;

use clap::Subcommand;
use quern_client::{BrokerName, DelayFigures, DelayedMessage, MessageHandle};
use serde::Serialize;

use crate::connect::Options;
use crate::failure::Failure;
use crate::{output, time};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Messages of a topic that wait, the soonest first.
    Ls {
        topic: String,
        /// So many at the most.
        #[arg(short = 'n', long = "max", value_name = "COUNT", default_value_t = 100)]
        max: usize,
        #[command(flatten)]
        options: Options,
    },
    /// How many messages wait on each broker, retries too, what became of others since it started, and how late they came.
    Stats {
        #[command(flatten)]
        options: Options,
    },
    /// Take messages back before they are due: they are never delivered.
    Cancel {
        topic: String,
        /// As `produce --delay` and `delay ls` print them: BROKER/POSITION.
        #[arg(required = true)]
        handles: Vec<MessageHandle>,
        #[command(flatten)]
        options: Options,
    },
}

pub(crate) async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Ls {
            topic,
            max,
            options,
        } => ls(&topic, max, &options).await,
        Command::Stats { options } => stats(&options).await,
        Command::Cancel {
            topic,
            handles,
            options,
        } => cancel(&topic, &handles, &options).await,
    }
}

#[derive(Serialize)]
struct Row {
    due_at: u64,
    handle: String,
    queue: u32,
    id: String,
    tag: String,
    keys: String,
    body_bytes: u32,
}

impl Row {
    fn new(broker: BrokerName, message: DelayedMessage) -> Self {
        let handle = MessageHandle {
            broker,
            position: message.position,
        };
        Self {
            due_at: message.due_at,
            handle: handle.to_string(),
            queue: message.queue.0,
            id: message.message_id,
            tag: message.tag,
            keys: message.keys,
            body_bytes: message.body_bytes,
        }
    }
}

fn show(rows: &[Row], options: &Options, nothing: &str) -> Result<(), Failure> {
    output::rows(
        options.output,
        rows,
        &["DUE AT", "HANDLE", "QUEUE", "ID", "TAG", "KEYS", "BYTES"],
        |row| {
            vec![
                time::shown(row.due_at),
                row.handle.clone(),
                row.queue.to_string(),
                row.id.clone(),
                row.tag.clone(),
                row.keys.clone(),
                row.body_bytes.to_string(),
            ]
        },
        nothing,
    )
}

async fn ls(topic: &str, max: usize, options: &Options) -> Result<(), Failure> {
    let client = options.connect.client().await?;
    let found = client.admin().list_delayed(topic, max).await?.into_iter();
    let rows: Vec<_> = found.map(|(broker, it)| Row::new(broker, it)).collect();
    show(&rows, options, "no message waits")
}

#[derive(Serialize)]
struct Stats {
    broker: String,
    waiting: u64,
    next_due: Option<u64>,
    by_topic: BTreeMap<String, u64>,
    taken: u64,
    delivered: u64,
    recalled: u64,
    late: Vec<Late>,
    latest_ms: u64,
}

/// Delivered within so many ms of their time, and not within fewer.
#[derive(Serialize)]
struct Late {
    within_ms: Option<u64>,
    messages: u64,
}

impl Stats {
    fn new(broker: &BrokerName, it: DelayFigures) -> Self {
        let late = it.late.into_iter().map(|(within, messages)| Late {
            within_ms: (within < u64::MAX).then_some(within),
            messages,
        });
        Self {
            broker: broker.to_string(),
            waiting: it.waiting,
            next_due: (it.next_due > 0).then_some(it.next_due),
            by_topic: output::by_topic(it.by_topic),
            taken: it.taken,
            delivered: it.delivered,
            recalled: it.recalled,
            late: late.collect(),
            latest_ms: it.latest_ms,
        }
    }

    /// Within how many ms so many in a hundred were delivered, as far as the steps tell.
    fn within(&self, percent: u64) -> String {
        let mut seen = 0;
        let reached = self.late.iter().find(|it| {
            seen += it.messages;
            seen > 0 && seen * 100 >= self.delivered * percent
        });
        match reached {
            None => String::new(),
            Some(it) => match it.within_ms {
                Some(ms) => format!("{} ms", ms.min(self.latest_ms.max(1))),
                None => format!("{} ms", self.latest_ms),
            },
        }
    }
}

async fn stats(options: &Options) -> Result<(), Failure> {
    let client = options.connect.client().await?;
    let figures = client.admin().wait_figures().await?.into_iter();
    let rows: Vec<_> = figures
        .map(|(broker, it)| Stats::new(&broker, it.delays))
        .collect();
    output::rows(
        options.output,
        &rows,
        &[
            "BROKER",
            "WAITING",
            "NEXT DUE",
            "TAKEN",
            "DELIVERED",
            "TAKEN BACK",
            "LATE P50",
            "P99",
            "MAX",
        ],
        |row| {
            vec![
                row.broker.clone(),
                row.waiting.to_string(),
                row.next_due.map_or_else(String::new, time::shown),
                row.taken.to_string(),
                row.delivered.to_string(),
                row.recalled.to_string(),
                row.within(50),
                row.within(99),
                format!("{} ms", row.latest_ms),
            ]
        },
        "no broker is there",
    )
}

/// Each for itself: one that is too late does not keep the others from being taken back.
async fn cancel(topic: &str, handles: &[MessageHandle], options: &Options) -> Result<(), Failure> {
    let client = options.connect.client().await?;
    let (mut rows, mut failed) = (Vec::new(), None);
    for handle in handles {
        match client.recall(topic, handle).await {
            Ok(message) => rows.push(Row::new(handle.broker.clone(), message)),
            Err(error) => {
                eprintln!("{handle}: {error}");
                failed.get_or_insert(error);
            }
        }
    }
    if !rows.is_empty() {
        show(&rows, options, "")?;
    }
    match failed {
        None => Ok(()),
        Some(error) if rows.is_empty() => Err(error.into()),
        Some(error) => Err(Failure::partial(error.to_string())),
    }
}
