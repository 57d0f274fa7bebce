//! Many at once: groups on one topic, topics with many queues, consumers that wait on connections of their own. What a
//! broker needs for them while nothing comes, and for what comes then.

use std::time::Duration;

use quern_client::{Client, Consumer, ErrorKind, Filter, Message};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::load::Load;
use super::{QUEUES, TOPIC};
use crate::connect::Connect;
use crate::failure::Failure;

const GROUPS: usize = 100;
const TOPICS: usize = 1_000;
/// A member subscribes to 256 topics at most.
const TOPICS_EACH: usize = 250;
const WAITING: usize = 1_000;
/// Started at once.
const AT_ONCE: usize = 16;
/// Until all have what they shall have.
const LONGEST: Duration = Duration::from_secs(180);
/// Of leases and joins that came with the start.
const SETTLE: Duration = Duration::from_secs(3);
/// Sent to those who wait for them.
const MESSAGES: u64 = 200;

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Crowd {
    pub(crate) what: String,
    pub(crate) consumers: usize,
    /// Of all consumers together.
    pub(crate) queues: usize,
    /// Until each had its queues.
    pub(crate) start_s: f64,
    /// Of the broker while nothing comes, per cent of a core.
    pub(crate) idle_cpu_percent: f64,
    pub(crate) broker_rss_mb: f64,
    /// More than before there was a crowd.
    pub(crate) rss_kb_each: f64,
    /// Of the broker, for a message delivered to one consumer; none = nothing was sent.
    pub(crate) delivered_cpu_us: Option<f64>,
}

fn waiting_name(topic: usize) -> String {
    format!("bench-crowd-{topic}")
}

/// Does all of it, some at a time.
async fn at_once<T, F>(jobs: impl Iterator<Item = F>) -> Result<Vec<T>, Failure>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Failure>> + Send + 'static,
{
    let mut under_way = JoinSet::new();
    let mut done = Vec::new();
    for job in jobs {
        under_way.spawn(job);
        if under_way.len() >= AT_ONCE {
            done.extend(one_of(&mut under_way).await?);
        }
    }
    while let Some(one) = one_of(&mut under_way).await? {
        done.push(one);
    }
    Ok(done)
}

async fn one_of<T: 'static>(
    under_way: &mut JoinSet<Result<T, Failure>>,
) -> Result<Option<T>, Failure> {
    match under_way.join_next().await {
        None => Ok(None),
        Some(Ok(done)) => done.map(Some),
        Some(Err(error)) => Err(Failure::new(1, error.to_string())),
    }
}

impl Load {
    /// Each group has every message of one topic.
    pub(crate) async fn groups(&self) -> Result<Crowd, Failure> {
        let topics = vec![TOPIC.to_owned()];
        let starts = (0..GROUPS).map(|_| (self.client.clone(), topics.clone()));
        self.crowd("100 groups on one topic", starts.collect(), QUEUES as usize)
            .await
    }

    pub(crate) async fn queues(&self) -> Result<Crowd, Failure> {
        eprintln!("making {TOPICS} topics …");
        let names: Vec<String> = (0..TOPICS).map(waiting_name).collect();
        let makes = names.iter().map(|name| {
            let (this, name) = (self.clone(), name.clone());
            async move { this.make(&name).await }
        });
        at_once(makes).await?;
        let starts = names.chunks(TOPICS_EACH);
        let starts = starts.map(|of| (self.client.clone(), of.to_vec()));
        let each = TOPICS_EACH * QUEUES as usize;
        self.crowd("1,000 topics of 8 queues", starts.collect(), each)
            .await
    }

    /// A connection each, as processes of their own would have.
    pub(crate) async fn waiting(&self, namesrv: &str) -> Result<Crowd, Failure> {
        let connect = Connect::to(namesrv.to_owned());
        let topic = waiting_name(0);
        self.make(&topic).await?;
        let mut starts = Vec::with_capacity(WAITING);
        for _ in 0..WAITING {
            starts.push((connect.client().await?, vec![topic.clone()]));
        }
        let what = "1,000 consumers that wait, a connection each";
        self.crowd(what, starts, QUEUES as usize).await
    }

