//! Threads for what may take long, so that it never happens on a thread that serves connections; each
//! keeps something that its jobs use one after the other.

use std::sync::{Arc, Mutex};
use std::thread;

use quern_plugins::Worker;
use quern_protocol::WireError;
use tokio::sync::{mpsc, oneshot};

use crate::reply;

/// Threads that run guests: each owns a plugin worker, so instances stay warm.
pub(crate) type Delivery = Pool<Worker>;

type Job<T> = Box<dyn FnOnce(&mut T) + Send>;

/// A fixed number of threads and the bounded queue before them.
#[derive(Debug)]
pub(crate) struct Pool<T> {
    jobs: mpsc::Sender<Job<T>>,
}

impl<T: Send + 'static> Pool<T> {
    /// One thread for each of what is kept; so many jobs wait at the most, and each finds what is kept as `before`
    /// leaves it. Threads end when the last handle is gone.
    pub(crate) fn start(
        name: &str,
        kept: impl IntoIterator<Item = T>,
        waiting: usize,
        before: fn(&mut T),
    ) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job<T>>(waiting);
        let queue = Arc::new(Mutex::new(queue));
        for (number, mut kept) in kept.into_iter().enumerate() {
            let queue = Arc::clone(&queue);
            thread::Builder::new()
                .name(format!("{name}-{number}"))
                .spawn(move || {
                    while let Some(job) = next(&queue) {
                        before(&mut kept);
                        job(&mut kept)
                    }
                })?;
        }
        Ok(Self { jobs })
    }

    /// Runs `work` on one of the threads; waits its turn when all are busy.
    pub(crate) async fn run<A: Send + 'static>(
        &self,
        work: impl FnOnce(&mut T) -> A + Send + 'static,
    ) -> Result<A, WireError> {
        let (answer, answered) = oneshot::channel();
        let job: Job<T> = Box::new(move |kept| {
            // Nobody waits for the answer any more: skip the work.
            if !answer.is_closed() {
                let _ = answer.send(work(kept));
            }
        });
        self.jobs
            .send(job)
            .await
            .map_err(|_| reply::delivery_stopped())?;
        answered.await.map_err(|_| reply::delivery_stopped())
    }
}

/// One thread waits in the channel, the others for the lock.
fn next<T>(queue: &Mutex<mpsc::Receiver<Job<T>>>) -> Option<Job<T>> {
    queue.lock().ok()?.blocking_recv()
}
