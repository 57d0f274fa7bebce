//! `quern bench`.
use crate::failure::Failure;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// placeholder
    Produce,
}

pub(crate) async fn run(_: Command) -> Result<(), Failure> {
    Err(Failure::new(1, "not yet"))
}
