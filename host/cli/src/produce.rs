//! `quern produce`: sends one message, or one a line.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, IsTerminal as _, Read};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{Args as ClapArgs, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use quern_client::{
    Client, Compression, Durability, Message, Priority, Producer, Selector, SendResult, SendStatus,
    Sending, TransactionState,
};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::connect::Connect;
use crate::failure::Failure;
use crate::output::{self, thousands};
use crate::time;

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    topic: String,
    /// The body; `-` reads standard input, one message a line.
    body: Option<String>,
    /// Read this file, one message a line.
    #[arg(long, value_name = "FILE", conflicts_with = "body")]
    file: Option<PathBuf>,
    /// Lines are JSON objects with `body` (or `body_hex`) and, if wanted, `tag`, `key`,
    /// `order_key`, `properties`.
    #[arg(long)]
    ndjson: bool,
    /// Tag of every message that names none.
    #[arg(long, short = 't')]
    tag: Option<String>,
    /// Key of every message that names none.
    #[arg(long, short = 'k')]
    key: Option<String>,
    /// A property of every message, NAME=VALUE; may be repeated.
    #[arg(short = 'H', long = "property", value_name = "NAME=VALUE", value_parser = property)]
    properties: Vec<(String, String)>,
    /// Messages with one order key share a queue and keep their order.
    #[arg(long, value_name = "KEY")]
    order_key: Option<String>,
    /// How urgent it is, 0 to 9: it goes to the queue for that.
    #[arg(long, value_name = "LEVEL", conflicts_with_all = ["order_key", "select", "Later", "tx"])]
    priority: Option<Priority>,
    #[command(flatten)]
    later: Later,
    /// Send it in a transaction, and end that so; unknown leaves it open.
    #[arg(long, value_enum, value_name = "END",
        conflicts_with_all = ["Later", "order_key", "select", "file", "ndjson", "no_idempotence"])]
    tx: Option<Tx>,
    /// Wait so long for the reply of whoever consumes it, and print that.
    #[arg(long, value_name = "DELAY", value_parser = time::delay,
        conflicts_with_all = ["Later", "tx", "file", "ndjson", "count"])]
    request: Option<u64>,
    /// The producer group that is asked about transactions.
    #[arg(long, value_name = "GROUP", default_value = "quern-produce")]
    group: String,
    /// The plugin on the broker that chooses each message's queue: hash, fifo, round-robin, random,
    /// least-latency, machine-room, or one of yours.
    #[arg(long, value_name = "SELECTOR")]
    select: Option<String>,
    /// A parameter of the selector, NAME=VALUE; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = property, requires = "select")]
    select_param: Vec<(String, String)>,
    /// Where this producer stands, for selectors that care.
    #[arg(long, default_value = "", hide_default_value = true)]
    zone: String,
    /// How safe each message is when it counts as sent: local = on the broker's disk, fast = in its
    /// page cache. By default as the topic says.
    #[arg(long, value_name = "CLASS")]
    durability: Option<Durability>,
    /// Compress bodies of 1 KiB and more: lz4 is fast, zstd smaller, zlib what RocketMQ's clients do.
    #[arg(long, value_name = "CODEC")]
    compress: Option<Compression>,
    /// Send without numbers: a send whose answer is lost is not sent again, and counts as unknown.
    #[arg(long)]
    no_idempotence: bool,
    /// Write down who sent each message when, in a topic of its own; `msg trace` shows it.
    #[arg(long)]
    trace: bool,
    /// Send the body this many times.
    #[arg(long, default_value_t = 1)]
    count: u64,
    #[command(flatten)]
    connect: Connect,
}

/// When messages are to be delivered.
#[derive(Debug, ClapArgs)]
#[group(multiple = false, conflicts_with_all = ["order_key", "select"])]
struct Later {
    /// Deliver every message so long after it is stored: a number of ms, s, m, h or d, as 30s.
    #[arg(long, value_name = "DELAY", value_parser = time::delay)]
    delay: Option<u64>,
    /// Deliver them not before then: 2030-01-31T08:00:00Z, or ms since 1970.
    #[arg(long, value_name = "TIME", value_parser = time::moment)]
    at: Option<u64>,
    /// Deliver them after the delay that the broker has under this number: 1 = 1 s, 2 = 5 s … 18 = 2 h.
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(u8).range(1..))]
    delay_level: Option<u8>,
}

