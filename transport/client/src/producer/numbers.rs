//! The numbers of frames, by queue: what a broker recognises a frame by that comes again.
//!
//! A broker stores a producer's frames of a queue in the order of their numbers and refuses one whose
//! predecessor it does not have. Hence, while a frame is unanswered: at most [`limits::NUMBERED`] are, as
//! many as the broker remembers; whoever's outcome is not known goes again under its number, the oldest
//! first and alone, and no new one of the queue meanwhile. When a number turns out to be unused, those
//! behind it cannot have been stored, and the queue counts from 0 in a new epoch, once all of the old one
//! is over.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard};

use quern_protocol::{BrokerRoute, ProducerBatch, ProducerId};
use tokio::sync::Notify;

use super::task::{Destination, lane_for};
use crate::error::Result;
use crate::limits;
use crate::routes::MessageQueue;

/// The numbers one producer uses.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    windows: Mutex<HashMap<MessageQueue, Window>>,
    /// Something is over.
    changed: Notify,
}

/// A frame's place in a queue's order.
#[derive(Debug, Clone)]
pub(super) struct Number {
    pub(super) queue: MessageQueue,
    pub(super) batch: ProducerBatch,
}

/// What a broker, or the lack of one, made of a numbered frame that is not stored as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Setback {
    /// It left and nobody answered: it may be stored.
    Lost,
    /// It was not stored by this attempt.
    NotTaken,
    /// Its predecessor is missing there.
    OutOfSequence,
    /// The broker knows nothing of this producer.
    Forgotten,
    /// Somebody else uses the id.
    Fenced,
}

/// What follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Again, under the same number, when its turn comes.
    Again,
    /// Not stored, and it never will be: the number is given back.
    NotStored,
    /// It may or may not be stored, and nobody will know: the number is given back.
    Unknown,
}

const POISONED: &str = "no code that can panic runs under the numbers lock";

impl Numbers {
    fn windows(&self) -> MutexGuard<'_, HashMap<MessageQueue, Window>> {
        self.windows.lock().expect(POISONED)
    }

    /// Resolves to a number of a queue that takes frames now, beginning with the one whose turn it is.
    pub(super) async fn take<'a>(
        &self,
        to: &Destination,
        route: &'a [BrokerRoute],
        turn: usize,
    ) -> Result<(&'a BrokerRoute, Number)> {
        let queues: usize = route.iter().map(|it| it.write_queues as usize).sum();
        loop {
            let changed = self.changed.notified();
            for turn in turn..turn + queues.max(1) {
                let (broker, queue) = lane_for(route, to.priority, turn)?;
                let queue = MessageQueue {
                    topic: to.topic.clone(),
                    broker: broker.broker.clone(),
                    queue,
                };
                let mut windows = self.windows();
                let window = windows.entry(queue.clone()).or_insert_with(Window::new);
                if let Some(batch) = window.take() {
                    return Ok((broker, Number { queue, batch }));
                }
            }
            changed.await;
        }
    }

    /// Resolves to a number of this queue, once it takes frames.
    pub(super) async fn take_of(&self, queue: &MessageQueue) -> Number {
        loop {
            let changed = self.changed.notified();
            let taken = {
                let mut windows = self.windows();
                let window = windows.entry(queue.clone()).or_insert_with(Window::new);
                window.take()
            };
            if let Some(batch) = taken {
                let queue = queue.clone();
                return Number { queue, batch };
            }
            changed.await;
        }
    }

    /// Resolves when a frame may go again: all before it are over, or it is known not to be stored.
    pub(super) async fn turn(&self, number: &Number) {
        loop {
            let changed = self.changed.notified();
            if self.with(number, Window::is_turn_of) {
                return;
            }
            changed.await;
        }
    }

    pub(super) fn stored(&self, number: &Number) {
        self.with(number, Window::stored);
    }

    pub(super) fn judge(&self, number: &Number, setback: Setback) -> Verdict {
        self.with(number, |window, sequence| window.judge(sequence, setback))
    }

    /// Its time is over: whether it is certain not to be stored.
    pub(super) fn give_up(&self, number: &Number) -> Verdict {
        self.with(number, Window::give_up)
    }

    fn with<T>(&self, number: &Number, act: impl FnOnce(&mut Window, u32) -> T) -> T {
        let mut windows = self.windows();
        let queue = number.queue.clone();
        let window = windows.entry(queue).or_insert_with(Window::new);
        let before = window.unanswered.len();
        let outcome = act(window, number.batch.sequence);
        // Those whose turn it may be now, and those whose number was voided with it.
        if window.unanswered.len() != before {
            self.changed.notify_waiters();
        }
        outcome
    }
}

/// One unanswered frame.
#[derive(Debug, Clone, Copy)]
struct Unanswered {
    sequence: u32,
    /// An attempt of it has left, and its outcome is not known.
    in_doubt: bool,
    /// A number before it was given back unused: it cannot be stored.
    void: bool,
    /// Nobody knows whether the one before it is stored.
    orphaned: bool,
}

