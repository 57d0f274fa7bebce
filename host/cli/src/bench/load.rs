//! The loads a broker is measured under.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use hdrhistogram::Histogram;
use quern_client::{Client, Filter, From, Message, Producer, Sending};
use serde::Serialize;
use tokio::time::Instant;

use super::TOPIC;
use super::end_to_end::Way;
use crate::failure::Failure;
use crate::read::{Begin, Plan, Reader};

/// Longest one request may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) client: Client,
    /// The broker's.
    pub(crate) address: String,
    pub(crate) size: usize,
    pub(crate) lasting: Duration,
    /// What consumers of groups ask for.
    pub(crate) filter: Filter,
    /// Groups used so far.
    pub(crate) groups: Arc<AtomicU64>,
}

/// How long things took, µs.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Produced {
    pub(crate) in_flight: usize,
    pub(crate) messages: u64,
    pub(crate) per_s: f64,
    pub(crate) mb_per_s: f64,
    pub(crate) latency: Latency,
    pub(crate) broker_cpu_us: f64,
    pub(crate) client_cpu_us: f64,
    pub(crate) broker_rss_mb: f64,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Consumed {
    pub(crate) filter: String,
    pub(crate) messages: u64,
    /// Messages in the topic that were looked at, a second.
    pub(crate) scanned_per_s: f64,
    pub(crate) per_s: f64,
    pub(crate) mb_per_s: f64,
    pub(crate) broker_cpu_us: f64,
}

/// Processor time and memory at one moment.
pub(crate) struct Usage {
    pub(crate) broker_us: u64,
    pub(crate) client_us: u64,
    pub(crate) rss: u64,
}

pub(crate) fn histogram() -> Histogram<u64> {
    // Nanoseconds up to a minute.
    Histogram::new_with_max(60_000_000_000, 3).expect("these bounds are legal")
}

pub(crate) fn record(histogram: &mut Histogram<u64>, took: Duration) {
    histogram.saturating_record(took.as_nanos().min(u128::from(u64::MAX)) as u64);
}

impl Latency {
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Self {
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: histogram.max() as f64 / 1e3,
        }
    }
}

/// Processor time of this process.
fn client_us() -> u64 {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    spent.tv_sec as u64 * 1_000_000 + spent.tv_nsec as u64 / 1_000
}

impl Load {
    pub(crate) async fn usage(&self) -> Result<Usage, Failure> {
        let status = self.client.admin().status(&self.address).await?;
        Ok(Usage {
            broker_us: status.cpu_us,
            client_us: client_us(),
            rss: status.rss_bytes,
        })
    }

    fn message(&self, body: &bytes::Bytes, number: u64) -> Message {
        let tag = if number.is_multiple_of(2) {
            "even"
        } else {
            "odd"
        };
        Message::new(TOPIC, body.clone()).tag(tag)
    }

    pub(crate) async fn producer(&self) -> Result<Producer, Failure> {
        Ok(self.client.producer("quern-bench").start().await?)
    }

    /// So many sends under way, each answered one replaced, until the time is over.
    pub(crate) async fn produce(&self, in_flight: usize) -> Result<Produced, Failure> {
        let producer = self.producer().await?;
        let body = bytes::Bytes::from(vec![b'x'; self.size]);
        // A moment to find routes and connections.
        producer.send(self.message(&body, 0)).await?;
        let before = self.usage().await?;
        let began = Instant::now();
        let mut under_way: VecDeque<(Instant, Sending)> = VecDeque::with_capacity(in_flight);
        let mut times = histogram();
        let mut messages = 0;
        loop {
            let sending = began.elapsed() < self.lasting;
            while sending && under_way.len() < in_flight {
                let send = producer.send(self.message(&body, messages + under_way.len() as u64));
                under_way.push_back((Instant::now(), send));
            }
            let Some((asked, send)) = under_way.pop_front() else {
                break;
            };
            send.await?;
            record(&mut times, asked.elapsed());
            messages += 1;
        }
        let took = began.elapsed().as_secs_f64();
        let after = self.usage().await?;
        let each = |us: u64| us as f64 / messages.max(1) as f64;
        Ok(Produced {
            in_flight,
            messages,
            per_s: messages as f64 / took,
            mb_per_s: (messages as usize * self.size) as f64 / took / 1e6,
            latency: Latency::of(&times),
            broker_cpu_us: each(after.broker_us - before.broker_us),
            client_cpu_us: each(after.client_us - before.client_us),
            broker_rss_mb: after.rss as f64 / 1e6,
        })
    }

    /// Everything that is in the topic, from the beginning.
    pub(crate) async fn consume(&self, tag: Option<&str>) -> Result<Consumed, Failure> {
        eprintln!("reading {} …", tag.unwrap_or("everything"));
        let plan = Plan {
            topic: TOPIC.to_owned(),
            filter: tag.map_or(Filter::All, Filter::tag),
            begin: Begin::First,
            latest: None,
            follow: false,
        };
        let there = self.there().await?;
        let before = self.usage().await?;
        let began = Instant::now();
        let mut reader = Reader::start(&self.client, &plan).await?;
        let mut messages = 0;
        while let Some(batch) = reader.next().await? {
            messages += batch.len() as u64;
        }
        let took = began.elapsed().as_secs_f64();
        let broker_us = self.usage().await?.broker_us - before.broker_us;
        let filter = tag.unwrap_or("*").to_owned();
        Ok(self.consumed(filter, (messages, there), took, broker_us))
    }

    /// The same by a consumer of a group.
    pub(crate) async fn drain(&self, way: Way) -> Result<Consumed, Failure> {
        eprintln!("a group reads everything, {} …", way.name());
        let there = self.there().await?;
        let before = self.usage().await?;
        let began = Instant::now();
        let mut consumer = way.consumer(self, From::First).await?;
        for _ in 0..there {
            consumer.recv().await?;
        }
        let took = began.elapsed().as_secs_f64();
        let broker_us = self.usage().await?.broker_us - before.broker_us;
        consumer.shutdown().await?;
        let filter = format!("* {}", way.name());
        Ok(self.consumed(filter, (there, there), took, broker_us))
    }

    fn consumed(
        &self,
        filter: String,
        (messages, there): (u64, u64),
        took: f64,
        broker_us: u64,
    ) -> Consumed {
        Consumed {
            filter,
            messages,
            scanned_per_s: there as f64 / took,
            per_s: messages as f64 / took,
            mb_per_s: (messages as usize * self.size) as f64 / took / 1e6,
            broker_cpu_us: broker_us as f64 / there.max(1) as f64,
        }
    }

    /// Messages in the topic.
    async fn there(&self) -> Result<u64, Failure> {
        let topic = self.client.admin().describe_topic(TOPIC).await?;
        let queues = topic.iter().flat_map(|(_, topic)| &topic.queues);
        Ok(queues.map(|queue| queue.max.0 - queue.min.0).sum())
    }
}
