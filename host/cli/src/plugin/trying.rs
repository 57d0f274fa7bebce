//! `quern plugin try`: a filter that is nowhere yet, asked about messages that are there.

use std::path::PathBuf;

use quern_client::{Filter, MessageView};
use quern_node::workbench::{CaseMessage, Verdict};
use quern_protocol::message::ORDER_KEY;

use super::{author, project};
use crate::connect::Connect;
use crate::consume::param;
use crate::failure::Failure;
use crate::format::{self, Format};
use crate::output::{self, thousands};
use crate::read::{Begin, Plan, Reader};

#[derive(Debug, clap::Args)]
#[command(allow_missing_positional = true)]
pub(crate) struct Args {
    /// By default the plugin of this folder, built anew.
    component: Option<PathBuf>,
    topic: String,
    /// The latest messages of each queue.
    #[arg(
        short = 'n',
        long = "messages",
        value_name = "COUNT",
        default_value_t = 1_000
    )]
    messages: u64,
    /// A parameter of the plugin; may be given several times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = param)]
    param: Vec<(String, String)>,
    /// What the plugin is asked, if it understands expressions.
    #[arg(long, value_name = "TEXT", default_value = "")]
    expression: String,
    /// One message's text, of those that are let through; see `quern consume --help`.
    #[arg(long, default_value = "%v\\n", long_help = format::FIELDS)]
    format: String,
    #[command(flatten)]
    connect: Connect,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let format = Format::parse(&args.format)?;
    let component = project::component(args.component)?;
    let mut bench = author::open(&component, None)?;
    let subscription = bench.subscribe(&args.expression, &args.param);
    let subscription = subscription.map_err(|error| Failure::usage(error.to_string()))?;
    let client = args.connect.client().await?;
    let plan = Plan {
        topic: args.topic,
        filter: Filter::All,
        begin: Begin::First,
        latest: Some(args.messages),
        follow: false,
    };
    let mut reader = Reader::start(&client, &plan).await?;
    let (mut asked, mut passed, mut failed) = (0, 0, 0);
    while let Some(messages) = reader.next().await? {
        let cases: Vec<CaseMessage> = messages.iter().map(case).collect();
        let judged = bench.judge(&subscription, &cases);
        let mut out = Vec::new();
        for (message, verdict) in messages.iter().zip(&judged.verdicts) {
            asked += 1;
            match verdict {
                Verdict::Deliver => {
                    passed += 1;
                    format.write(message, &mut out);
                }
                Verdict::Reject => {}
                Verdict::Unjudged => failed += 1,
            }
        }
        output::print_bytes(&out)?;
        if let Some(fault) = judged.fault {
            eprintln!("Q-{} {fault}", fault.code);
        }
    }
    client.close().await;
    let [asked_, passed, failed_] = [asked, passed, failed].map(thousands);
    eprintln!("of {asked_} messages {passed} let through, {failed_} not judged");
    match failed {
        0 => Ok(()),
        _ => Err(Failure::new(1, "it failed on messages of this topic")),
    }
}

/// A message as cases have it.
fn case(message: &MessageView) -> CaseMessage {
    let properties = message.properties();
    CaseMessage {
        topic: message.queue().topic.to_string(),
        tags: message.tag().to_owned(),
        keys: message.keys().to_owned(),
        order_key: message.property(ORDER_KEY).unwrap_or_default().to_owned(),
        properties: properties
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        // What is no text cannot stand in a case.
        body: String::from_utf8_lossy(message.body()).into_owned(),
        queue: message.queue().queue.0,
        offset: message.offset().0,
        born_at: message.born_at(),
        stored_at: message.stored_at(),
        attempts: message.attempts().into(),
        sequence: 0,
    }
}
