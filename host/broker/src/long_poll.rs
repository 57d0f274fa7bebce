//! Pulls that wait for news of a queue. A waiter registers first and looks at the queue second, so
//! a message that arrives in between is never missed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use quern_protocol::{QueueId, TopicId};
use tokio::sync::Notify;

type Key = (TopicId, QueueId);

/// Who waits for which queue.
#[derive(Debug, Default)]
pub(crate) struct LongPoll {
    queues: Mutex<HashMap<Key, Arc<Notify>>>,
    waiting: AtomicUsize,
}

const POISONED: &str = "no code that can panic runs under the long-poll lock";

/// A place in the waiting room of one queue; leaving it is dropping it.
#[derive(Debug)]
pub(crate) struct Waiter<'a> {
    room: &'a LongPoll,
    key: Key,
    bell: Arc<Notify>,
}

impl LongPoll {
    pub(crate) fn enter(&self, topic: TopicId, queue: QueueId) -> Waiter<'_> {
        let key = (topic, queue);
        let bell = Arc::clone(self.queues.lock().expect(POISONED).entry(key).or_default());
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Waiter {
            room: self,
            key,
            bell,
        }
    }

    /// Called for every dispatched message, so it is cheap when nobody waits.
    pub(crate) fn wake(&self, topic: TopicId, queue: QueueId) {
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return;
        }
        let bell = {
            let queues = self.queues.lock().expect(POISONED);
            queues.get(&(topic, queue)).cloned()
        };
        if let Some(bell) = bell {
            bell.notify_waiters();
        }
    }

    /// Lets everybody look again: the broker is shutting down.
    pub(crate) fn wake_all(&self) {
        for bell in self.queues.lock().expect(POISONED).values() {
            bell.notify_waiters();
        }
    }
}

impl Waiter<'_> {
    /// Resolves at the next message. Enable it (`Notified::enable`) before looking at the queue.
    pub(crate) fn bell(&self) -> tokio::sync::futures::Notified<'_> {
        self.bell.notified()
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.room.waiting.fetch_sub(1, Ordering::SeqCst);
        let mut queues = self.room.queues.lock().expect(POISONED);
        // The map's own reference and ours: nobody else waits.
        if Arc::strong_count(&self.bell) == 2 {
            queues.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future as _;

    #[test]
    fn a_waiter_hears_its_own_queue_and_leaves_nothing_behind() {
        let room = LongPoll::default();
        let key = (TopicId(1), QueueId(0));
        let waiter = room.enter(key.0, key.1);
        let mut bell = Box::pin(waiter.bell());
        bell.as_mut().enable();
        room.wake(TopicId(1), QueueId(1));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(bell.as_mut().poll(&mut context).is_pending());
        room.wake(key.0, key.1);
        assert!(bell.as_mut().poll(&mut context).is_ready());
        drop(bell);
        let second = room.enter(key.0, key.1);
        drop(waiter);
        assert_eq!(room.queues.lock().unwrap().len(), 1);
        drop(second);
        assert!(room.queues.lock().unwrap().is_empty());
    }
}
