//! The answer to an append: a future that resolves when the batch is durable and visible.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use quern_protocol::{LogPosition, QueueOffset};

use crate::error::AppendError;
use crate::queue::Queue;
use crate::wait_list::WaitList;

/// Where a batch went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Of its first record.
    pub position: LogPosition,
    /// Of its first message; the others follow without a gap.
    pub first: QueueOffset,
    /// By the log's clock, ms since 1970.
    pub stored_at: u64,
}

/// When an append is answered. Nothing is visible before it is durable, whatever is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Acknowledge {
    /// Once it is on the disk (RocketMQ's `SYNC_FLUSH`).
    #[default]
    Durable,
    /// Once it is in the system's page cache, its sync under way: a crash of the machine may take it
    /// away, one of the process does not (RocketMQ's `ASYNC_FLUSH`).
    Written,
}

pub(crate) type Outcome = Result<Appended, AppendError>;

#[derive(Debug, Default)]
struct State {
    written: Option<Appended>,
    outcome: Option<Outcome>,
    /// Being written is enough.
    is_eager: bool,
    waker: Option<Waker>,
    /// What it decides, if it comes to be.
    decides: Option<Taken>,
    held: Option<Held>,
}

/// Something that is dropped when an append has come to its end, whether or not anybody waits for that.
pub type Held = Box<dyn Any + Send>;

/// One that waits, and about which nobody else decides until this is settled.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) list: Arc<WaitList>,
    pub(crate) position: LogPosition,
}

/// The writing end of a [`Pending`].
#[derive(Debug, Clone, Default)]
pub(crate) struct Slot(Arc<Mutex<State>>);

const POISONED: &str = "no code that can panic runs under a slot's lock";

impl Slot {
    pub(crate) fn new(acknowledge: Acknowledge) -> Self {
        Self(Arc::new(Mutex::new(State {
            is_eager: acknowledge == Acknowledge::Written,
            ..State::default()
        })))
    }

    /// Of a batch that says what becomes of one that waits: should it fail, nothing does, whoever listens or does
    /// not.
    pub(crate) fn deciding(taken: Taken) -> Self {
        Self(Arc::new(Mutex::new(State {
            decides: Some(taken),
            ..State::default()
        })))
    }

    pub(crate) fn holding(held: Held) -> Self {
        Self(Arc::new(Mutex::new(State {
            held: Some(held),
            ..State::default()
        })))
    }

    /// The batch has its place; whether it stays there, the sync decides.
    pub(crate) fn note_written(&self, appended: Appended) {
        let waker = {
            let mut state = self.0.lock().expect(POISONED);
            state.written = Some(appended);
            if state.is_eager {
                state.waker.take()
            } else {
                None
            }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(crate) fn settle(&self, outcome: Outcome) {
        // Before anybody can see the outcome: who waits for that finds what was held until then let go.
        let held = self.0.lock().expect(POISONED).held.take();
        drop(held);
        let (waker, undone) = {
            let mut state = self.0.lock().expect(POISONED);
            let decides = state.decides.take();
            let undone = decides.filter(|_| outcome.is_err() && !cfg!(zoo = "z25"));
            state.outcome = Some(outcome);
            (state.waker.take(), undone)
        };
        if let Some(Taken { list, position }) = undone {
            list.put_back(position);
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.0.lock().expect(POISONED).outcome.is_some()
    }

    pub(crate) fn has_failed(&self) -> bool {
        matches!(self.0.lock().expect(POISONED).outcome, Some(Err(_)))
    }

    /// `None` = it is under way.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        self.0.lock().expect(POISONED).outcome.clone()
    }

    pub(crate) fn is_eager(&self) -> bool {
        self.0.lock().expect(POISONED).is_eager
    }

    pub(crate) fn pending(&self, queue: &Arc<Queue>) -> Pending {
        Pending {
            slot: self.clone(),
            queue: Arc::clone(queue),
        }
    }
}

/// Resolves once the batch is as safe as was asked for, or has failed. Dropping it does not take the batch back.
#[derive(Debug)]
#[must_use = "a batch is safe when this resolves, not before"]
pub struct Pending {
    slot: Slot,
    queue: Arc<Queue>,
}

impl Pending {
    /// Where the batch has been written, durable or not.
    pub fn written(&self) -> Option<Appended> {
        self.slot.0.lock().expect(POISONED).written
    }

    /// From now on, being written is enough.
    pub fn settle_for_written(&self) {
        self.slot.0.lock().expect(POISONED).is_eager = true;
        self.queue.hurry();
    }
}

impl Future for Pending {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let mut state = self.slot.0.lock().expect(POISONED);
        match (&state.outcome, state.written) {
            (Some(outcome), _) => Poll::Ready(outcome.clone()),
            (None, Some(written)) if state.is_eager => Poll::Ready(Ok(written)),
            (None, _) => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
