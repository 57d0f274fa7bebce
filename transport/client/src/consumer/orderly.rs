//! A listener that keeps the order: of each queue it has one message at a time, and the next only when that is
//! consumed. Queues go on side by side. One whose message is not consumed stands still for a while and
//! begins with it again; when that was too often, the message is a dead letter.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::group::{Consumer, Ready};
use super::listener::{Work, judge};
use super::membership::Shared;
use crate::consumer::MessageView;
use crate::error::Result;
use crate::limits;
use crate::routes::MessageQueue;

/// Messages of one queue, in their order.
#[derive(Default)]
struct Line {
    waiting: VecDeque<Ready>,
    is_busy: bool,
}

impl Consumer {
    /// Hands messages to a listener, of each queue one at a time and in order, of at most `workers` queues at
    /// once, until `until` resolves; then waits for those at work, commits, gives the queues back and leaves
    /// the group. A message of which the listener says why it is not consumed, or whose listener panics,
    /// holds up its queue: it is tried again after [`super::ConsumerBuilder::suspend_time`], as often as the
    /// group's retries say, and then is a dead letter.
    ///
    /// No member begins a queue before the one that had it is done with its message. After a member was
    /// killed its successor begins where the group has committed, so messages come again, in their order.
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
    ///         Ok(()) // Err(reason) holds up its queue
    ///     }
    /// };
    /// consumer.listen_orderly(8, listener, async { until.recv().await; }).await?;
    /// # Ok(())
    /// # });
    /// ```
    pub async fn listen_orderly<L, F>(
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
        let mut lines: HashMap<MessageQueue, Line> = HashMap::new();
        let mut tasks = JoinSet::new();
        let mut until = std::pin::pin!(until);
        let mut suspended = self.shared.suspended.subscribe();
        loop {
            let commit_at = self.committed_at + limits::COMMIT;
            tokio::select! {
                () = &mut until => break,
                Some(done) = tasks.join_next() => {
                    // A worker does not panic: what panics in it is caught there.
                    if let Ok(queue) = done && let Some(line) = lines.get_mut(&queue) {
                        line.is_busy = false;
                    }
                }
                () = tokio::time::sleep_until(commit_at) => {
                    self.committed_at = Instant::now();
                    if let Err(error) = self.shared.commit_consumed().await {
                        tracing::warn!(%error, "not committed; trying again");
                    }
                }
                _ = suspended.changed() => {}
                read = self.read() => match read {
                    Ok(ready) => {
                        let line = lines.entry(ready.message.queue().clone()).or_default();
                        line.waiting.push_back(ready);
                    }
                    Err(error) => tracing::warn!(%error, "a queue is not read; the others go on"),
                },
            }
            for (queue, line) in &mut lines {
                let is_free = tasks.len() < workers.max(1) && !*suspended.borrow();
                let Some(ready) = line.next(&self.shared, is_free) else {
                    continue;
                };
                let work = Work {
                    shared: Arc::clone(&self.shared),
                    ending: Arc::clone(&ending),
                    ready,
                    dead_after: None,
                };
                let (queue, listener) = (queue.clone(), Arc::clone(&listener));
                tasks.spawn(async move {
                    in_order(work, |message| listener(message)).await;
                    queue
                });
            }
            lines.retain(|_, line| line.is_busy || !line.waiting.is_empty());
        }
        ending.store(true, Ordering::Relaxed);
        self.shared.listens(None::<&Arc<L>>);
        while tasks.join_next().await.is_some() {}
        self.shutdown().await
    }
}

impl Line {
    /// The next message, if the queue may go on. What was read by a lease that is over is dropped: whoever has
    /// the queue now reads it again.
    fn next(&mut self, shared: &Shared, is_free: bool) -> Option<Ready> {
        if self.is_busy || !is_free {
            return None;
        }
        while let Some(ready) = self.waiting.pop_front() {
            if ready.hand(&shared.progress) {
                self.is_busy = true;
                return Some(ready);
            }
        }
        None
    }
}

/// A suspended queue looks this often whether it shall end.
const LOOK: Duration = Duration::from_millis(100);

/// Tries one message until it is consumed, is a dead letter, or the queue is somebody else's.
async fn in_order<F>(mut work: Work, listener: impl Fn(MessageView) -> F)
where
    F: Future<Output = std::result::Result<(), String>>,
{
    let shared = Arc::clone(&work.shared);
    let (message, hold) = (work.ready.message.clone(), work.ready.hold);
    let (queue, offset) = (message.queue(), message.offset());
    let mut attempts = 0u16;
    loop {
        let traced = shared.hand_out(&message);
        let judged = judge(&listener, message.clone(), shared.flow.consume_timeout).await;
        if let Some(traced) = traced {
            traced.end(judged.is_ok());
        }
        let Err(why) = judged else {
            return shared.progress.finish(queue, hold, offset);
        };
        attempts = attempts.saturating_add(1);
        tracing::debug!(topic = %queue.topic, queue = %queue.queue, %offset, attempts, why, "its queue waits");
        // Brokers that do not answer are no reason to give a message up.
        let retries = shared.retries().await.unwrap_or(u16::MAX);
        if attempts > retries {
            work.dead_after = Some(attempts);
            if work.give_back(&why).await {
                return shared.progress.finish(queue, hold, offset);
            }
            return shared.progress.abandon(queue, hold, offset);
        }
        let again = Instant::now() + shared.flow.suspend;
        while Instant::now() < again && !work.ending.load(Ordering::Relaxed) {
            tokio::time::sleep_until(again.min(Instant::now() + LOOK)).await;
        }
        if work.ending.load(Ordering::Relaxed) || !shared.progress.is_ours(queue, hold) {
            return shared.progress.abandon(queue, hold, offset);
        }
    }
}
