//! `quern msg push`: one message to the listener of one member of a group, to see what it says.

use std::time::Duration;

use clap::Args;
use quern_client::MessageState;
use serde::Serialize;

use crate::connect::Options;
use crate::failure::Failure;
use crate::msg::{Which, words};
use crate::output::{self, Output};
use crate::time;

#[derive(Debug, Args)]
pub(crate) struct Push {
    #[command(flatten)]
    which: Which,
    /// Whose member is to consume it.
    #[arg(long, value_name = "GROUP")]
    group: String,
    /// Which member, as `quern group members` shows it. Usually whichever comes first.
    #[arg(long, value_name = "MEMBER")]
    client: Option<String>,
    /// How long its answer is waited for, at most 15m.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = time::delay)]
    wait: u64,
    #[command(flatten)]
    options: Options,
}

#[derive(Serialize)]
struct Outcome<'a> {
    message: &'a str,
    member: String,
    consumed: bool,
    took_ms: u64,
    why: Option<String>,
}

pub(crate) async fn run(push: Push) -> Result<(), Failure> {
    let client = push.options.connect.client().await?;
    let found = push.which.find(&client).await?;
    let Some(one) = found.messages.first() else {
        return Ok(());
    };
    let id = one.message.message_id();
    if one.state != MessageState::Queued {
        let text = format!("Q-2014 message {id} is in no queue: {}", words(one.state));
        return Err(Failure::new(4, text));
    }
    let (member, wait) = (push.client.as_deref(), Duration::from_millis(push.wait));
    let admin = client.admin();
    let tried = admin
        .try_message(&push.group, member, &one.message, wait)
        .await?;
    let outcome = Outcome {
        message: id,
        member: tried.member,
        consumed: tried.failed.is_none(),
        took_ms: tried.took.as_millis() as u64,
        why: tried.failed,
    };
    match push.options.output {
        Output::Human => {
            let said = match &outcome.why {
                None => "consumed".to_owned(),
                Some(why) => format!("failed: {why}"),
            };
            let (member, took_ms) = (&outcome.member, outcome.took_ms);
            output::print(&format!("{id} {member} {said}, {took_ms} ms\n"))?;
        }
        Output::Json | Output::Ndjson => {
            let line = serde_json::to_string(&outcome).map_err(anyhow::Error::from)?;
            output::print(&format!("{line}\n"))?;
        }
    }
    match outcome.consumed {
        true => Ok(()),
        false => Err(Failure::new(9, "the member did not consume the message")),
    }
}
