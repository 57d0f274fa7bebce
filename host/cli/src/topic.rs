//! `quern topic …`: create, ls, describe, set, route, rm, restore.

use std::time::Duration;

use clap::{Args, Subcommand};
use quern_client::{BrokerName, Cleanup, Durability, MessageType, Permission, TopicSetting};
use serde::Serialize;

use crate::connect::Options;
use crate::failure::Failure;
use crate::group::behind;
use crate::output::{self, thousands};
use crate::time;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a topic on every broker.
    Create {
        topic: String,
        /// Queues on each broker.
        #[arg(long, default_value_t = 8)]
        queues: u32,
        /// How safe messages are that do not say themselves: local = on the broker's disk, fast = in
        /// its page cache. By default as the broker has it.
        #[arg(long, value_name = "CLASS")]
        durability: Option<Durability>,
        #[command(flatten)]
        rules: Rules,
        #[command(flatten)]
        options: Options,
    },
    /// Change settings of a topic while it is used; without changes, show them.
    Set {
        topic: String,
        #[command(flatten)]
        changes: Changes,
        #[command(flatten)]
        options: Options,
    },
    /// All topics.
    Ls {
        /// Those that are being deleted, and until when they can be restored.
        #[arg(long)]
        deleted: bool,
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
    /// Remove a topic. It is closed at once, and can be restored for a while; then it is gone.
    Rm {
        topic: String,
        /// How long it can be restored: 30d at the most.
        #[arg(long, value_name = "DELAY", default_value = "24h", value_parser = time::delay)]
        grace: u64,
        /// It is gone at once, and for good; also one that is being deleted.
        #[arg(long, conflicts_with = "grace")]
        now: bool,
        /// Do it without asking.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        options: Options,
    },
    /// Bring a topic back that is being deleted, with its messages and the offsets of its groups.
    Restore {
        topic: String,
        #[command(flatten)]
        options: Options,
    },
}

/// What may be done with a topic.
#[derive(Debug, Args)]
pub(crate) struct Rules {
    /// What clients may do: rw, r, w, none (or RocketMQ's 6, 4, 2, 0).
    #[arg(long, value_name = "PERM")]
    perm: Option<Permission>,
    /// Which messages it takes: normal = without an order key, fifo = with one, delay = for
    /// later, mixed = all.
    #[arg(long = "type", value_name = "TYPE", value_parser = message_type)]
    messages: Option<Messages>,
    /// How long its messages are kept, longer than the log's --file-reserved-time or less: 30m, 7d;
    /// default = as the log.
    #[arg(long, value_name = "DELAY", value_parser = retention)]
    retention: Option<Retention>,
    /// What becomes of messages in time: delete = they go when they are old enough, compact = the newest
    /// of each key in a queue stays for ever (or RocketMQ's DELETE, COMPACTION). To have the messages of a
    /// key in one queue, give them an order key, too, or the topic one queue.
    #[arg(long, value_name = "POLICY")]
    cleanup: Option<Cleanup>,
}

/// How long messages are kept, or none of the topic's own.
#[derive(Debug, Clone, Copy)]
struct Retention(Option<u64>);

fn retention(text: &str) -> Result<Retention, String> {
    match text {
        "default" => Ok(Retention(None)),
        text => match time::delay(text) {
            Ok(ms) => Ok(Retention(Some(ms))),
            Err(error) => Err(format!("{error}; or default")),
        },
    }
}

/// A message type, or any.
#[derive(Debug, Clone, Copy)]
struct Messages(Option<MessageType>);

/// What RocketMQ calls the type of a topic that takes any message.
const MIXED: &str = "mixed";

fn message_type(text: &str) -> Result<Messages, String> {
    match text {
        MIXED => Ok(Messages(None)),
        text => match text.parse() {
            Ok(it) => Ok(Messages(Some(it))),
            Err(error) => Err(format!("{error}, mixed")),
        },
    }
}

impl Rules {
    fn settings(&self) -> impl Iterator<Item = TopicSetting> {
        let perm = self.perm.map(TopicSetting::Permission);
        let messages = self.messages.map(|it| TopicSetting::Messages(it.0));
        let retention = self.retention.map(|it| TopicSetting::Retention(it.0));
        let cleanup = self.cleanup.map(TopicSetting::Cleanup);
        let settings = [perm, messages, retention, cleanup];
        settings.into_iter().flatten()
    }
}

