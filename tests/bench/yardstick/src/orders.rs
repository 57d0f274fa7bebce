//! What a driver is told to do for a work.

use crate::turn::Measure;
use crate::work::{BODY, Filter, Work};

/// Queues of a topic, where they are not what is measured.
pub(crate) const QUEUES: u32 = 4;

/// A command, and how many seconds it is told to last.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Order {
    pub(crate) command: String,
    pub(crate) lasting: f64,
}

/// What comes before a work and is not measured.
pub(crate) fn before(work: Work) -> Option<String> {
    match work {
        Work::Topics { count } => Some(format!("topic topic=many topics={count} queues=1")),
        // A filter is made ready when it is used for the first time; it is used for years.
        Work::Drain(filter) if filter != Filter::All => {
            let filter = filter.name();
            Some(format!(
                "drain topic=backlog filter={filter} expect=1 groups=1"
            ))
        }
        _ => None,
    }
}

/// Nothing to command: time passes.
pub(crate) fn order(work: Work, measure: &Measure) -> Option<Order> {
    let Measure {
        seconds,
        warm_seconds,
        backlog,
        ..
    } = *measure;
    let produce = |topics: &str, in_flight: u32, size: u32, lasting: f64| Order {
        command: format!(
            "produce topic={topics} in_flight={in_flight} size={size} seconds={lasting}"
        ),
        lasting,
    };
    let drain = |filter: &str, expect: u64, groups: u32| Order {
        command: format!("drain topic=backlog filter={filter} expect={expect} groups={groups}"),
        lasting: 0.0,
    };
    Some(match work {
        Work::Warm => produce("load", 64, BODY, warm_seconds),
        Work::Produce { in_flight, size } => produce("load", in_flight, size, seconds),
        Work::Batches { each, in_flight } => {
            produce(&format!("load batch={each}"), in_flight, BODY, seconds)
        }
        Work::Topics { count } => produce(&format!("many topics={count}"), 64, BODY, seconds),
        Work::LossyProduce => produce("load", 64, BODY, seconds),
        Work::Drain(filter) => drain(filter.name(), filter.passes(backlog), 1),
        Work::LossyDrain => drain("all", lossy_backlog(measure), 1),
        // As many deliveries as messages in the backlog.
        Work::FanOut { groups } => drain("all", backlog / u64::from(groups), groups),
        Work::EndToEnd { rate } => Order {
            command: format!("e2e topic=e2e-{rate} rate={rate} size={BODY} seconds={seconds}"),
            lasting: seconds,
        },
        Work::Start | Work::Idle | Work::Connections { .. } | Work::Restart => return None,
    })
}

/// Messages to drain over a path with loss and delay, on which they take longer.
pub(crate) fn lossy_backlog(measure: &Measure) -> u64 {
    (measure.backlog / 20).max(100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Command;
    use crate::work::Filter;

    #[test]
    fn orders_say_how_much() {
        let measure = Measure {
            seconds: 2.0,
            warm_seconds: 9.0,
            backlog: 1_000,
            restart_mib: 1,
        };
        let of = |work| order(work, &measure).expect("there is something to do");
        let half = of(Work::Drain(Filter::SqlHalf));
        let command = Command::of(&half.command);
        assert_eq!(command.text("filter"), Ok("sql-half"));
        assert_eq!(command.number::<u64>("expect"), Ok(500));
        let topics = of(Work::Topics { count: 7 });
        let command = Command::of(&topics.command);
        assert_eq!(
            (command.text("topic"), command.number("topics")),
            (Ok("many"), Ok(7))
        );
        assert_eq!(topics.lasting, 2.0);
        let batches = of(Work::BATCHES);
        let command = Command::of(&batches.command);
        assert_eq!(command.text("topic"), Ok("load"));
        assert_eq!(
            (command.number("batch"), command.number("in_flight")),
            (Ok(32), Ok(8))
        );
        assert_eq!(order(Work::Idle, &measure), None);
    }
}
