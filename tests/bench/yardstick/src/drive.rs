//! Drives Quernstone by its own client: what `protocol.rs` says, from stdin to stdout.

use std::collections::VecDeque;
use std::io::{BufRead as _, Write as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use bytes::Bytes;
use hdrhistogram::Histogram;
use quern_client::{Client, Consumer, ErrorKind, Filter, Message, Producer, Sending};
use quern_protocol::{Hello, Role};
use quern_quic::{Connection, Connector, DevAuthority, Door};
use tokio::task::JoinSet;

use crate::protocol::{Answer, Command, Latency};
use crate::work::VARIETY;

/// Longest a command waits for something that should happen.
const PATIENCE: Duration = Duration::from_secs(120);
/// Under way while a backlog is made.
const FILLING: usize = 8_192;

/// Times of messages, noted by many.
#[derive(Debug, Clone)]
struct Times(Arc<Mutex<Histogram<u64>>>);

impl Times {
    fn new() -> Self {
        let histogram = Histogram::new_with_max(3_600_000_000_000, 3);
        Self(Arc::new(Mutex::new(
            histogram.expect("these bounds are legal"),
        )))
    }

    fn note(&self, took: Duration) {
        let mut histogram = self.0.lock().expect("no one panics holding it");
        histogram.saturating_record(took.as_nanos().min(u128::from(u64::MAX)) as u64);
    }

    fn latency(&self) -> Option<Latency> {
        let histogram = self.0.lock().expect("no one panics holding it");
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        (!histogram.is_empty()).then(|| Latency {
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: histogram.max() as f64 / 1e3,
        })
    }
}

pub(crate) struct Quern {
    namesrv: String,
    broker: String,
    own: PathBuf,
    connected: Option<(Client, Producer)>,
    groups: u32,
    is_own_uploaded: bool,
    /// Clients that do nothing.
    idle: Vec<Connection>,
}

/// What a user's own filter is called on the broker.
const OWN: &str = "yardstick-own";
/// Clients that connect at once.
const CONNECTING: usize = 32;

fn filled(size: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(1);
    (0..size).map(|_| random.u8(..)).collect()
}

/// Serves until stdin ends.
pub(crate) fn serve(mut quern: Quern) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("starting threads")?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let answer = runtime.block_on(quern.obey(Command::of(&line)));
        let answer = answer.unwrap_or_else(|error| Answer {
            error: Some(format!("{error:#}")),
            ..Answer::default()
        });
        say(&answer)?;
    }
    Ok(())
}

fn say(answer: &Answer) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(answer)?)?;
    Ok(out.flush()?)
}

impl Quern {
    pub(crate) fn new(namesrv: String, broker: String, own: PathBuf) -> Self {
        Self {
            namesrv,
            broker,
            own,
            connected: None,
            groups: 0,
            is_own_uploaded: false,
            idle: Vec::new(),
        }
    }

    async fn obey(&mut self, command: Command<'_>) -> Result<Answer> {
        let text = |name| command.text(name).map_err(|error| anyhow!(error));
        let number = |name| command.number::<f64>(name).map_err(|error| anyhow!(error));
        let seconds =
            |name| -> Result<Duration> { Ok(Duration::try_from_secs_f64(number(name)?)?) };
        match command.verb() {
            "ping" => Ok(Answer::default()),
            "topic" => {
                for topic in command.topics().map_err(|error| anyhow!(error))? {
                    self.topic(&topic, number("queues")? as u32).await?;
                }
                Ok(Answer::default())
            }
            "first" => self.first(text("topic")?, number("queues")? as u32).await,
            "produce" => {
                let body = filled(number("size")? as usize);
                let topics = command.topics().map_err(|error| anyhow!(error))?;
                let load = Load::new(topics, body, number("in_flight")? as usize);
                let lasting = seconds("seconds")?;
                let (_, producer) = self.connect().await?;
                // Without one, messages are sent each by itself.
                match number("batch") {
                    Ok(each) => load.batches(&producer, each as usize, lasting).await,
                    Err(_) => load.run(&producer, Until::Time(lasting)).await,
                }
            }
            "fill" => {
                let body = filled(number("size")? as usize);
                let load = Load::new(vec![text("topic")?.to_owned()], body, FILLING);
                let over = Until::Count(number("count")? as u64);
                load.run(&self.connect().await?.1, over).await
            }
            "drain" => {
                let filter = match text("filter")? {
                    "all" => Filter::All,
                    "tag" => Filter::tag("t7"),
                    "sql" => Filter::sql("a = 7"),
                    "sql-half" => Filter::sql("a < 50"),
                    "own" => self.own_filter().await?,
                    other => bail!("unknown filter {other}"),
                };
                self.drain(
                    (text("topic")?, filter),
                    number("expect")? as u64,
                    number("groups")? as usize,
                )
                .await
            }
            "e2e" => {
                let pace = Pace {
                    topic: text("topic")?.to_owned(),
                    rate: number("rate")?,
                    size: number("size")? as usize,
                    lasting: seconds("seconds")?,
                };
                self.end_to_end(pace).await
            }
            "connect" => {
                self.crowd(number("count")? as usize).await?;
                Ok(Answer::default())
            }
            other => bail!("unknown command {other}"),
        }
    }

