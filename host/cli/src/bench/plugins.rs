//! Plugins on a broker: how soon a new one decides, and what a hostile one costs those who have nothing to do with it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use clap::Args as ClapArgs;
use quern_client::{Filter, Message, PluginChange, PluginFilter, PullOptions};
use quern_protocol::GroupName;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::end_to_end::Way;
use super::load::Load;
use super::{Options, PACE, QUEUES, TOPIC};
use crate::failure::Failure;

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) options: Options,
    /// A filter as `quern plugin build` makes it, that needs no parameters: how long it takes from its upload to its first
    /// verdict. May be given several times.
    #[arg(long, value_name = "FILE")]
    component: Vec<PathBuf>,
    /// A filter whose groups ask it again and again, beside a group with a filter of its own whose latency is measured.
    #[arg(long, value_name = "FILE")]
    neighbour: Option<PathBuf>,
    /// What the neighbour is asked.
    #[arg(long, value_name = "TEXT", default_value = "", requires = "neighbour")]
    ask: String,
}

/// With and without the neighbour, in turns.
const ROUNDS: usize = 7;
/// Consumers of the neighbour, each of a group of its own.
const GREEDY: usize = 16;
const NEIGHBOUR: &str = "bench-neighbour";
/// Messages it is asked about.
const BACKLOG: usize = 40_000;

/// A figure that must not be above its goal.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Held {
    pub(crate) what: String,
    pub(crate) measured: f64,
    pub(crate) goal: f64,
    pub(crate) unit: &'static str,
    pub(crate) more: String,
}

impl Load {
    pub(crate) async fn plugins(&self, args: &Args) -> Result<Vec<Held>, Failure> {
        let mut held = Vec::new();
        for file in &args.component {
            held.push(self.first_verdict(file, held.len()).await?);
        }
        if let Some(neighbour) = &args.neighbour {
            held.push(self.beside(neighbour, &args.ask).await?);
        }
        if held.is_empty() {
            let text = "nothing to measure: name plugins with --component, or --neighbour";
            return Err(Failure::usage(text));
        }
        Ok(held)
    }

    async fn activate(&self, name: &str, component: &Bytes) -> Result<(), Failure> {
        let admin = self.client.admin();
        let uploaded = admin.upload_plugin(name, component, |_, _| ()).await?;
        let version = Some(uploaded.version);
        let activate = PluginChange::Activate { version };
        admin.change_plugin(name, activate).await?;
        Ok(())
    }

    /// A message waits; the plugin is let in and asked about it.
    async fn first_verdict(&self, file: &Path, number: usize) -> Result<Held, Failure> {
        eprintln!("letting in {} …", file.display());
        let component = Bytes::from(crate::plugin::read(file)?);
        let is_large = component.len() > 1024 * 1024;
        let sent = self.producer().await?;
        let sent = sent.send(Message::new(TOPIC, "x")).await?;
        let pull = self.client.pull_consumer();
        let name = format!("bench-{number}");
        let filter = Filter::plugin(&name).map_err(|error| Failure::usage(error.to_string()))?;
        let options = PullOptions {
            filter: filter.into(),
            ..PullOptions::default()
        };
        let began = Instant::now();
        self.activate(&name, &component).await?;
        let active = began.elapsed().as_secs_f64();
        // Let through or not, it has said so when the pull has gone on.
        let pulled = pull.pull(sent.queue(), sent.offset(), &options).await?;
        let measured = began.elapsed().as_secs_f64();
        if pulled.next <= sent.offset() {
            let why = pulled.stall.map_or_else(String::new, |it| it.message);
            return Err(Failure::new(1, format!("{name} has not decided: {why}")));
        }
        Ok(Held {
            what: format!("{}, upload to first verdict", file.display()),
            measured,
            goal: if is_large { 3.0 } else { 0.5 },
            unit: "s",
            more: format!("active after {active:.2} s; nothing was compiled before"),
        })
    }

