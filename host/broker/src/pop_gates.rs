//! Who gives messages of a queue to a group by pop does it alone, and gives each time a token of its own.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use quern_protocol::{GroupName, QueueId, TopicId};
use tokio::sync::OwnedMutexGuard;

use crate::in_use::InUse;
use crate::limits;

type Key = (GroupName, TopicId, QueueId);

/// Whoever gives messages of a queue to a group does it alone.
#[derive(Debug)]
pub(crate) struct Gates {
    known: Mutex<InUse<Key, tokio::sync::Mutex<()>>>,
    tokens: AtomicU64,
}

impl Default for Gates {
    fn default() -> Self {
        Self {
            known: Mutex::new(InUse::new(limits::POP_GATES)),
            tokens: AtomicU64::default(),
        }
    }
}

impl Gates {
    /// Keeps everybody else from giving messages of a queue.
    pub(crate) async fn enter(&self, key: Key) -> OwnedMutexGuard<()> {
        self.of(&key).lock_owned().await
    }

    /// The same of some queues: whoever says where a group goes on must not meet one who gives what came before.
    pub(crate) async fn close(
        &self,
        group: &GroupName,
        topic: TopicId,
        queues: impl Iterator<Item = QueueId>,
    ) -> Vec<OwnedMutexGuard<()>> {
        // In an order, or two of them might wait for each other.
        let queues: BTreeSet<_> = queues.collect();
        let mut closed = Vec::with_capacity(queues.len());
        for queue in queues {
            closed.push(self.enter((group.clone(), topic, queue)).await);
        }
        closed
    }

    fn of(&self, key: &Key) -> Arc<tokio::sync::Mutex<()>> {
        let known = self.known.lock();
        let mut known = known.expect("no code that can panic runs under the gates lock");
        known.of(key, tokio::sync::Mutex::default)
    }

    /// One that was never given, across restarts too: later than the newest that the log knows.
    pub(crate) fn token(&self, now: u64, known: u64) -> u64 {
        let least = (now << 20).max(known);
        let next = |last: u64| Some(last.max(least) + 1);
        let last = self
            .tokens
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        last.map_or(least, |last| last.max(least) + 1)
    }
}