#[derive(Debug, Args)]
pub(crate) struct Changes {
    /// How safe messages are that do not say themselves: local, fast; default = as the broker has it.
    #[arg(long, value_name = "CLASS", value_parser = class)]
    durability: Option<Class>,
    /// Queues on each broker, to read and to write.
    #[arg(long, conflicts_with_all = ["read_queues", "write_queues"])]
    queues: Option<u32>,
    /// Queues messages are read from; what is in those beyond waits until the number is raised again.
    #[arg(long)]
    read_queues: Option<u32>,
    /// Queues messages are sent to. To have fewer queues: lower this, let consumers finish, then lower
    /// --read-queues.
    #[arg(long)]
    write_queues: Option<u32>,
    #[command(flatten)]
    rules: Rules,
}

/// A durability class, or none of the topic's own.
#[derive(Debug, Clone, Copy)]
struct Class(Option<Durability>);

fn class(text: &str) -> Result<Class, String> {
    match text {
        "default" => Ok(Class(None)),
        text => match text.parse() {
            Ok(class) => Ok(Class(Some(class))),
            Err(error) => Err(format!("{error}; or default")),
        },
    }
}

impl Changes {
    fn settings(&self) -> Vec<TopicSetting> {
        let read = self.queues.or(self.read_queues);
        let write = self.queues.or(self.write_queues);
        let durability = self.durability.map(|it| TopicSetting::Durability(it.0));
        let queues = [
            read.map(TopicSetting::ReadQueues),
            write.map(TopicSetting::WriteQueues),
        ];
        let settings = queues.into_iter().chain([durability]).flatten();
        settings.chain(self.rules.settings()).collect()
    }
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
    /// How long they are kept; None = as the log.
    retention_ms: Option<u64>,
    cleanup: &'static str,
}

#[derive(Serialize)]
struct SettingsRow {
    topic: String,
    broker: String,
    read_queues: u32,
    write_queues: u32,
    /// None = the broker's.
    durability: Option<&'static str>,
    perm: &'static str,
    r#type: &'static str,
    /// None = the log's.
    retention_ms: Option<u64>,
    cleanup: &'static str,
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
            durability,
            rules,
            options,
        } => {
            let durability = durability.map(|class| TopicSetting::Durability(Some(class)));
            let settings = durability.into_iter().chain(rules.settings());
            create(&topic, queues, settings.collect(), &options).await
        }
        Command::Set {
            topic,
            changes,
            options,
        } => set(&topic, changes.settings(), &options).await,
        Command::Ls { deleted, options } => match deleted {
            true => ls_deleted(&options).await,
            false => ls(&options).await,
        },
        Command::Describe { topic, options } => describe(&topic, &options).await,
        Command::Route { topic, options } => route(&topic, &options).await,
        Command::Rm {
            topic,
            grace,
            now,
            yes,
            options,
        } => {
            let grace = Duration::from_millis(if now { 0 } else { grace });
            rm(&topic, grace, yes, &options).await
        }
        Command::Restore { topic, options } => restore(&topic, &options).await,
    }
}

async fn create(
    topic: &str,
    queues: u32,
    settings: Vec<TopicSetting>,
    options: &Options,
) -> Result<(), Failure> {
    let client = options.connect.client().await?;
    let admin = client.admin();
    let brokers = admin.create_topic_with(topic, queues, settings).await?;
    for broker in brokers {
        eprintln!("created topic {topic} with {queues} queues on {broker}");
    }
    Ok(())
}

