//! Delivery threads: what reads cold data or runs guests happens here, never on a thread that
//! serves connections. Each thread owns a plugin worker, so instances stay warm.

use std::sync::{Arc, Mutex};
use std::thread;

use quern_plugins::{Runtime, Worker};
use quern_protocol::WireError;
use tokio::sync::{mpsc, oneshot};

use crate::{limits, reply};

type Job = Box<dyn FnOnce(&mut Worker) + Send>;

/// A fixed number of threads and the bounded queue before them.
#[derive(Debug)]
pub(crate) struct Delivery {
    jobs: mpsc::Sender<Job>,
}

impl Delivery {
    /// Threads end when the last handle is gone.
    pub(crate) fn start(threads: usize, runtime: &Runtime) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>(limits::SCAN_QUEUE);
        let queue = Arc::new(Mutex::new(queue));
        for number in 0..threads.max(1) {
            let queue = Arc::clone(&queue);
            let mut worker = runtime.worker();
            thread::Builder::new()
                .name(format!("quern-deliver-{number}"))
                .spawn(move || {
                    while let Some(job) = next(&queue) {
                        job(&mut worker)
                    }
                })?;
        }
        Ok(Self { jobs })
    }

    /// Runs `work` on one of the threads; waits its turn when all are busy.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Worker) -> T + Send + 'static,
    ) -> Result<T, WireError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |worker| {
            // Nobody waits for the answer any more: skip the work.
            if !answer.is_closed() {
                let _ = answer.send(work(worker));
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
fn next(queue: &Mutex<mpsc::Receiver<Job>>) -> Option<Job> {
    queue.lock().ok()?.blocking_recv()
}
