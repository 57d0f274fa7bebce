//! `quern topic …`: create, ls, describe, route, rm.

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::connect::Connect;
use crate::failure::Failure;
use crate::output::{self, Output, thousands};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a topic on every broker.
    Create {
        topic: String,
        /// Queues on each broker.
        #[arg(long, default_value_t = 8)]
        queues: u32,
        #[command(flatten)]
        options: Options,
    },
    /// All topics.
    Ls {
        #[command(flatten)]
        options: Options,
    },
    /// A topic's queues and what is in them.
    Describe {
        topic: String,
        #[command(flatten)]
        options: Options,
    },
    /// Which brokers serve a topic.
    Route {
        topic: String,
        #[command(flatten)]
        options: Options,
    },
    /// Remove a topic; its messages can no longer be read.
    Rm {
        topic: String,
        /// Do it without asking.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        options: Options,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    connect: Connect,
    /// Form of the result.
    #[arg(short, long, value_enum, default_value_t = Output::Human)]
    output: Output,
}

#[derive(Serialize)]
struct TopicRow {
    topic: String,
    broker: String,
    read_queues: u32,
    write_queues: u32,
    messages: u64,
}

#[derive(Serialize)]
struct QueueRow {
    topic: String,
    broker: String,
    queue: u32,
    min: u64,
    max: u64,
    messages: u64,
}

#[derive(Serialize)]
struct RouteRow {
    broker: String,
    cluster: String,
    address: String,
    read_queues: u32,
    write_queues: u32,
}

pub(crate) async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Create {
            topic,
            queues,
            options,
        } => create(&topic, queues, &options).await,
        Command::Ls { options } => ls(&options).await,
        Command::Describe { topic, options } => describe(&topic, &options).await,
        Command::Route { topic, options } => route(&topic, &options).await,
        Command::Rm {
            topic,
            yes,
            options,
        } => rm(&topic, yes, &options).await,
    }
}

async fn create(topic: &str, queues: u32, options: &Options) -> Result<(), Failure> {
    let client = options.connect.client().await?;
    let brokers = client.admin().create_topic(topic, queues).await?;
    for broker in brokers {
        eprintln!("created topic {topic} with {queues} queues on {broker}");
    }
    Ok(())
}

async fn ls(options: &Options) -> Result<(), Failure> {
    let client = options.connect.client().await?;
    let topics = client.admin().list_topics().await?;
    let rows: Vec<TopicRow> = topics
        .into_iter()
        .map(|(broker, topic)| TopicRow {
            topic: topic.topic.to_string(),
            broker: broker.to_string(),
            read_queues: topic.read_queues,
            write_queues: topic.write_queues,
            messages: topic.messages,
        })
        .collect();
    output::rows(
        options.output,
        &rows,
        &["TOPIC", "BROKER", "QUEUES", "MESSAGES"],
        |row| {
            let (topic, broker) = (row.topic.clone(), row.broker.clone());
            let queues = row.write_queues.to_string();
            vec![topic, broker, queues, thousands(row.messages)]
        },
        "there are no topics yet; make one: quern topic create NAME",
    )
}

async fn describe(topic: &str, options: &Options) -> Result<(), Failure> {
    let client = options.connect.client().await?;
    let mut rows = Vec::new();
    for (broker, found) in client.admin().describe_topic(topic).await? {
        rows.extend(found.queues.into_iter().map(|it| QueueRow {
            topic: topic.to_owned(),
            broker: broker.to_string(),
            queue: it.queue.0,
            min: it.min.0,
            max: it.max.0,
            messages: it.max.0 - it.min.0,
        }));
    }
    output::rows(
        options.output,
        &rows,
        &["BROKER", "QUEUE", "FIRST", "NEXT", "MESSAGES"],
        |row| {
            let numbers = [row.queue.into(), row.min, row.max, row.messages];
            std::iter::once(row.broker.clone())
                .chain(numbers.into_iter().map(thousands))
                .collect()
        },
        "the topic has no queues",
    )
}

async fn route(topic: &str, options: &Options) -> Result<(), Failure> {
    let client = options.connect.client().await?;
    let route = client.admin().route(topic).await?;
    let rows: Vec<RouteRow> = route
        .into_iter()
        .map(|it| RouteRow {
            broker: it.broker.to_string(),
            cluster: it.cluster,
            address: it.address,
            read_queues: it.read_queues,
            write_queues: it.write_queues,
        })
        .collect();
    output::rows(
        options.output,
        &rows,
        &["BROKER", "CLUSTER", "ADDRESS", "QUEUES"],
        |row| {
            let (broker, cluster) = (row.broker.clone(), row.cluster.clone());
            let address = row.address.clone();
            vec![broker, cluster, address, row.write_queues.to_string()]
        },
        "nobody serves it",
    )
}

async fn rm(topic: &str, yes: bool, options: &Options) -> Result<(), Failure> {
    use std::io::IsTerminal as _;
    if !yes {
        if !std::io::stdin().is_terminal() {
            return Err(Failure::usage(format!(
                "removing topic {topic} loses its messages; say --yes if you mean it"
            )));
        }
        eprint!("removing topic {topic} loses its messages; type its name to go on: ");
        let mut typed = String::new();
        std::io::stdin().read_line(&mut typed)?;
        if typed.trim() != topic {
            return Err(Failure::new(1, "not removed"));
        }
    }
    let client = options.connect.client().await?;
    let messages = client.admin().delete_topic(topic).await?;
    eprintln!(
        "removed topic {topic} and its {} messages",
        thousands(messages)
    );
    Ok(())
}
