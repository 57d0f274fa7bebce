//! What a subscription may still send: messages and bytes, granted by who receives and spent by who sends.
//!
//! Nothing is sent unless there are some of both, so both sides know at any time how much can be under way. The last
//! message may be larger than the bytes that were left: then they are below zero until more are granted.

use std::pin::Pin;
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use futures_util::Stream;
use quern_protocol::frame::Outgoing;

/// Frames that answer one request. All but the last say that more follow.
pub type Answers = Pin<Box<dyn Stream<Item = Outgoing> + Send>>;

/// See the module.
#[derive(Debug, Default)]
pub struct Credit(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    messages: i64,
    bytes: i64,
    is_cancelled: bool,
    /// Of the task that sends.
    waker: Option<Waker>,
}

impl Credit {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no one panics holding it")
    }

    /// The task that sends is to look again.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let waker = {
            let mut state = self.state();
            change(&mut state);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub fn grant(&self, messages: u32, bytes: u32) {
        self.change(|state| {
            state.messages += i64::from(messages);
            state.bytes += i64::from(bytes);
        });
    }

    pub fn spend(&self, messages: usize, bytes: usize) {
        let mut state = self.state();
        state.messages -= messages as i64;
        state.bytes -= bytes as i64;
    }

    /// Messages and bytes that may be sent now; `None` = nothing may.
    pub fn left(&self) -> Option<(usize, usize)> {
        let state = self.state();
        (state.messages > 0 && state.bytes > 0)
            .then_some((state.messages as usize, state.bytes as usize))
    }

    /// Resolves when something may be sent. Only within the answers that this credit is for, whose next poll it
    /// brings about.
    pub async fn some(&self) -> (usize, usize) {
        std::future::poll_fn(|_| self.left().map_or(Poll::Pending, Poll::Ready)).await
    }

    /// Nobody wants the rest any more.
    pub(crate) fn cancel(&self) {
        self.change(|state| state.is_cancelled = true);
    }

    /// Whom to wake when something changes, before looking; whether it is over.
    pub(crate) fn watch(&self, cx: &Context<'_>) -> bool {
        let mut state = self.state();
        match &mut state.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        state.is_cancelled
    }
}
