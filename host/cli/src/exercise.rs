//! `quern store exercise`, hidden: drives a store by hand on this very thread, so that a test can
//! kill it at each of its system calls (`tests/kill`). Not for data anybody wants to keep.

use std::io::Write as _;
use std::path::PathBuf;

use clap::Args;
use quern_node::{SCRIPTS, exercise};

use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct Exercise {
    /// A data directory for this alone.
    dir: PathBuf,
    /// What to do.
    #[arg(long, value_parser = SCRIPTS.map(|(name, _)| name))]
    script: String,
    /// What earlier runs on the directory have printed: it must be there.
    #[arg(long, value_name = "FILE")]
    said: Option<PathBuf>,
}

/// Before there is any other thread.
pub(crate) fn run(args: &Exercise) -> Result<(), Failure> {
    let said = match &args.said {
        Some(file) => std::fs::read_to_string(file)?,
        None => String::new(),
    };
    let script = SCRIPTS.iter().find(|(name, _)| *name == args.script);
    let (_, script) = script.ok_or_else(|| Failure::usage("no such script"))?;
    let mut out = std::io::stdout().lock();
    // What is printed was acknowledged, and nothing else happens before it is.
    let say = &mut |line: &str| {
        out.write_all(line.as_bytes())?;
        out.flush()
    };
    exercise(&args.dir, *script, &said, say).map_err(|error| Failure::new(1, error.to_string()))
}
