//! What we want to reach, and whether this run did: a ratio of ours to theirs, or of ours to a ceiling of the
//! machine. A report that only shows what is good says nothing.

use super::table::number;
use super::{Cell, Figure, Report};
use crate::ceilings::Ceilings;
use crate::peers::OURS;
use crate::work::{Class, Filter, Work};

/// What ours is held against.
#[derive(Debug, Clone, Copy)]
enum Beside {
    Peer(&'static str),
    /// µs of the machine itself.
    Ceiling(&'static str, fn(&Ceilings) -> f64),
    /// Nothing: a figure by itself.
    Alone,
}

/// At most so much.
struct Goal {
    class: Class,
    work: Work,
    figure: Figure,
    beside: Beside,
    most: f64,
}

const fn goal(class: Class, work: Work, figure: Figure, peer: &'static str, most: f64) -> Goal {
    Goal {
        class,
        work,
        figure,
        beside: Beside::Peer(peer),
        most,
    }
}

const E2E: Work = Work::EndToEnd { rate: 1_000 };

const GOALS: [Goal; 23] = {
    use Class::{Cached, Durable};
    use Figure::{AckP50, Anonymous, BrokerCpu, Each, EndP50, EndP99, IdleCore, Seconds};
    [
        goal(
            Durable,
            Work::produce(1_024),
            BrokerCpu,
            "rocketmq",
            1.0 / 8.0,
        ),
        goal(Durable, Work::produce(1_024), BrokerCpu, "nats", 1.0 / 5.0),
        goal(
            Cached,
            Work::produce(1_024),
            BrokerCpu,
            "rocketmq",
            1.0 / 6.0,
        ),
        goal(Cached, Work::produce(1_024), BrokerCpu, "nats", 0.6),
        goal(Cached, Work::BATCHES, BrokerCpu, "kafka", 0.6),
        goal(Cached, Work::Drain(Filter::All), BrokerCpu, "rocketmq", 0.5),
        goal(Cached, Work::Drain(Filter::All), BrokerCpu, "nats", 0.5),
        goal(
            Cached,
            Work::Drain(Filter::All),
            BrokerCpu,
            "kafka-tls",
            1.0,
        ),
        goal(Cached, Work::Drain(Filter::Tag), BrokerCpu, "rocketmq", 0.2),
        goal(Cached, Work::Drain(Filter::Sql), BrokerCpu, "rocketmq", 0.2),
        goal(Durable, Work::produce(1), AckP50, "nats", 1.3),
        Goal {
            class: Durable,
            work: Work::produce(1),
            figure: AckP50,
            beside: Beside::Ceiling("raw QUIC + raw sync", |it| it.quic_p50_us + it.sync_p50_us),
            most: 1.15,
        },
        goal(Durable, E2E, EndP50, "nats", 1.0),
        goal(Durable, E2E, EndP99, "nats", 1.0),
        goal(Durable, Work::BATCHES, Each, "rocketmq", 1.0 / 4.0),
        goal(Cached, Work::Idle, Anonymous, "nats", 2.0),
        goal(Cached, Work::Idle, Anonymous, "rocketmq", 1.0 / 20.0),
        goal(Cached, Work::LossyProduce, Each, "nats", 1.0),
        goal(Cached, Work::LossyDrain, Each, "nats", 1.0),
        goal(Cached, Work::Restart, Seconds, "nats", 1.0 / 4.0),
        alone(Durable, Work::Start, Seconds, 0.2),
        alone(Cached, Work::Start, Seconds, 0.2),
        alone(Cached, Work::Idle, IdleCore, 0.001),
    ]
};

const fn alone(class: Class, work: Work, figure: Figure, most: f64) -> Goal {
    Goal {
        class,
        work,
        figure,
        beside: Beside::Alone,
        most,
    }
}

impl Goal {
    fn reached(&self, report: &Report, cells: &[Cell<'_>]) -> Option<f64> {
        let cell = |peer: &str| {
            let mut all = cells.iter();
            all.find(|it| it.class == self.class && it.work == self.work && it.peer == peer)
        };
        match self.beside {
            Beside::Peer(peer) => Some(cell(peer)?.ratio(self.figure)?.median),
            Beside::Alone => Some(cell(OURS)?.spread(self.figure)?.median),
            Beside::Ceiling(_, of) => {
                let ceiling = crate::stats::Spread::of(report.ceilings.iter().map(of))?;
                Some(cell(OURS)?.spread(self.figure)?.median / ceiling.median)
            }
        }
    }

    fn says(&self) -> [String; 2] {
        let beside = match self.beside {
            Beside::Peer(name) | Beside::Ceiling(name, _) => format!(" ÷ {name}"),
            Beside::Alone => String::new(),
        };
        let what = format!("{}, {}", self.class.says(), self.work.says());
        [what, format!("{}{beside}", self.figure.name())]
    }
}

/// A row for each goal that this run says something of.
pub(super) fn rows(report: &Report) -> Vec<Vec<String>> {
    let cells = report.cells();
    let row = |goal: &Goal| {
        let reached = goal.reached(report, &cells)?;
        let verdict = if reached <= goal.most {
            "yes"
        } else {
            "**no**"
        };
        let [what, figure] = goal.says();
        Some(vec![
            what,
            figure,
            number(goal.most),
            number(reached),
            verdict.to_owned(),
        ])
    };
    GOALS.iter().filter_map(row).collect()
}

/// The head of that table.
pub(super) const HEAD: [&str; 5] = ["work", "figure", "at most", "is", "reached"];

#[cfg(test)]
mod tests {
    use super::super::tests::{report, window};
    use super::*;

    #[test]
    fn what_is_missed_is_said() {
        let at = |peer, cpu| crate::turn::Window {
            work: Work::produce(1_024),
            ..window(peer, 1, cpu)
        };
        let rows = |ours| rows(&report(vec![at(OURS, ours), at("nats", 10.0)]));
        let verdict = |rows: Vec<Vec<String>>| {
            let found = rows.iter().find(|row| row[1] == "broker_cpu_us ÷ nats");
            found.map(|row| (row[3].clone(), row[4].clone()))
        };
        assert_eq!(
            verdict(rows(2.0)),
            Some(("0.20".to_owned(), "yes".to_owned()))
        );
        assert_eq!(
            verdict(rows(5.0)),
            Some(("0.50".to_owned(), "**no**".to_owned()))
        );
        // Nothing is said of who was not measured.
        assert!(rows(2.0).iter().all(|row| !row[1].contains("rocketmq")));
    }

    #[test]
    fn batches_are_judged_on_batches() {
        let of = |work| {
            let at = |peer, class, cpu| crate::turn::Window {
                work,
                class,
                ..window(peer, 1, cpu)
            };
            let windows = vec![
                at(OURS, Class::Durable, 1.0),
                at("rocketmq", Class::Durable, 2.0),
                at(OURS, Class::Cached, 1.0),
                at("kafka", Class::Cached, 2.0),
            ];
            let rows = rows(&report(windows)).into_iter();
            rows.map(|row| [row[1].clone(), row[3].clone(), row[4].clone()])
                .collect::<Vec<_>>()
        };
        let wanted = [
            ["broker_cpu_us ÷ kafka", "0.50", "yes"],
            ["each_us ÷ rocketmq", "1.00", "**no**"],
        ];
        assert_eq!(of(Work::BATCHES), wanted);
        for row in of(Work::produce(1_024)) {
            assert!(wanted.iter().all(|it| it[0] != row[0]), "{row:?}");
        }
    }
}
