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
    /// Smooth weighted turns: each lane saves its weight, the richest pays for all.
    fn pop(&mut self) -> Option<Ready> {
        self.lanes.retain(|_, lane| !lane.messages.is_empty());
        let mut all = 0;
        for lane in self.lanes.values_mut() {
            lane.credit += lane.weight();
            all += lane.weight();
        }
        let richest = self.lanes.values_mut().max_by_key(|lane| lane.credit)?;
        richest.credit -= all;
        richest.messages.pop_front()
    }
}
