//! `quern store`: the data directory of a node that does not run. Only `repair` writes to it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use quern_client::TopicName;
use quern_node::offline::{self, Audit, Damage, Entry, OpenError, TopicNames};
use quern_protocol::message::is_reserved;
use quern_protocol::{Block, RecordHeader, RecordKind, TopicId};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::exercise::{self, Exercise};
use crate::failure::Failure;
use crate::format::hex;
use crate::output::{self, Output, thousands};
use crate::repair::{self, Repair};
use crate::standing::Standing;
use crate::time;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Verify every byte of the log; exit code 9 when what was durable is damaged.
    Check(Check),
    /// List what is in the log.
    Inspect(Inspect),
    /// Print messages as lines that `quern produce --ndjson` accepts.
    Export(Export),
    /// Put damaged ranges of the log aside, so that the node starts with all the rest.
    Repair(Repair),
    /// Drive a store by hand, for tests.
    #[command(hide = true)]
    Exercise(Exercise),
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The data directory.
    #[arg(default_value = "quern-data")]
    dir: PathBuf,
    /// Form of the result.
    #[arg(short, long, value_enum, default_value_t = Output::Human)]
    output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// The data directory.
    #[arg(default_value = "quern-data")]
    dir: PathBuf,
    /// What to list.
    #[arg(long, value_enum, default_value_t = What::Records)]
    what: What,
    /// Begin at this log position.
    #[arg(long, default_value_t = 0, value_name = "POSITION")]
    from: u64,
    /// At most so many.
    #[arg(short = 'n', default_value_t = 20, value_name = "COUNT")]
    max: usize,
    /// Only messages of this topic.
    #[arg(long)]
    topic: Option<TopicName>,
    /// Form of the result; JSON has bodies and properties, too.
    #[arg(short, long, value_enum, default_value_t = Output::Human)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Messages and the broker's own records.
    Records,
    /// What one write brought and one sync made durable.
    Groups,
    /// Files.
    Segments,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The data directory.
    #[arg(default_value = "quern-data")]
    dir: PathBuf,
    /// Messages of this topic, in log order, but first those that have outlived their segment; a deleted one's as
    /// long as they are in the log.
    #[arg(long)]
    topic: TopicName,
    /// Only of this queue.
    #[arg(long)]
    queue: Option<u32>,
    /// From this log position on. What has outlived its segment is copied behind it, so it may come again though an
    /// earlier export has had it.
    #[arg(long, default_value_t = 0, value_name = "POSITION")]
    from: u64,
    /// Up to this log position, not included: of the log as it was then.
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true, value_name = "POSITION")]
    to: u64,
}

pub(crate) async fn run(command: Command) -> Result<(), Failure> {
    let work = tokio::task::spawn_blocking(move || match command {
        Command::Check(args) => check(&args),
        Command::Inspect(args) => inspect(&args),
        Command::Export(args) => export(&args),
        Command::Repair(args) => repair::run(&args),
        Command::Exercise(args) => exercise::run(&args),
    });
    work.await
        .map_err(|error| Failure::new(1, error.to_string()))?
}

pub(crate) fn failed(error: &OpenError) -> Failure {
    let exit = match error {
        OpenError::Locked { .. } => 4,
        OpenError::Unusable { source, .. } if source.kind() == std::io::ErrorKind::NotFound => 3,
        OpenError::Unusable { .. } => 5,
        OpenError::Corrupt { .. } | OpenError::Hole { .. } => 9,
        _ => 1,
    };
    Failure::new(exit, format!("Q-{} {error}", error.code().number))
}

fn read(dir: &Path, mut visit: impl FnMut(Entry<'_>) -> ControlFlow<()>) -> Result<Audit, Failure> {
    offline::read(dir, &mut visit).map_err(|error| failed(&error))
}

#[derive(Serialize)]
struct Range<'a> {
    file: &'a str,
    from: u64,
    to: u64,
    bytes: u64,
    why: &'a str,
}

impl<'a> Range<'a> {
    fn of(damage: &'a Damage) -> Self {
        Self {
            file: &damage.file,
            from: damage.from.0,
            to: damage.to.0,
            bytes: damage.to.0 - damage.from.0,
            why: &damage.why,
        }
    }
}

#[derive(Serialize)]
struct Checked<'a> {
    segments: usize,
    groups: u64,
    records: u64,
    messages: u64,
    end: u64,
    durable: u64,
    clean: bool,
    torn: Option<Range<'a>>,
    damage: Vec<Range<'a>>,
}

