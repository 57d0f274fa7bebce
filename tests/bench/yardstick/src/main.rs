//! The yardstick: Quernstone beside the brokers people would pick instead, each started freshly on this
//! machine, with the same durability and the same work. `tests/bench/run` builds and calls it.

mod ceilings;
mod drive;
mod interrupt;
mod peers;
mod place;
mod proc;
mod processes;
mod protocol;
mod report;
mod run;
mod stats;
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
    },
}

fn main() -> ExitCode {
    let ended = match Command::parse() {
        Command::Run(options) => run::run(&options),
        Command::Drive { namesrv } => drive::serve(&namesrv),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
