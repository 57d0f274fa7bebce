//! What a guest may ask of its host, all of it: memory up to its limit, lines in the log, counters.

use std::sync::Arc;

use wasmtime::ResourceLimiter;

use crate::bindings::host::{Host, Level};
use crate::bindings::types;
use crate::limits;
use crate::logs::{Log, LogLevel};
use crate::metrics::Metrics;
use crate::plugin::Identity;

/// What a store of wasmtime carries for us.
pub(crate) struct State {
    identity: Identity,
    /// Most it may have, bytes.
    memory: usize,
    pub(crate) memory_refused: bool,
    /// What it says and counts has been said and counted before.
    pub(crate) is_mute: bool,
    lines: u32,
    /// What the guest said last at level error: the SDKs say there what a panic was.
    last_error: Option<String>,
    metrics: Arc<Metrics>,
    log: Arc<Log>,
}

impl State {
    pub(crate) fn new(
        identity: Identity,
        memory: usize,
        metrics: Arc<Metrics>,
        log: Arc<Log>,
    ) -> Self {
        Self {
            identity,
            memory,
            memory_refused: false,
            is_mute: false,
            lines: 0,
            last_error: None,
            metrics,
            log,
        }
    }

    /// What the call before did is no excuse for this one.
    pub(crate) fn begin_call(&mut self) {
        self.lines = 0;
        self.memory_refused = false;
        self.last_error = None;
    }

    /// The guest's last words in this call, if they were an error.
    pub(crate) fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }
}

impl ResourceLimiter for State {
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let granted = desired <= self.memory;
        self.memory_refused |= !granted;
        Ok(granted)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= limits::TABLE)
    }
}

impl Host for State {
    fn log(&mut self, level: Level, line: String) {
        if self.is_mute {
            return;
        }
        self.lines += 1;
        if self.lines > limits::LOG_LINES {
            self.log.lose_one();
            return;
        }
        let line = &line[..line.floor_char_boundary(limits::LOG_LINE)];
        let Identity { name, version } = &self.identity;
        let kept_as = match level {
            Level::Debug => LogLevel::Debug,
            Level::Info => LogLevel::Info,
            Level::Warn => LogLevel::Warn,
            Level::Error => LogLevel::Error,
        };
        self.log.say(name, kept_as, line);
        match level {
            Level::Debug => tracing::debug!(plugin = %name, %version, "{line}"),
            Level::Info => tracing::info!(plugin = %name, %version, "{line}"),
            Level::Warn => tracing::warn!(plugin = %name, %version, "{line}"),
            Level::Error => {
                tracing::error!(plugin = %name, %version, "{line}");
                self.last_error = Some(line.to_owned());
            }
        }
    }

    fn count(&mut self, name: String, by: u32) {
        if !self.is_mute {
            self.metrics.count(name, by);
        }
    }
}

impl types::Host for State {}
