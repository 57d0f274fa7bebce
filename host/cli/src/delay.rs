//! `quern delay …`: messages that wait for their time: ls, cancel.

use clap::Subcommand;
use quern_client::{BrokerName, DelayedMessage, MessageHandle};
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
