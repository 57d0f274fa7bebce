//! Real `quern` processes: what a newcomer does, what a crash does, what bad input and bad disks get.
//! One binary, a module for each theme.

mod bad_input;
mod bench;
mod broadcast;
mod compaction;
mod compression;
mod config;
mod delay;
mod delay_scale;
mod disk;
mod figures;
mod first_message;
mod giving_back;
mod group_switches;
mod groups;
mod health;
mod idle;
mod kill;
mod lite_pull;
mod lost_answer;
mod members;
mod msg;
mod orderly;
mod outage;
mod plugin_author;
mod plugin_binding;
mod plugin_bound;
mod plugin_breaker;
mod plugin_c;
mod plugin_c_limits;
mod plugin_deciders;
mod plugin_failures;
mod plugin_go;
mod plugin_hostile;
mod plugin_javascript;
mod plugin_languages;
mod plugin_life;
mod plugin_python;
mod plugin_replay;
mod plugin_upgrade;
mod plugin_users;
mod plugins;
mod pop;
mod priority;
mod push;
mod read_only;
mod refusals;
mod registering;
mod requests;
mod retries;
mod sdk;
mod sending;
mod soak;
mod store;
mod suspending;
mod topic_deletion;
mod topic_retention;
mod topics;
mod trace;
mod tracing;
mod transactions;

use anyhow::Result;
use quern_harness::{Node, World};

const QUERN: &str = env!("CARGO_BIN_EXE_quern");

fn world_with_node(more: &[&str]) -> Result<(World, Node)> {
    let world = World::new(QUERN)?;
    let mut node = Node::new(&world, "data")?;
    node.start(&world, more)?;
    Ok((world, node))
}
