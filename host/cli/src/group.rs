//! `quern group …`: create, ls, describe, members, lag, reset, skip, clone, rm.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use clap::{Args, Subcommand};
use futures_util::future::try_join_all;
use quern_client::{
    Admin, BrokerName, DescribeGroupReply, GroupMember, GroupQueue, MessageQueue, PullConsumer,
    QueueOffset, TopicName,
};
use serde::Serialize;

use crate::connect::Options;
use crate::consume::begin;
use crate::failure::Failure;
use crate::group_set::{Settings, create, set};
use crate::member_state::{show, subscription};
use crate::output::{self, thousands};
use crate::read::Begin;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// All groups that have members or have committed something.
    Ls {
        #[command(flatten)]
        options: Options,
    },
    /// How far a group is in each queue, and whose the queue is.
    Describe {
        group: String,
        #[command(flatten)]
        options: Options,
    },
    /// The members of a group and what each has.
    Members {
        group: String,
        /// Ask each how it is doing: its settings, and of each of its queues what it has read and consumed
        /// (consumerStatus).
        #[arg(long, short)]
        verbose: bool,
        #[command(flatten)]
        options: Options,
    },
    /// How far a group is behind, topic by topic.
    Lag {
        group: String,
        #[command(flatten)]
        options: Options,
    },
    /// Let a group go on from somewhere else; its members follow within seconds.
    Reset {
        group: String,
        topic: String,
        /// first, last, a time (2026-01-31T12:00:00Z, or 15m for a while ago) or an offset.
        #[arg(long, value_parser = begin)]
        to: Begin,
        #[command(flatten)]
        change: Change,
    },
    /// Make a group on every broker, where consumers do not make it (autoCreateSubscriptionGroup).
    Create {
        group: String,
        #[command(flatten)]
        settings: Settings,
        #[command(flatten)]
        options: Options,
    },
    /// Change what holds for a group on every broker, or show it.
    Set {
        group: String,
        #[command(flatten)]
        settings: Settings,
        #[command(flatten)]
        options: Options,
    },
    /// Let a group skip what it has not consumed.
    Skip {
        group: String,
        topic: String,
        #[command(flatten)]
        change: Change,
    },
    /// Let another group go on where this one is.
    Clone {
        group: String,
        other: String,
        topic: String,
        #[command(flatten)]
        change: Change,
    },
    /// Forget what a group has committed; it must have no members.
    Rm {
        group: String,
        /// Do it without asking.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        options: Options,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Change {
    /// Only show what would change.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    options: Options,
}

pub(crate) async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Ls { options } => ls(&options).await,
        Command::Describe { group, options } => describe(&group, &options).await,
        Command::Members {
            group,
            verbose,
            options,
        } => members(&group, verbose, &options).await,
        Command::Lag { group, options } => lag(&group, &options).await,
        Command::Reset {
            group,
            topic,
            to,
            change,
        } => reset(&group, &topic, to, &change).await,
        Command::Create {
            group,
            settings,
            options,
        } => create(&group, settings, &options).await,
        Command::Set {
            group,
            settings,
            options,
        } => set(&group, settings, &options).await,
        Command::Skip {
            group,
            topic,
            change,
        } => reset(&group, &topic, Begin::Last, &change).await,
        Command::Clone {
            group,
            other,
            topic,
            change,
        } => clone(&group, &other, &topic, &change).await,
        Command::Rm {
            group,
            yes,
            options,
        } => rm(&group, yes, &options).await,
    }
}

#[derive(Serialize)]
struct GroupRow {
    group: String,
    members: u32,
    topics: u32,
}

async fn ls(options: &Options) -> Result<(), Failure> {
    let client = options.connect.client().await?;
    let mut groups: BTreeMap<String, GroupRow> = BTreeMap::new();
    for (_, it) in client.admin().list_groups().await? {
        let row = groups
            .entry(it.group.to_string())
            .or_insert_with(|| GroupRow {
                group: it.group.to_string(),
                members: 0,
                topics: 0,
            });
        // One broker coordinates it, and a topic may be on several.
        row.members = row.members.max(it.members);
        row.topics = row.topics.max(it.topics);
    }
    let rows: Vec<_> = groups.into_values().collect();
    output::rows(
        options.output,
        &rows,
        &["GROUP", "MEMBERS", "TOPICS"],
        |row| {
            vec![
                row.group.clone(),
                row.members.to_string(),
                row.topics.to_string(),
            ]
        },
        "there are no groups yet; make one: quern consume TOPIC --group NAME",
    )
}

#[derive(Serialize)]
struct QueueRow {
    topic: String,
    broker: String,
    queue: u32,
    /// None = the group never committed.
    committed: Option<u64>,
    end: u64,
    lag: u64,
    behind_ms: Option<u64>,
    owner: Option<String>,
}

