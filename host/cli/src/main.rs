//! `quern`: the one binary. Server roles, administration, producing, consuming, measuring.
//!
//! One file per command; what they share is in `connect.rs` (finding the cluster), `failure.rs`
//! (errors and exit codes) and `output.rs` (tables and JSON). Data goes to stdout, all else to
//! stderr.

mod bench;
mod command;
mod config;
mod connect;
mod consume;
mod delay;
mod demo;
mod dlq;
mod exec;
mod exercise;
mod explain;
mod failure;
mod flags;
mod format;
mod group;
mod group_set;
mod member;
mod member_state;
mod mqadmin;
mod msg;
mod output;
mod plugin;
mod popping;
mod produce;
mod progress;
mod push;
mod read;
mod repair;
mod standing;
mod start;
mod store;
mod time;
mod topic;
mod trace;
mod tx;

use std::num::NonZero;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::command::{Command, run};
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

/// One core is left to the threads of the log and of deliveries. On two cores a second worker costs
/// more than it brings: what each wakes the other up for takes longer than doing it.
fn workers() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    cores.saturating_sub(1).max(1)
}

/// What is logged unless `QUERN_LOG` says otherwise: how far a long start is, too.
const LOGGED: &str = "warn,quern::progress=info";

fn main() -> ExitCode {
    // Before anything else: what compiles plugins is this program too.
    quern_node::plugin_child_main();
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_env("QUERN_LOG").unwrap_or_else(|_| EnvFilter::new(LOGGED));
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
