//! Cold reads: what must come from the disk for consumers that lag is read on threads of its own, so that
//! neither connections nor filters at the head of a queue wait for a disk. A group has only a share of
//! them: one that lags in a thousand queues does not shut out the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use quern_protocol::{GroupName, WireError};
use tokio::sync::Semaphore;

use crate::limits;
use crate::pool::Pool;

/// Who reads; those that name no group share one.
type Reader = Option<GroupName>;

/// See the module.
#[derive(Debug)]
pub(crate) struct ColdReads {
    /// `None` = whoever asks reads at once.
    pool: Option<Pool<()>>,
    shares: Mutex<HashMap<Reader, Arc<Semaphore>>>,
    /// A search may read for long: those who search share this, and hold up nobody else.
    searches: Arc<Semaphore>,
}

const POISONED: &str = "no code that can panic runs under the cold-reads lock";

impl ColdReads {
    pub(crate) fn start() -> std::io::Result<Self> {
        let nothing_kept = [(); limits::COLD_THREADS];
        Ok(Self {
            pool: Some(Pool::start(
                "quern-cold",
                nothing_kept,
                limits::COLD_QUEUE,
                |()| {},
            )?),
            ..Self::at_once()
        })
    }

    /// Without threads, where whoever asks may be held up: in a simulation.
    pub(crate) fn at_once() -> Self {
        Self {
            pool: None,
            shares: Mutex::default(),
            searches: Arc::new(Semaphore::new(limits::SEARCHES)),
        }
    }

    /// Runs `work` on one of the threads, once the reader's share and then a thread is free.
    pub(crate) async fn run<A: Send + 'static>(
        &self,
        reader: &Reader,
        work: impl FnOnce() -> A + Send + 'static,
    ) -> Result<A, WireError> {
        self.with(self.share(reader), work).await
    }

    /// The same for work that looks for messages.
    pub(crate) async fn search<A: Send + 'static>(
        &self,
        work: impl FnOnce() -> A + Send + 'static,
    ) -> Result<A, WireError> {
        self.with(Arc::clone(&self.searches), work).await
    }

    async fn with<A: Send + 'static>(
        &self,
        share: Arc<Semaphore>,
        work: impl FnOnce() -> A + Send + 'static,
    ) -> Result<A, WireError> {
        let permit = share.acquire_owned().await;
        let permit = permit.expect("a share is never closed");
        let Some(pool) = &self.pool else {
            return Ok(work());
        };
        let work = move |(): &mut ()| {
            // Given back when the work is done, should nobody wait for it any more.
            let _permit = permit;
            work()
        };
        pool.run(work).await
    }

    fn share(&self, reader: &Reader) -> Arc<Semaphore> {
        let mut shares = self.shares.lock().expect(POISONED);
        if let Some(share) = shares.get(reader) {
            return Arc::clone(share);
        }
        if shares.len() >= limits::COLD_READERS {
            shares.retain(|_, share| Arc::strong_count(share) > 1);
        }
        let share = Arc::new(Semaphore::new(limits::COLD_SHARE));
        shares.insert(reader.clone(), Arc::clone(&share));
        share
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

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
