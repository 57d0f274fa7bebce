//! `quern tx …`: transactions: those that are open, how one ended, ending one by hand, answering for a group.

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::Subcommand;
use quern_client::{
    BrokerName, MessageHandle, OpenTransaction, TransactionEnd, TransactionOutcome,
    TransactionState,
};
use serde::Serialize;

use crate::connect::{Connect, Options};
use crate::failure::Failure;
use crate::{exec, output, time};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Transactions whose end is not known, the oldest first.
    Ls {
        /// Of this topic only.
        topic: Option<String>,
        /// So many at the most.
        #[arg(short = 'n', long = "max", value_name = "COUNT", default_value_t = 100)]
        max: usize,
        #[command(flatten)]
        options: Options,
    },
    /// What each broker has counted of transactions since it started, and how many are open.
    Stats {
        #[command(flatten)]
        options: Options,
    },
    /// How a transaction ended.
    Show {
        #[command(flatten)]
        which: Which,
    },
    /// Deliver a transaction's message, in place of its producer.
    Commit {
        #[command(flatten)]
        which: Which,
    },
    /// See to it that a transaction's message is never delivered, in place of its producer.
    Rollback {
        #[command(flatten)]
        which: Which,
    },
    /// Answer the brokers' questions about transactions of a producer group, until Ctrl-C.
    Answer {
        /// The producer group.
        group: String,
        /// Ask this command, for each: the body on its stdin, the rest in QUERN_… variables. Exit code 0 commits,
        /// 1 rolls back, any other says that nobody can tell yet.
        #[arg(long, value_name = "COMMAND")]
        exec: String,
        #[command(flatten)]
        connect: Connect,
    },
}

/// One transaction.
#[derive(Debug, clap::Args)]
pub(crate) struct Which {
    topic: String,
    /// As `produce --tx` and `tx ls` print it: BROKER/POSITION.
    handle: MessageHandle,
    #[command(flatten)]
    options: Options,
}

pub(crate) async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Ls {
            topic,
            max,
            options,
        } => ls(topic.as_deref(), max, &options).await,
        Command::Stats { options } => stats(&options).await,
        Command::Show { which } => end(&which, None).await,
        Command::Commit { which } => end(&which, Some(TransactionEnd::Commit)).await,
        Command::Rollback { which } => end(&which, Some(TransactionEnd::RollBack)).await,
        Command::Answer {
            group,
            exec,
            connect,
        } => answer(&group, exec, &connect).await,
    }
}

#[derive(Serialize)]
struct Row {
    handle: String,
    topic: String,
    since: u64,
    group: String,
    asked: u32,
    id: String,
    keys: String,
}

async fn ls(topic: Option<&str>, max: usize, options: &Options) -> Result<(), Failure> {
    let client = options.connect.client().await?;
    let open = client.admin().list_transactions(topic, max).await?;
    let row = |(broker, it): (BrokerName, OpenTransaction)| {
        let handle = MessageHandle {
            broker,
            position: it.position,
        };
        Row {
            handle: handle.to_string(),
            topic: it.topic.to_string(),
            since: it.stored_at,
            group: it.group,
            asked: it.asked,
            id: it.message_id,
            keys: it.keys,
        }
    };
    let rows: Vec<_> = open.into_iter().map(row).collect();
    output::rows(
        options.output,
        &rows,
        &["HANDLE", "TOPIC", "SINCE", "GROUP", "ASKED", "ID", "KEYS"],
        |row| {
            vec![
                row.handle.clone(),
                row.topic.clone(),
                time::shown(row.since),
                row.group.clone(),
                row.asked.to_string(),
                row.id.clone(),
                row.keys.clone(),
            ]
        },
        "no transaction is open",
    )
}

#[derive(Serialize)]
struct Stats {
    broker: String,
    open: u64,
    oldest: Option<u64>,
    by_topic: BTreeMap<String, u64>,
    begun: u64,
    committed: u64,
    rolled_back: u64,
    set_aside: u64,
    asked: u64,
}

