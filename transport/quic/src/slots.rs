//! The calls of a lane, found by their correlation ids: `turn << 32 | index`. A slot that is used
//! again has another turn, so a late reply to the call before it is recognised and dropped.

use std::task::{Context, Poll, Waker};

use quern_protocol::frame::Frame;
use tokio::time::Instant;

use crate::error::Lost;

/// What became of a call.
#[derive(Debug)]
pub(crate) enum Outcome {
    Reply(Frame),
    Lost(Lost),
    /// Its time is over.
    Late,
}

#[derive(Debug)]
struct Slot {
    turn: u32,
    deadline: Instant,
    call: Call,
}

#[derive(Debug)]
enum Call {
    None,
    Waiting(Option<Waker>),
    Done(Outcome),
}

/// A table that only grows to the most calls ever under way at once, which the lane bounds.
#[derive(Debug)]
pub(crate) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// No waiting call ends before this.
    earliest: Option<Instant>,
}

impl Slots {
    pub(crate) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            earliest: None,
        }
    }

    /// A correlation id for a new call.
    pub(crate) fn take(&mut self, deadline: Instant) -> u64 {
        self.earliest = Some(self.earliest.map_or(deadline, |at| at.min(deadline)));
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                turn: 0,
                deadline,
                call: Call::None,
            });
            u32::try_from(self.slots.len() - 1).expect("calls of a lane are bounded")
        });
        let slot = self.slots.get_mut(index as usize).expect("a free slot");
        // Zero is the correlation id of streams with one request.
        slot.turn = slot.turn.wrapping_add(1).max(1);
        slot.deadline = deadline;
        slot.call = Call::Waiting(None);
        u64::from(slot.turn) << 32 | u64::from(index)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.free.len() == self.slots.len()
    }

    /// Frees a slot; whether the call had been answered.
    pub(crate) fn release(&mut self, correlation: u64) -> bool {
        let Some(slot) = self.find(correlation) else {
            return true;
        };
        let answered = !matches!(slot.call, Call::Waiting(_));
        slot.call = Call::None;
        self.free.push(correlation as u32);
        answered
    }

    /// Takes what became of a call; a late one keeps its slot until it is released.
    pub(crate) fn poll(&mut self, correlation: u64, cx: &mut Context<'_>) -> Poll<Outcome> {
        let Some(slot) = self.find(correlation) else {
            return Poll::Ready(Outcome::Late);
        };
        match std::mem::replace(&mut slot.call, Call::Waiting(None)) {
            Call::Waiting(Some(waker)) if waker.will_wake(cx.waker()) => {
                slot.call = Call::Waiting(Some(waker));
                Poll::Pending
            }
            Call::Waiting(_) => {
                slot.call = Call::Waiting(Some(cx.waker().clone()));
                Poll::Pending
            }
            Call::Done(Outcome::Late) => Poll::Ready(Outcome::Late),
            Call::Done(outcome) => {
                self.release(correlation);
                Poll::Ready(outcome)
            }
            Call::None => {
                slot.call = Call::None;
                Poll::Ready(Outcome::Late)
            }
        }
    }

    /// Hands a reply to its call, and says whom to wake. No one waits for a cancelled call's.
    pub(crate) fn complete(&mut self, frame: Frame) -> Option<Waker> {
        let slot = self.find(frame.correlation)?;
        slot.finish(Outcome::Reply(frame))
    }

    /// Ends every waiting call.
    pub(crate) fn end_all(&mut self, lost: &Lost) -> Vec<Waker> {
        self.slots
            .iter_mut()
            .filter_map(|slot| slot.finish(Outcome::Lost(lost.clone())))
            .collect()
    }

    pub(crate) fn earliest(&self) -> Option<Instant> {
        self.earliest
    }

    /// Ends the calls whose time is over.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<Waker> {
        let mut late = Vec::new();
        self.earliest = None;
        for slot in &mut self.slots {
            if !matches!(slot.call, Call::Waiting(_)) {
                continue;
            }
            if slot.deadline <= now {
                late.extend(slot.finish(Outcome::Late));
            } else {
                let deadline = slot.deadline;
                self.earliest = Some(self.earliest.map_or(deadline, |at| at.min(deadline)));
            }
        }
        late
    }

    fn find(&mut self, correlation: u64) -> Option<&mut Slot> {
        let turn = (correlation >> 32) as u32;
        self.slots
            .get_mut(correlation as u32 as usize)
            .filter(|slot| slot.turn == turn && !matches!(slot.call, Call::None))
    }
}

impl Slot {
    fn finish(&mut self, outcome: Outcome) -> Option<Waker> {
        let Call::Waiting(waker) = &mut self.call else {
            return None;
        };
        let waker = waker.take();
        self.call = Call::Done(outcome);
        waker
    }
}
