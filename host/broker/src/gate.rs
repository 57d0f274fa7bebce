//! One change at a time: each begins with what all before have made of the state.
//!
//! Whoever asked for a change may go away while the log is written, and the change takes place all the same. So a turn
//! lasts until the log has what was written during it, not only until nobody waits for that any more.

use std::sync::Arc;

use quern_store::Held;
use tokio::sync::{Mutex, OwnedMutexGuard};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Gate(Arc<Mutex<()>>);

/// Nobody else changes anything until all copies of this one are gone.
#[derive(Debug, Clone)]
pub(crate) struct Turn(#[expect(dead_code, reason = "it is held")] Arc<OwnedMutexGuard<()>>);

impl Gate {
    pub(crate) async fn enter(&self) -> Turn {
        let guard = Arc::clone(&self.0).lock_owned().await;
        Turn(Arc::new(guard))
    }
}

impl Turn {
    /// For a record of the log.
    pub(crate) fn held(&self) -> Held {
        Box::new(self.clone())
    }
}