/// How transactions end.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Tx {
    Commit,
    Rollback,
    Unknown,
}

impl Later {
    fn dress(&self, message: Message) -> Message {
        match (self.delay, self.at, self.delay_level) {
            (Some(ms), ..) => message.delay(Duration::from_millis(ms)),
            (_, Some(ms), _) => {
                message.deliver_at(SystemTime::UNIX_EPOCH + Duration::from_millis(ms))
            }
            (.., Some(level)) => message.delay_level(level),
            (None, None, None) => message,
        }
    }
}

/// Sends under way at once.
const UNDER_WAY: usize = 8_192;
/// Lines read ahead.
const LINES: usize = 4_096;

fn property(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it is NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// A line of `--ndjson`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    /// A text; any other JSON is sent as it is written.
    #[serde(default)]
    body: Option<Value>,
    /// Instead of `body`: any bytes, two digits each.
    #[serde(default)]
    body_hex: Option<String>,
    #[serde(default)]
    tag: Option<String>,
    #[serde(default)]
    key: Option<Keys>,
    #[serde(default)]
    order_key: Option<String>,
    #[serde(default)]
    properties: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Keys {
    One(String),
    Several(Vec<String>),
}

impl Line {
    fn body(&mut self) -> Result<Vec<u8>, Failure> {
        match (self.body.take(), &self.body_hex) {
            (Some(body), None) => Ok(text(body).into_bytes()),
            (None, Some(hex)) => unhex(hex)
                .ok_or_else(|| Failure::usage("body_hex is not pairs of hexadecimal digits")),
            _ => Err(Failure::usage("a message has one of body and body_hex")),
        }
    }

    fn keys(&mut self) -> Vec<String> {
        match self.key.take() {
            None => Vec::new(),
            Some(Keys::One(key)) => vec![key],
            Some(Keys::Several(keys)) => keys,
        }
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let pairs = digits.as_deref()?.chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from(high * 16 + low).ok(),
        _ => None,
    });
    pairs.collect()
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    if args.body.is_none() && args.file.is_none() {
        return Err(Failure::usage(
            "nothing to send: give a BODY, `-` for standard input, or --file FILE",
        ));
    }
    let from_stdin = args.body.as_deref() == Some("-");
    let client = args.connect.client_that_traces(args.trace).await?;
    if let (Some(end), Some(body)) = (args.tx, &args.body) {
        return in_transaction(&args, &client, end, body).await;
    }
    let mut producer = client.producer(&args.group).zone(&args.zone);
    producer = producer.idempotent(!args.no_idempotence);
    if let Some(name) = &args.select {
        let params = args.select_param.iter();
        let selector = params.fold(Selector::named(name), |it, (name, value)| {
            it.param(name, value)
        });
        producer = producer.select(selector);
    }
    if let Some(class) = args.durability {
        producer = producer.durability(class);
    }
    if let Some(compression) = args.compress {
        producer = producer.compress(compression);
    }
    let producer = producer.start().await?;
    if let (Some(ms), Some(body), false) = (args.request, &args.body, from_stdin) {
        let within = Duration::from_millis(ms);
        let reply = producer.request(args.message(body.clone()), within).await?;
        output::print_bytes(&[reply.body(), b"\n"].concat())?;
        client.close().await;
        return Ok(());
    }
    match (&args.body, &args.file) {
        (Some(body), None) if !from_stdin && args.count == 1 && !args.ndjson => {
            let sent = producer.send(args.message(body.clone())).await?;
            print_one(&sent)?;
        }
        (Some(body), None) if !from_stdin => {
            let mut sender = Sender::new(producer, Some(args.count));
            for _ in 0..args.count {
                sender.send(args.parse(body.clone().into_bytes())?).await?;
            }
            sender.finish().await?;
        }
        (_, Some(file)) => {
            let opened = std::fs::File::open(file);
            let opened =
                opened.map_err(|error| Failure::new(3, format!("{}: {error}", file.display())))?;
            send_lines(&args, producer, opened).await?;
        }
        (_, None) => send_lines(&args, producer, std::io::stdin()).await?,
    }
    client.close().await;
    Ok(())
}

