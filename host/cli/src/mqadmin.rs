//! `mqadmin`'s questions about messages, by its own names and flags; its labels, so that scripts read the answer.
//! The body is printed, and not written to a file below /tmp.

use clap::Subcommand;
use quern_client::{
    BrokerName, Client, Found, GroupTrace, MessageSearch, MessageState, Said, TRACE_TOPIC, Traced,
};

use crate::config::NameServers;
use crate::connect::Connect;
use crate::failure::Failure;
use crate::msg::{self, Which};
use crate::{format, output, time};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// A message by its id, or by BROKER/POSITION.
    #[command(name = "queryMsgById")]
    ById {
        /// Several are separated by commas.
        #[arg(short, value_name = "ID", value_delimiter = ',', required = true)]
        ids: Vec<String>,
        /// Of this topic.
        #[arg(short, value_name = "TOPIC")]
        topic: Option<String>,
        /// Send it again, too.
        #[arg(short = 's', value_name = "true|false", default_value_t = false, action = clap::ArgAction::Set)]
        send: bool,
        #[command(flatten)]
        names: NameServers,
    },
    /// Messages of a topic by key.
    #[command(name = "queryMsgByKey")]
    ByKey {
        #[arg(short, value_name = "TOPIC")]
        topic: String,
        #[arg(short, value_name = "KEY")]
        key: String,
        /// Stored not before then, ms since 1970.
        #[arg(short, value_name = "MS", default_value_t = 0)]
        begin: u64,
        /// Stored not after then, ms since 1970.
        #[arg(short, value_name = "MS", default_value_t = u64::MAX, hide_default_value = true)]
        end: u64,
        /// So many at the most.
        #[arg(short, value_name = "COUNT", default_value_t = 64)]
        max: usize,
        #[command(flatten)]
        names: NameServers,
    },
    /// A message of a topic by its id.
    #[command(name = "queryMsgByUniqueKey")]
    ByUniqueKey {
        #[arg(short, value_name = "ID")]
        id: String,
        #[arg(short, value_name = "TOPIC")]
        topic: String,
        #[command(flatten)]
        names: NameServers,
    },
    /// The message at an offset of a queue.
    #[command(name = "queryMsgByOffset")]
    ByOffset {
        #[arg(short, value_name = "TOPIC")]
        topic: String,
        #[arg(short, value_name = "BROKER")]
        broker: BrokerName,
        #[arg(short = 'i', value_name = "QUEUE")]
        queue: u32,
        #[arg(short, value_name = "OFFSET")]
        offset: u64,
        #[command(flatten)]
        names: NameServers,
    },
    /// What clients that trace have written of a message.
    #[command(name = "queryMsgTraceById")]
    TraceById {
        #[arg(short, value_name = "ID")]
        id: String,
        /// Where they have.
        #[arg(short, value_name = "TOPIC", default_value = TRACE_TOPIC)]
        topic: String,
        #[command(flatten)]
        names: NameServers,
    },
}

pub(crate) async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::ById {
            ids,
            topic,
            send,
            names,
        } => {
            eprintln!("the same: quern msg get ID, quern msg trace ID, quern msg resend ID");
            let client = client(&names).await?;
            for id in ids {
                let found = show(&client, &Which::id(id, topic.clone())).await?;
                if send {
                    let sent = client.admin().resend(&found.message, None, false).await?;
                    output::print(&format!(
                        "sent again to queue {} of {}\n",
                        sent.queue, sent.topic
                    ))?;
                }
            }
            Ok(())
        }
        Command::ByUniqueKey { id, topic, names } => {
            eprintln!("the same: quern msg get ID, quern msg trace ID");
            show(&client(&names).await?, &Which::id(id, Some(topic))).await?;
            Ok(())
        }
        Command::ByOffset {
            topic,
            broker,
            queue,
            offset,
            names,
        } => {
            eprintln!("the same: quern msg get TOPIC QUEUE OFFSET --broker BROKER");
            let which = Which::place(&topic, queue, offset, broker);
            show(&client(&names).await?, &which).await?;
            Ok(())
        }
        Command::ByKey {
            topic,
            key,
            begin,
            end,
            max,
            names,
        } => {
            eprintln!("the same: quern msg search TOPIC --key KEY");
            let search = MessageSearch::key(&topic, key);
            let search = search.stored(begin..=end).most(max);
            by_key(&client(&names).await?, &search).await
        }
        Command::TraceById { id, topic, names } => {
            eprintln!("the same, and more: quern msg trace ID");
            written(&client(&names).await?, &id, &topic).await
        }
    }
}

