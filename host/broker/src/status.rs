//! `Status` and `DescribeConfig`: what this broker says of itself.

use quern_plugins::Plugin;
use quern_protocol::{DescribeConfigReply, PluginReport, StatusReply};

use crate::Broker;

pub(crate) fn status(broker: &Broker) -> StatusReply {
    StatusReply {
        broker: broker.config.name.clone(),
        cluster: broker.config.cluster.clone(),
        epoch: broker.store.epoch(),
        started_at: broker.started_at,
        time_ms: broker.store.now_ms(),
        durable: broker.store.durable(),
        data_dir: broker.store.dir().display().to_string(),
        topics: broker.state.topics.count() as u32,
        connections: broker.connections() as u32,
        messages_in: broker.metrics.messages_in.read(),
        messages_out: broker.metrics.messages_out.read(),
        messages_skipped: broker.metrics.messages_skipped.read(),
        cpu_us: cpu_us(),
        rss_bytes: rss_bytes(),
        plugins: broker.shelf.in_use().iter().map(|it| plugin(it)).collect(),
    }
}

pub(crate) fn config(broker: &Broker) -> DescribeConfigReply {
    DescribeConfigReply {
        entries: broker.config.settings.clone(),
    }
}

fn plugin(plugin: &Plugin) -> PluginReport {
    let metrics = plugin.metrics();
    PluginReport {
        name: plugin.name().to_owned(),
        version: plugin.version().to_owned(),
        digest: plugin.digest().to_owned(),
        calls: metrics.calls,
        messages: metrics.messages,
        faults: metrics.faults(),
        fuel: metrics.fuel,
    }
}

/// Processor time of this process so far.
fn cpu_us() -> u64 {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    spent.tv_sec as u64 * 1_000_000 + spent.tv_nsec as u64 / 1_000
}

/// Resident memory, from the kernel's own account; 0 where there is none.
fn rss_bytes() -> u64 {
    let Ok(statm) = std::fs::read_to_string("/proc/self/statm") else {
        return 0;
    };
    let pages: u64 = statm
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .unwrap_or(0);
    pages * rustix::param::page_size() as u64
}
