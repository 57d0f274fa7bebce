//! `quern group members --verbose`: each member of a group, as it sees itself.

use std::time::Duration;

use quern_client::{Client, Error, Filter, MemberQueue, MemberState};
use serde::Serialize;

use crate::failure::Failure;
use crate::group::{behind, nothing};
use crate::output::{self, Output, thousands};
use crate::time;

/// A member that does not answer is not waited for any longer.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Serialize)]
struct StateRow {
    member: String,
    /// Why nothing is known of it.
    silent: Option<String>,
    software: String,
    started_at: u64,
    properties: Vec<(String, String)>,
    subscriptions: Vec<String>,
    queues: Vec<QueueRow>,
}

#[derive(Serialize)]
struct QueueRow {
    topic: String,
    broker: String,
    queue: u32,
    committed: Option<u64>,
    read: u64,
    cached: u32,
    cached_bytes: u64,
    at_work: u32,
    read_ago_ms: Option<u64>,
    consumed_ago_ms: Option<u64>,
    lease_left_ms: u64,
}

impl From<MemberQueue> for QueueRow {
    fn from(it: MemberQueue) -> Self {
        Self {
            topic: it.topic.to_string(),
            broker: it.broker.to_string(),
            queue: it.queue.0,
            committed: it.committed.map(|at| at.0),
            read: it.read.0,
            cached: it.cached,
            cached_bytes: it.cached_bytes,
            at_work: it.at_work,
            read_ago_ms: it.read_ago,
            consumed_ago_ms: it.consumed_ago,
            lease_left_ms: it.lease_left,
        }
    }
}

/// In words.
pub(crate) fn subscription((topic, filter): &(impl std::fmt::Display, Filter)) -> String {
    match filter {
        Filter::All => format!("{topic}"),
        filter => format!("{topic} {filter}"),
    }
}

impl StateRow {
    fn new(member: String, state: MemberState) -> Self {
        Self {
            member,
            silent: None,
            software: state.software,
            started_at: state.started_at,
            properties: state.properties,
            subscriptions: state.subscriptions.iter().map(subscription).collect(),
            queues: state.queues.into_iter().map(QueueRow::from).collect(),
        }
    }

    fn silent(member: String, why: &Error) -> Self {
        Self {
            member,
            silent: Some(why.to_string()),
            software: String::new(),
            started_at: 0,
            properties: Vec::new(),
            subscriptions: Vec::new(),
            queues: Vec::new(),
        }
    }

    fn page(&self) -> String {
        let mut out = format!("{}\n", self.member);
        let mut line = |name: &str, value: &str| out.push_str(&format!("  {name:<20} {value}\n"));
        if let Some(why) = &self.silent {
            line("does not answer", why);
            return out;
        }
        line("software", &self.software);
        line("started", &time::shown(self.started_at));
        for (name, value) in &self.properties {
            line(name, value);
        }
        for subscription in &self.subscriptions {
            line("subscribes to", subscription);
        }
        let rows: Vec<_> = self.queues.iter().map(QueueRow::cells).collect();
        match rows.is_empty() {
            true => out.push_str("  it has no queues\n"),
            false => out.push_str(&output::table(&HEADING, &rows)),
        }
        out
    }
}

const HEADING: [&str; 10] = [
    "TOPIC",
    "BROKER",
    "QUEUE",
    "COMMITTED",
    "READ",
    "CACHED",
    "BYTES",
    "AT WORK",
    "LAST READ",
    "LAST CONSUMED",
];

impl QueueRow {
    fn cells(&self) -> Vec<String> {
        vec![
            self.topic.clone(),
            self.broker.clone(),
            self.queue.to_string(),
            self.committed.map_or_else(nothing, thousands),
            thousands(self.read),
            self.cached.to_string(),
            thousands(self.cached_bytes),
            self.at_work.to_string(),
            behind(self.read_ago_ms),
            behind(self.consumed_ago_ms),
        ]
    }
}

/// Asks each of them, one after the other.
pub(crate) async fn show(
    client: &Client,
    group: &str,
    members: Vec<String>,
    output: Output,
) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for member in members {
        let state = client.admin().member_state(group, &member, PATIENCE).await;
        rows.push(match state {
            Ok(state) => StateRow::new(member, state),
            Err(error) => StateRow::silent(member, &error),
        });
    }
    match output {
        Output::Human if rows.is_empty() => eprintln!("the group has no members now"),
        Output::Human => {
            let pages: Vec<_> = rows.iter().map(StateRow::page).collect();
            output::print(&pages.join("\n"))?;
        }
        machine => output::rows(machine, &rows, &[], |_| Vec::new(), "")?,
    }
    match rows.iter().filter(|it| it.silent.is_some()).count() {
        0 => Ok(()),
        silent => Err(Failure::partial(format!("{silent} members did not answer"))),
    }
}
