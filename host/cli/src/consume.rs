//! `quern consume`: prints messages, those there are or those to come.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args as ClapArgs;
use quern_client::{Client, Filter, Message, MessageView, ReplyOutcome, Selector};

use crate::connect::Connect;
use crate::exec;
use crate::failure::Failure;
use crate::format::{self, Format};
use crate::member::{How, Member, Part};
use crate::output::{self, Output};
use crate::read::{Begin, Plan, Reader};
use crate::start::Stop;
use crate::{popping, time};

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    topic: String,
    /// Be a member of this group: take a share of the queues, go on where the group has stopped, and
    /// commit what was printed.
    #[arg(long, short = 'g')]
    group: Option<String>,
    /// Who shares out the queues among the members: averagely (the default), averagely-by-circle,
    /// consistent-hash, sticky, …; the same for all of them.
    #[arg(long, value_name = "STRATEGY", requires = "group")]
    allocate: Option<String>,
    /// A parameter of the strategy; may be given several times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = param, requires = "allocate")]
    allocate_param: Vec<(String, String)>,
    /// Only messages with these tags: `paid`, `paid || refunded`.
    #[arg(long, short = 't', value_name = "EXPRESSION")]
    tag: Option<String>,
    /// Only messages whose properties meet a condition: "region = 'eu' AND amount > 100".
    #[arg(long, value_name = "CONDITION", conflicts_with = "tag")]
    sql: Option<String>,
    /// Only messages this plugin lets through: its name, or NAME@VERSION whatever is active.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["tag", "sql"])]
    plugin: Option<String>,
    /// A parameter of the plugin; may be given several times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = param, requires = "plugin")]
    param: Vec<(String, String)>,
    /// What the plugin is asked, if it understands expressions.
    #[arg(long, value_name = "TEXT", requires = "plugin")]
    expression: Option<String>,
    /// first, last, a time (2026-01-31T12:00:00Z, or 15m for a while ago) or an offset.
    #[arg(long, default_value = "first", value_parser = begin)]
    from: Begin,
    /// Run this in a shell for each message, its body on stdin, and QUERN_TOPIC, QUERN_ID, QUERN_TAG,
    /// QUERN_KEYS, QUERN_QUEUE, QUERN_OFFSET and QUERN_ATTEMPTS in its environment, rather than print it.
    /// When it fails, the message is given back: it comes again later, and is a dead letter in the end.
    #[arg(long, value_name = "COMMAND", requires = "group")]
    exec: Option<String>,
    /// Take messages one by one wherever there are some, and acknowledge each: no queue is owned, any number
    /// share one, and a message that is not acknowledged in time is given to another.
    #[arg(long, requires = "group", conflicts_with_all = ["allocate", "workers", "orderly"])]
    pop: bool,
    /// So long a message that was popped is hidden from the others.
    #[arg(long, value_name = "DELAY", requires = "pop", default_value = "30s", value_parser = time::delay)]
    invisible: u64,
    /// Pop nothing of a queue while something of it is not acknowledged.
    #[arg(long, requires = "pop")]
    in_order: bool,
    /// Run the commands of a queue one at a time and in order; when one fails, its queue waits and begins with
    /// it again, and it is a dead letter in the end. Queues go on side by side.
    #[arg(long, requires = "exec", requires = "follow", conflicts_with = "max")]
    orderly: bool,
    /// Take more of what is urgent while there is some: twice as much for each level of `produce --priority`.
    #[arg(long, requires = "group", conflicts_with_all = ["pop", "orderly"])]
    by_priority: bool,
    /// Take all queues, as every other who broadcasts does, and keep the offsets in this file.
    #[arg(long, value_name = "FILE", requires = "group", conflicts_with_all = ["allocate", "pop"])]
    broadcast: Option<PathBuf>,
    /// Run so many of these commands at once, in no order; with --orderly, of so many queues.
    #[arg(
        long,
        value_name = "COUNT",
        requires = "exec",
        requires = "follow",
        conflicts_with = "max"
    )]
    workers: Option<usize>,
    /// What the command prints is the reply to a message that asks for one: see `quern produce --request`.
    #[arg(long, requires = "exec", conflicts_with_all = ["pop", "workers", "orderly", "broadcast"])]
    reply: bool,
    /// Write down who had each message when, and whether it was consumed, in a topic of its own; `msg trace`
    /// shows it.
    #[arg(long, requires = "group")]
    trace: bool,
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

/// Queues whose commands run at once unless it is said otherwise.
const ORDERLY: usize = 16;

/// Where to begin, from its text.
pub(crate) fn begin(text: &str) -> Result<Begin, String> {
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
    let client = args.connect.client_that_traces(args.trace).await?;
    let mut printing = Printing {
        exec: args.exec.clone(),
        replies: args.reply.then(|| client.clone()),
        format,
        output: args.output,
        left: args.max.unwrap_or(u64::MAX),
        printed: 0,
    };
    let (how, exec) = (args.how(), args.exec.clone());
    let source = source(args, &client).await?;
    let source = match (source, how.zip(exec)) {
        (Source::Share(member), Some((how, command))) => {
            let mut stop = Stop::listen()?;
            member.listen(how, command, stop.asked()).await?;
            client.close().await;
            return Ok(());
        }
        (source, _) => source,
    };
    printing.open()?;
    let outcome = match source {
        Source::Popped(plan) => popping::run(&client, plan, &mut printing).await,
        Source::All(mut reader) => print_all(&mut reader, &mut printing).await,
        Source::Share(mut member) => {
            let outcome = print_share(&mut member, &mut printing).await;
            // What was printed is consumed. After an error, the last of it may not have been.
            match outcome {
                Ok(()) => member.leave().await,
                failed => failed,
            }
        }
    };
    printing.close()?;
    if outcome.is_ok() && printing.printed == 0 {
        eprintln!("no messages");
    }
    client.close().await;
    outcome
}

