//! `quern store repair`: what is damaged is put aside, all the rest is served again.

use std::collections::HashMap;
use std::path::PathBuf;

use clap::Args;
use quern_client::TopicName;
use quern_node::offline::{self, Lost, Mode};
use quern_protocol::TopicId;
use serde::Serialize;

use crate::failure::Failure;
use crate::output::{self, Output, thousands};
use crate::store::failed;
use crate::time;

#[derive(Debug, Args)]
pub(crate) struct Repair {
    /// The data directory.
    #[arg(default_value = "quern-data")]
    dir: PathBuf,
    /// Only tell what is lost.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    /// Form of the result.
    #[arg(short, long, value_enum, default_value_t = Output::Human)]
    output: Output,
}

#[derive(Serialize)]
struct Messages {
    topic: String,
    queue: u32,
    from: u64,
    to: u64,
}

#[derive(Serialize)]
struct Range {
    file: String,
    from: u64,
    to: u64,
    bytes: u64,
    /// When the groups around it were stored, ms since 1970; 0 = not known.
    stored_after: u64,
    stored_before: u64,
    messages: Vec<Messages>,
    kept_in: Option<String>,
}

/// What is done, or would be.
#[derive(Serialize)]
struct Told {
    repaired: bool,
    /// Segments that get a new header.
    segments: Vec<String>,
    lost: Vec<Range>,
}

pub(crate) fn run(args: &Repair) -> Result<(), Failure> {
    let planned = args.look(Mode::DryRun)?;
    let nothing = planned.segments.is_empty() && planned.lost.is_empty();
    if nothing || args.dry_run {
        return args.print(&planned);
    }
    if !args.yes {
        eprint!("{}", planned.human());
    }
    let dir = args.dir.display().to_string();
    let what = format!("{dir} will be repaired; all that is replaced is kept in its quarantine/");
    output::confirm(&what, &dir, args.yes)?;
    args.print(&args.look(Mode::Apply)?)
}

impl Repair {
    fn look(&self, mode: Mode) -> Result<Told, Failure> {
        let (repair, names) = offline::repair(&self.dir, mode).map_err(|error| failed(&error))?;
        let lost = repair.lost.into_iter().map(|lost| range(lost, &names));
        Ok(Told {
            repaired: mode == Mode::Apply,
            segments: repair.segments,
            lost: lost.collect(),
        })
    }

    fn print(&self, told: &Told) -> Result<(), Failure> {
        output::print(&match self.output {
            Output::Human => told.human(),
            Output::Json => output::json(told)? + "\n",
            Output::Ndjson => output::line(told)? + "\n",
        })
    }
}

fn range(lost: Lost, names: &HashMap<TopicId, TopicName>) -> Range {
    let messages = lost.messages.iter().map(|it| Messages {
        topic: match names.get(&it.topic) {
            Some(name) => name.to_string(),
            None => format!("#{}", it.topic.0),
        },
        queue: it.queue.0,
        from: it.from.0,
        to: it.to.0,
    });
    Range {
        from: lost.from.0,
        to: lost.to.0,
        bytes: lost.to.0 - lost.from.0,
        stored_after: lost.stored.0,
        stored_before: lost.stored.1,
        messages: messages.collect(),
        file: lost.file,
        kept_in: lost.kept_in,
    }
}

impl Range {
    fn rows(&self) -> Vec<Vec<String>> {
        let shown = |at| match at {
            0 => "-".to_owned(),
            at => time::shown(at),
        };
        let row = |topic: String, queue: String, offsets: String, count: String| {
            vec![
                self.file.clone(),
                self.from.to_string(),
                thousands(self.bytes),
                shown(self.stored_after),
                shown(self.stored_before),
                topic,
                queue,
                offsets,
                count,
            ]
        };
        if self.messages.is_empty() {
            let unknown = || "-".to_owned();
            return vec![row(unknown(), unknown(), unknown(), unknown())];
        }
        let of_queue = |it: &Messages| {
            row(
                it.topic.clone(),
                it.queue.to_string(),
                format!("{} to {}", it.from, it.to - 1),
                thousands(it.to - it.from),
            )
        };
        self.messages.iter().map(of_queue).collect()
    }
}

const HEADING: &[&str] = &[
    "FILE",
    "POSITION",
    "BYTES",
    "STORED AFTER",
    "BEFORE",
    "TOPIC",
    "QUEUE",
    "OFFSETS LOST",
    "MESSAGES",
];

impl Told {
    fn human(&self) -> String {
        if self.segments.is_empty() && self.lost.is_empty() {
            return "nothing has to be repaired\n".to_owned();
        }
        let mut out = String::new();
        for file in &self.segments {
            let verb = if self.repaired { "got" } else { "needs" };
            out += &format!("{file} {verb} a new header\n");
        }
        if !self.repaired && !self.segments.is_empty() {
            out += "what else is damaged is seen once it is there\n";
        }
        if !self.lost.is_empty() {
            let rows: Vec<_> = self.lost.iter().flat_map(Range::rows).collect();
            out += &output::table(HEADING, &rows);
            out += "the broker's own records and the last messages of a queue may be lost beside these\n";
        }
        if self.repaired {
            out += "repaired; what was replaced is in quarantine/, and the node can start\n";
        }
        out
    }
}
