//! `quern`: the one binary. Server roles, administration, producing, consuming, measuring.
//!
//! One file per command; what they share is in `connect.rs` (finding the cluster), `failure.rs`
//! (errors and exit codes) and `output.rs` (tables and JSON). Data goes to stdout, all else to
//! stderr.

mod bench;
mod connect;
mod consume;
mod delay;
mod demo;
mod dlq;
mod exec;
mod exercise;
mod explain;
mod failure;
mod format;
mod group;
mod group_set;
mod member;
mod output;
mod plugin;
mod produce;
mod read;
mod start;
mod store;
mod time;
mod topic;

use std::num::NonZero;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::failure::Failure;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A message broker whose decisions are programmable.
#[derive(Debug, Parser)]
#[command(name = "quern", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a name server, a broker, or both in this process.
    Start(start::Args),
    /// Run a node, send it real messages and consume them through a WebAssembly filter.
    Demo(demo::Args),
    /// Send messages.
    Produce(produce::Args),
    /// Receive messages.
    Consume(consume::Args),
    /// Create, list, describe, route and remove topics.
    #[command(subcommand)]
    Topic(topic::Command),
    /// Groups of consumers: who is in them, how far they are, and where they go on.
    #[command(subcommand)]
    Group(group::Command),
    /// Plugins: build, test, upload, activate, roll back, look at.
    #[command(subcommand)]
    Plugin(plugin::Command),
    /// Messages that wait for their time.
    #[command(subcommand)]
    Delay(delay::Command),
    /// Dead letters: messages that a group has given back too often.
    #[command(subcommand)]
    Dlq(dlq::Command),
    /// Check, inspect and export the data directory of a node that does not run.
    #[command(subcommand)]
    Store(store::Command),
    /// Measure a broker beside the ceilings of this machine.
    #[command(subcommand)]
    Bench(bench::Command),
    /// What an error code means and what to do about it.
    Explain(explain::Args),
}

/// One core is left to the threads of the log and of deliveries. On two cores a second worker costs
/// more than it brings: what each wakes the other up for takes longer than doing it.
fn workers() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    cores.saturating_sub(1).max(1)
}

fn main() -> ExitCode {
    // Before anything else: what compiles plugins is this program too.
    quern_node::plugin_child_main();
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_env("QUERN_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .init();
    if let Command::Store(store::Command::Exercise(args)) = &cli.command {
        return end(exercise::run(args));
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers())
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the runtime did not start: {error}");
            return ExitCode::FAILURE;
        }
    };
    // On a worker, next to the tasks it talks to: waking another thread is what costs.
    let outcome = runtime.block_on(async {
        let running = tokio::spawn(run(cli.command));
        running
            .await
            .unwrap_or_else(|error| Err(Failure::new(1, format!("Q-9001 a bug of ours: {error}"))))
    });
    // Reading stdin cannot be interrupted; do not wait for it.
    runtime.shutdown_background();
    end(outcome)
}

fn end(outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Start(args) => start::run(args).await,
        Command::Demo(args) => demo::run(args).await,
        Command::Produce(args) => produce::run(args).await,
        Command::Consume(args) => consume::run(args).await,
        Command::Topic(command) => topic::run(command).await,
        Command::Group(command) => group::run(command).await,
        Command::Plugin(command) => plugin::run(command).await,
        Command::Delay(command) => delay::run(command).await,
        Command::Dlq(command) => dlq::run(command).await,
        Command::Store(command) => store::run(command).await,
        Command::Bench(command) => bench::run(command).await,
        Command::Explain(args) => explain::run(&args),
    }
}
