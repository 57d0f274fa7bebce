//! What a run found: every window, and for each broker and work the figures of its repetitions, with
//! ours held against theirs within the run.

mod goals;
mod plot;
mod table;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::ceilings::Ceilings;
use crate::peers::OURS;
use crate::stats::Spread;
use crate::turn::{Measure, Window};
use crate::work::{Class, Work};

pub(crate) use self::plot::drawings;
pub(crate) use self::table::{line, markdown};

/// A run whose ceilings, or a figure whose repetitions, differ by more than this is marked.
pub(crate) const NOISY: f64 = 2.0;

/// A broker as it was measured.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Measured {
    pub(crate) name: &'static str,
    pub(crate) version: String,
    pub(crate) durable: &'static str,
    pub(crate) cached: &'static str,
}

/// One that was not, and why.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Skipped {
    pub(crate) name: &'static str,
    pub(crate) why: String,
}

/// A turn that ended before all of its work was done, and why.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct BrokeOff {
    pub(crate) name: &'static str,
    pub(crate) class: Class,
    pub(crate) repetition: u32,
    pub(crate) why: String,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_mib: u64,
    pub(crate) kernel: String,
    pub(crate) file_system: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) began: String,
    pub(crate) command: String,
    pub(crate) machine: Machine,
    pub(crate) measure: Measure,
    pub(crate) repetitions: u32,
    pub(crate) measured: Vec<Measured>,
    pub(crate) skipped: Vec<Skipped>,
    /// Whether all turns there should be are in it.
    pub(crate) is_complete: bool,
    /// Why they are not, once the run has ended.
    pub(crate) ended_by: Option<String>,
    pub(crate) broke_off: Vec<BrokeOff>,
    pub(crate) ceilings: Vec<Ceilings>,
    pub(crate) windows: Vec<Window>,
}

/// One figure of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Figure {
    PerSecond,
    Seconds,
    /// Time of a message: the inverse of the rate.
    Each,
    AckP50,
    AckP99,
    AckP999,
    AckMax,
    EndP50,
    EndP99,
    EndP999,
    EndMax,
    BrokerCpu,
    ClientCpu,
    IdleCore,
    Written,
    Anonymous,
    Rss,
    Peak,
    Connection,
}

impl Figure {
    pub(crate) const ALL: [Self; 19] = [
        Self::PerSecond,
        Self::Seconds,
        Self::Each,
        Self::AckP50,
        Self::AckP99,
        Self::AckP999,
        Self::AckMax,
        Self::EndP50,
        Self::EndP99,
        Self::EndP999,
        Self::EndMax,
        Self::BrokerCpu,
        Self::ClientCpu,
        Self::IdleCore,
        Self::Written,
        Self::Anonymous,
        Self::Rss,
        Self::Peak,
        Self::Connection,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::PerSecond => "per_s",
            Self::Seconds => "seconds",
            Self::Each => "each_us",
            Self::AckP50 => "ack_p50_us",
            Self::AckP99 => "ack_p99_us",
            Self::AckP999 => "ack_p999_us",
            Self::AckMax => "ack_max_us",
            Self::EndP50 => "e2e_p50_us",
            Self::EndP99 => "e2e_p99_us",
            Self::EndP999 => "e2e_p999_us",
            Self::EndMax => "e2e_max_us",
            Self::BrokerCpu => "broker_cpu_us",
            Self::ClientCpu => "client_cpu_us",
            Self::IdleCore => "idle_core",
            Self::Written => "written_per_byte",
            Self::Anonymous => "anonymous_mib",
            Self::Rss => "rss_mib",
            Self::Peak => "peak_mib",
            Self::Connection => "connection_kib",
        }
    }

    pub(crate) fn of(self, window: &Window) -> Option<f64> {
        if window.error.is_some() {
            return None;
        }
        let has_rate = window.messages > 0 && window.seconds > 0.0;
        match self {
            Self::PerSecond => has_rate.then(|| window.messages as f64 / window.seconds),
            Self::Each => has_rate.then(|| window.seconds * 1e6 / window.messages as f64),
            Self::Seconds => {
                matches!(window.work, Work::Start | Work::Restart).then_some(window.seconds)
            }
            Self::AckP50 => Some(window.ack?.p50_us),
            Self::AckP99 => Some(window.ack?.p99_us),
            Self::AckP999 => Some(window.ack?.p999_us),
            Self::AckMax => Some(window.ack?.max_us),
            Self::EndP50 => Some(window.e2e?.p50_us),
            Self::EndP99 => Some(window.e2e?.p99_us),
            Self::EndP999 => Some(window.e2e?.p999_us),
            Self::EndMax => Some(window.e2e?.max_us),
            Self::BrokerCpu => window.broker_cpu_us,
            Self::ClientCpu => window.client_cpu_us,
            Self::IdleCore => window.idle_core,
            Self::Written => window.written,
            Self::Anonymous => Some(window.anonymous_mib),
            Self::Rss => Some(window.rss_mib),
            Self::Peak => Some(window.peak_mib),
            Self::Connection => window.connection_kib,
        }
    }

    /// The one that a work is about, by which brokers are held against each other.
    pub(crate) fn main(work: Work) -> Self {
        match work {
            Work::Start | Work::Restart => Self::Seconds,
            Work::Idle => Self::Anonymous,
            Work::Warm
            | Work::Produce { .. }
            | Work::Batches { .. }
            | Work::Drain(_)
            | Work::FanOut { .. }
            | Work::Topics { .. } => Self::BrokerCpu,
            Work::Connections { .. } => Self::Connection,
            // Neither is bound by a processor.
            Work::LossyProduce | Work::LossyDrain => Self::Each,
            Work::EndToEnd { .. } => Self::EndP50,
        }
    }
}

