//! `quern msg …`: messages that are there: get, search, trace, resend.

use clap::{Args, Subcommand};
use quern_client::{
    BrokerName, Client, Error, Found, FoundMessages, MessageHandle, MessageQueue, MessageSearch,
    MessageState, QueueId, QueueOffset, TRACE_TOPIC, TopicName, parked_topic, retry,
};

use crate::connect::Options;
use crate::failure::Failure;
use crate::format::{self, Format};
use crate::output::{self, Output};
use crate::{push, time, trace};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// One message, wherever it is.
    Get {
        #[command(flatten)]
        which: Which,
        /// Print it so, as `consume --format` does; `%v` alone is its body.
        #[arg(long, value_name = "TEXT")]
        format: Option<String>,
        #[command(flatten)]
        options: Options,
    },
    /// Messages of a topic: the newest with a key, or the first of a time.
    Search {
        topic: String,
        #[command(flatten)]
        by: By,
        /// So many at the most.
        #[arg(short = 'n', long = "max", value_name = "COUNT", default_value_t = 32,
            value_parser = clap::value_parser!(u32).range(1..=10_000))]
        max: u32,
        /// Print each so, as `consume --format` does.
        #[arg(long, value_name = "TEXT")]
        format: Option<String>,
        #[command(flatten)]
        options: Options,
    },
    /// What became of a message: where it is, what it waited for, and for each group that consumes its topic who
    /// decides about it and how, how far the group is, and what it has given back.
    Trace {
        #[command(flatten)]
        which: Which,
        /// Where clients that trace have written.
        #[arg(long, value_name = "TOPIC", default_value = TRACE_TOPIC)]
        trace_topic: String,
        #[command(flatten)]
        options: Options,
    },
    /// Send a message again, its bytes and its id the same.
    Resend {
        #[command(flatten)]
        which: Which,
        /// Only for this group, by its retry topic; otherwise for all who read the topic.
        #[arg(long, value_name = "GROUP")]
        group: Option<String>,
        /// Only say what would be done.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        options: Options,
    },
    /// Have one member of a group consume a message, whoever has its queue, and say what its listener said. Nothing is
    /// committed for it, and nothing given back (consumeMessageDirectly).
    Push(push::Push),
}

/// One message.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Its id, as `produce` and `consume --format %i` print it; or BROKER/POSITION, as `--format %h` and
    /// `produce --delay` do; or TOPIC QUEUE OFFSET.
    #[arg(required = true, num_args = 1..=3, value_name = "ID | TOPIC QUEUE OFFSET")]
    message: Vec<String>,
    /// Look for the id in this topic only.
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// Only on this broker.
    #[arg(long, value_name = "BROKER")]
    broker: Option<BrokerName>,
}

/// What messages are looked for by.
#[derive(Debug, Args)]
pub(crate) struct By {
    /// A key its producer gave it.
    #[arg(long, short = 'k', value_name = "KEY", conflicts_with = "unique_key")]
    key: Option<String>,
    /// Its id.
    #[arg(long, value_name = "ID")]
    unique_key: Option<String>,
    /// Stored then or later: 2030-01-31T08:00:00Z, ms since 1970, or 15m for a while ago.
    #[arg(long, value_name = "TIME", value_parser = time::moment_or_age)]
    from: Option<u64>,
    /// Stored then or before.
    #[arg(long, value_name = "TIME", value_parser = time::moment_or_age)]
    to: Option<u64>,
}

pub(crate) async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Get {
            which,
            format,
            options,
        } => get(&which, format.as_deref(), &options).await,
        Command::Search {
            topic,
            by,
            max,
            format,
            options,
        } => search(&topic, &by, max as usize, (format.as_deref(), &options)).await,
        Command::Trace {
            which,
            trace_topic,
            options,
        } => trace::run(&which, &trace_topic, &options).await,
        Command::Resend {
            which,
            group,
            dry_run,
            options,
        } => resend(&which, group.as_deref(), dry_run, &options).await,
        Command::Push(args) => push::run(args).await,
    }
}

