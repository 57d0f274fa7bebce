//! `WaitFigures`: what waits for its transaction or for its time, and what is counted of it.

use std::sync::atomic::{AtomicU64, Ordering};

use quern_protocol::{
    DelayFigures, Later, LogPosition, TopicId, TopicWaits, TransactionFigures, WaitFiguresReply,
};

use crate::metrics::Counter;
use crate::{Broker, limits};

/// Of what waits, since the broker started.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    pub(crate) begun: Counter,
    pub(crate) committed: Counter,
    pub(crate) rolled_back: Counter,
    pub(crate) parked: Counter,
    pub(crate) checks: Counter,
    pub(crate) delayed: Counter,
    pub(crate) recalled: Counter,
    pub(crate) late: Lateness,
}

impl Waits {
    /// So many messages were stored that wait for this.
    pub(crate) fn stored(&self, later: &Later, messages: u64) {
        match later {
            Later::OnCommit(_) => self.begun.add(messages),
            Later::In(_) | Later::At(_) | Later::Level(_) => self.delayed.add(messages),
        }
    }
}

/// Delivered messages, by how late they were: at most so many ms.
const LATE_MS: [u64; 7] = [1, 10, 100, 1_000, 10_000, 60_000, u64::MAX];

/// How late messages are delivered.
#[derive(Debug, Default)]
pub(crate) struct Lateness {
    counts: [Counter; LATE_MS.len()],
    latest: AtomicU64,
}

impl Lateness {
    pub(crate) fn delivered(&self, due_at: u64, now: u64) {
        let late = now.saturating_sub(due_at);
        let place = LATE_MS.iter().position(|most| late <= *most);
        if let Some(count) = place.and_then(|it| self.counts.get(it)) {
            count.add(1);
        }
        self.latest.fetch_max(late, Ordering::Relaxed);
    }

    fn read(&self) -> Vec<(u64, u64)> {
        let counts = self.counts.iter().map(Counter::read);
        LATE_MS.into_iter().zip(counts).collect()
    }
}

pub(crate) fn figures(broker: &Broker) -> WaitFiguresReply {
    let (store, waits) = (&broker.store, &broker.metrics.waits);
    let oldest = store.undecided(None, (0, LogPosition(0)), 1);
    let late = waits.late.read();
    WaitFiguresReply {
        transactions: TransactionFigures {
            open: store.halves() as u64,
            by_topic: named(broker, store.halves_by_topic()),
            oldest: oldest.first().map_or(0, |it| it.due_at),
            begun: waits.begun.read(),
            committed: waits.committed.read(),
            rolled_back: waits.rolled_back.read(),
            parked: waits.parked.read(),
            checks: waits.checks.read(),
        },
        delays: DelayFigures {
            waiting: store.timers() as u64,
            by_topic: named(broker, store.timers_by_topic()),
            next_due: store.next_due().unwrap_or(0),
            taken: waits.delayed.read(),
            delivered: late.iter().map(|(_, count)| count).sum(),
            recalled: waits.recalled.read(),
            late,
            latest_ms: waits.late.latest.load(Ordering::Relaxed),
        },
    }
}

/// Those with the most messages first.
fn named(broker: &Broker, mut topics: Vec<(TopicId, usize)>) -> Vec<TopicWaits> {
    topics.sort_by_key(|(id, count)| (std::cmp::Reverse(*count), *id));
    topics.truncate(limits::LISTED);
    let named = topics.into_iter().filter_map(|(id, count)| {
        Some(TopicWaits {
            topic: broker.state.topics.by_id(id)?.name.clone(),
            messages: count as u64,
        })
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_delivery_counts_where_its_lateness_is() {
        let lateness = Lateness::default();
        for late in [0, 1, 2, 100, 101, 3_600_000] {
            lateness.delivered(1_000, 1_000 + late);
        }
        // By another clock than the one that said when it is due.
        lateness.delivered(1_000, 900);
        let counts: Vec<_> = lateness
            .read()
            .into_iter()
            .map(|(_, count)| count)
            .collect();
        assert_eq!(counts, [3, 1, 1, 1, 0, 0, 1]);
        assert_eq!(lateness.latest.load(Ordering::Relaxed), 3_600_000);
    }
}
