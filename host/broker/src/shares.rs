//! Shares: each may have so much under way, and waits for itself when it wants more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits;
use crate::pool::Who;

/// See the module.
#[derive(Debug)]
pub(crate) struct Shares {
    each: usize,
    known: Mutex<HashMap<Who, Arc<Semaphore>>>,
}

const POISONED: &str = "no code that can panic runs under the lock of the shares";

impl Shares {
    pub(crate) fn new(each: usize) -> Self {
        Self {
            each,
            known: Mutex::default(),
        }
    }

    /// Waits until less than its share is under way; so much is, until it is dropped.
    pub(crate) async fn one(&self, who: &Who) -> OwnedSemaphorePermit {
        let permit = self.of(who).acquire_owned().await;
        permit.expect("a share is never closed")
    }

    fn of(&self, who: &Who) -> Arc<Semaphore> {
        let mut known = self.known.lock().expect(POISONED);
        if let Some(share) = known.get(who) {
            return Arc::clone(share);
        }
        if known.len() >= limits::SHARES {
            known.retain(|_, share| Arc::strong_count(share) > 1);
        }
        let share = Arc::new(Semaphore::new(self.each));
        known.insert(who.clone(), Arc::clone(&share));
        share
    }
}