/// The numbers of one queue. Pure.
#[derive(Debug)]
struct Window {
    id: ProducerId,
    epoch: u16,
    next: u32,
    /// In the order of their numbers.
    unanswered: VecDeque<Unanswered>,
    /// A number was given back: no more of this epoch.
    is_broken: bool,
    /// Somebody else uses the id: no more of it.
    is_fenced: bool,
}

impl Window {
    /// An id that nobody else has: 64 random bits.
    fn new() -> Self {
        Self {
            id: ProducerId(fastrand::u64(..)),
            epoch: 0,
            next: 0,
            unanswered: VecDeque::with_capacity(limits::NUMBERED),
            is_broken: false,
            is_fenced: false,
        }
    }

    fn take(&mut self) -> Option<ProducerBatch> {
        let full = self.unanswered.len() >= limits::NUMBERED || self.reaches_back();
        if full || self.is_broken || self.unanswered.iter().any(|it| it.in_doubt) {
            return None;
        }
        let sequence = self.next;
        self.next = sequence.wrapping_add(1);
        self.unanswered.push_back(Unanswered {
            sequence,
            in_doubt: false,
            void: false,
            orphaned: false,
        });
        Some(ProducerBatch {
            producer: self.id,
            epoch: self.epoch,
            sequence,
        })
    }

    /// With one more, a broker could have forgotten the oldest before it comes again.
    fn reaches_back(&self) -> bool {
        let oldest = self.unanswered.front();
        oldest.is_some_and(|it| self.next.wrapping_sub(it.sequence) as usize >= limits::NUMBERED)
    }

    fn place(&self, sequence: u32) -> Option<usize> {
        self.unanswered
            .iter()
            .position(|it| it.sequence == sequence)
    }

    fn is_turn_of(&mut self, sequence: u32) -> bool {
        self.place(sequence)
            .is_none_or(|at| at == 0 || self.unanswered[at].void)
    }

    fn stored(&mut self, sequence: u32) {
        if let Some(at) = self.place(sequence) {
            self.unanswered.remove(at);
            self.begin_anew();
        }
    }

    fn judge(&mut self, sequence: u32, setback: Setback) -> Verdict {
        let Some(at) = self.place(sequence) else {
            return Verdict::Unknown;
        };
        let Unanswered {
            in_doubt,
            void,
            orphaned,
            ..
        } = self.unanswered[at];
        let verdict = match setback {
            _ if void => Verdict::NotStored,
            Setback::Lost => {
                self.unanswered[at].in_doubt = true;
                Verdict::Again
            }
            Setback::NotTaken if in_doubt => Verdict::Again,
            Setback::NotTaken => Verdict::NotStored,
            Setback::OutOfSequence | Setback::Forgotten if at > 0 => Verdict::Again,
            // What the broker does not have now it cannot get any more, unless a straggler of the one
            // before is still on its way and makes room for one of this.
            Setback::OutOfSequence if in_doubt && orphaned => Verdict::Unknown,
            Setback::OutOfSequence => Verdict::NotStored,
            // It may have been stored before it was forgotten.
            Setback::Forgotten if in_doubt => Verdict::Unknown,
            Setback::Forgotten => Verdict::NotStored,
            Setback::Fenced => {
                self.is_fenced = true;
                match in_doubt {
                    true => Verdict::Unknown,
                    false => Verdict::NotStored,
                }
            }
        };
        self.give_back(at, verdict);
        verdict
    }

    fn give_up(&mut self, sequence: u32) -> Verdict {
        let Some(at) = self.place(sequence) else {
            return Verdict::Unknown;
        };
        let it = self.unanswered[at];
        let verdict = match it.in_doubt && !it.void {
            true => Verdict::Unknown,
            false => Verdict::NotStored,
        };
        self.give_back(at, verdict);
        verdict
    }

    fn give_back(&mut self, at: usize, verdict: Verdict) {
        if verdict == Verdict::Again {
            return;
        }
        for behind in self.unanswered.iter_mut().skip(at + 1) {
            behind.void |= verdict == Verdict::NotStored;
            behind.orphaned |= verdict == Verdict::Unknown;
        }
        self.unanswered.remove(at);
        self.is_broken = true;
        self.begin_anew();
    }

    /// The next epoch, once nothing of this one is unanswered: its first frame fences the stragglers.
    fn begin_anew(&mut self) {
        if !self.is_broken || !self.unanswered.is_empty() {
            return;
        }
        match self.epoch.checked_add(1).filter(|_| !self.is_fenced) {
            Some(epoch) => {
                self.epoch = epoch;
                self.next = 0;
                self.is_broken = false;
            }
            None => *self = Self::new(),
        }
    }
}

#[cfg(test)]
mod tests;