async fn stats(options: &Options) -> Result<(), Failure> {
    let client = options.connect.client().await?;
    let figures = client.admin().wait_figures().await?.into_iter();
    let rows = figures.map(|(broker, it)| {
        let it = it.transactions;
        Stats {
            broker: broker.to_string(),
            open: it.open,
            oldest: (it.oldest > 0).then_some(it.oldest),
            by_topic: output::by_topic(it.by_topic),
            begun: it.begun,
            committed: it.committed,
            rolled_back: it.rolled_back,
            set_aside: it.parked,
            asked: it.checks,
        }
    });
    output::rows(
        options.output,
        &rows.collect::<Vec<_>>(),
        &[
            "BROKER",
            "OPEN",
            "SINCE",
            "BEGUN",
            "COMMITTED",
            "ROLLED BACK",
            "SET ASIDE",
            "ASKED",
        ],
        |row| {
            vec![
                row.broker.clone(),
                row.open.to_string(),
                row.oldest.map_or_else(String::new, time::shown),
                row.begun.to_string(),
                row.committed.to_string(),
                row.rolled_back.to_string(),
                row.set_aside.to_string(),
                row.asked.to_string(),
            ]
        },
        "no broker is there",
    )
}

#[derive(Serialize)]
struct Ended {
    handle: String,
    id: String,
    state: &'static str,
    /// Where the message is, if it is anywhere.
    topic: Option<String>,
    queue: Option<u32>,
    offset: Option<u64>,
}

async fn end(which: &Which, end: Option<TransactionEnd>) -> Result<(), Failure> {
    let client = which.options.connect.client().await?;
    let admin = client.admin();
    let (id, outcome) = admin
        .end_transaction(&which.topic, &which.handle, end)
        .await?;
    let at = |topic: &str, queue, offset| (Some(topic.to_owned()), Some(queue), Some(offset));
    let (state, (topic, queue, offset)) = match outcome {
        TransactionOutcome::Undecided => ("open", (None, None, None)),
        TransactionOutcome::RolledBack => ("rolled back", (None, None, None)),
        TransactionOutcome::Committed { queue, offset } => {
            ("committed", at(&which.topic, queue.0, offset.0))
        }
        TransactionOutcome::Parked { offset } => (
            "set aside",
            at(quern_client::parked_topic().as_str(), 0, offset.0),
        ),
    };
    let row = Ended {
        handle: which.handle.to_string(),
        id,
        state,
        topic,
        queue,
        offset,
    };
    output::rows(
        which.options.output,
        &[row],
        &["HANDLE", "STATE", "TOPIC", "QUEUE", "OFFSET", "ID"],
        |row| {
            let number = |it: Option<u64>| it.map_or_else(String::new, |it| it.to_string());
            vec![
                row.handle.clone(),
                row.state.to_owned(),
                row.topic.clone().unwrap_or_default(),
                number(row.queue.map(u64::from)),
                number(row.offset),
                row.id.clone(),
            ]
        },
        "",
    )?;
    if end.is_none() || end == outcome.end() {
        return Ok(());
    }
    Err(Failure::new(
        4,
        format!(
            "Q-3021 transaction {} has ended otherwise: it is {state}",
            which.handle
        ),
    ))
}

async fn answer(group: &str, command: String, connect: &Connect) -> Result<(), Failure> {
    let client = connect.client().await?;
    let command: Arc<str> = command.into();
    let producer = client.transaction_producer(group, move |message| {
        let command = Arc::clone(&command);
        async move {
            let state = match exec::check(&command, &message).await {
                Ok(state) => state,
                Err(error) => {
                    eprintln!("{command}: {error}");
                    TransactionState::Unknown
                }
            };
            eprintln!("{} {}: {state:?}", message.handle(), message.message_id());
            state
        }
    });
    let producer = producer.start().await?;
    eprintln!("answering for producer group {group}; Ctrl-C stops");
    tokio::signal::ctrl_c().await?;
    drop(producer);
    client.close().await;
    Ok(())
}
