//! `quern demo`: the whole way of real messages, in one process and on one page.
//!
//! The input is the dependency graph of this program itself, from its `Cargo.lock`, one message an
//! edge, tagged with the package depended on.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args as ClapArgs;
use quern_client::{Client, Filter, Message};
use quern_node::{Config, Node, Roles};
use tokio::time::Instant;

use crate::connect::Connect;
use crate::failure::Failure;
use crate::output::thousands;
use crate::read::{Begin, Plan, Reader};
use crate::start::{self, Stop};

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Where the broker keeps its data.
    #[arg(
        long,
        env = "QUERN_DATA",
        default_value = "quern-data",
        value_name = "DIR"
    )]
    data: PathBuf,
    /// End when everything was shown, instead of serving on.
    #[arg(long)]
    exit: bool,
}

const LOCK: &str = include_str!("../../../Cargo.lock");
const TOPIC: &str = "dependencies";
const QUEUES: u32 = 4;
/// Expressions the filter is shown with.
const TAGS: [&str; 2] = ["serde", "bytes || tokio"];

/// One package depends on another.
#[derive(Debug, PartialEq, Eq)]
struct Edge<'a> {
    from: &'a str,
    version: &'a str,
    to: &'a str,
}

/// The edges of a `Cargo.lock`.
fn edges(lock: &str) -> Vec<Edge<'_>> {
    let mut edges = Vec::new();
    let (mut from, mut version, mut in_list) = ("", "", false);
    for line in lock.lines() {
        let text = |prefix: &str| line.strip_prefix(prefix)?.strip_suffix('"');
        if let Some(name) = text("name = \"") {
            from = name;
        } else if let Some(number) = text("version = \"") {
            version = number;
        } else if line.starts_with("dependencies = [") {
            in_list = true;
        } else if line.starts_with(']') {
            in_list = false;
        } else if in_list && let Some(to) = line.trim().strip_prefix('"') {
            // "name", or "name version" where there are several.
            let end = to.find([' ', '"']).unwrap_or(to.len());
            edges.push(Edge {
                from,
                version,
                to: &to[..end],
            });
        }
    }
    edges
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let mut stop = Stop::listen()?;
    println!("A node with everything in it, on this machine only:");
    let node = start::start(Config {
        data: args.data.clone(),
        compiler: Some(start::compiler()?),
        ..Config::new(Roles::Both)
    })
    .await?;
    start::introduce(&node, &args.data);
    let shown = show(&node, &args.data).await;
    if let Err(failure) = shown {
        let _ = node.shutdown().await;
        return Err(failure);
    }
    if args.exit {
        let closed = node.shutdown().await;
        return closed.map_err(|error| Failure::new(1, format!("Q-4002 {error}")));
    }
    println!("\nIt keeps serving. Type this in another terminal:");
    let program = std::env::args()
        .next()
        .unwrap_or_else(|| "quern".to_owned());
    println!("  {program} consume {TOPIC} --tag tokio --format '%k needs %v\\n'");
    println!("  {program} produce {TOPIC} --tag tokio --key me 'a message of my own'");
    println!("  {program} topic describe {TOPIC}");
    start::serve_until_stopped(node, &mut stop).await
}

