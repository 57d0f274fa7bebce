//! What guests say: of each plugin the latest lines, numbered, so that who reads them knows how many are
//! missing. All versions of a name share one log.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::limits;

/// How much a line matters to its guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
}

/// A line of a guest's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Counts what the guests of this name have said, from 0.
    pub number: u64,
    /// As the clock has it that was given; 0 without one.
    pub at: u64,
    /// Who said it, as it was loaded: `geo@3`.
    pub plugin: Arc<str>,
    pub level: LogLevel,
    pub text: String,
}

/// Lines in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogRead {
    pub lines: Vec<LogLine>,
    /// The number to go on with.
    pub next: u64,
    /// Numbers between where it began and `next` whose lines are gone, or were too many to be kept.
    pub lost: u64,
}

type Clock = Box<dyn Fn() -> u64 + Send + Sync>;

/// The logs of all plugins of a process; clones are the same.
#[derive(Clone, Default)]
pub struct Logs {
    clock: Arc<OnceLock<Clock>>,
    names: Arc<Mutex<HashMap<String, Arc<Log>>>>,
}

impl fmt::Debug for Logs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Logs")
    }
}

impl Logs {
    /// What the time is, from now on. The first to say so is believed.
    pub fn tell_time(&self, clock: impl Fn() -> u64 + Send + Sync + 'static) {
        let _ = self.clock.set(Box::new(clock));
    }

    /// The log of a plugin, by the name it is loaded under: `geo@3` writes to that of `geo`.
    pub(crate) fn of(&self, loaded_as: &str) -> Arc<Log> {
        let name = loaded_as.split('@').next().unwrap_or(loaded_as);
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= limits::LOGS && !names.contains_key(name) {
            // Those of plugins that are loaded are held by them.
            names.retain(|_, log| Arc::strong_count(log) > 1);
        }
        let fresh = || {
            Arc::new(Log {
                clock: Arc::clone(&self.clock),
                kept: Mutex::default(),
            })
        };
        Arc::clone(names.entry(name.to_owned()).or_insert_with(fresh))
    }

    /// Lines of a name from this number on; `None`, or a number nobody has reached yet: all that are kept.
    pub fn read(&self, name: &str, from: Option<u64>, most: usize) -> LogRead {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let log = names.get(name).map(Arc::clone);
        drop(names);
        log.map(|log| log.read(from, most)).unwrap_or_default()
    }
}

/// The log of one name.
pub(crate) struct Log {
    clock: Arc<OnceLock<Clock>>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    lines: VecDeque<LogLine>,
    bytes: usize,
    next: u64,
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn say(&self, plugin: &Arc<str>, level: LogLevel, text: &str) {
        let at = self.clock.get().map_or(0, |clock| clock());
        let mut kept = self.lock();
        let line = LogLine {
            number: kept.next,
            at,
            plugin: Arc::clone(plugin),
            level,
            text: text.to_owned(),
        };
        kept.next += 1;
        kept.bytes += line.text.len();
        kept.lines.push_back(line);
        while kept.lines.len() > limits::LOG_KEPT || kept.bytes > limits::LOG_KEPT_BYTES {
            let Some(gone) = kept.lines.pop_front() else {
                break;
            };
            kept.bytes -= gone.text.len();
        }
    }

    /// The guest said more than it may.
    pub(crate) fn lose_one(&self) {
        self.lock().next += 1;
    }

    fn read(&self, from: Option<u64>, most: usize) -> LogRead {
        let kept = self.lock();
        let oldest = kept.lines.front().map_or(kept.next, |line| line.number);
        let from = from.filter(|from| *from <= kept.next).unwrap_or(oldest);
        let wanted = kept.lines.iter().filter(|line| line.number >= from);
        let lines: Vec<LogLine> = wanted.take(most).cloned().collect();
        let next = match lines.last() {
            Some(last) if lines.len() == most => last.number + 1,
            _ => kept.next,
        };
        LogRead {
            lost: next - from - lines.len() as u64,
            lines,
            next,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_counted_and_a_reader_meets_each_line_once() {
        let logs = Logs::default();
        logs.tell_time(|| 7);
        let (first, second) = (logs.of("geo@1"), logs.of("geo@2"));
        let say =
            |log: &Log, version: &str, text: &str| log.say(&version.into(), LogLevel::Info, text);
        say(&first, "geo@1", "a");
        say(&second, "geo@2", "b");
        second.lose_one();
        say(&second, "geo@2", "c");
        let read = logs.read("geo", None, 2);
        let texts = |read: &LogRead| -> Vec<String> {
            let said = read.lines.iter();
            said.map(|it| format!("{} {} {}", it.plugin, it.text, it.at))
                .collect()
        };
        assert_eq!(texts(&read), ["geo@1 a 7", "geo@2 b 7"]);
        assert_eq!((read.next, read.lost), (2, 0));
        let read = logs.read("geo", Some(read.next), 10);
        assert_eq!(
            (texts(&read), read.next, read.lost),
            (vec!["geo@2 c 7".to_owned()], 4, 1)
        );
        let read = logs.read("geo", Some(4), 10);
        assert_eq!((read.lines.len(), read.next, read.lost), (0, 4, 0));
        for n in 0..limits::LOG_KEPT {
            say(&first, "geo@1", &n.to_string());
        }
        let read = logs.read("geo", Some(0), usize::MAX);
        assert_eq!(read.lines.len(), limits::LOG_KEPT);
        assert_eq!(
            read.lost, 4,
            "three of the beginning, and one that was never kept"
        );
        // A broker that started again counts anew; its reader does not wait for ever.
        assert_eq!(logs.read("geo", Some(1_000_000), 5).lines.len(), 5);
        assert_eq!(logs.read("nobody", None, 5), LogRead::default());
        let long = "x".repeat(1_000);
        for _ in 0..limits::LOG_KEPT {
            say(&first, "geo@1", &long);
        }
        let read = logs.read("geo", None, usize::MAX);
        assert!(read.lines.len() <= limits::LOG_KEPT_BYTES / 1_000);
    }
}
