//! From send to receipt: a consumer of a group waits, and messages are sent at a pace of their own. How long each
//! took to its acknowledgement, and how long to the consumer; both count from when it was due.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hdrhistogram::Histogram;
use quern_client::{Consumer, From, Message, Producer, Sending};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::TOPIC;
use super::load::{Latency, Load, PATIENCE, histogram, record};
use crate::failure::Failure;

/// How messages come to a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Way {
    /// Sent as they come.
    Push,
    /// Asked for.
    Polling,
}

impl Way {
    pub(crate) const ALL: [Self; 2] = [Self::Polling, Self::Push];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Polling => "polling",
        }
    }

    /// A consumer of a new group.
    pub(crate) async fn consumer(self, load: &Load, from: From) -> Result<Consumer, Failure> {
        let group = group(load, self.name());
        let consumer = load.client.consumer(&group);
        let consumer = consumer.subscribe(TOPIC, load.filter.clone()).from(from);
        let consumer = match self {
            Self::Push => consumer,
            Self::Polling => consumer.polling(),
        };
        Ok(consumer.start().await?)
    }
}

/// A group that nobody has used yet, in this run or an earlier one.
pub(crate) fn group(load: &Load, what: &str) -> String {
    let number = load.groups.fetch_add(1, Ordering::Relaxed);
    format!("quern-bench-{what}-{}-{number}", std::process::id())
}

/// In flight where no pace is asked for.
const IN_FLIGHT: usize = 256;
/// Sent and received one after the other before anything is measured: connections, leases, caches.
const PROBES: u64 = 64;
/// The stamp of a message that is not measured.
const PROBE: u64 = 0;
/// Between looks at how far the consumer is.
const LOOK: Duration = Duration::from_millis(1);

#[derive(Debug, Clone, Serialize)]
pub(crate) struct EndToEnd {
    pub(crate) way: Way,
    /// Messages a second asked for; none = 256 in flight.
    pub(crate) asked_per_s: Option<u64>,
    pub(crate) messages: u64,
    pub(crate) per_s: f64,
    /// To the acknowledgement of the send.
    pub(crate) acknowledged: Latency,
    /// To the receipt.
    pub(crate) latency: Latency,
    /// Of each message, sent and delivered.
    pub(crate) broker_cpu_us: f64,
    pub(crate) client_cpu_us: f64,
}

/// How long messages took to the consumer.
#[derive(Debug, Clone)]
struct Receipts(Arc<Mutex<(u64, Histogram<u64>)>>);

const UNPOISONED: &str = "no one panics holding it";

impl Receipts {
    fn new() -> Self {
        Self(Arc::new(Mutex::new((0, histogram()))))
    }

    fn count(&self) -> u64 {
        self.0.lock().expect(UNPOISONED).0
    }