    /// The filter that a user wrote, which becomes a version of its name with the first drain.
    async fn own_filter(&mut self) -> Result<Filter> {
        if !self.is_own_uploaded {
            let bytes = std::fs::read(&self.own);
            let bytes = bytes.with_context(|| format!("reading {}", self.own.display()))?;
            let (client, _) = self.connect().await?;
            let admin = client.admin();
            let uploaded = admin.upload_plugin(OWN, &bytes.into(), |_, _| {}).await?;
            ensure!(uploaded.version == 1, "there is another {OWN} already");
            self.is_own_uploaded = true;
        }
        Ok(Filter::plugin(&format!("{OWN}@1"))?.into())
    }

    /// Connections to the broker as clients have them, until there are so many.
    async fn crowd(&mut self, count: usize) -> Result<()> {
        let trust = DevAuthority::open()?.trust();
        let connector = Connector::new(trust, None, Door::Client)?;
        while self.idle.len() < count {
            let mut connecting = JoinSet::new();
            for _ in 0..CONNECTING.min(count - self.idle.len()) {
                let (connector, broker) = (connector.clone(), self.broker.clone());
                connecting.spawn(async move {
                    let connection = connector.connect(&broker).await?;
                    connection.hello(&Hello::new(Role::Client)).await?;
                    Ok::<_, anyhow::Error>(connection)
                });
            }
            while let Some(connection) = connecting.join_next().await {
                self.idle.push(connection??);
            }
        }
        Ok(())
    }

    async fn connect(&mut self) -> Result<(Client, Producer)> {
        if let Some(connected) = &self.connected {
            return Ok(connected.clone());
        }
        let client = Client::builder().namesrv([&self.namesrv]).build().await?;
        let producer = client
            .producer("yardstick")
            .send_timeout(PATIENCE)
            .start()
            .await?;
        self.connected = Some((client.clone(), producer.clone()));
        Ok((client, producer))
    }