impl QueueRow {
    fn new(broker: &BrokerName, it: &GroupQueue, counted: Option<u64>) -> Self {
        // Messages that are not there any more are not waited for.
        let next = it.committed.map_or(it.min, |at| at.max(it.min));
        Self {
            topic: it.topic.to_string(),
            broker: broker.to_string(),
            queue: it.queue.0,
            committed: it.committed.map(|at| at.0),
            end: it.max.0,
            // Not all there ever were need be there still, and only the broker knows. What came since is none of this.
            lag: it
                .max
                .0
                .saturating_sub(next.0)
                .min(counted.unwrap_or(u64::MAX)),
            behind_ms: it.behind_ms,
            owner: it.owner.clone(),
        }
    }
}

type Described = Vec<(BrokerName, DescribeGroupReply)>;

async fn queue_rows(
    admin: &Admin,
    group: &str,
    described: &Described,
) -> Result<Vec<QueueRow>, Failure> {
    let all = || {
        let all = described.iter();
        all.flat_map(|(broker, it)| it.queues.iter().map(move |queue| (broker, queue)))
    };
    let topics: BTreeSet<&TopicName> = all().map(|(_, it)| &it.topic).collect();
    let counts = topics.into_iter().map(|topic| async move {
        let counts = admin.count_messages(topic.as_str(), Some(group)).await?;
        Ok::<_, Failure>((topic, counts))
    });
    let counts = try_join_all(counts).await?.into_iter();
    let counted: HashMap<_, _> = counts
        .flat_map(|(topic, counts)| {
            let counts = counts.into_iter();
            counts.map(move |(broker, it)| ((topic, broker, it.queue), it.messages))
        })
        .collect();
    let row = |(broker, it): (&BrokerName, &GroupQueue)| {
        let counted = counted.get(&(&it.topic, broker.clone(), it.queue));
        QueueRow::new(broker, it, counted.copied())
    };
    Ok(all().map(row).collect())
}

/// In a table, what is not there.
pub(crate) fn nothing() -> String {
    "-".to_owned()
}

pub(crate) fn behind(ms: Option<u64>) -> String {
    match ms {
        None => nothing(),
        Some(ms) if ms < 1_000 => format!("{ms} ms"),
        Some(ms) if ms < 120_000 => format!("{} s", ms / 1_000),
        Some(ms) if ms < 7_200_000 => format!("{} min", ms / 60_000),
        Some(ms) => format!("{} h", ms / 3_600_000),
    }
}

async fn describe(group: &str, options: &Options) -> Result<(), Failure> {
    let client = options.connect.client().await?;
    let admin = client.admin();
    let described = admin.describe_group(group).await?;
    introduce(&described);
    output::rows(
        options.output,
        &queue_rows(&admin, group, &described).await?,
        &[
            "TOPIC",
            "BROKER",
            "QUEUE",
            "COMMITTED",
            "END",
            "LAG",
            "BEHIND",
            "OWNER",
        ],
        |row| {
            vec![
                row.topic.clone(),
                row.broker.clone(),
                row.queue.to_string(),
                row.committed.map_or_else(nothing, thousands),
                thousands(row.end),
                thousands(row.lag),
                behind(row.behind_ms),
                row.owner.clone().unwrap_or_else(nothing),
            ]
        },
        "the group has no queues",
    )
}

/// Who coordinates, for people.
fn introduce(described: &Described) {
    for (broker, it) in described.iter().filter(|(_, it)| it.generation > 0) {
        eprintln!(
            "{} members, queues shared out by {} on {broker}",
            it.members.len(),
            it.strategy
        );
    }
}

#[derive(Serialize)]
struct MemberRow {
    member: String,
    zone: String,
    weight: u32,
    silent_ms: u64,
    queues: usize,
    subscriptions: Vec<String>,
}

impl MemberRow {
    fn new(it: &GroupMember, queues: &[QueueRow]) -> Self {
        let owner = Some(&it.member);
        Self {
            member: it.member.clone(),
            zone: it.zone.clone(),
            weight: it.weight,
            silent_ms: it.silent_ms,
            queues: queues
                .iter()
                .filter(|row| row.owner.as_ref() == owner)
                .count(),
            subscriptions: it.subscriptions.iter().map(subscription).collect(),
        }
    }
}

