//! A node that has nothing to do sleeps.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use quern_harness::wait_until;

use crate::world_with_node;

/// It looks at its name server once a second, and at its disk from time to time.
const WAKES_A_SECOND: f64 = 20.0;
/// So long, and again, until it has been calm once: what comes with a start takes a moment.
const LOOKED_FOR: Duration = Duration::from_secs(2);

/// How often each thread of a process has gone to sleep.
fn sleeps(pid: u32) -> Result<HashMap<OsString, u64>> {
    let mut sleeps = HashMap::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let thread = thread?;
        // One that waited for work may have ended meanwhile.
        let Ok(status) = fs::read_to_string(thread.path().join("status")) else {
            continue;
        };
        let mut lines = status.lines();
        let count = lines.find_map(|it| it.strip_prefix("voluntary_ctxt_switches:"));
        let count = count.context("Linux counts them")?.trim().parse()?;
        sleeps.insert(thread.file_name(), count);
    }
    Ok(sleeps)
}

#[test]
fn a_node_that_has_nothing_to_do_wakes_up_for_next_to_nothing() -> Result<()> {
    let (world, node) = world_with_node(&[])?;
    let at = ["--namesrv", node.namesrv.as_str()];
    // Things that are there and are not waited for.
    world.ok(&[&["topic", "create", "t"][..], &at].concat())?;
    world.ok(&[&["produce", "t", "x"][..], &at].concat())?;
    let pid = node.pid().context("it runs")?;
    let (mut since, mut before) = (Instant::now(), sleeps(pid)?);
    wait_until("the node to be calm", || {
        if since.elapsed() < LOOKED_FOR {
            return Ok(false);
        }
        let now = sleeps(pid)?;
        let more = |(thread, now): (_, &u64)| Some(now.saturating_sub(*before.get(thread)?));
        let more: u64 = now.iter().filter_map(more).sum();
        let rate = more as f64 / since.elapsed().as_secs_f64();
        (since, before) = (Instant::now(), now);
        Ok(rate < WAKES_A_SECOND)
    })
}
