//! `PluginLogs`: what guests have said lately.

use std::sync::Arc;

use quern_plugins::{LogLevel as Said, LogLine};
use quern_protocol::{
    LogLevel, PluginLine, PluginLogs, PluginLogsReply, PluginRef, WireError, limits as wire,
};

use crate::{Broker, reply};

pub(crate) fn logs(
    broker: &Arc<Broker>,
    request: PluginLogs,
) -> Result<PluginLogsReply, WireError> {
    if !(1..=wire::PLUGIN_LINES).contains(&request.max_lines) {
        return Err(reply::bad_request(format!(
            "1 to {} lines are given at once, not {}",
            wire::PLUGIN_LINES,
            request.max_lines
        )));
    }
    let name = request.name;
    let is_known = broker.state.plugins.find(&name).is_some() || {
        let plugin = PluginRef::active(name.clone());
        broker.shelf.find(&broker.state.plugins, &plugin).is_some()
    };
    if !is_known {
        return Err(reply::no_plugin(name.as_str()));
    }
    let logs = broker.shelf.runtime().logs();
    let read = logs.read(name.as_str(), request.from, request.max_lines as usize);
    Ok(PluginLogsReply {
        lines: read.lines.into_iter().map(told).collect(),
        next: read.next,
        lost: read.lost,
    })
}

fn told(line: LogLine) -> PluginLine {
    PluginLine {
        number: line.number,
        at: line.at,
        plugin: line.plugin.to_string(),
        level: match line.level {
            Said::Debug => LogLevel::Debug,
            Said::Info => LogLevel::Info,
            Said::Warn => LogLevel::Warn,
            Said::Error => LogLevel::Error,
        },
        line: line.text,
    }
}