impl Which {
    /// The message of an id, of one topic or of any.
    pub(crate) fn id(id: String, topic: Option<String>) -> Self {
        Self {
            message: vec![id],
            topic,
            broker: None,
        }
    }

    /// The message at a place of one broker.
    pub(crate) fn place(topic: &str, queue: u32, offset: u64, broker: BrokerName) -> Self {
        Self {
            message: vec![topic.to_owned(), queue.to_string(), offset.to_string()],
            topic: None,
            broker: Some(broker),
        }
    }

    /// The message and its copies, the one that is meant first.
    pub(crate) async fn find(&self, client: &Client) -> Result<FoundMessages, Failure> {
        let mut found = match &self.message[..] {
            [id] => self.by_id(client, id).await?,
            [topic, queue, offset] => self.by_place(client, topic, queue, offset).await?,
            _ => {
                return Err(Failure::usage(
                    "a message is named by its id, or by TOPIC QUEUE OFFSET",
                ));
            }
        };
        if let Some(broker) = &self.broker {
            let is_there = |it: &Found| it.message.queue().broker == *broker;
            found.messages.retain(is_there);
        }
        // The oldest of those with the same rank stays first.
        found.messages.sort_by_key(rank);
        if found.messages.is_empty() {
            let named = self.message.join(" ");
            let (code, why) = match found.silent.into_iter().next() {
                Some((broker, error)) => (6, format!("; {broker} does not answer: {error}")),
                None => (3, String::new()),
            };
            return Err(Failure::new(
                code,
                format!(
                    "Q-2013 no broker has a message {named}: there never was one, or the log has let it go{why}"
                ),
            ));
        }
        Ok(found)
    }

    async fn by_id(&self, client: &Client, id: &str) -> Result<FoundMessages, Failure> {
        if let Ok(handle) = id.parse::<MessageHandle>() {
            let mut found = FoundMessages::default();
            found
                .messages
                .push(client.admin().message_at(&handle).await?);
            return Ok(found);
        }
        let mut search = MessageSearch::id(id);
        if let Some(topic) = &self.topic {
            search = search.topic(topic);
        }
        Ok(client.admin().find(&search.most(COPIES)).await?)
    }

    async fn by_place(
        &self,
        client: &Client,
        topic: &str,
        queue: &str,
        offset: &str,
    ) -> Result<FoundMessages, Failure> {
        let number = |what: &str, text: &str| {
            let parsed = text.parse::<u64>();
            parsed.map_err(|_| Failure::usage(format!("{what} {text:?} is no number")))
        };
        let (queue, offset) = (number("queue", queue)?, number("offset", offset)?);
        let queue = u32::try_from(queue).map(QueueId);
        let queue = queue.map_err(|_| Failure::usage("no queue has so high a number"))?;
        let topic = TopicName::new(topic).map_err(Error::from)?;
        let mut found = FoundMessages::default();
        let mut missing = None;
        for route in client.admin().route(topic.as_str()).await? {
            if self.broker.as_ref().is_some_and(|it| *it != route.broker) {
                continue;
            }
            let place = MessageQueue {
                topic: topic.clone(),
                broker: route.broker,
                queue,
            };
            let message = client.admin().message(&place, QueueOffset(offset)).await;
            match message {
                Ok(message) => found.messages.push(Found {
                    message,
                    state: MessageState::Queued,
                }),
                Err(error) => missing = Some(error),
            }
        }
        match missing {
            Some(error) if found.messages.is_empty() => Err(error.into()),
            _ => Ok(found),
        }
    }
}

/// All messages with an id.
pub(crate) async fn of_id(client: &Client, id: &str) -> Result<Vec<Found>, Failure> {
    let search = MessageSearch::id(id).most(COPIES);
    Ok(client.admin().find(&search).await?.messages)
}

/// Messages of one id that are shown at the most.
const COPIES: usize = 256;

/// Which of several with the same id is meant: the one its consumers read, before what groups have given
/// back, before what has only waited.
fn rank(found: &Found) -> u8 {
    let is_copy = retry::is_reserved_topic(&found.message.queue().topic);
    match found.state {
        MessageState::Queued if !is_copy => 0,
        MessageState::Waits { .. } | MessageState::Undecided if !is_copy => 1,
        MessageState::Parked { .. } | MessageState::CalledOff if !is_copy => 2,
        MessageState::Queued | MessageState::Waits { .. } => 3,
        _ => 4,
    }
}