/// The repetitions of one broker at one work.
pub(crate) struct Cell<'a> {
    pub(crate) class: Class,
    pub(crate) work: Work,
    pub(crate) peer: &'static str,
    windows: Vec<&'a Window>,
    ours: Vec<&'a Window>,
}

impl Cell<'_> {
    pub(crate) fn spread(&self, figure: Figure) -> Option<Spread> {
        Spread::of(self.windows.iter().filter_map(|it| figure.of(it)))
    }

    /// Ours divided by theirs, repetition by repetition, and the middle of that.
    pub(crate) fn ratio(&self, figure: Figure) -> Option<Spread> {
        Spread::of(self.windows.iter().filter_map(|theirs| {
            let ours = self
                .ours
                .iter()
                .find(|it| it.repetition == theirs.repetition)?;
            let theirs = figure.of(theirs).filter(|it| *it > 0.0)?;
            Some(figure.of(ours)? / theirs)
        }))
    }

    /// Whether somebody else was busy, or repetitions do not agree on what the work is about.
    pub(crate) fn is_noisy(&self) -> bool {
        let main = self.spread(Figure::main(self.work));
        self.windows.iter().any(|it| it.is_noisy) || main.is_some_and(|it| it.is_wider_than(NOISY))
    }

    pub(crate) fn failed(&self) -> u64 {
        self.windows.iter().map(|it| it.failed).sum()
    }

    /// Why it has no figures at all.
    pub(crate) fn error(&self) -> Option<&str> {
        let all = self.windows.iter().all(|it| it.error.is_some());
        all.then(|| self.windows.iter().find_map(|it| it.error.as_deref()))?
    }

    fn json(&self) -> Value {
        let figures = |of: &dyn Fn(Figure) -> Option<Spread>| -> Map<String, Value> {
            let all = Figure::ALL.into_iter();
            all.filter_map(|it| Some((it.name().to_owned(), json!(of(it)?))))
                .collect()
        };
        json!({
            "class": self.class,
            "work": self.work,
            "peer": self.peer,
            "noisy": self.is_noisy(),
            "failed": self.failed(),
            "error": self.error(),
            "figures": figures(&|it| self.spread(it)),
            "ours_by_theirs": if self.peer == OURS { Map::new() } else { figures(&|it| self.ratio(it)) },
        })
    }
}