impl Args {
    /// How commands are run side by side, if they are.
    fn how(&self) -> Option<How> {
        match (self.orderly, self.workers) {
            (true, workers) => Some(How::Orderly(workers.unwrap_or(ORDERLY))),
            (false, Some(workers)) => Some(How::Concurrently(workers)),
            // A listener says at once how a command has ended, not when the next begins.
            (false, None) => {
                let can_listen = self.follow && self.max.is_none() && !self.reply;
                (self.trace && can_listen).then_some(How::Concurrently(1))
            }
        }
    }
}

async fn source(args: Args, client: &Client) -> Result<Source, Failure> {
    let filter = filter(&args)?;
    let Some(group) = args.group else {
        let plan = Plan {
            topic: args.topic,
            filter,
            begin: args.from,
            latest: None,
            follow: args.follow,
        };
        return Ok(Source::All(Reader::start(client, &plan).await?));
    };
    if args.pop {
        return Ok(Source::Popped(popping::Plan {
            group,
            topic: args.topic,
            filter,
            begin: args.from,
            invisible: Duration::from_millis(args.invisible),
            in_order: args.in_order,
            follow: args.follow,
        }));
    }
    let part = Part {
        group,
        topic: args.topic,
        filter,
        begin: args.from,
        strategy: args.allocate.map(|plugin| Selector {
            plugin,
            params: args.allocate_param,
        }),
        by_priority: args.by_priority,
        broadcast: args.broadcast,
        follow: args.follow,
    };
    Ok(Source::Share(Member::join(client, &part).await?))
}

/// A parameter, from its text.
pub(crate) fn param(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=');
    let pair = pair.map(|(name, value)| (name.to_owned(), value.to_owned()));
    pair.ok_or_else(|| "a parameter is written NAME=VALUE".to_owned())
}

fn filter(args: &Args) -> Result<Filter, Failure> {
    Ok(match (&args.tag, &args.sql, &args.plugin) {
        (Some(tags), ..) => Filter::tag(tags),
        (_, Some(condition), _) => Filter::sql(condition),
        (.., Some(plugin)) => {
            let named = Filter::plugin(plugin);
            let mut named = named.map_err(|error| Failure::usage(error.to_string()))?;
            named.params.clone_from(&args.param);
            named.expression = args.expression.clone().unwrap_or_default();
            named.into()
        }
        (None, None, None) => Filter::All,
    })
}

/// All queues of a topic, a member's share of them, or messages wherever there are some.
enum Source {
    All(Reader),
    Share(Member),
    Popped(popping::Plan),
}

async fn print_all(reader: &mut Reader, printing: &mut Printing) -> Result<(), Failure> {
    let mut stop = Stop::listen()?;
    while printing.left > 0 {
        let batch = tokio::select! {
            batch = reader.next() => batch?,
            () = stop.asked() => return Ok(()),
        };
        match batch {
            Some(messages) => printing.take(&messages)?,
            None => return Ok(()),
        }
    }
    Ok(())
}

async fn print_share(member: &mut Member, printing: &mut Printing) -> Result<(), Failure> {
    let mut stop = Stop::listen()?;
    while printing.left > 0 {
        let message = tokio::select! {
            message = member.next() => message?,
            () = stop.asked() => return Ok(()),
        };
        match message {
            Some(message) => match &printing.exec {
                None => printing.take(&[message])?,
                Some(command) => {
                    match exec::decide(command, &message, printing.replies.is_some()).await? {
                        Err(why) => member.give_back(&message, &why).await?,
                        Ok(printed) => printing.reply(&message, printed).await?,
                    }
                    printing.count(1);
                }
            },
            None => return Ok(()),
        }
    }
    Ok(())
}

/// What was printed, and what is left to print.
pub(crate) struct Printing {
    pub(crate) exec: Option<String>,
    /// Gives what the command prints to who asked.
    replies: Option<Client>,
    format: Format,
    output: Output,
    pub(crate) left: u64,
    printed: u64,
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

    pub(crate) fn take(&mut self, messages: &[MessageView]) -> Result<(), Failure> {
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
        Ok(())
    }

    /// What was printed about a message, to who asked if somebody did.
    async fn reply(&self, to: &MessageView, printed: Vec<u8>) -> Result<(), Failure> {
        let Some(client) = self.replies.as_ref().filter(|_| to.is_request()) else {
            return Ok(());
        };
        let reply = Message::new("", printed);
        match client.reply(to, reply).await {
            Ok(ReplyOutcome::Taken) => {}
            Ok(ReplyOutcome::Late) => {
                eprintln!("{}: nobody waits for its reply any more", to.message_id())
            }
            // Who asked hears that there was none; the message is consumed all the same.
            Err(error) => eprintln!("{}: not replied to: {error}", to.message_id()),
        }
        Ok(())
    }

    /// So many were dealt with without being printed.
    pub(crate) fn count(&mut self, messages: u64) {
        self.printed += messages;
        self.left = self.left.saturating_sub(messages);
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
