//! Work for a store: a thread for each queue keeps some batches under way, and what is acknowledged
//! goes into a ledger.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{JoinHandle, Thread};

use anyhow::{Result, anyhow};
use quern_store::exercise::{Ledger, QUEUES, batch};
use quern_store::{AppendError, Appended, Pending, Store};

/// Batches a thread has under way.
const UNDER_WAY: usize = 8;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn wait(pending: Pending) -> Result<Appended, AppendError> {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut pending = pin!(pending);
    loop {
        match pending.as_mut().poll(&mut context) {
            Poll::Ready(outcome) => return outcome,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// What has been acknowledged so far, of all lives of a store.
#[derive(Debug, Clone, Default)]
pub(crate) struct Acknowledged(Arc<Mutex<Ledger>>);

impl Acknowledged {
    pub(crate) fn now(&self) -> Ledger {
        self.0.lock().expect("nobody panics writing it").clone()
    }

    fn note(&self, queue: u32, first: u64, numbers: std::ops::Range<u64>) {
        let mut ledger = self.0.lock().expect("nobody panics writing it");
        for (number, offset) in numbers.zip(first..) {
            ledger.note(queue, offset, number);
        }
    }
}

/// Threads that send.
#[derive(Debug)]
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Option<AppendError>>>,
}

impl Load {
    /// Each queue's numbers begin behind `after`.
    pub(crate) fn start(store: &Store, acknowledged: &Acknowledged, after: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..QUEUES).map(|queue| {
            let (store, acknowledged) = (store.clone(), acknowledged.clone());
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || send(&store, queue, &acknowledged, after, &stop))
        });
        Self {
            threads: threads.collect(),
            stop,
        }
    }

    /// Sends no more; the first refusal, if there was one.
    pub(crate) fn stop(self) -> Result<Option<AppendError>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut refused = None;
        for thread in self.threads {
            let outcome = thread.join().map_err(|_| anyhow!("a sender panicked"))?;
            refused = refused.or(outcome);
        }
        Ok(refused)
    }
}

/// Until told to stop, or refused.
fn send(
    store: &Store,
    queue: u32,
    acknowledged: &Acknowledged,
    after: u64,
    stop: &AtomicBool,
) -> Option<AppendError> {
    let mut under_way: VecDeque<(std::ops::Range<u64>, Pending)> = VecDeque::new();
    let mut next = after + 1;
    // Looked at behind the first batches: even who is stopped at once has sent some.
    let mut stopping = false;
    loop {
        while !stopping && under_way.len() < UNDER_WAY {
            let numbers = next..next + next % 12 + 1;
            next = numbers.end;
            let pending = store.submit(batch(queue, numbers.clone()));
            under_way.push_back((numbers, pending));
        }
        let (numbers, pending) = under_way.pop_front()?;
        match wait(pending) {
            Ok(appended) => acknowledged.note(queue, appended.first.0, numbers),
            Err(error) => return Some(error),
        }
        stopping = stop.load(Ordering::Relaxed);
    }
}