async fn set(topic: &str, changes: Vec<TopicSetting>, options: &Options) -> Result<(), Failure> {
    let client = options.connect.client().await?;
    let admin = client.admin();
    let settings = match changes.is_empty() {
        true => admin.topic_settings(topic).await?,
        false => admin.change_topic(topic, changes).await?,
    };
    let rows: Vec<_> = settings
        .into_iter()
        .map(|(broker, settings)| SettingsRow::new(topic, broker, &settings))
        .collect();
    output::rows(
        options.output,
        &rows,
        &[
            "BROKER",
            "READ",
            "WRITE",
            "DURABILITY",
            "PERM",
            "TYPE",
            "RETENTION",
            "CLEANUP",
        ],
        |row| {
            let (read, write) = (row.read_queues.to_string(), row.write_queues.to_string());
            let durability = row.durability.unwrap_or("(the broker's)");
            let words = [durability, row.perm, row.r#type].map(str::to_owned);
            let retention = kept_for(row.retention_ms);
            [row.broker.clone(), read, write]
                .into_iter()
                .chain(words)
                .chain([retention, row.cleanup.to_owned()])
                .collect()
        },
        "nobody has it",
    )
}

fn kept_for(retention_ms: Option<u64>) -> String {
    match retention_ms {
        Some(ms) => behind(Some(ms)),
        None => "(the log's)".to_owned(),
    }
}

impl SettingsRow {
    fn new(topic: &str, broker: BrokerName, settings: &[TopicSetting]) -> Self {
        let mut row = Self {
            topic: topic.to_owned(),
            broker: broker.to_string(),
            read_queues: 0,
            write_queues: 0,
            durability: None,
            perm: Permission::default().name(),
            r#type: MIXED,
            retention_ms: None,
            cleanup: Cleanup::default().name(),
        };
        for setting in settings {
            match *setting {
                TopicSetting::ReadQueues(queues) => row.read_queues = queues,
                TopicSetting::WriteQueues(queues) => row.write_queues = queues,
                TopicSetting::Durability(class) => row.durability = class.map(Durability::name),
                TopicSetting::Permission(permission) => row.perm = permission.name(),
                TopicSetting::Messages(it) => row.r#type = it.map_or(MIXED, MessageType::name),
                TopicSetting::Retention(ms) => row.retention_ms = ms,
                TopicSetting::Cleanup(cleanup) => row.cleanup = cleanup.name(),
            }
        }
        row
    }
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
    let admin = client.admin();
    let settings = admin.topic_settings(topic).await?;
    let counted = admin.count_messages(topic, None).await?;
    let mut rows = Vec::new();
    for (broker, found) in admin.describe_topic(topic).await? {
        let settings = settings.iter().find(|(of, _)| *of == broker);
        let settings = settings.map_or(&[][..], |(_, it)| it);
        let SettingsRow {
            retention_ms,
            cleanup,
            ..
        } = SettingsRow::new(topic, broker.clone(), settings);
        rows.extend(found.queues.into_iter().map(|it| {
            let mut counted = counted.iter();
            let counted = counted.find(|(of, at)| *of == broker && at.queue == it.queue);
            QueueRow {
                topic: topic.to_owned(),
                broker: broker.to_string(),
                queue: it.queue.0,
                min: it.min.0,
                max: it.max.0,
                messages: counted.map_or(it.max.0 - it.min.0, |(_, at)| at.messages),
                retention_ms,
                cleanup,
            }
        }));
    }
    output::rows(
        options.output,
        &rows,
        &["BROKER", "QUEUE", "FIRST", "NEXT", "MESSAGES", "KEPT FOR"],
        |row| {
            let numbers = [row.queue.into(), row.min, row.max, row.messages];
            let kept = match row.cleanup == Cleanup::Compact.name() {
                true => "ever: the newest of each key".to_owned(),
                false => kept_for(row.retention_ms),
            };
            std::iter::once(row.broker.clone())
                .chain(numbers.into_iter().map(thousands))
                .chain([kept])
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

async fn rm(topic: &str, grace: Duration, yes: bool, options: &Options) -> Result<(), Failure> {
    let question = match grace.is_zero() {
        true => format!("removing topic {topic} loses its messages"),
        false => format!("topic {topic} is closed, and its messages go with it later"),
    };
    output::confirm(&question, topic, yes)?;
    let client = options.connect.client().await?;
    let admin = client.admin();
    let messages = admin.delete_topic_after(topic, grace).await?;
    let messages = thousands(messages);
    if grace.is_zero() {
        eprintln!("removed topic {topic} and its {messages} messages");
        return Ok(());
    }
    let deleted = admin.deleted_topics().await?.into_iter();
    let gone_at = deleted.filter(|(_, it)| it.topic.as_str() == topic);
    let gone_at = gone_at.map(|(_, it)| it.gone_at).min();
    let until = gone_at.map_or_else(String::new, |at| format!(" until {}", time::shown(at)));
    eprintln!(
        "closed topic {topic}, with {messages} messages; back{until}: quern topic restore {topic}"
    );
    Ok(())
}

async fn restore(topic: &str, options: &Options) -> Result<(), Failure> {
    let client = options.connect.client().await?;
    let messages = client.admin().restore_topic(topic).await?;
    eprintln!(
        "topic {topic} is back, with {} messages",
        thousands(messages)
    );
    Ok(())
}

#[derive(Serialize)]
struct DeletedRow {
    topic: String,
    broker: String,
    messages: u64,
    gone_at: u64,
}

async fn ls_deleted(options: &Options) -> Result<(), Failure> {
    let client = options.connect.client().await?;
    let topics = client.admin().deleted_topics().await?.into_iter();
    let rows: Vec<_> = topics
        .map(|(broker, it)| DeletedRow {
            topic: it.topic.to_string(),
            broker: broker.to_string(),
            messages: it.messages,
            gone_at: it.gone_at,
        })
        .collect();
    output::rows(
        options.output,
        &rows,
        &["TOPIC", "BROKER", "MESSAGES", "GONE AT"],
        |row| {
            let (topic, broker) = (row.topic.clone(), row.broker.clone());
            let gone_at = time::shown(row.gone_at);
            vec![topic, broker, thousands(row.messages), gone_at]
        },
        "no topic is being deleted",
    )
}
