//! Messages that were read and wait for the application: in the order they were read, or the more urgent of them
//! first.

use std::collections::{HashMap, VecDeque};

use quern_protocol::priority::PRIORITY;
use quern_protocol::{Priority, QueueOffset};

use super::group::Ready;
use super::progress::Hold;
use crate::routes::MessageQueue;

/// What waits.
#[derive(Debug)]
pub(super) enum Waiting {
    InTurn(VecDeque<Ready>),
    /// Each queue for itself, so that its messages keep their order.
    ByPriority(Lanes),
}

#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: HashMap<MessageQueue, Lane>,
}

#[derive(Debug, Default)]
struct Lane {
    messages: VecDeque<Ready>,
    /// What it has saved up of its weight.
    credit: i64,
}

impl Lane {
    /// As its next message says: neighbours share a lane where there are fewer than ten.
    fn weight(&self) -> i64 {
        let priority = self
            .messages
            .front()
            .and_then(|it| it.message.property(PRIORITY));
        let priority = priority.and_then(|it| it.parse().ok());
        i64::from(priority.unwrap_or(Priority::MIDDLE).weight())
    }
}

impl Waiting {
    pub(super) fn new(by_priority: bool) -> Self {
        match by_priority {
            true => Self::ByPriority(Lanes::default()),
            false => Self::InTurn(VecDeque::new()),
        }
    }

    /// Whether what has been read meanwhile could go before what waits.
    pub(super) fn may_be_overtaken(&self) -> bool {
        matches!(self, Self::ByPriority(_))
    }

    pub(super) fn push(&mut self, ready: Ready) {
        match self {
            Self::InTurn(all) => all.push_back(ready),
            Self::ByPriority(it) => {
                let lane = it.lanes.entry(ready.message.queue().clone());
                lane.or_default().messages.push_back(ready);
            }
        }
    }

    /// There is nothing for the application in a queue before `next`. Whether that is said by the last of its
    /// messages here; if none is, it is to be said at once.
    pub(super) fn pass(&mut self, queue: &MessageQueue, hold: Hold, next: QueueOffset) -> bool {
        let Self::ByPriority(it) = self else {
            // Whatever was read before has been handed out.
            return false;
        };
        let lane = it.lanes.get_mut(queue);
        let last = lane.and_then(|lane| lane.messages.back_mut());
        match last.filter(|last| last.hold == hold) {
            Some(last) => last.next = next,
            None => return false,
        }
        true
    }

    pub(super) fn pop(&mut self) -> Option<Ready> {
        match self {
            Self::InTurn(all) => all.pop_front(),
            Self::ByPriority(it) => it.pop(),
        }
    }
}

impl Lanes {
    fn pop(&mut self) -> Option<Ready> {
        self.lanes.retain(|_, lane| !lane.messages.is_empty());
        let mut lanes: Vec<_> = self.lanes.values_mut().collect();
        let mut credits: Vec<_> = lanes.iter().map(|it| (it.credit, it.weight())).collect();
        let chosen = turn(&mut credits)?;
        for (lane, (credit, _)) in lanes.iter_mut().zip(credits) {
            lane.credit = credit;
        }
        lanes[chosen].messages.pop_front()
    }
}

/// Whose turn it is among these, each with its credit and its weight: each saves its weight, the richest pays for all.
fn turn(lanes: &mut [(i64, i64)]) -> Option<usize> {
    let all: i64 = lanes.iter().map(|(_, weight)| weight).sum();
    for (credit, weight) in lanes.iter_mut() {
        *credit += *weight;
    }
    let richest = (0..lanes.len()).max_by_key(|at| lanes[*at].0)?;
    lanes[richest].0 -= all;
    Some(richest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_turns_by_its_weight_and_nobody_waits_for_long() {
        let weights = [512, 256, 1];
        let mut lanes: Vec<_> = weights.iter().map(|weight| (0, *weight)).collect();
        let turns: Vec<_> = (0..769 * 3).filter_map(|_| turn(&mut lanes)).collect();
        for round in turns.chunks(769) {
            for (lane, weight) in weights.iter().enumerate() {
                let count = round.iter().filter(|it| **it == lane).count();
                assert_eq!(count as i64, *weight, "lane {lane} of {weights:?}");
            }
        }
        assert_eq!(turn(&mut []), None);
    }
}
