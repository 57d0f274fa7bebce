//! `quern consume`: prints messages, those there are or those to come.

use std::collections::HashMap;
use std::time::Duration;

use clap::Args as ClapArgs;
use quern_client::{Filter, MessageQueue, PullConsumer};
use quern_protocol::QueueOffset;
use tokio::time::Instant;

use crate::connect::Connect;
use crate::failure::Failure;
use crate::format::{self, Format};
use crate::output::{self, Output, thousands};
use crate::read::{Begin, Plan, Reader};
use crate::start::Stop;

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    topic: String,
    /// Go on where this group has stopped, and commit what was printed.
    #[arg(long, short = 'g')]
    group: Option<String>,
    /// Only messages with these tags: `paid`, `paid || refunded`.
    #[arg(long, short = 't', value_name = "EXPRESSION")]
    tag: Option<String>,
    /// Only messages whose properties meet a condition: "region = 'eu' AND amount > 100".
    #[arg(long, value_name = "CONDITION", conflicts_with = "tag")]
    sql: Option<String>,
    /// first, last, a time (2026-01-31T12:00:00Z, or 15m for a while ago) or an offset.
    #[arg(long, default_value = "first", value_parser = begin)]
    from: Begin,
    /// Stop after this many messages.
    #[arg(short = 'n', long = "max", value_name = "COUNT")]
    max: Option<u64>,
    /// Wait for messages to come, until stopped.
    #[arg(long, short)]
    follow: bool,
    /// One message's text; see `quern consume --help`.
    #[arg(long, default_value = "%v\\n", long_help = format::FIELDS)]
    format: String,
    /// Form of the result.
    #[arg(short, long, value_enum, default_value_t = Output::Human)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

const COMMIT: Duration = Duration::from_secs(5);

/// Where to begin, from its text.
fn begin(text: &str) -> Result<Begin, String> {
    match text {
        "first" => return Ok(Begin::First),
        "last" => return Ok(Begin::Last),
        _ => {}
    }
    if let Ok(offset) = text.parse() {
        return Ok(Begin::Offset(offset));
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(Begin::Time(time.as_millisecond().max(0) as u64));
    }
    if let Ok(ago) = text.parse::<jiff::SignedDuration>() {
        let time = jiff::Timestamp::now() - ago.abs();
        return Ok(Begin::Time(time.as_millisecond().max(0) as u64));
    }
    Err("it is first, last, an offset, a time like 2026-01-31T12:00:00Z or an age like 15m".into())
}

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let format = Format::parse(&args.format)?;
    let client = args.connect.client().await?;
    let plan = Plan {
        topic: args.topic.clone(),
        filter: match (&args.tag, &args.sql) {
            (Some(tags), _) => Filter::tag(tags),
            (None, Some(condition)) => Filter::sql(condition),
            (None, None) => Filter::All,
        },
        begin: args.from,
        group: args.group.clone(),
        follow: args.follow,
    };
    let mut reader = Reader::start(&client, &plan).await?;
    let mut stop = Stop::listen()?;
    let mut printing = Printing {
        format,
        output: args.output,
        left: args.max.unwrap_or(u64::MAX),
        printed: 0,
        progress: HashMap::new(),
    };
    let mut committer = Committer {
        pull: client.pull_consumer(),
        group: args.group,
        topic: args.topic,
        last: Instant::now(),
    };
    let mut outcome = Ok(());
    printing.open()?;
    while printing.left > 0 {
        let batch = tokio::select! {
            batch = reader.next() => batch,
            () = stop.asked() => break,
        };
        match batch {
            Ok(Some((queue, messages, next))) => printing.take(queue, &messages, next)?,
            Ok(None) => break,
            Err(failure) => {
                outcome = Err(failure);
                break;
            }
        }
        committer.now_and_then(&mut printing.progress).await?;
    }
    // Its queues are read no further.
    drop(reader);
    printing.close()?;
    committer.commit(&mut printing.progress).await?;
    if outcome.is_ok() && printing.printed == 0 {
        eprintln!("no messages");
    }
    client.close().await;
    outcome
}

/// What was printed, and where that leaves each queue.
struct Printing {
    format: Format,
    output: Output,
    left: u64,
    printed: u64,
    progress: HashMap<MessageQueue, QueueOffset>,
}

impl Printing {
    fn open(&self) -> Result<(), Failure> {
        match self.output {
            Output::Json => output::print("["),
            Output::Human | Output::Ndjson => Ok(()),
        }
    }

    fn close(&self) -> Result<(), Failure> {
        match self.output {
            Output::Json => output::print("]\n"),
            Output::Human | Output::Ndjson => Ok(()),
        }
    }

    fn take(
        &mut self,
        queue: MessageQueue,
        messages: &[quern_client::MessageView],
        next: QueueOffset,
    ) -> Result<(), Failure> {
        let take = messages
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let mut out = Vec::new();
        for message in &messages[..take] {
            match self.output {
                Output::Human => self.format.write(message, &mut out),
                Output::Ndjson => {
                    out.extend_from_slice(format::json(message)?.as_bytes());
                    out.push(b'\n');
                }
                Output::Json => {
                    let separator: &[u8] = if self.printed > 0 { b",\n" } else { b"\n" };
                    out.extend_from_slice(separator);
                    out.extend_from_slice(format::json(message)?.as_bytes());
                }
            }
            self.printed += 1;
        }
        output::print_bytes(&out)?;
        self.left -= take as u64;
        // What was left out will be the next to come.
        let reached = messages.get(take).map_or(next, |message| message.offset());
        self.progress.insert(queue, reached);
        Ok(())
    }
}

/// Commits for the group, if there is one.
struct Committer {
    pull: PullConsumer,
    group: Option<String>,
    topic: String,
    last: Instant,
}

impl Committer {
    async fn now_and_then(
        &mut self,
        progress: &mut HashMap<MessageQueue, QueueOffset>,
    ) -> Result<(), Failure> {
        if self.last.elapsed() < COMMIT {
            return Ok(());
        }
        self.commit(progress).await
    }

    async fn commit(
        &mut self,
        progress: &mut HashMap<MessageQueue, QueueOffset>,
    ) -> Result<(), Failure> {
        self.last = Instant::now();
        let Some(group) = &self.group else {
            return Ok(());
        };
        let offsets: Vec<_> = progress.drain().collect();
        if !offsets.is_empty() {
            self.pull.commit(group, &self.topic, &offsets).await?;
            tracing::info!(queues = thousands(offsets.len() as u64), "committed");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings_are_told_apart() {
        assert_eq!(begin("first"), Ok(Begin::First));
        assert_eq!(begin("last"), Ok(Begin::Last));
        assert_eq!(begin("17"), Ok(Begin::Offset(17)));
        assert_eq!(begin("1970-01-01T00:00:01Z"), Ok(Begin::Time(1_000)));
        assert!(matches!(begin("15m"), Ok(Begin::Time(_))));
        assert!(begin("yesterday").is_err());
    }
}
