//! `quern bench`: a broker measured beside the ceilings of this machine, in one run.
//!
//! Absolute figures drift with the machine; the ratios to what the disk and QUIC do by themselves,
//! measured in the same run, on the same directory and on loopback, are what counts.

mod broker;
mod ceilings;
mod crowd;
mod end_to_end;
mod load;
mod plugins;
mod report;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use quern_quic::{Connector, DevAuthority, Door, Lane};
use tokio::time::Instant;

use crate::connect::Connect;
use crate::failure::Failure;
use crate::output::Output;

use self::broker::Broker;
use self::ceilings::Ceilings;
use self::end_to_end::Way;
use self::load::Load;
use self::report::Report;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Sending: one at a time, 16, 256 and many in flight.
    Produce(Options),
    /// Reading back what was sent: all of it, through the tag filter, and by a group, sent and asked for.
    Consume(Options),
    /// From send to receipt, with a consumer that waits.
    E2e(Options),
    /// 100 groups on one topic, 1,000 topics of 8 queues, 1,000 consumers with a connection each: what they cost while
    /// nothing comes.
    Crowd(Options),
    /// How soon a new plugin decides; how much later a group has its messages beside a hostile one.
    Plugins(plugins::Args),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 3.0, value_name = "SECONDS")]
    duration: f64,
    /// Bytes of a body.
    #[arg(long, default_value_t = 1024, value_name = "BYTES")]
    size: usize,
    /// Sends in flight, for one measurement more.
    #[arg(long, value_name = "COUNT")]
    in_flight: Option<usize>,
    /// Where the broker that is started for the run keeps its data; removed at the end.
    #[arg(long, default_value = "quern-bench", value_name = "DIR")]
    data: PathBuf,
    /// Measure the cluster of this name server instead of a broker of one's own.
    #[arg(long, value_name = "ADDR")]
    namesrv: Option<String>,
    /// Form of the result.
    #[arg(short, long, value_enum, default_value_t = Output::Human)]
    output: Output,
}

const TOPIC: &str = "bench";
const QUEUES: u32 = 8;
/// Messages a second.
const PACE: u64 = 1_000;
/// In flight where the most is wanted.
const MANY: usize = 8_192;

pub(crate) async fn run(command: Command) -> Result<(), Failure> {
    let (Command::Produce(options)
    | Command::Consume(options)
    | Command::E2e(options)
    | Command::Crowd(options)
    | Command::Plugins(plugins::Args { options, .. })) = &command;
    let lasting = Duration::try_from_secs_f64(options.duration)
        .map_err(|_| Failure::usage(format!("--duration {} is no time", options.duration)))?;
    let mut broker = match &options.namesrv {
        Some(namesrv) => Broker::elsewhere(namesrv),
        None => Broker::start(&options.data).await?,
    };
    let measured = measure(&command, options, lasting, &broker).await;
    broker.stop().await;
    measured?.print(options.output)
}

async fn measure(
    command: &Command,
    options: &Options,
    lasting: Duration,
    broker: &Broker,
) -> Result<Report, Failure> {
    let client = Connect::to(broker.namesrv.clone()).client().await?;
    broker.ready(&client).await?;
    match client.admin().create_topic(TOPIC, QUEUES).await {
        Ok(_) => {}
        Err(error) if error.kind() == quern_client::ErrorKind::Exists => {}
        Err(error) => return Err(error.into()),
    }
    let load = Load {
        client: client.clone(),
        address: broker.address(&client).await?,
        size: options.size,
        lasting,
        filter: quern_client::Filter::All,
        groups: Arc::default(),
    };
    let dir = if options.namesrv.is_some() {
        std::env::temp_dir()
    } else {
        options.data.clone()
    };
    let mut report = Report::default();
    eprintln!("measuring ceilings …");
    let before = Ceilings::measure(&dir, options.size, lasting).await?;
    match command {
        Command::Produce(_) => produce(&load, options, &mut report).await?,
        Command::Consume(_) => consume(&load, &mut report).await?,
        Command::Crowd(_) => {
            report.crowds.push(load.groups().await?);
            report.crowds.push(load.queues().await?);
            report.crowds.push(load.waiting(&broker.namesrv).await?);
        }
        Command::Plugins(args) => report.plugins = load.plugins(args).await?,
        Command::E2e(_) => {
            // In turns: what drifts meanwhile is in both.
            for rate in [Some(PACE), Some(PACE), None] {
                for way in Way::ALL {
                    let measured = load.end_to_end(way, rate).await?;
                    report.end_to_end.push(measured);
                }
            }
        }
    }
    if matches!(command, Command::Produce(_)) {
        let rate = status_rate(&load.address, lasting).await?;
        report.status_per_s = Some(rate);
    }
    // Measured twice, around the rest: what drifts in between is in neither alone.
    let after = Ceilings::measure(&dir, options.size, lasting).await?;
    report.ceilings = before.mean(&after);
    client.close().await;
    Ok(report)
}

async fn produce(load: &Load, options: &Options, report: &mut Report) -> Result<(), Failure> {
    let more = options.in_flight;
    for in_flight in [1, 16, 256, MANY].into_iter().chain(more) {
        eprintln!("sending, {in_flight} in flight …");
        report.produce.push(load.produce(in_flight).await?);
    }
    Ok(())
}

async fn consume(load: &Load, report: &mut Report) -> Result<(), Failure> {
    eprintln!("sending what will be read …");
    load.produce(MANY).await?;
    for tag in [None, Some("even"), Some("nobody")] {
        report.consume.push(load.consume(tag).await?);
    }
    for way in Way::ALL {
        report.consume.push(load.drain(way).await?);
    }
    Ok(())
}

/// Small requests answered in a second by the broker, 128 in flight on one lane.
async fn status_rate(address: &str, lasting: Duration) -> Result<f64, Failure> {
    use futures_util::StreamExt as _;
    use futures_util::stream::FuturesUnordered;
    use quern_protocol::{Heartbeat, Hello, Role};

    let failed = |error: &dyn std::fmt::Display| Failure::new(1, error.to_string());
    let trust = DevAuthority::open().map_err(|e| failed(&e))?.trust();
    let connector = Connector::new(trust, None, Door::Client).map_err(|e| failed(&e))?;
    let connection = connector.connect(address).await.map_err(|e| failed(&e))?;
    let hello = connection.hello(&Hello::new(Role::Client)).await;
    hello.map_err(|e| failed(&e))?;
    let lane = Lane::open(&connection).await.map_err(|e| failed(&e))?;
    let call = || lane.call(&Heartbeat { broker: None }, Vec::new(), load::PATIENCE);
    let mut calls: FuturesUnordered<_> = (0..128).map(|_| call()).collect();
    let began = Instant::now();
    let mut done = 0u64;
    while began.elapsed() < lasting {
        if let Some(answer) = calls.next().await {
            answer.map_err(|e| failed(&e))?;
            done += 1;
            calls.push(call());
        }
    }
    Ok(done as f64 / began.elapsed().as_secs_f64())
}