    async fn topic(&mut self, name: &str, queues: u32) -> Result<()> {
        let (client, _) = self.connect().await?;
        match client.admin().create_topic(name, queues).await {
            Ok(brokers) => ensure!(!brokers.is_empty(), "no broker is registered"),
            Err(error) if error.kind() == ErrorKind::Exists => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// The first acknowledged message of a broker that may not be there yet.
    async fn first(&mut self, topic: &str, queues: u32) -> Result<Answer> {
        let began = Instant::now();
        loop {
            let failed = match self.try_first(topic, queues).await {
                Ok(()) => break,
                Err(failed) => failed,
            };
            if began.elapsed() > PATIENCE {
                return Err(failed);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(Answer {
            count: 1,
            seconds: began.elapsed().as_secs_f64(),
            ..Answer::default()
        })
    }

    async fn try_first(&mut self, topic: &str, queues: u32) -> Result<()> {
        self.topic(topic, queues).await?;
        let (_, producer) = self.connect().await?;
        producer.send(Message::new(topic, filled(1024))).await?;
        Ok(())
    }

    async fn consumer(&mut self, topic: &str, filter: Filter) -> Result<Consumer> {
        let (client, _) = self.connect().await?;
        self.groups += 1;
        let group = format!("g{}-{}", self.groups, std::process::id());
        let consumer = client.consumer(&group).subscribe(topic, filter);
        Ok(consumer.start().await?)
    }

    /// New groups of one consumer each, which read side by side until so many messages came on the average.
    async fn drain(
        &mut self,
        (topic, filter): (&str, Filter),
        expect: u64,
        groups: usize,
    ) -> Result<Answer> {
        // Before they start: they read ahead at once, and joining takes milliseconds.
        say(&Answer {
            is_joined: true,
            ..Answer::default()
        })?;
        let began = Instant::now();
        let mut consumers = Vec::with_capacity(groups);
        for _ in 0..groups {
            consumers.push(self.consumer(topic, filter.clone()).await?);
        }
        let total = expect * groups as u64;
        let count = Arc::new(AtomicU64::new(0));
        let mut reading = JoinSet::new();
        for mut consumer in consumers {
            let count = Arc::clone(&count);
            reading.spawn(async move {
                loop {
                    consumer.recv().await?;
                    if count.fetch_add(1, Ordering::Relaxed) + 1 >= total {
                        return Ok::<_, quern_client::Error>(());
                    }
                }
            });
        }
        // Whoever has the last message, or an error, is first; the others are dropped.
        let first = tokio::time::timeout(PATIENCE, reading.join_next()).await;
        let came = count.load(Ordering::Relaxed);
        let ended = first
            .with_context(|| format!("{came} of {total} messages came within {PATIENCE:?}"))?;
        ended.context("nobody reads")???;
        Ok(Answer {
            count: total,
            seconds: began.elapsed().as_secs_f64(),
            ..Answer::default()
        })
    }

    async fn end_to_end(&mut self, pace: Pace) -> Result<Answer> {
        self.topic(&pace.topic, 4).await?;
        let (_, producer) = self.connect().await?;
        let origin = Instant::now();
        let receipts = Times::new();
        let (probes, received) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let mut consumer = self.consumer(&pace.topic, Filter::All).await?;
        let receiving = {
            let (receipts, probes, received) =
                (receipts.clone(), Arc::clone(&probes), Arc::clone(&received));
            tokio::spawn(async move {
                while let Ok(message) = consumer.recv().await {
                    let due = message
                        .body()
                        .first_chunk()
                        .map_or(0, |it| u64::from_le_bytes(*it));
                    if due == 0 {
                        probes.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    receipts.note(origin.elapsed().saturating_sub(Duration::from_nanos(due)));
                    received.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        for probe in 1..=8 {
            let mut body = filled(pace.size.max(8));
            body[..8].fill(0);
            producer.send(Message::new(&*pace.topic, body)).await?;
            while probes.load(Ordering::Relaxed) < probe {
                ensure!(origin.elapsed() < PATIENCE, "nothing is received");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        let paced = tokio::task::spawn_blocking(move || pace.send(&producer, origin));
        let mut answer = paced.await??;
        let waited = Instant::now();
        let total = answer.count + answer.failed;
        while received.load(Ordering::Relaxed) < answer.count && waited.elapsed().as_secs() < 10 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        receiving.abort();
        answer.count = received.load(Ordering::Relaxed);
        answer.failed = total - answer.count;
        answer.e2e = receipts.latency();
        Ok(answer)
    }
}

#[derive(Debug, Clone, Copy)]
enum Until {
    Time(Duration),
    Count(u64),
}

/// Sends as fast as so many may be under way.
struct Load {
    topics: Vec<String>,
    body: Bytes,
    in_flight: usize,
    /// Tags and properties, made before the clock runs.
    kinds: Vec<(String, String)>,
}

impl Load {
    fn new(topics: Vec<String>, body: Vec<u8>, in_flight: usize) -> Self {
        Self {
            topics,
            body: body.into(),
            in_flight,
            kinds: (0..VARIETY)
                .map(|i| (format!("t{i}"), i.to_string()))
                .collect(),
        }
    }

    async fn run(&self, producer: &Producer, until: Until) -> Result<Answer> {
        let times = Times::new();
        let began = Instant::now();
        let mut under_way: VecDeque<(Instant, Sending)> = VecDeque::with_capacity(self.in_flight);
        let (mut sent, mut count) = (0, 0);
        loop {
            let goes_on = match until {
                Until::Time(lasting) => began.elapsed() < lasting,
                Until::Count(total) => sent < total,
            };
            if goes_on && under_way.len() < self.in_flight {
                let topic = &self.topics[sent as usize % self.topics.len()];
                let mut message = Message::new(&**topic, self.body.clone());
                if matches!(until, Until::Count(_)) {
                    let (tag, value) = &self.kinds[(sent % VARIETY) as usize];
                    message = message.tag(tag).prop("a", value);
                }
                under_way.push_back((Instant::now(), producer.send(message)));
                sent += 1;
                continue;
            }
            // Answers of one connection come in order, so the oldest is the next.
            let Some((asked, send)) = under_way.pop_front() else {
                break;
            };
            send.await?;
            times.note(asked.elapsed());
            count += 1;
        }
        Ok(Answer {
            count,
            seconds: began.elapsed().as_secs_f64(),
            ack: times.latency(),
            ..Answer::default()
        })
    }
}

impl Load {
    /// Batches of so many messages, as many as may be under way: our client has no call for a batch, it is sends of which
    /// none is awaited before all are made.
    async fn batches(&self, producer: &Producer, each: usize, lasting: Duration) -> Result<Answer> {
        let times = Times::new();
        let began = Instant::now();
        let mut under_way: VecDeque<(Instant, Vec<Sending>)> =
            VecDeque::with_capacity(self.in_flight);
        let topics = self.topics.iter().cycle();
        let mut messages = topics.map(|topic| Message::new(&**topic, self.body.clone()));
        let mut count = 0;
        loop {
            if under_way.len() < self.in_flight && began.elapsed() < lasting {
                let asked = Instant::now();
                let batch = messages.by_ref().take(each);
                under_way.push_back((asked, batch.map(|it| producer.send(it)).collect()));
                continue;
            }
            let Some((asked, batch)) = under_way.pop_front() else {
                break;
            };
            for send in batch {
                send.await?;
                count += 1;
            }
            times.note(asked.elapsed());
        }
        Ok(Answer {
            count,
            seconds: began.elapsed().as_secs_f64(),
            ack: times.latency(),
            ..Answer::default()
        })
    }
}

/// An open loop.
struct Pace {
    topic: String,
    rate: f64,
    size: usize,
    lasting: Duration,
}

impl Pace {
    /// Sends each message when it is due, whatever became of those before, from a thread that can wait
    /// for less than a timer's tick. Stamps are the time the message was due, counted from `origin`.
    fn send(&self, producer: &Producer, origin: Instant) -> Result<Answer> {
        let runtime = tokio::runtime::Handle::current();
        let blank = filled(self.size.max(8));
        let (acks, failed) = (Times::new(), Arc::new(AtomicU64::new(0)));
        let total = (self.rate * self.lasting.as_secs_f64()) as u64;
        let start = Instant::now();
        let mut sends = Vec::with_capacity(total as usize);
        for number in 0..total {
            let due = start + Duration::from_secs_f64(number as f64 / self.rate);
            loop {
                let left = due.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                std::thread::park_timeout(left);
            }
            let mut body = blank.clone();
            body[..8]
                .copy_from_slice(&(due.duration_since(origin).as_nanos() as u64).to_le_bytes());
            let sending = producer.send(Message::new(&*self.topic, body));
            let (acks, failed) = (acks.clone(), Arc::clone(&failed));
            sends.push(runtime.spawn(async move {
                match sending.await {
                    Ok(_) => acks.note(due.elapsed()),
                    Err(_) => {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }));
        }
        runtime.block_on(async {
            for send in sends {
                send.await?;
            }
            Ok::<_, tokio::task::JoinError>(())
        })?;
        let failed = failed.load(Ordering::Relaxed);
        Ok(Answer {
            count: total - failed,
            failed,
            seconds: start.elapsed().as_secs_f64(),
            ack: acks.latency(),
            ..Answer::default()
        })
    }
}
