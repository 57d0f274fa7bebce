//! A listener: takes the messages of a consumer several at a time, and says of each whether it is consumed.
//!
//! Messages are taken as workers are free, so what is pulled ahead stays bounded. One that takes long holds
//! up no other; the commit does not pass it, so it comes again if its consumer dies. When it takes too long
//! it is given back. One that is not
//! consumed is given back to the broker before it counts as done.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use quern_quic::Backoff;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::give_back::Giving;
use super::group::{Consumer, Ready};
use super::membership::Shared;
use crate::consumer::MessageView;
use crate::error::Result;
use crate::limits;

impl Consumer {
    /// Hands messages to a listener, at most `workers` at a time, in no order, until `until` resolves; then
    /// waits for those at work, commits, gives the queues back and leaves the group. A message of which
    /// the listener says why it is not consumed, or whose listener panics, comes again later.
    ///
    /// ```
    /// # quernstone::testing::run(async |client| {
    /// use quern_client::{Filter, Message};
    ///
    /// let producer = client.producer("shop").start().await?;
    /// producer.send(Message::new("orders", "A7")).await?;
    ///
    /// let consumer = client.consumer("billing").subscribe("orders", Filter::All).start().await?;
    /// let (done, mut until) = tokio::sync::mpsc::channel::<()>(1);
    /// let listener = move |message: quern_client::MessageView| {
    ///     let done = done.clone();
    ///     async move {
    ///         println!("{}", String::from_utf8_lossy(message.body()));
    ///         let _ = done.send(()).await;
    ///         Ok(()) // Err(reason) gives it back
    ///     }
    /// };
    /// consumer.listen(8, listener, async { until.recv().await; }).await?;
    /// # Ok(())
    /// # });
    /// ```
    pub async fn listen<L, F>(
        mut self,
        workers: usize,
        listener: L,
        until: impl Future<Output = ()>,
    ) -> Result<()>
    where
        L: Fn(MessageView) -> F + Send + Sync + 'static,
        F: Future<Output = std::result::Result<(), String>> + Send + 'static,
    {
        let (listener, ending) = (Arc::new(listener), Arc::new(AtomicBool::new(false)));
        self.shared.listens(Some(&listener));
        let mut tasks = JoinSet::new();
        let mut until = std::pin::pin!(until);
        loop {
            let commit_at = self.committed_at + limits::COMMIT;
            tokio::select! {
                () = &mut until => break,
                Some(_) = tasks.join_next() => {}
                () = tokio::time::sleep_until(commit_at) => {
                    self.committed_at = Instant::now();
                    if let Err(error) = self.shared.commit_consumed().await {
                        tracing::warn!(%error, "not committed; trying again");
                    }
                }
                ready = self.ready(), if tasks.len() < workers.max(1) => match ready {
                    Ok(ready) => {
                        let work = Work {
                            shared: Arc::clone(&self.shared),
                            ending: Arc::clone(&ending),
                            ready,
                            dead_after: None,
                        };
                        let listener = Arc::clone(&listener);
                        tasks.spawn(work.run(move |message| async move { listener(message).await }));
                    }
                    Err(error) => tracing::warn!(%error, "a queue is not read; the others go on"),
                },
            }
        }
        ending.store(true, Ordering::Relaxed);
        self.shared.listens(None::<&Arc<L>>);
        while tasks.join_next().await.is_some() {}
        self.shutdown().await
    }
}

/// What a listener says of a message. One that takes too long is dropped.
pub(super) async fn judge<F>(
    listener: impl FnOnce(MessageView) -> F,
    message: MessageView,
    within: Duration,
) -> std::result::Result<(), String>
where
    F: Future<Output = std::result::Result<(), String>>,
{
    let judged = AssertUnwindSafe(listener(message)).catch_unwind();
    match tokio::time::timeout(within, judged).await {
        Ok(Ok(judged)) => judged,
        Ok(Err(_)) => Err("the listener panicked".to_owned()),
        Err(_) => Err(format!("not consumed within {} s", within.as_secs())),
    }
}

/// A message at work.
pub(super) struct Work {
    pub(super) shared: Arc<Shared>,
    /// The consumer shuts down: nothing is tried again.
    pub(super) ending: Arc<AtomicBool>,
    pub(super) ready: Ready,
    /// It is a dead letter, after so many attempts here; `None` = as the group has it.
    pub(super) dead_after: Option<u16>,
}

impl Work {
    async fn run<F>(self, listener: impl FnOnce(MessageView) -> F)
    where
        F: Future<Output = std::result::Result<(), String>>,
    {
        let message = &self.ready.message;
        let traced = self.shared.hand_out(message);
        let judged = judge(listener, message.clone(), self.shared.flow.consume_timeout).await;
        if let Some(traced) = traced {
            traced.end(judged.is_ok());
        }
        if let Err(why) = judged
            && !self.give_back(&why).await
        {
            return;
        }
        let (queue, offset) = (message.queue(), message.offset());
        self.shared.progress.finish(queue, self.ready.hold, offset);
    }

    /// Whether the message is the broker's again, or nobody's any more. If not, the commit never passes it.
    pub(super) async fn give_back(&self, why: &str) -> bool {
        let (mut backoff, giving) = (Backoff::new(), Giving::new());
        let message = &self.ready.message;
        loop {
            let given = self
                .shared
                .give_back(message, (why, self.dead_after), &giving);
            match given.await {
                Ok(_) => return true,
                Err(error) if error.coded() == quern_protocol::Code::NOT_FOUND => {
                    tracing::error!(%error, why, "a message is not consumed and cannot come again");
                    return true;
                }
                Err(error) if self.ending.load(Ordering::Relaxed) => {
                    tracing::warn!(%error, why, "not given back: it comes again from where it was");
                    return false;
                }
                Err(error) => {
                    tracing::warn!(%error, why, "not given back; trying again");
                    self.shared.pull.doubt_route(&message.queue().topic);
                    tokio::time::sleep(backoff.next(fastrand::f64())).await;
                }
            }
        }
    }
}