async fn client(names: &NameServers) -> Result<Client, Failure> {
    Connect::to(names.namesrv.clone()).client().await
}

async fn by_key(client: &Client, search: &MessageSearch) -> Result<(), Failure> {
    let found = client.admin().find(search).await?;
    let mut out = format!("{:<50} {:>4} {:>40}\n", "#Message ID", "#QID", "#Offset");
    for it in &found.messages {
        let message = &it.message;
        let (queue, offset) = (message.queue().queue.0, message.offset().0);
        out += &format!("{:<50} {queue:>4} {offset:>40}\n", message.message_id());
    }
    output::print(&out)?;
    msg::tell(&found)
}

/// Prints a message, and what it is to each group.
async fn show(client: &Client, which: &Which) -> Result<Found, Failure> {
    let found = which.find(client).await?;
    let Some((first, others)) = found.messages.split_first() else {
        return Err(Failure::new(3, "Q-2013 there is no such message"));
    };
    let message = &first.message;
    let mut out = String::new();
    let mut line = |name: &str, value: String| out += &format!("{name:<20} {value}\n");
    line("OffsetID:", message.handle().to_string());
    line("Topic:", message.queue().topic.to_string());
    line("Tags:", format!("[{}]", message.tag()));
    line("Keys:", format!("[{}]", message.keys()));
    line("Queue ID:", message.queue().queue.to_string());
    line("Queue Offset:", message.offset().to_string());
    line("CommitLog Offset:", message.position().to_string());
    line("Reconsume Times:", message.attempts().to_string());
    line("Born Timestamp:", time::shown(message.born_at()));
    line("Store Timestamp:", time::shown(message.stored_at()));
    line("Store Host:", message.queue().broker.to_string());
    let properties = message.properties().chain(message.notes());
    let properties = properties.map(|(name, value)| format!("{name}={value}"));
    let properties: Vec<_> = std::iter::once(format!("UNIQ_KEY={}", message.message_id()))
        .chain(properties)
        .collect();
    line("Properties:", format!("{{{}}}", properties.join(", ")));
    let body = str::from_utf8(message.body()).map(str::to_owned);
    let body = body.unwrap_or_else(|_| format::hex(message.body()));
    line("Message Body:", body);
    out.push('\n');
    let trace = client.admin().trace(first, others).await?;
    for group in &trace.groups {
        out += &format!(
            "MessageTrack [consumerGroup={}, trackType={}, exceptionDesc=null]\n",
            group.group,
            track(first, group)
        );
    }
    if trace.groups.is_empty() {
        out += "WARN: No Consumer\n";
    }
    output::print(&out)?;
    Ok(first.clone())
}

/// RocketMQ's words for how far a group is.
fn track(found: &Found, group: &GroupTrace) -> &'static str {
    let explained = &group.explained;
    let is_past = found.state == MessageState::Queued && explained.is_past(found.message.offset());
    let is_rejected = explained.opinions.first().map(|it| &it.said) == Some(&Said::Reject);
    match (is_past, is_rejected) {
        (true, true) => "CONSUMED_BUT_FILTERED",
        (true, false) => "CONSUMED",
        (false, _) if group.filter.is_none() && explained.popped.is_none() => "NOT_ONLINE",
        (false, _) => "NOT_CONSUME_YET",
    }
}

async fn written(client: &Client, id: &str, topic: &str) -> Result<(), Failure> {
    let records = client.admin().records_of(id, topic).await?;
    if records.is_empty() {
        let text = format!(
            "Q-2013 no client has written down anything of message {id} in topic \"{topic}\": they do when they are told to trace"
        );
        return Err(Failure::new(3, text));
    }
    let line = |cells: [&str; 5]| {
        let [kind, group, at, cost, status] = cells;
        format!("{kind:<14} {group:<20} {at:<25} {cost:<10} {status:<10}\n")
    };
    let mut out = line(["#Type", "#Group", "#Time", "#CostTimes", "#Status"]);
    for it in &records {
        let (kind, took, is_good) = match &it.what {
            Traced::Sent(sent) => ("Pub", sent.took_ms, sent.is_stored),
            Traced::Ended {
                took_ms,
                is_consumed,
                ..
            } => ("Sub", *took_ms, *is_consumed),
            Traced::TransactionEnded(_) => ("EndTransaction", 0, true),
            Traced::Begun { .. } => continue,
        };
        let status = if is_good { "success" } else { "failed" };
        let (at, cost) = (time::shown(it.at), format!("{took}ms"));
        out += &line([kind, it.group.as_str(), &at, &cost, status]);
    }
    output::print(&out)
}