async fn members(group: &str, verbose: bool, options: &Options) -> Result<(), Failure> {
    let client = options.connect.client().await?;
    let admin = client.admin();
    let described = admin.describe_group(group).await?;
    introduce(&described);
    let queues = queue_rows(&admin, group, &described).await?;
    let members = described.iter().flat_map(|(_, it)| &it.members);
    if verbose {
        let ids = members.map(|it| it.member.clone()).collect();
        return show(&client, group, ids, options.output).await;
    }
    let rows: Vec<_> = members.map(|it| MemberRow::new(it, &queues)).collect();
    output::rows(
        options.output,
        &rows,
        &["MEMBER", "QUEUES", "SILENT", "SUBSCRIPTIONS"],
        |row| {
            vec![
                row.member.clone(),
                row.queues.to_string(),
                behind(Some(row.silent_ms)),
                row.subscriptions.join(", "),
            ]
        },
        "the group has no members now",
    )
}

#[derive(Serialize)]
struct LagRow {
    topic: String,
    queues: usize,
    lag: u64,
    behind_ms: Option<u64>,
}

async fn lag(group: &str, options: &Options) -> Result<(), Failure> {
    let client = options.connect.client().await?;
    let admin = client.admin();
    let described = admin.describe_group(group).await?;
    let mut topics: BTreeMap<String, LagRow> = BTreeMap::new();
    for row in queue_rows(&admin, group, &described).await? {
        let topic = topics.entry(row.topic.clone()).or_insert(LagRow {
            topic: row.topic,
            queues: 0,
            lag: 0,
            behind_ms: None,
        });
        topic.queues += 1;
        topic.lag += row.lag;
        topic.behind_ms = topic.behind_ms.max(row.behind_ms);
    }
    let rows: Vec<_> = topics.into_values().collect();
    output::rows(
        options.output,
        &rows,
        &["TOPIC", "QUEUES", "LAG", "BEHIND"],
        |row| {
            let (queues, lag) = (row.queues.to_string(), thousands(row.lag));
            vec![row.topic.clone(), queues, lag, behind(row.behind_ms)]
        },
        "the group has no queues",
    )
}

#[derive(Serialize)]
struct ChangeRow {
    topic: String,
    broker: String,
    queue: u32,
    from: Option<u64>,
    to: u64,
}

type Offsets = Vec<(MessageQueue, QueueOffset)>;

async fn reset(group: &str, topic: &str, to: Begin, change: &Change) -> Result<(), Failure> {
    let client = change.options.connect.client().await?;
    let pull = client.pull_consumer();
    let mut offsets = Vec::new();
    for queue in pull.queues(topic).await? {
        let range = pull.offset_range(&queue).await?;
        let offset = to.offset(&pull, &queue, range).await?;
        offsets.push((queue, offset));
    }
    apply(&pull, group, topic, offsets, change).await
}

async fn clone(group: &str, other: &str, topic: &str, change: &Change) -> Result<(), Failure> {
    let client = change.options.connect.client().await?;
    let pull = client.pull_consumer();
    let offsets = pull.committed(group, topic).await?;
    if offsets.is_empty() {
        let text = format!("group {group} has committed nothing of topic {topic}");
        return Err(Failure::new(3, text));
    }
    apply(&pull, other, topic, offsets, change).await
}

/// Shows what changes, and changes it unless that is all that was asked for.
async fn apply(
    pull: &PullConsumer,
    group: &str,
    topic: &str,
    offsets: Offsets,
    change: &Change,
) -> Result<(), Failure> {
    let before = pull.committed(group, topic).await?;
    let from = |queue: &MessageQueue| {
        let mut all = before.iter();
        all.find(|(it, _)| it == queue).map(|(_, offset)| offset.0)
    };
    let rows: Vec<_> = offsets
        .iter()
        .map(|(queue, to)| ChangeRow {
            topic: topic.to_owned(),
            broker: queue.broker.to_string(),
            queue: queue.queue.0,
            from: from(queue),
            to: to.0,
        })
        .collect();
    if !change.dry_run {
        pull.commit(group, topic, &offsets).await?;
    }
    output::rows(
        change.options.output,
        &rows,
        &["BROKER", "QUEUE", "FROM", "TO"],
        |row| {
            let from = row.from.map_or_else(nothing, thousands);
            let (queue, to) = (row.queue.to_string(), thousands(row.to));
            vec![row.broker.clone(), queue, from, to]
        },
        "the topic has no queues",
    )?;
    if change.dry_run {
        eprintln!("nothing was changed: --dry-run");
    }
    Ok(())
}

async fn rm(group: &str, yes: bool, options: &Options) -> Result<(), Failure> {
    let question = format!("removing group {group} forgets how far it is");
    output::confirm(&question, group, yes)?;
    let client = options.connect.client().await?;
    let queues = client.admin().delete_group(group).await?;
    eprintln!("forgot group {group}: it had committed offsets of {queues} queues");
    Ok(())
}
