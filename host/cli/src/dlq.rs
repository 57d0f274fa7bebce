//! `quern dlq …`: dead letters, the messages a group has given back too often: ls, resend, rm.

use clap::Subcommand;
use quern_client::{Client, MessageQueue, MessageView, PullOptions, QueueOffset, retry};
use serde::Serialize;

use crate::connect::Options;
use crate::failure::Failure;
use crate::output;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Dead letters of a group that have not been dealt with, where they come from and why they are here.
    Ls {
        group: String,
        /// So many at the most.
        #[arg(short = 'n', long = "max", value_name = "COUNT", default_value_t = 100)]
        max: usize,
        #[command(flatten)]
        options: Options,
    },
    /// Send them back to the topics they come from, where all groups receive them again.
    Resend {
        group: String,
        /// Only so many, the oldest of each broker.
        #[arg(short = 'n', long = "max", value_name = "COUNT")]
        max: Option<u32>,
        #[command(flatten)]
        options: Options,
    },
    /// Take all there are for dealt with.
    Rm {
        group: String,
        /// Do it without asking.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        options: Options,
    },
}

pub(crate) async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Ls {
            group,
            max,
            options,
        } => ls(&group, max, &options).await,
        Command::Resend {
            group,
            max,
            options,
        } => resend(&group, max, &options).await,
        Command::Rm {
            group,
            yes,
            options,
        } => rm(&group, yes, &options).await,
    }
}

/// The queues with dead letters that have not been dealt with: the first of them, and the end.
async fn open(
    client: &Client,
    group: &str,
) -> Result<Vec<(MessageQueue, QueueOffset, QueueOffset)>, Failure> {
    let topic = client.dead_letter_topic(group)?;
    let has = client.admin().list_topics().await?;
    if !has.iter().any(|(_, it)| it.topic == topic) {
        return Ok(Vec::new());
    }
    let pull = client.pull_consumer();
    let committed = pull.committed(group, topic.as_str()).await?;
    let mut open = Vec::new();
    for queue in pull.queues(topic.as_str()).await? {
        let (min, end) = pull.offset_range(&queue).await?;
        let committed = committed.iter().find(|(it, _)| *it == queue);
        let from = committed.map_or(min, |(_, at)| *at).max(min);
        if from < end {
            open.push((queue, from, end));
        }
    }
    Ok(open)
}

#[derive(Serialize)]
struct Row {
    broker: String,
    offset: u64,
    topic: String,
    queue: String,
    origin_offset: String,
    id: String,
    attempts: u16,
    dead_since: u64,
    reason: String,
}

impl Row {
    fn new(message: &MessageView) -> Self {
        let note = |name| message.property(name).unwrap_or_default().to_owned();
        Self {
            broker: message.queue().broker.to_string(),
            offset: message.offset().0,
            topic: note(retry::ORIGIN_TOPIC),
            queue: note(retry::ORIGIN_QUEUE),
            origin_offset: note(retry::ORIGIN_OFFSET),
            id: message.message_id().to_owned(),
            attempts: message.attempts(),
            dead_since: message.stored_at(),
            reason: note(retry::REASON),
        }
    }
}

async fn ls(group: &str, max: usize, options: &Options) -> Result<(), Failure> {
    let client = options.connect.client().await?;
    let pull = client.pull_consumer();
    let mut rows = Vec::new();
    for (queue, mut from, end) in open(&client, group).await? {
        while from < end && rows.len() < max {
            let pulled = pull.pull(&queue, from, &PullOptions::default()).await?;
            if pulled.next <= from {
                break;
            }
            from = pulled.next;
            rows.extend(pulled.messages.iter().map(Row::new));
        }
    }
    rows.truncate(max);
    output::rows(
        options.output,
        &rows,
        &[
            "TOPIC",
            "BROKER",
            "QUEUE",
            "OFFSET",
            "ID",
            "GIVEN BACK",
            "REASON",
        ],
        |row| {
            vec![
                row.topic.clone(),
                row.broker.clone(),
                row.queue.clone(),
                row.origin_offset.clone(),
                row.id.clone(),
                row.attempts.to_string(),
                row.reason.clone(),
            ]
        },
        "the group has no dead letters",
    )
}

async fn resend(group: &str, max: Option<u32>, options: &Options) -> Result<(), Failure> {
    let client = options.connect.client().await?;
    let mut resent = 0;
    if !open(&client, group).await?.is_empty() {
        resent = client.admin().resend_dead_letters(group, max).await?;
    }
    eprintln!("{resent} dead letters of group {group} were sent back");
    Ok(())
}

async fn rm(group: &str, yes: bool, options: &Options) -> Result<(), Failure> {
    let question = format!("removing the dead letters of group {group} gives them up");
    output::confirm(&question, group, yes)?;
    let client = options.connect.client().await?;
    let open = open(&client, group).await?;
    let count: u64 = open.iter().map(|(_, from, end)| end.0 - from.0).sum();
    let ends: Vec<_> = open
        .into_iter()
        .map(|(queue, _, end)| (queue, end))
        .collect();
    let topic = client.dead_letter_topic(group)?;
    if !ends.is_empty() {
        client
            .pull_consumer()
            .commit(group, topic.as_str(), &ends)
            .await?;
    }
    eprintln!("{count} dead letters of group {group} are dealt with");
    Ok(())
}
