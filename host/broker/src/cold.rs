//! Cold reads: what must come from the disk for consumers that lag is read on threads of its own, so that
//! neither connections nor filters at the head of a queue wait for a disk. A group has only a share of
//! them: one that lags in a thousand queues does not shut out the others.

use quern_protocol::{GroupName, WireError};

use crate::limits;
use crate::pool::{self, Bounds, Pool, Who};

/// Threads that read; `None` = whoever asks reads at once.
#[derive(Debug)]
pub(crate) struct ColdReads(Option<Pool<()>>);

impl ColdReads {
    pub(crate) fn start() -> std::io::Result<Self> {
        let bounds = Bounds {
            all: limits::COLD_QUEUE,
            each: limits::COLD_SHARE,
        };
        let threads = limits::COLD_THREADS;
        // Who waits for a disk uses no processor, and a thread all the same.
        let pool = Pool::start("quern-cold", threads, bounds, |()| {}, pool::of_the_thread)?;
        Ok(Self(Some(pool)))
    }

    /// Without threads, where whoever asks may be held up: in a simulation.
    pub(crate) fn at_once() -> Self {
        Self(None)
    }

    /// Runs `work` on one of the threads, once the reader's share and then a thread is free. Those that name no group
    /// share one.
    pub(crate) async fn run<A: Send + 'static>(
        &self,
        reader: &Option<GroupName>,
        work: impl FnOnce() -> A + Send + 'static,
    ) -> Result<A, WireError> {
        self.work(Who::from(reader.as_ref()), work).await
    }

    /// The same for work that looks for messages. It may read for long: those who search share this, and hold up nobody
    /// else.
    pub(crate) async fn search<A: Send + 'static>(
        &self,
        work: impl FnOnce() -> A + Send + 'static,
    ) -> Result<A, WireError> {
        self.work(Who::Others, work).await
    }

    async fn work<A: Send + 'static>(
        &self,
        who: Who,
        work: impl FnOnce() -> A + Send + 'static,
    ) -> Result<A, WireError> {
        match &self.0 {
            Some(pool) => pool.run(who, move |()| work()).await,
            None => Ok(work()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test]
    async fn a_reader_that_wants_much_leaves_threads_to_others() {
        let cold = Arc::new(ColdReads::start().unwrap());
        let group = |name: &str| Some(GroupName::new(name).unwrap());
        let (go_on, wait) = channel::<()>();
        let wait = Arc::new(Mutex::new(wait));
        let much: Vec<_> = (0..limits::COLD_THREADS * 2)
            .map(|_| {
                let (cold, wait) = (Arc::clone(&cold), Arc::clone(&wait));
                let lag = group("lags");
                tokio::spawn(async move {
                    let work = move || wait.lock().unwrap().recv().is_err();
                    cold.run(&lag, work).await.unwrap()
                })
            })
            .collect();
        tokio::task::yield_now().await;
        assert_eq!(cold.run(&group("other"), || 7).await.unwrap(), 7);
        assert_eq!(cold.run(&None, || 8).await.unwrap(), 8);
        assert_eq!(cold.search(|| 9).await.unwrap(), 9);
        drop(go_on);
        for done in much {
            assert!(done.await.unwrap());
        }
    }
}
