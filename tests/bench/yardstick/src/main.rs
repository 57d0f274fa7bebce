//! The yardstick: Quernstone beside the brokers people would pick instead, each started freshly on this
//! machine, with the same durability and the same work. `tests/bench/run` builds and calls it.

mod ceilings;
mod crowd;
mod drive;
mod interrupt;
mod orders;
mod path;
mod peers;
mod place;
mod proc;
mod processes;
mod protocol;
mod report;
mod run;
mod stats;
mod tls;
mod turn;
mod versions;
mod work;

use std::process::ExitCode;

use clap::Parser;

#[derive(Debug, Parser)]
#[command(about, version)]
enum Command {
    Run(run::Options),
    /// Drives Quernstone: commands on stdin, answers on stdout.
    #[command(hide = true)]
    Drive {
        /// Its name server.
        namesrv: String,
        /// Its broker: who is connected to it and idle goes there alone.
        broker: String,
        /// The component that is a user's own filter.
        own: std::path::PathBuf,
    },
}

fn main() -> ExitCode {
    let ended = match Command::parse() {
        Command::Run(options) => run::run(&options),
        Command::Drive {
            namesrv,
            broker,
            own,
        } => drive::serve(drive::Quern::new(namesrv, broker, own)),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