/// Each message in a transaction of its own.
async fn in_transaction(args: &Args, client: &Client, end: Tx, body: &str) -> Result<(), Failure> {
    let nobody_knows = |_| async { TransactionState::Unknown };
    let mut producer = client.transaction_producer(&args.group, nobody_knows);
    if let Some(compression) = args.compress {
        producer = producer.compress(compression);
    }
    if let Some(class) = args.durability {
        producer = producer.durability(class);
    }
    let producer = producer.start().await?;
    for _ in 0..args.count {
        let transaction = producer.begin(args.message(body.to_owned())).await?;
        let (id, handle) = (
            transaction.message_id().to_owned(),
            transaction.handle().clone(),
        );
        let outcome = match end {
            Tx::Commit => {
                let at = transaction.commit().await?;
                format!(
                    "{} queue {} offset {}",
                    at.queue.broker, at.queue.queue, at.offset
                )
            }
            Tx::Rollback => {
                transaction.roll_back().await?;
                format!("rolled back, was {handle}")
            }
            Tx::Unknown => format!("open as {handle}"),
        };
        output::print(&format!("{id} {outcome}\n"))?;
    }
    client.close().await;
    Ok(())
}

fn print_one(sent: &SendResult) -> Result<(), Failure> {
    let queue = sent.queue();
    let by = sent.selector().map(|it| format!(" by {it}"));
    warn_if_not_durable(1, sent.status());
    if let Some(handle) = sent.handle() {
        return output::print(&format!(
            "{} waits as {handle} for queue {}\n",
            sent.message_id(),
            queue.queue
        ));
    }
    output::print(&format!(
        "{} {} queue {} offset {}{}\n",
        sent.message_id(),
        queue.broker,
        queue.queue,
        sent.offset(),
        by.unwrap_or_default()
    ))
}

/// Standard output tells where messages are; that they may yet be lost is for people.
fn warn_if_not_durable(messages: u64, status: SendStatus) {
    let why = match status {
        SendStatus::Ok => return,
        SendStatus::FlushDiskTimeout => "the disk did not confirm in time (FLUSH_DISK_TIMEOUT)",
        SendStatus::FlushReplicaTimeout => "no replica confirmed in time (FLUSH_SLAVE_TIMEOUT)",
        SendStatus::ReplicaNotAvailable => "no replica was there (SLAVE_NOT_AVAILABLE)",
    };
    eprintln!(
        "{} messages are stored, but not yet as durable as was asked for: {why}",
        thousands(messages)
    );
}

impl Args {
    fn message(&self, body: impl Into<bytes::Bytes>) -> Message {
        self.dress(Message::new(self.topic.clone(), body), None, &[])
    }

    fn dress(&self, mut message: Message, tag: Option<String>, keys: &[String]) -> Message {
        if let Some(tag) = tag.or_else(|| self.tag.clone()) {
            message = message.tag(tag);
        }
        for key in keys {
            message = message.key(key);
        }
        if let Some(key) = self.key.as_ref().filter(|_| keys.is_empty()) {
            message = message.key(key);
        }
        if let Some(key) = &self.order_key {
            message = message.order_by(key);
        }
        if let Some(priority) = self.priority {
            message = message.priority(priority);
        }
        for (name, value) in &self.properties {
            message = message.prop(name, value);
        }
        self.later.dress(message)
    }

