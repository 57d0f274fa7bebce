//! Shares: each may have so much under way, and waits for itself when it wants more.

use std::sync::{Arc, Mutex};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::in_use::InUse;
use crate::limits;
use crate::pool::Who;

/// See the module.
#[derive(Debug)]
pub(crate) struct Shares {
    each: usize,
    known: Mutex<InUse<Who, Semaphore>>,
}

const POISONED: &str = "no code that can panic runs under the lock of the shares";

impl Shares {
    pub(crate) fn new(each: usize) -> Self {
        Self {
            each,
            known: Mutex::new(InUse::new(limits::SHARES)),
        }
    }

    /// Waits until less than its share is under way; so much is, until it is dropped.
    pub(crate) async fn one(&self, who: &Who) -> OwnedSemaphorePermit {
        let permit = self.of(who).acquire_owned().await;
        permit.expect("a share is never closed")
    }

    fn of(&self, who: &Who) -> Arc<Semaphore> {
        let mut known = self.known.lock().expect(POISONED);
        known.of(who, || Semaphore::new(self.each))
    }
}

#[cfg(test)]
mod tests {
    use quern_protocol::TopicId;

    use super::*;

    #[tokio::test]
    async fn shares_nobody_uses_are_forgotten_and_others_are_kept() {
        let shares = Shares::new(1);
        let count = || shares.known.lock().unwrap().len();
        let who = |n: usize| Who::Senders(TopicId(n as u32));
        let mut held = Vec::new();
        for n in 0..limits::SHARES {
            held.push(shares.one(&who(n)).await);
        }
        for n in 0..10 * limits::SHARES {
            drop(shares.one(&who(limits::SHARES + n)).await);
            assert!((limits::SHARES..=2 * limits::SHARES).contains(&count()));
        }
        drop(held);
        for n in 0..2 * limits::SHARES {
            drop(shares.one(&who(20 * limits::SHARES + n)).await);
        }
        assert!(count() <= limits::SHARES, "{}", count());
    }
}