    async fn make(&self, name: &str) -> Result<(), Failure> {
        match self.client.admin().create_topic(name, QUEUES).await {
            Err(error) if error.kind() != ErrorKind::Exists => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Starts consumers, each of a group of its own with so many queues, and looks at what they cost.
    async fn crowd(
        &self,
        what: &str,
        starts: Vec<(Client, Vec<String>)>,
        queues: usize,
    ) -> Result<Crowd, Failure> {
        eprintln!("{what} …");
        let before = self.usage().await?;
        let began = Instant::now();
        let count = starts.len();
        let starts = starts.into_iter().map(|(client, topics)| {
            let this = self.clone();
            async move { this.start(client, topics).await }
        });
        let mut consumers = at_once(starts).await?;
        let until = began + LONGEST;
        for consumer in &consumers {
            while consumer.positions().len() < queues {
                if Instant::now() >= until {
                    let has = consumer.positions().len();
                    let why = format!("a consumer has {has} of {queues} queues after {LONGEST:?}");
                    return Err(Failure::new(7, why));
                }
                sleep(Duration::from_millis(20)).await;
            }
        }
        let start_s = began.elapsed().as_secs_f64();
        sleep(SETTLE).await;
        let (idle, from) = (self.usage().await?, Instant::now());
        sleep(self.lasting).await;
        let after = self.usage().await?;
        let idle_us = (after.broker_us - idle.broker_us) as f64;
        let idle_cpu_percent = idle_us / from.elapsed().as_micros().max(1) as f64 * 100.0;
        let more = after.rss.saturating_sub(before.rss) as f64;
        let delivered_cpu_us = match queues == QUEUES as usize {
            true => Some(self.deliver(&mut consumers).await?),
            false => None,
        };
        let ends = consumers.into_iter();
        at_once(ends.map(|it| async move { Ok(it.shutdown().await?) })).await?;
        Ok(Crowd {
            what: what.to_owned(),
            consumers: count,
            queues: count * queues,
            start_s,
            idle_cpu_percent,
            broker_rss_mb: after.rss as f64 / 1e6,
            rss_kb_each: more / 1e3 / count as f64,
            delivered_cpu_us,
        })
    }

    async fn start(&self, client: Client, topics: Vec<String>) -> Result<Consumer, Failure> {
        let group = super::end_to_end::group(self, "crowd");
        let consumer = client.consumer(&group).from(quern_client::From::Last);
        let subscribe = |consumer, topic: &String| {
            quern_client::ConsumerBuilder::subscribe(consumer, topic, Filter::All)
        };
        Ok(topics.iter().fold(consumer, subscribe).start().await?)
    }

    /// Processor time of the broker for one message to one of them.
    async fn deliver(&self, consumers: &mut [Consumer]) -> Result<f64, Failure> {
        let topic = consumers.first().map(Consumer::positions);
        let topic = topic.and_then(|it| Some(it.first()?.0.topic.to_string()));
        let topic = topic.unwrap_or_else(|| TOPIC.to_owned());
        let producer = self.producer().await?;
        let before = self.usage().await?;
        let body = bytes::Bytes::from(vec![b'x'; self.size]);
        for _ in 0..MESSAGES {
            producer.send(Message::new(&*topic, body.clone())).await?;
        }
        let until = Instant::now() + LONGEST;
        for consumer in &mut *consumers {
            for _ in 0..MESSAGES {
                let message = timeout_at(until, consumer.recv()).await;
                message
                    .map_err(|_| Failure::new(7, "a consumer has not received everything"))??;
            }
        }
        let after = self.usage().await?;
        let deliveries = MESSAGES * consumers.len() as u64;
        Ok((after.broker_us - before.broker_us) as f64 / deliveries as f64)
    }
}