fn check(args: &Check) -> Result<(), Failure> {
    let audit = read(&args.dir, |_| ControlFlow::Continue(()))?;
    let checked = Checked {
        segments: audit.segments,
        groups: audit.groups,
        records: audit.records,
        messages: audit.messages,
        end: audit.end.0,
        durable: audit.durable.0,
        clean: audit.clean,
        torn: audit.torn.as_ref().map(Range::of),
        damage: audit.damage.iter().map(Range::of).collect(),
    };
    output::print(&match args.output {
        Output::Human => checked.human(),
        Output::Json => output::json(&checked)? + "\n",
        Output::Ndjson => output::line(&checked)? + "\n",
    })?;
    let Some(first) = audit.damage.first() else {
        return Ok(());
    };
    Err(Failure::new(
        9,
        format!(
            "Q-4007 {} damaged in what was durable, the first in {} at {}: the node will not start. \
             Nothing was changed. To put it aside: quern store repair {}",
            ranges(audit.damage.len()),
            first.file,
            first.from,
            args.dir.display()
        ),
    ))
}

fn ranges(count: usize) -> String {
    match count {
        1 => "1 range is".to_owned(),
        count => format!("{count} ranges are"),
    }
}

impl Checked<'_> {
    fn human(&self) -> String {
        let mut out = format!(
            "messages {} · records {} · groups {} · segments {} · up to position {}\n",
            thousands(self.messages),
            thousands(self.records),
            thousands(self.groups),
            thousands(self.segments as u64),
            self.end
        );
        out += if self.clean {
            "closed cleanly\n"
        } else {
            "not closed cleanly: the next start verifies it again\n"
        };
        if let Some(torn) = &self.torn {
            out += &format!(
                "a torn tail of {} bytes at {}, never acknowledged ({}): the next start puts it aside\n",
                thousands(torn.bytes),
                torn.from,
                torn.why
            );
        }
        if self.damage.is_empty() {
            out += "nothing is damaged\n";
        } else {
            let row = |it: &Range<'_>| {
                vec![
                    it.file.to_owned(),
                    it.from.to_string(),
                    it.to.to_string(),
                    thousands(it.bytes),
                    it.why.to_owned(),
                ]
            };
            let rows: Vec<_> = self.damage.iter().map(row).collect();
            out += &output::table(&["DAMAGED", "FROM", "TO", "BYTES", "WHY"], &rows);
        }
        out
    }
}

/// A line of `inspect`: what there is to say, and how it looks in a table.
struct Line {
    json: Value,
    cells: Vec<String>,
}

