//! The commands, and who does each.

use clap::Subcommand;

use crate::failure::Failure;
use crate::{
    bench, config, consume, delay, demo, dlq, explain, group, msg, plugin, produce, start, store,
    topic, tx,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
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
    /// Messages: one by its id, some by key or time, what became of one, sending one again.
    #[command(subcommand)]
    Msg(msg::Command),
    /// Plugins: build, test, upload, activate, roll back, look at.
    #[command(subcommand)]
    Plugin(plugin::Command),
    /// Messages that wait for their time.
    #[command(subcommand)]
    Delay(delay::Command),
    /// Transactions: open ones, how one ended, ending one by hand.
    #[command(subcommand)]
    Tx(tx::Command),
    /// Dead letters: messages that a group has given back too often.
    #[command(subcommand)]
    Dlq(dlq::Command),
    /// Check, inspect and export the data directory of a node that does not run.
    #[command(subcommand)]
    Store(store::Command),
    /// The settings nodes run with, what a file says, and which settings there are.
    #[command(subcommand)]
    Config(config::Command),
    /// Commands of RocketMQ's mqadmin, by their own names.
    #[command(subcommand)]
    Mqadmin(config::MqAdmin),
    /// Measure a broker beside the ceilings of this machine.
    #[command(subcommand)]
    Bench(bench::Command),
    /// What an error code means and what to do about it.
    Explain(explain::Args),
}

pub(crate) async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Start(args) => start::run(args).await,
        Command::Demo(args) => demo::run(args).await,
        Command::Produce(args) => produce::run(args).await,
        Command::Consume(args) => consume::run(args).await,
        Command::Topic(command) => topic::run(command).await,
        Command::Group(command) => group::run(command).await,
        Command::Msg(command) => msg::run(command).await,
        Command::Plugin(command) => plugin::run(command).await,
        Command::Delay(command) => delay::run(command).await,
        Command::Tx(command) => tx::run(command).await,
        Command::Dlq(command) => dlq::run(command).await,
        Command::Store(command) => store::run(command).await,
        Command::Config(command) => config::run(command).await,
        Command::Mqadmin(command) => config::mqadmin(command).await,
        Command::Bench(command) => bench::run(command).await,
        Command::Explain(args) => explain::run(&args),
    }
}