async fn show(node: &Node, data: &Path) -> Result<(), Failure> {
    let namesrv = node.namesrv_addr().map(|address| address.to_string());
    let client = Connect::to(namesrv.unwrap_or_default()).client().await?;
    wait_for_broker(&client).await?;
    let admin = client.admin();
    match admin.create_topic(TOPIC, QUEUES).await {
        Ok(_) => {}
        Err(error) if error.kind() == quern_client::ErrorKind::Exists => {}
        Err(error) => return Err(error.into()),
    }
    let edges = edges(LOCK);
    println!(
        "\n1. {} messages: who depends on whom in this program's own Cargo.lock",
        thousands(edges.len() as u64)
    );
    let began = Instant::now();
    let producer = client.producer("demo").start().await?;
    let sends: Vec<_> = edges
        .iter()
        .map(|edge| {
            let body = format!("{} {} -> {}", edge.from, edge.version, edge.to);
            let message = Message::new(TOPIC, body).tag(edge.to).key(edge.from);
            producer.send(message)
        })
        .collect();
    let mut last = None;
    for send in sends {
        last = Some(send.await?);
    }
    println!(
        "   SDK -> QUIC -> broker -> log: {}, each durable",
        rate(edges.len(), began)
    );
    if let Some(sent) = last {
        let queue = sent.queue();
        println!(
            "   the last: id {}, {} queue {} offset {}",
            sent.message_id(),
            queue.broker,
            queue.queue,
            sent.offset()
        );
    }
    println!("\n2. Read back from {QUEUES} queues");
    read(&client, Filter::All, "all of them").await?;
    println!("\n3. Through the tag filter, a WebAssembly component inside the broker");
    for tags in TAGS {
        let count = read(&client, Filter::tag(tags), &format!("--tag '{tags}'")).await?;
        let wanted = |edge: &&Edge<'_>| tags.split("||").any(|tag| tag.trim() == edge.to);
        let sent = edges.iter().filter(wanted).count();
        if count % sent.max(1) != 0 {
            return Err(Failure::new(
                1,
                format!("the filter let {count} messages through; {sent} were sent this time"),
            ));
        }
    }
    report(&client, node, data).await?;
    client.close().await;
    Ok(())
}

/// The broker registers a moment after it listens.
async fn wait_for_broker(client: &Client) -> Result<(), Failure> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while client.admin().brokers().await?.is_empty() {
        if Instant::now() >= deadline {
            return Err(Failure::new(
                7,
                "Q-1003 the broker did not register within 10 s",
            ));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

fn rate(count: usize, began: Instant) -> String {
    let took = began.elapsed().as_secs_f64().max(1e-6);
    format!(
        "{} messages in {:.1} ms ({}/s)",
        thousands(count as u64),
        took * 1e3,
        thousands((count as f64 / took) as u64)
    )
}

async fn read(client: &Client, filter: Filter, what: &str) -> Result<usize, Failure> {
    let began = Instant::now();
    let plan = Plan {
        topic: TOPIC.to_owned(),
        filter,
        begin: Begin::First,
        latest: None,
        follow: false,
    };
    let mut reader = Reader::start(client, &plan).await?;
    let (mut count, mut first) = (0, None);
    while let Some(messages) = reader.next().await? {
        count += messages.len();
        first = first.or_else(|| messages.into_iter().next());
    }
    println!("   {what}: {}", rate(count, began));
    if let Some(message) = first {
        println!(
            "      the first: {}",
            String::from_utf8_lossy(message.body())
        );
    }
    Ok(count)
}

async fn report(client: &Client, node: &Node, data: &Path) -> Result<(), Failure> {
    let Some(address) = node.broker_addr() else {
        return Ok(());
    };
    let status = client.admin().status(&address.to_string()).await?;
    println!("\n4. What the broker says");
    println!(
        "   in {}, out {}; {} spared the filter by their tag's hash",
        thousands(status.messages_in),
        thousands(status.messages_out),
        thousands(status.messages_skipped)
    );
    for plugin in &status.plugins {
        println!(
            "   plugin {} {} (sha256 {}…): {} messages in {} calls, {} faults",
            plugin.name,
            plugin.version,
            plugin.digest.get(..12).unwrap_or(&plugin.digest),
            thousands(plugin.messages),
            thousands(plugin.calls),
            plugin.faults
        );
    }
    println!(
        "   on disk: {} bytes of log in {}",
        thousands(status.durable.0),
        data.join("commitlog").display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_lock_file_has_the_edges_we_know() {
        let edges = edges(LOCK);
        let has = |from, to| edges.iter().any(|edge| edge.from == from && edge.to == to);
        assert!(has("quern-protocol", "bytes"));
        assert!(has("quern-plugins", "wasmtime"));
        assert!(!has("quern-plugins", "tokio"));
        assert!(edges.len() > 200, "{}", edges.len());
    }
}
