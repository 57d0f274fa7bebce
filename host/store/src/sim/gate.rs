//! A gate that calls go through; a test can shut it, and sees who waits before it.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

const A_MINUTE: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
struct State {
    is_shut: bool,
    waiting: usize,
}

/// See the module; clones are the same gate.
#[derive(Debug, Clone, Default)]
pub(super) struct Gate(Arc<(Mutex<State>, Condvar)>);

impl Gate {
    /// Waits while the gate is shut.
    pub(super) fn pass(&self) {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.is_shut {
            return;
        }
        state.waiting += 1;
        changed.notify_all();
        let open = changed.wait_while(state, |state| state.is_shut);
        open.unwrap_or_else(PoisonError::into_inner).waiting -= 1;
    }

    pub(super) fn is_shut(&self) -> bool {
        let state = self.0.0.lock();
        state.unwrap_or_else(PoisonError::into_inner).is_shut
    }

    pub(super) fn shut(&self) -> HeldUp {
        self.set(true);
        HeldUp(self.clone())
    }

    fn set(&self, is_shut: bool) {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.is_shut = is_shut;
        changed.notify_all();
    }
}

/// Calls that wait; dropped, they go on.
#[derive(Debug)]
#[must_use = "they go on when it is dropped"]
pub struct HeldUp(Gate);

impl HeldUp {
    /// Blocks until so many calls wait.
    ///
    /// # Panics
    ///
    /// If they do not come within a minute: they will not.
    pub fn wait_for(&self, count: usize) {
        let (state, changed) = &*self.0.0;
        let state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = changed.wait_timeout_while(state, A_MINUTE, |state| state.waiting < count);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let waiting = state.waiting;
        drop(state);
        assert!(waiting >= count, "{waiting} calls wait, not {count}");
    }
}

impl Drop for HeldUp {
    fn drop(&mut self) {
        self.0.set(false);
    }
}