impl Report {
    /// A cell for each class, work and broker that were measured, in this order.
    pub(crate) fn cells(&self) -> Vec<Cell<'_>> {
        let mut keys: Vec<(Class, Work, &'static str)> = Vec::new();
        for window in &self.windows {
            let key = (window.class, window.work, window.peer);
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        let of = |class: Class, work: Work, peer: &str| {
            let all = self.windows.iter();
            all.filter(|it| it.class == class && it.work == work && it.peer == peer)
                .collect()
        };
        let cell = |(class, work, peer)| Cell {
            class,
            work,
            peer,
            windows: of(class, work, peer),
            ours: of(class, work, OURS),
        };
        keys.into_iter().map(cell).collect()
    }

    pub(crate) fn is_noisy(&self) -> bool {
        let spreads = Ceilings::spreads(&self.ceilings);
        spreads.iter().any(|(_, it)| it.is_wider_than(NOISY))
    }

    pub(crate) fn json(&self) -> Value {
        let mut value = json!(self);
        value["noisy"] = json!(self.is_noisy());
        value["cells"] = self.cells().iter().map(Cell::json).collect();
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Latency;

    pub(super) fn window(peer: &'static str, repetition: u32, cpu: f64) -> Window {
        Window {
            peer,
            class: Class::Durable,
            work: Work::Produce {
                in_flight: 64,
                size: 1024,
            },
            repetition,
            messages: 1_000,
            failed: 0,
            seconds: 0.5,
            ack: Some(Latency {
                p50_us: 100.0,
                p99_us: 200.0,
                p999_us: 300.0,
                max_us: 40_000.0,
            }),
            e2e: None,
            broker_cpu_us: Some(cpu),
            client_cpu_us: Some(1.0),
            idle_core: None,
            written: Some(1.1),
            rss_mib: 50.0,
            anonymous_mib: 40.0,
            peak_mib: 60.0,
            connection_kib: None,
            others: 0.0,
            is_noisy: false,
            error: None,
        }
    }

    pub(super) fn report(windows: Vec<Window>) -> Report {
        let ceilings = |sync_p50_us| Ceilings {
            sync_p50_us,
            sync_batch_p50_us: 90.0,
            quic_p50_us: 40.0,
            quic_per_s: 1e6,
            tls_per_s: 1e6,
            copies_per_s: 1e8,
        };
        Report {
            began: "2026-01-01T00:00:00Z".to_owned(),
            command: "run".to_owned(),
            machine: Machine {
                processor: "one".to_owned(),
                cores: 2,
                memory_mib: 1,
                kernel: "6".to_owned(),
                file_system: "ext4".to_owned(),
            },
            measure: Measure {
                seconds: 1.0,
                warm_seconds: 1.0,
                backlog: 100,
                restart_mib: 1,
            },
            repetitions: 2,
            measured: Vec::new(),
            skipped: Vec::new(),
            is_complete: true,
            ended_by: None,
            broke_off: Vec::new(),
            ceilings: vec![ceilings(60.0), ceilings(61.0)],
            windows,
        }
    }

    #[test]
    fn ratios_are_taken_within_a_repetition() {
        // The machine was ten times slower in the second repetition; the ratio is what it was.
        let windows = vec![
            window(OURS, 1, 5.0),
            window("nats", 1, 10.0),
            window(OURS, 2, 50.0),
            window("nats", 2, 100.0),
        ];
        let report = report(windows);
        let cells = report.cells();
        assert_eq!(cells.len(), 2);
        let ratio = cells[1]
            .ratio(Figure::BrokerCpu)
            .expect("both were measured");
        assert_eq!((ratio.min, ratio.median, ratio.max), (0.5, 0.5, 0.5));
        assert!(cells[1].is_noisy());
        let rate = cells[0].spread(Figure::PerSecond);
        assert_eq!(rate.map(|it| it.median), Some(2_000.0));
    }

    #[test]
    fn what_failed_has_no_figures() {
        let mut broken = window("kafka", 1, 1.0);
        broken.error = Some("it ended".to_owned());
        let report = report(vec![window(OURS, 1, 5.0), broken]);
        let cells = report.cells();
        assert_eq!(cells[1].error(), Some("it ended"));
        assert_eq!(cells[1].spread(Figure::BrokerCpu), None);
        assert_eq!(cells[1].ratio(Figure::BrokerCpu), None);
        assert_eq!(report.json()["cells"][1]["error"], "it ended");
    }

    #[test]
    fn a_run_whose_ceilings_moved_is_noisy() {
        let mut report = report(Vec::new());
        assert!(!report.is_noisy());
        report.ceilings[1].sync_p50_us = 121.0;
        assert!(report.is_noisy());
    }
}
