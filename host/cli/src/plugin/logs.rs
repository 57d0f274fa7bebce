//! `quern plugin logs`: what the guests of a plugin say, on all brokers.

use std::time::Duration;

use quern_client::{BrokerName, LogLevel, PluginLine};
use serde::Serialize;

use crate::connect::Connect;
use crate::failure::Failure;
use crate::{output, time};

/// Brokers are asked for news this often.
const NEWS: Duration = Duration::from_millis(300);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    name: String,
    /// Go on with what comes, until interrupted.
    #[arg(long, short = 'f')]
    follow: bool,
    /// One JSON document a line.
    #[arg(long)]
    ndjson: bool,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Serialize)]
struct Line<'a> {
    broker: &'a str,
    number: u64,
    /// ms since 1970.
    at: u64,
    plugin: &'a str,
    level: &'static str,
    line: &'a str,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let client = args.connect.client().await?;
    let mut log = client.admin().plugin_log(&args.name)?;
    loop {
        let news = log.news().await?;
        let is_quiet = news.iter().all(|(_, it)| it.lines.is_empty());
        for (broker, said) in &news {
            if said.lost > 0 {
                eprintln!("{broker}: {} lines are lost", output::thousands(said.lost));
            }
            for line in &said.lines {
                print(broker, line, args.ndjson)?;
            }
        }
        if is_quiet && !args.follow {
            break;
        }
        if is_quiet {
            tokio::select! {
                () = tokio::time::sleep(NEWS) => {}
                _ = tokio::signal::ctrl_c() => break,
            }
        }
    }
    client.close().await;
    Ok(())
}

fn print(broker: &BrokerName, line: &PluginLine, ndjson: bool) -> Result<(), Failure> {
    let level = match line.level {
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
    };
    let text = match ndjson {
        true => output::line(&Line {
            broker: broker.as_str(),
            number: line.number,
            at: line.at,
            plugin: &line.plugin,
            level,
            line: &line.line,
        })?,
        false => format!(
            "{} {broker} {} {level}: {}",
            time::shown(line.at),
            line.plugin,
            line.line
        ),
    };
    output::print(&format!("{text}\n"))
}