    /// How much later a group has its messages while others keep a filter of theirs busy.
    async fn beside(&self, file: &Path, ask: &str) -> Result<Held, Failure> {
        let component = Bytes::from(crate::plugin::read(file)?);
        self.activate(NEIGHBOUR, &component).await?;
        let (backlog, greedy) = (self.backlog().await?, Greedy::default());
        let victim = Self {
            filter: Filter::sql("a IS NULL"),
            ..self.clone()
        };
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            eprintln!("round {} of {ROUNDS} …", round + 1);
            let measured = victim.end_to_end(Way::Push, Some(PACE)).await?;
            alone.push(measured.latency.p99_us);
            let pulls = greedy.begin(self, &backlog, ask);
            let measured = victim.end_to_end(Way::Push, Some(PACE)).await;
            greedy.end(pulls).await;
            beside.push(measured?.latency.p99_us);
        }
        let (alone, beside) = (median(alone), median(beside));
        let pulls = greedy.pulls.load(Ordering::Relaxed);
        let failed = greedy.failed.load(Ordering::Relaxed);
        Ok(Held {
            what: format!(
                "p99 of a group beside {GREEDY} that ask {} {ask:?}",
                file.display()
            ),
            measured: beside / alone,
            goal: 1.1,
            unit: "×",
            more: format!(
                "{alone:.0} µs alone, {beside:.0} µs beside; {pulls} pulls of theirs, {failed} failed"
            ),
        })
    }

    /// A topic of the neighbour's own; its queues.
    async fn backlog(&self) -> Result<Vec<quern_client::MessageQueue>, Failure> {
        self.client.admin().create_topic(NEIGHBOUR, QUEUES).await?;
        let producer = self.producer().await?;
        let mut sends = Vec::new();
        for _ in 0..BACKLOG {
            sends.push(producer.send(Message::new(NEIGHBOUR, "x")));
            if sends.len() >= super::MANY {
                for send in sends.drain(..) {
                    send.await?;
                }
            }
        }
        for send in sends {
            send.await?;
        }
        Ok(self.client.pull_consumer().queues(NEIGHBOUR).await?)
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Groups that read their backlog without end, and ask something new each time, so that nothing is remembered.
#[derive(Debug, Default)]
struct Greedy {
    asked: Arc<AtomicU64>,
    pulls: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

impl Greedy {
    fn begin(&self, load: &Load, backlog: &[quern_client::MessageQueue], ask: &str) -> JoinSet<()> {
        self.over.store(false, Ordering::Relaxed);
        let mut pulls = JoinSet::new();
        for (number, queue) in (0..GREEDY).zip(backlog.iter().cycle()) {
            let (pull, queue) = (load.client.pull_consumer(), queue.clone());
            let group = GroupName::new(format!("bench-greedy-{number}"));
            let (asked, over) = (Arc::clone(&self.asked), Arc::clone(&self.over));
            let (done, failed) = (Arc::clone(&self.pulls), Arc::clone(&self.failed));
            let ask = ask.to_owned();
            pulls.spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    let nonce = asked.fetch_add(1, Ordering::Relaxed).to_string();
                    let filter = Filter::plugin(NEIGHBOUR);
                    let filter =
                        filter.map(|it: PluginFilter| it.expression(&ask).param("nonce", nonce));
                    let (Ok(group), Ok(filter)) = (&group, filter) else {
                        return;
                    };
                    let options = PullOptions {
                        filter: filter.into(),
                        ..PullOptions::default()
                    };
                    let from = quern_client::QueueOffset(0);
                    let pulled = pull.pull_for(Some(group), &queue, from, &options).await;
                    done.fetch_add(1, Ordering::Relaxed);
                    if !pulled.is_ok_and(|it| it.stall.is_none()) {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        pulls
    }

    async fn end(&self, pulls: JoinSet<()>) {
        self.over.store(true, Ordering::Relaxed);
        pulls.join_all().await;
    }
}