fn is_past(state: MessageState) -> bool {
    matches!(
        state,
        MessageState::Delivered { .. } | MessageState::Parked { .. }
    )
}

/// In words.
pub(crate) fn words(state: MessageState) -> String {
    match state {
        MessageState::Queued => "in its queue".to_owned(),
        MessageState::Waits { due_at } => format!("waits until {}", time::shown(due_at)),
        MessageState::Undecided => "its transaction is open".to_owned(),
        MessageState::Delivered { queue, offset, .. } => {
            format!("delivered to queue {queue} as offset {offset}")
        }
        MessageState::Parked { offset, .. } => {
            format!("set aside in {} as offset {offset}", parked_topic())
        }
        MessageState::CalledOff => "taken back, never delivered".to_owned(),
    }
}

async fn get(which: &Which, format: Option<&str>, options: &Options) -> Result<(), Failure> {
    let format = format.map(Format::parse).transpose()?;
    let client = options.connect.client().await?;
    let found = which.find(&client).await?;
    if let Some(format) = format {
        let mut out = Vec::new();
        if let Some(first) = found.messages.first() {
            format.write(&first.message, &mut out);
        }
        return output::print_bytes(&out);
    }
    match options.output {
        Output::Human => {
            if let Some((first, others)) = found.messages.split_first() {
                output::print(&page(first))?;
                // What has waited is shown as what it has become.
                let others = others.iter().filter(|it| !is_past(it.state));
                let others: Vec<_> = others.cloned().collect();
                if !others.is_empty() {
                    output::print("\nthe same id:\n")?;
                    rows(&others, options.output)?;
                }
            }
        }
        machine => rows(&found.messages, machine)?,
    }
    tell(&found)
}

/// All of a message.
fn page(found: &Found) -> String {
    let (message, queue) = (&found.message, found.message.queue());
    let mut out = String::new();
    let mut line = |name: &str, value: String| out.push_str(&format!("{name:<11} {value}\n"));
    line("id", message.message_id().to_owned());
    line("topic", queue.topic.to_string());
    line("state", words(found.state));
    line("broker", queue.broker.to_string());
    line("queue", queue.queue.to_string());
    if found.state == MessageState::Queued {
        line("offset", message.offset().to_string());
    }
    line("handle", message.handle().to_string());
    line("stored at", time::shown(message.stored_at()));
    line("born at", time::shown(message.born_at()));
    for (name, value) in [("tag", message.tag()), ("keys", message.keys())] {
        if !value.is_empty() {
            line(name, value.to_owned());
        }
    }
    if message.attempts() > 0 {
        line("given back", format!("{} times", message.attempts()));
    }
    for (name, value) in message.properties().chain(message.notes()) {
        line("property", format!("{name}={value}"));
    }
    let body = message.body();
    line("body", format!("{} bytes", body.len()));
    match str::from_utf8(body) {
        Ok(text) => out.push_str(&format!("\n{text}\n")),
        Err(_) => out.push_str(&format!("\n{}\n", format::hex(body))),
    }
    out
}

fn rows(found: &[Found], output: Output) -> Result<(), Failure> {
    let lines = || {
        let lines = found.iter();
        let lines = lines.map(|it| format::json_of(&it.message, &words(it.state)));
        lines.collect::<Result<Vec<_>, _>>()
    };
    match output {
        Output::Human if found.is_empty() => {
            eprintln!("no message was found");
            Ok(())
        }
        Output::Human => {
            let rows: Vec<_> = found.iter().map(row).collect();
            output::print(&output::table(&HEADING, &rows))
        }
        Output::Json => output::print(&format!("[{}]\n", lines()?.join(",\n"))),
        Output::Ndjson => {
            let lines = lines()?.into_iter().map(|it| it + "\n");
            output::print(&lines.collect::<String>())
        }
    }
}

