//! The answer to an append: a future that resolves when the batch is durable and visible.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use quern_protocol::{LogPosition, QueueOffset};

use crate::error::AppendError;

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

pub(crate) type Outcome = Result<Appended, AppendError>;

#[derive(Debug, Default)]
struct State {
    outcome: Option<Outcome>,
    waker: Option<Waker>,
}

/// The writing end of a [`Pending`].
#[derive(Debug, Clone, Default)]
pub(crate) struct Slot(Arc<Mutex<State>>);

const POISONED: &str = "no code that can panic runs under a slot's lock";

impl Slot {
    pub(crate) fn settle(&self, outcome: Outcome) {
        let waker = {
            let mut state = self.0.lock().expect(POISONED);
            state.outcome = Some(outcome);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(crate) fn pending(&self) -> Pending {
        Pending(self.clone())
    }
}

/// Resolves once the batch is durable, or has failed. Dropping it does not take the batch back.
#[derive(Debug)]
#[must_use = "a batch is durable when this resolves, not before"]
pub struct Pending(Slot);

impl Future for Pending {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let mut state = self.0.0.lock().expect(POISONED);
        match &state.outcome {
            Some(outcome) => Poll::Ready(outcome.clone()),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
