//! The calls of a lane, found by their correlation ids: `turn << 32 | index`. A slot that is used
//! again has another turn, so a late reply to the call before it is recognised and dropped.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use quern_protocol::frame::Frame;
use tokio::time::Instant;

use crate::error::{CloseReason, EndedBy, Lost};
use crate::limits;

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
    /// `None` = it is waited for as long as it takes.
    deadline: Option<Instant>,
    call: Call,
}

#[derive(Debug)]
enum Call {
    None,
    Waiting(Option<Waker>),
    Done(Outcome),
    /// A subscription.
    Many(Many),
}

/// Frames that have come and are not taken yet.
#[derive(Debug, Default)]
struct Many {
    frames: VecDeque<Frame>,
    /// Bytes of bodies that may still come.
    granted: i64,
    /// Nothing follows the frames: how it ended, if not by itself.
    end: Option<Option<Lost>>,
    waker: Option<Waker>,
}

impl Many {
    fn take_in(&mut self, frame: Frame) {
        if self.end.is_some() {
            return;
        }
        let is_too_much = !frame.body.is_empty() && self.granted <= 0;
        if is_too_much || self.frames.len() >= limits::UNREAD_FRAMES {
            let text = "more was sent for a subscription than was asked for";
            let lost = Lost::new(EndedBy::Us, Some(CloseReason::Protocol), text);
            self.end = Some(Some(lost));
            return;
        }
        self.granted -= frame.body.len() as i64;
        if !frame.flags.has_more() {
            self.end = Some(None);
        }
        self.frames.push_back(frame);
    }
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
        self.occupy(Some(deadline), Call::Waiting(None))
    }

    /// The same for a subscription that so many bytes are granted to.
    pub(crate) fn take_many(&mut self, bytes: u32) -> u64 {
        let many = Many {
            granted: bytes.into(),
            ..Many::default()
        };
        self.occupy(None, Call::Many(many))
    }

    /// So many bytes more may come.
    pub(crate) fn grant(&mut self, correlation: u64, bytes: u32) {
        if let Some(Slot {
            call: Call::Many(many),
            ..
        }) = self.find(correlation)
        {
            many.granted += i64::from(bytes);
        }
    }

    /// The next frame of a subscription; `None` = nothing follows, `Some(Err)` = it is lost.
    pub(crate) fn poll_many(
        &mut self,
        correlation: u64,
        cx: &Context<'_>,
    ) -> Poll<Option<Result<Frame, Lost>>> {
        let Some(Slot {
            call: Call::Many(many),
            ..
        }) = self.find(correlation)
        else {
            return Poll::Ready(None);
        };
        if let Some(frame) = many.frames.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        match &many.end {
            Some(end) => Poll::Ready(end.clone().map(Err)),
            None => {
                many.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn occupy(&mut self, deadline: Option<Instant>, call: Call) -> u64 {
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
        slot.call = call;
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
        let answered = match &slot.call {
            Call::Waiting(_) => false,
            Call::Many(many) => many.end.is_some(),
            Call::None | Call::Done(_) => true,
        };
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
            other @ (Call::None | Call::Many(_)) => {
                slot.call = other;
                Poll::Ready(Outcome::Late)
            }
        }
    }

    /// Hands a reply to its call, and says whom to wake. No one waits for a cancelled call's.
    pub(crate) fn complete(&mut self, frame: Frame) -> Option<Waker> {
        let slot = self.find(frame.correlation)?;
        if let Call::Many(many) = &mut slot.call {
            many.take_in(frame);
            return many.waker.take();
        }
        slot.finish(Outcome::Reply(frame))
    }

    /// Ends every waiting call.
    pub(crate) fn end_all(&mut self, lost: &Lost) -> Vec<Waker> {
        self.slots
            .iter_mut()
            .filter_map(|slot| match &mut slot.call {
                Call::Many(many) => {
                    many.end.get_or_insert_with(|| Some(lost.clone()));
                    many.waker.take()
                }
                _ => slot.finish(Outcome::Lost(lost.clone())),
            })
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
            let Some(deadline) = slot.deadline else {
                continue;
            };
            if deadline <= now {
                late.extend(slot.finish(Outcome::Late));
            } else {
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