    /// The message a line stands for.
    fn parse(&self, line: Vec<u8>) -> Result<Message, Failure> {
        if !self.ndjson {
            return Ok(self.message(line));
        }
        let mut line: Line = serde_json::from_slice(&line)
            .map_err(|error| Failure::usage(format!("not a message: {error}")))?;
        let message = Message::new(self.topic.clone(), line.body()?);
        let keys = line.keys();
        let mut message = self.dress(message, line.tag, &keys);
        if let Some(key) = line.order_key {
            message = message.order_by(key);
        }
        for (name, value) in line.properties {
            message = message.prop(name, text(value));
        }
        Ok(message)
    }
}

fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// Sends one message a line. A line that is no message stops the command, by its number.
async fn send_lines(
    args: &Args,
    producer: Producer,
    source: impl Read + Send + 'static,
) -> Result<(), Failure> {
    let (lines, mut incoming) = mpsc::channel::<std::io::Result<Vec<u8>>>(LINES);
    tokio::task::spawn_blocking(move || {
        for line in BufReader::with_capacity(1 << 16, source).split(b'\n') {
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
    let mut sender = Sender::new(producer, None);
    let mut number = 0u64;
    let mut failed = None;
    while let Some(line) = incoming.recv().await {
        number += 1;
        let mut line = line?;
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        if line.is_empty() && args.ndjson {
            continue;
        }
        match args.parse(line) {
            Ok(message) => sender.send(message).await?,
            Err(failure) => {
                failed = Some(Failure::usage(format!("line {number}: {failure}")));
                break;
            }
        }
    }
    sender.finish().await?;
    failed.map_or(Ok(()), Err)
}

/// Keeps many sends under way and counts what became of them.
struct Sender {
    producer: Producer,
    under_way: VecDeque<Sending>,
    stored: u64,
    /// Stored, but not as durable as was asked for, and why the last of them.
    not_durable: (u64, SendStatus),
    refused: u64,
    first_error: Option<quern_client::Error>,
    began: Instant,
    bar: ProgressBar,
}

impl Sender {
    fn new(producer: Producer, total: Option<u64>) -> Self {
        let bar = if std::io::stderr().is_terminal() {
            total.map_or_else(ProgressBar::new_spinner, ProgressBar::new)
        } else {
            ProgressBar::hidden()
        };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {human_pos} messages, {per_sec}")
        {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        Self {
            producer,
            under_way: VecDeque::new(),
            stored: 0,
            not_durable: (0, SendStatus::Ok),
            refused: 0,
            first_error: None,
            began: Instant::now(),
            bar,
        }
    }

    async fn send(&mut self, message: Message) -> Result<(), Failure> {
        self.under_way.push_back(self.producer.send(message));
        if self.under_way.len() > UNDER_WAY {
            self.settle_one().await?;
        }
        Ok(())
    }

    async fn settle_one(&mut self) -> Result<(), Failure> {
        let Some(sending) = self.under_way.pop_front() else {
            return Ok(());
        };
        match sending.await {
            Ok(sent) => {
                if !sent.status().is_durable() {
                    self.not_durable = (self.not_durable.0 + 1, sent.status());
                }
                self.stored += 1;
                self.bar.inc(1);
                Ok(())
            }
            Err(error) => {
                self.refused += 1;
                let hopeless = self.stored == 0 && !error.is_retryable();
                let failure = Failure::from(error.clone());
                self.first_error.get_or_insert(error);
                // Nothing was stored and nothing will be: a missing topic, say.
                if hopeless { Err(failure) } else { Ok(()) }
            }
        }
    }

    async fn finish(mut self) -> Result<(), Failure> {
        while !self.under_way.is_empty() {
            self.settle_one().await?;
        }
        self.bar.finish_and_clear();
        let took = self.began.elapsed().as_secs_f64().max(1e-6);
        eprintln!(
            "{} messages stored in {took:.2} s ({}/s)",
            thousands(self.stored),
            thousands((self.stored as f64 / took) as u64)
        );
        warn_if_not_durable(self.not_durable.0, self.not_durable.1);
        match self.first_error {
            None => Ok(()),
            Some(error) if self.stored == 0 => Err(error.into()),
            Some(error) => Err(Failure::partial(format!(
                "{error} (and so {} of {} messages)",
                thousands(self.refused),
                thousands(self.stored + self.refused)
            ))),
        }
    }
}
