//! What each plugin did. Only what a guest counts by itself takes a lock.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::error::Cause;
use crate::limits;

/// What names of counters begin with that are not the guest's own.
const OURS: &str = "quern:";
/// Messages a guest was not asked about, for its verdict was known.
const REMEMBERED: &str = "quern:remembered";

#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) calls: AtomicU64,
    pub(crate) messages: AtomicU64,
    pub(crate) delivered: AtomicU64,
    pub(crate) fuel: AtomicU64,
    /// Batches of messages to be judged.
    pub(crate) batches: AtomicU64,
    pub(crate) remembered: AtomicU64,
    traps: AtomicU64,
    out_of_fuel: AtomicU64,
    out_of_memory: AtomicU64,
    bad_answers: AtomicU64,
    failures: AtomicU64,
    counters: Mutex<BTreeMap<String, u64>>,
}

/// A plugin's figures at one moment, since it was loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Calls into the guest, repeated ones included.
    pub calls: u64,
    /// Messages handed over in those calls.
    pub messages: u64,
    /// Messages a filter let through.
    pub delivered: u64,
    pub fuel: u64,
    /// Messages it was not asked about, for its verdict was known.
    pub remembered: u64,
    pub traps: u64,
    pub out_of_fuel: u64,
    pub out_of_memory: u64,
    pub bad_answers: u64,
    pub failures: u64,
}

impl Snapshot {
    /// Calls that brought no verdict, whatever the cause.
    pub fn faults(&self) -> u64 {
        self.traps + self.out_of_fuel + self.out_of_memory + self.bad_answers + self.failures
    }
}

impl Metrics {
    pub(crate) fn fault(&self, cause: Cause) {
        let counter = match cause {
            Cause::Trap => &self.traps,
            Cause::Fuel => &self.out_of_fuel,
            Cause::Memory => &self.out_of_memory,
            Cause::Answer => &self.bad_answers,
            // It has answered; that its answers are worth nothing is no trap either.
            Cause::Failure | Cause::Impure => &self.failures,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// A guest counts for itself; names of ours and those beyond the limit are ignored.
    pub(crate) fn count(&self, name: String, by: u32) {
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let known = counters.len() < limits::COUNTERS || counters.contains_key(&name);
        let is_ours = name.starts_with(OURS);
        if known && !is_ours && name.len() <= limits::NAME {
            let counter = counters.entry(name).or_default();
            *counter = counter.saturating_add(by.into());
        }
    }

    pub(crate) fn counters(&self) -> Vec<(String, u64)> {
        let counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let pairs = counters.iter();
        let remembered = self.remembered.load(Ordering::Relaxed);
        let ours = (remembered > 0).then(|| (REMEMBERED.to_owned(), remembered));
        let theirs = pairs.map(|(name, count)| (name.clone(), *count));
        theirs.chain(ours).collect()
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Snapshot {
            calls: read(&self.calls),
            messages: read(&self.messages),
            delivered: read(&self.delivered),
            fuel: read(&self.fuel),
            remembered: read(&self.remembered),
            traps: read(&self.traps),
            out_of_fuel: read(&self.out_of_fuel),
            out_of_memory: read(&self.out_of_memory),
            bad_answers: read(&self.bad_answers),
            failures: read(&self.failures),
        }
    }
}
