//! `cargo run --profile dist -p quern-bench-plugins`: what a decision costs as a component, beside native
//! code that gives the same answers; and what many plugins cost. `many` as an argument: only that.
//!
//! Native and component are sampled in turn in one process, in this thread's processor time, so that
//! the ratio means something on a machine that does other things. Answers are compared first. What
//! counts is the ratio; nanoseconds drift with the machine.

mod backlog;
mod filters;
mod many;
mod others;
mod sample;

use anyhow::Result;
use quern_plugins::{Config, Runtime};

/// The allocator a broker runs with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<()> {
    // Plugins are compiled by children of this process, which are this program again.
    quern_plugins::plugin_child_main();
    // First, while little of this process's memory has been used for something else.
    for figure in many::run()? {
        println!("{figure}");
    }
    if std::env::args().any(|it| it == "many") {
        return Ok(());
    }
    let runtime = Runtime::new(&Config::default())?;
    println!("{}", sample::heading());
    for line in filters::run(&runtime)? {
        println!("{line}");
    }
    for line in others::run(&runtime)? {
        println!("{line}");
    }
    println!("{}", backlog::run(&runtime)?);
    Ok(())
}