    async fn until(&self, count: u64) -> Result<(), Failure> {
        let until = Instant::now() + PATIENCE;
        while self.count() < count {
            if Instant::now() >= until {
                let came = self.count();
                let why = format!("{count} messages were sent and {came} received");
                return Err(Failure::new(1, why));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    async fn receive(self, mut consumer: Consumer, origin: Instant) -> Result<(), Failure> {
        loop {
            let message = consumer.recv().await?;
            let due = message.body().first_chunk();
            let due = due.map_or(PROBE, |it| u64::from_le_bytes(*it));
            let mut receipts = self.0.lock().expect(UNPOISONED);
            receipts.0 += 1;
            if due != PROBE {
                let took = origin.elapsed();
                record(
                    &mut receipts.1,
                    took.saturating_sub(Duration::from_nanos(due)),
                );
            }
        }
    }
}

impl Load {
    pub(crate) async fn end_to_end(
        &self,
        way: Way,
        pace: Option<u64>,
    ) -> Result<EndToEnd, Failure> {
        eprintln!("sending and receiving, {} …", way.name());
        let origin = Instant::now();
        let receipts = Receipts::new();
        let consumer = way.consumer(self, From::Last).await?;
        consumer.ends().await?;
        let mut receiving = tokio::spawn(receipts.clone().receive(consumer, origin));
        let producer = self.producer().await?;
        for probe in 1..=PROBES {
            producer.send(self.stamped(PROBE)).await?;
            receipts.until(probe).await?;
        }
        let before = self.usage().await?;
        let began = Instant::now();
        let sending = async {
            let (sent, times) = match pace {
                Some(pace) => self.send_at(pace, &producer, origin).await?,
                None => self.send_many(&producer, origin).await?,
            };
            receipts.until(PROBES + sent).await?;
            Ok::<_, Failure>((sent, times))
        };
        let (sent, acknowledged) = tokio::select! {
            sent = sending => sent?,
            ended = &mut receiving => match ended {
                Ok(Err(failure)) => return Err(failure),
                _ => return Err(Failure::new(1, "the consumer stopped")),
            },
        };
        let took = began.elapsed().as_secs_f64();
        let after = self.usage().await?;
        receiving.abort();
        let each = |us: u64| us as f64 / sent.max(1) as f64;
        let latency = Latency::of(&receipts.0.lock().expect(UNPOISONED).1);
        Ok(EndToEnd {
            way,
            asked_per_s: pace,
            messages: sent,
            per_s: sent as f64 / took,
            acknowledged: Latency::of(&acknowledged),
            latency,
            broker_cpu_us: each(after.broker_us - before.broker_us),
            client_cpu_us: each(after.client_us - before.client_us),
        })
    }

    fn stamped(&self, stamp: u64) -> Message {
        let mut body = vec![b'x'; self.size.max(8)];
        if let Some(first) = body.first_chunk_mut() {
            *first = stamp.to_le_bytes();
        }
        Message::new(TOPIC, body)
    }

    /// An open loop: each message is sent when it is due, whatever became of those before, by a thread that can wait
    /// for less than a timer's tick.
    async fn send_at(
        &self,
        pace: u64,
        producer: &Producer,
        origin: Instant,
    ) -> Result<(u64, Histogram<u64>), Failure> {
        let total = (pace as f64 * self.lasting.as_secs_f64()) as u64;
        let (sends, acknowledging) = mpsc::channel(super::MANY);
        let start = Instant::now();
        let clock = {
            let (this, producer) = (self.clone(), producer.clone());
            tokio::task::spawn_blocking(move || {
                for number in 0..total {
                    let due = start + Duration::from_secs_f64(number as f64 / pace as f64);
                    loop {
                        let left = due.saturating_duration_since(Instant::now());
                        if left.is_zero() {
                            break;
                        }
                        std::thread::park_timeout(left);
                    }
                    let stamp = due.duration_since(origin).as_nanos() as u64;
                    let send = producer.send(this.stamped(stamp));
                    if sends.blocking_send((due, send)).is_err() {
                        return;
                    }
                }
            })
        };
        let times = acknowledge(acknowledging).await?;
        clock
            .await
            .map_err(|error| Failure::new(1, error.to_string()))?;
        Ok((total, times))
    }

    /// A closed loop: so many are under way, each answered one is replaced.
    async fn send_many(
        &self,
        producer: &Producer,
        origin: Instant,
    ) -> Result<(u64, Histogram<u64>), Failure> {
        let (sends, acknowledging) = mpsc::channel(IN_FLIGHT);
        let start = Instant::now();
        let clock = async move {
            let mut sent = 0;
            while start.elapsed() < self.lasting {
                let now = Instant::now();
                let stamp = now.duration_since(origin).as_nanos() as u64;
                let Ok(room) = sends.reserve().await else {
                    break;
                };
                room.send((now, producer.send(self.stamped(stamp))));
                sent += 1;
            }
            drop(sends);
            sent
        };
        let (sent, times) = tokio::join!(clock, acknowledge(acknowledging));
        Ok((sent, times?))
    }
}

/// Answers of one connection come in order, so the oldest is the next.
async fn acknowledge(
    mut sends: mpsc::Receiver<(Instant, Sending)>,
) -> Result<Histogram<u64>, Failure> {
    let mut times = histogram();
    while let Some((due, send)) = sends.recv().await {
        send.await?;
        record(&mut times, due.elapsed());
    }
    Ok(times)
}