const HEADING: [&str; 10] = [
    "STORED AT",
    "TOPIC",
    "BROKER",
    "QUEUE",
    "OFFSET",
    "ID",
    "TAG",
    "KEYS",
    "BYTES",
    "STATE",
];

fn row(found: &Found) -> Vec<String> {
    let (message, queue) = (&found.message, found.message.queue());
    vec![
        time::shown(message.stored_at()),
        queue.topic.to_string(),
        queue.broker.to_string(),
        queue.queue.to_string(),
        match found.state {
            MessageState::Queued => message.offset().to_string(),
            _ => String::new(),
        },
        message.message_id().to_owned(),
        message.tag().to_owned(),
        message.keys().to_owned(),
        message.body().len().to_string(),
        words(found.state),
    ]
}

/// What a search did not bring.
pub(crate) fn tell(found: &FoundMessages) -> Result<(), Failure> {
    if found.more {
        eprintln!("there are more; -n asks for more of them");
    }
    if found.unreadable > 0 {
        eprintln!(
            "Q-4007 {} records that may be among them cannot be read; quern store check says more",
            found.unreadable
        );
    }
    for (broker, error) in &found.silent {
        eprintln!("{broker} was not asked: {error}");
    }
    match found.silent.len() {
        0 => Ok(()),
        silent => Err(Failure::partial(format!("{silent} brokers did not answer"))),
    }
}

async fn search(
    topic: &str,
    by: &By,
    max: usize,
    (format, options): (Option<&str>, &Options),
) -> Result<(), Failure> {
    let format = format.map(Format::parse).transpose()?;
    let stored = by.from.unwrap_or(0)..=by.to.unwrap_or(u64::MAX);
    if stored.is_empty() {
        return Err(Failure::usage("--from is later than --to"));
    }
    let client = options.connect.client().await?;
    let admin = client.admin();
    let found = match (&by.key, &by.unique_key) {
        (Some(key), _) => {
            let search = MessageSearch::key(topic, key).stored(stored).most(max);
            admin.find(&search).await?
        }
        (None, Some(id)) => {
            let search = MessageSearch::id(id).topic(topic);
            admin.find(&search.stored(stored).most(max)).await?
        }
        (None, None) if by.from.is_none() && by.to.is_none() => {
            return Err(Failure::usage(
                "say what to look for: --key, --unique-key, or a time by --from and --to",
            ));
        }
        (None, None) => admin.find_by_time(topic, stored, max).await?,
    };
    match format {
        None => rows(&found.messages, options.output)?,
        Some(format) => {
            let mut out = Vec::new();
            for it in &found.messages {
                format.write(&it.message, &mut out);
            }
            output::print_bytes(&out)?;
        }
    }
    tell(&found)
}

async fn resend(
    which: &Which,
    group: Option<&str>,
    dry_run: bool,
    options: &Options,
) -> Result<(), Failure> {
    let client = options.connect.client().await?;
    let found = which.find(&client).await?;
    let one = match &found.messages[..] {
        [first, second, ..] if which.message.len() > 1 => {
            let brokers = (
                &first.message.queue().broker,
                &second.message.queue().broker,
            );
            return Err(Failure::usage(format!(
                "{} and {} have such a message each: say which by --broker",
                brokers.0, brokers.1
            )));
        }
        [first, ..] => first,
        [] => return Ok(()),
    };
    if one.state != MessageState::Queued {
        return Err(Failure::new(
            4,
            format!(
                "Q-2014 message {} is in no queue: {}",
                one.message.message_id(),
                words(one.state)
            ),
        ));
    }
    let sent = client.admin().resend(&one.message, group, dry_run).await?;
    let (id, broker) = (one.message.message_id(), &one.message.queue().broker);
    let for_whom = match group {
        Some(group) => format!("for group {group}"),
        None => "for all".to_owned(),
    };
    output::print(&match sent.offset {
        Some(offset) => format!(
            "{id} {broker} topic {} queue {} offset {offset} {for_whom}\n",
            sent.topic, sent.queue
        ),
        None => format!(
            "{id} would go to {broker} topic {} queue {} {for_whom}\n",
            sent.topic, sent.queue
        ),
    })
}