fn inspect(args: &Inspect) -> Result<(), Failure> {
    let mut lines = Vec::new();
    read(&args.dir, |entry| {
        lines.extend(args.line(&entry));
        if lines.len() < args.max {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })?;
    let heading: &[&str] = match args.what {
        What::Records => &[
            "POSITION",
            "KIND",
            "TOPIC",
            "QUEUE",
            "OFFSET",
            "STORED AT",
            "BYTES",
            "TAG",
            "KEYS",
        ],
        What::Groups => &[
            "POSITION",
            "BYTES",
            "RECORDS",
            "STORED AT",
            "DURABLE UP TO",
            "KIND",
        ],
        What::Segments => &["FILE", "FROM", "TO"],
    };
    match args.output {
        Output::Human if lines.is_empty() => {
            eprintln!("nothing there");
            Ok(())
        }
        Output::Human => {
            let rows: Vec<_> = lines.into_iter().map(|line| line.cells).collect();
            output::print(&output::table(heading, &rows))
        }
        Output::Json => {
            let all: Vec<_> = lines.into_iter().map(|line| line.json).collect();
            output::print(&(output::json(&all)? + "\n"))
        }
        Output::Ndjson => lines
            .iter()
            .try_for_each(|line| output::print(&(output::line(&line.json)? + "\n"))),
    }
}

impl Inspect {
    fn line(&self, entry: &Entry<'_>) -> Option<Line> {
        match (self.what, entry) {
            (What::Segments, Entry::Segment { file, base, size }) => {
                let (from, to) = (base.0, base.0 + size);
                (to > self.from).then(|| Line {
                    json: serde_json::json!({ "file": file, "from": from, "to": to }),
                    cells: vec![file.clone(), from.to_string(), to.to_string()],
                })
            }
            (
                What::Groups,
                Entry::Group {
                    position,
                    bytes,
                    records,
                    stored_at,
                    durable_upto,
                    kind,
                },
            ) => (position.0 >= self.from).then(|| Line {
                json: serde_json::json!({
                    "position": position.0, "bytes": bytes, "records": records,
                    "stored_at": stored_at, "durable_upto": durable_upto.0, "kind": kind,
                }),
                cells: vec![
                    position.to_string(),
                    bytes.to_string(),
                    records.to_string(),
                    time::shown(*stored_at),
                    durable_upto.to_string(),
                    (*kind).to_owned(),
                ],
            }),
            (
                What::Records,
                Entry::Record {
                    header,
                    topic,
                    block,
                },
            ) => {
                let wanted = self.topic.as_ref().is_none_or(|it| Some(it) == *topic);
                (wanted && header.position.0 >= self.from).then(|| record(header, *topic, block))
            }
            _ => None,
        }
    }
}

fn record(header: &RecordHeader, topic: Option<&TopicName>, block: &Block<'_>) -> Line {
    let kind = format!("{:?}", header.kind);
    // The broker's own records lie in no queue.
    let is_message = header.kind == RecordKind::Message;
    let of_message = |cell: String| if is_message { cell } else { String::new() };
    let name = topic.map_or_else(
        || match header.topic.0 {
            0 => String::new(),
            id => format!("#{id}"),
        },
        ToString::to_string,
    );
    let properties: Map<String, Value> = block
        .properties()
        .map(|(key, value)| (key.to_owned(), Value::from(value)))
        .collect();
    let mut json = serde_json::json!({
        "position": header.position.0, "bytes": header.len, "kind": kind, "topic": name,
        "topic_id": header.topic.0, "queue": header.queue.0, "offset": header.queue_offset.0,
        "epoch": header.epoch.0, "stored_at": header.stored_at, "born_at": block.born_at(),
        "tag": block.tag(), "keys": block.keys(), "properties": properties,
    });
    if let Some(fields) = json.as_object_mut() {
        fields.extend(body(block));
    }
    Line {
        json,
        cells: vec![
            header.position.to_string(),
            kind,
            name,
            of_message(header.queue.to_string()),
            of_message(header.queue_offset.to_string()),
            time::shown(header.stored_at),
            header.len.to_string(),
            block.tag().to_owned(),
            block.keys().to_owned(),
        ],
    }
}

/// As text where it is text.
fn body(block: &Block<'_>) -> Map<String, Value> {
    // What does not decompress is shown as it is stored.
    let body = block
        .body()
        .unwrap_or_else(|_| Cow::Borrowed(block.stored_body()));
    let (name, value) = match str::from_utf8(&body) {
        Ok(text) => ("body", text.to_owned()),
        Err(_) => ("body_hex", hex(&body)),
    };
    Map::from_iter([(name.to_owned(), Value::from(value))])
}

fn export(args: &Export) -> Result<(), Failure> {
    let standing = args.standing()?;
    if standing.is_empty() {
        let text = format!("the log holds no message of topic \"{}\"", args.topic);
        return Err(Failure::new(3, text));
    }
    // A copy stands behind messages that are newer than it is.
    if standing.values().any(Standing::has_copies) {
        args.print(&standing, |it, standing| {
            it.extensions.carried && standing.stands(it)
        })?;
    }
    args.print(&standing, |it, _| !it.extensions.carried)
}

impl Export {
    /// Which records stand for messages, of each topic that ever had the name. Where the log begins, messages may
    /// precede the record that names their topic.
    fn standing(&self) -> Result<HashMap<TopicId, Standing>, Failure> {
        let mut all: HashMap<TopicId, Standing> = HashMap::new();
        let (mut names, mut is_named) = (TopicNames::default(), true);
        let mut see = |entry: Entry<'_>| {
            let Entry::Record { header, topic, .. } = entry else {
                return ControlFlow::Continue(());
            };
            let is_within = header.position.0 < self.to;
            let may_be_it = topic.is_none_or(|it| *it == self.topic);
            if is_within && may_be_it && header.kind == RecordKind::Message {
                is_named &= topic.is_some();
                all.entry(header.topic).or_default().see(&header);
            }
            match is_within || !is_named {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        };
        offline::read_naming(&self.dir, &mut names, &mut see).map_err(|error| failed(&error))?;
        all.retain(|id, _| names.of(*id) == Some(&self.topic));
        Ok(all)
    }

    /// Those that are wanted, and meant, in log order.
    fn print(
        &self,
        standing: &HashMap<TopicId, Standing>,
        is_meant: impl Fn(&RecordHeader, &Standing) -> bool,
    ) -> Result<(), Failure> {
        let mut printed = Ok(());
        read(&self.dir, |entry| {
            let Entry::Record { header, block, .. } = entry else {
                return ControlFlow::Continue(());
            };
            if header.position.0 >= self.to {
                return ControlFlow::Break(());
            }
            let is_wanted = header.kind == RecordKind::Message
                && header.position.0 >= self.from
                && self.queue.is_none_or(|queue| queue == header.queue.0);
            let of_topic = standing.get(&header.topic).filter(|_| is_wanted);
            if of_topic.is_some_and(|standing| is_meant(&header, standing)) {
                printed = print_message(&block);
            }
            match printed.is_err() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })?;
        printed
    }
}

fn print_message(block: &Block<'_>) -> Result<(), Failure> {
    output::print(&(output::line(&message(block))? + "\n"))
}

/// A line of `produce --ndjson`.
fn message(block: &Block<'_>) -> Map<String, Value> {
    let mut line = body(block);
    if !block.tag().is_empty() {
        line.insert("tag".to_owned(), block.tag().into());
    }
    let keys: Vec<Value> = block.keys().split_whitespace().map(Value::from).collect();
    if !keys.is_empty() {
        line.insert("key".to_owned(), keys.into());
    }
    let own = block.properties().filter(|(name, _)| !is_reserved(name));
    let own: Map<String, Value> = own
        .map(|(name, value)| (name.to_owned(), Value::from(value)))
        .collect();
    if !own.is_empty() {
        line.insert("properties".to_owned(), own.into());
    }
    line
}
