//! The lite pull consumer: a member of a group that asks for messages itself, some at a time, and may hold queues back
//! or have them read from elsewhere.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use quern_protocol::{Code, QueueOffset};
use tokio::time::{Instant, timeout_at};

use super::group::{Consumer, Ready};
use super::{ConsumerBuilder, MessageView};
use crate::error::{Error, Result};
use crate::limits;
use crate::routes::MessageQueue;
use crate::tracer::HandOut;

impl ConsumerBuilder {
    /// Joins the group as [`Self::start`] does, for an application that asks for messages some at a time (RocketMQ's
    /// `DefaultLitePullConsumer`, with `subscribe`). For queues of the application's own choice, see
    /// [`crate::Client::pull_consumer`].
    pub async fn start_lite_pull(self) -> Result<LitePullConsumer> {
        if self.is_broadcast() {
            let why = "who has all queues to itself takes a pull consumer, or receives: a lite pull consumer shares them";
            return Err(Error::new(Code::BAD_CONFIG, why));
        }
        Ok(LitePullConsumer {
            consumer: self.start().await?,
            paused: BTreeSet::new(),
            held_back: VecDeque::new(),
            handed_out: Vec::new(),
            failed: None,
        })
    }
}

/// See the module. Dropped, it stops without committing, and the group misses it a second later.
///
/// ```
/// # quernstone::testing::run(async |client| {
/// use std::time::Duration;
/// use quern_client::{Filter, Message, QueueOffset};
///
/// client.producer("shop").start().await?.send(Message::new("orders", "A7")).await?;
///
/// let consumer = client.consumer("billing").subscribe("orders", Filter::All);
/// let mut consumer = consumer.start_lite_pull().await?;
/// let messages = consumer.poll(100, Duration::from_secs(5)).await?;
/// assert_eq!(messages[0].body(), b"A7");
/// consumer.commit().await?; // the next poll, and some seconds, would do as well
///
/// let queue = messages[0].queue().clone();
/// consumer.pause([queue.clone()]); // its messages stay where they are
/// consumer.resume([queue.clone()]);
/// let then = consumer.offset_at(&queue, messages[0].stored_at()).await?;
/// consumer.seek(&queue, then).await?; // and so it comes again
/// let again = consumer.poll(100, Duration::from_secs(5)).await?;
/// assert_eq!(again[0].message_id(), messages[0].message_id());
/// consumer.shutdown().await?;
/// # Ok(())
/// # });
/// ```
#[derive(Debug)]
pub struct LitePullConsumer {
    consumer: Consumer,
    paused: BTreeSet<MessageQueue>,
    /// Read of queues that were paused then.
    held_back: VecDeque<Ready>,
    /// What the application has, if it is to be written down.
    handed_out: Vec<HandOut>,
    /// Found while there were messages to be returned.
    failed: Option<Error>,
}

impl LitePullConsumer {
    /// Messages that are there, at most so many, in the order of their queues; waits for the first, but not longer than
    /// that. None when there are none. What was returned before counts as consumed, and is committed
    /// every 5 s. An error is of one queue; the others go on.
    pub async fn poll(&mut self, most: usize, wait: Duration) -> Result<Vec<MessageView>> {
        self.consumed();
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let until = Instant::now() + wait;
        let mut messages = Vec::new();
        while messages.len() < most {
            match self.next(until, messages.is_empty()).await {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) if messages.is_empty() => return Err(error),
                Err(error) => {
                    self.failed = Some(error);
                    break;
                }
            }
        }
        Ok(messages)
    }

    /// The next message, now or by then.
    async fn next(&mut self, until: Instant, may_wait: bool) -> Result<Option<MessageView>> {
        loop {
            let consumer = &mut self.consumer;
            if consumer.committed_at.elapsed() >= limits::COMMIT {
                consumer.committed_at = Instant::now();
                consumer.shared.commit_consumed().await?;
            }
            let is_free = |it: &Ready| !self.paused.contains(it.message.queue());
            let held_back = self.held_back.iter().position(is_free);
            let ready = match held_back.and_then(|at| self.held_back.remove(at)) {
                Some(ready) => ready,
                None => {
                    let look = match may_wait {
                        true => until.min(consumer.committed_at + limits::COMMIT),
                        false => Instant::now(),
                    };
                    match timeout_at(look, consumer.read()).await {
                        Ok(ready) => ready?,
                        Err(_) if may_wait && Instant::now() < until => continue,
                        Err(_) => return Ok(None),
                    }
                }
            };
            if self.paused.contains(ready.message.queue()) {
                self.held_back.push_back(ready);
                continue;
            }
            let shared = &self.consumer.shared;
            if ready.hand(&shared.progress) {
                self.handed_out.extend(shared.hand_out(&ready.message));
                return Ok(Some(ready.message));
            }
        }
    }

    /// The application is done with what it has.
    fn consumed(&mut self) {
        self.consumer.shared.progress.all_done();
        self.handed_out.drain(..).for_each(|it| it.end(true));
    }

    /// Counts what was returned so far as consumed and commits it; durable when this returns.
    pub async fn commit(&mut self) -> Result<()> {
        self.consumed();
        self.consumer.commit().await
    }

    /// The queues this member has, and the next message of each that is not consumed; `None` = it has not begun to
    /// read it.
    pub fn positions(&self) -> Vec<(MessageQueue, Option<QueueOffset>)> {
        self.consumer.positions()
    }

    /// Returns nothing of these queues until they are resumed. Members of the group do not get them instead: they stay
    /// this one's.
    pub fn pause(&mut self, queues: impl IntoIterator<Item = MessageQueue>) {
        self.paused.extend(queues);
    }

    /// Goes on with these queues where they were paused.
    pub fn resume(&mut self, queues: impl IntoIterator<Item = MessageQueue>) {
        for queue in queues {
            self.paused.remove(&queue);
        }
    }

    /// The queues that are paused, this member's or not.
    pub fn paused(&self) -> impl Iterator<Item = &MessageQueue> {
        self.paused.iter()
    }

    /// Goes on at this offset of a queue of this member's, or at the end that is nearer. It is committed when this
    /// returns, so the group goes on there whoever has the queue then. What was returned before counts as
    /// consumed. `Q-3011` for a queue that is not this member's now.
    pub async fn seek(&mut self, queue: &MessageQueue, offset: QueueOffset) -> Result<()> {
        self.consumed();
        let (min, max) = self.offset_range(queue).await?;
        let offset = QueueOffset(offset.0.clamp(min.0, max.0));
        let shared = &self.consumer.shared;
        let Some(due) = shared.progress.seek(queue, offset) else {
            let (topic, member) = (&queue.topic, self.consumer.member());
            let why = format!(
                "queue {} of topic \"{topic}\" on broker {} is not one of those that {member} has now",
                queue.queue, queue.broker
            );
            return Err(Error::new(Code::QUEUE_NOT_HELD, why));
        };
        self.held_back.retain(|it| it.message.queue() != queue);
        shared.commit(vec![due]).await?;
        shared.progress.read_anew();
        Ok(())
    }

    /// A queue's first message and its end.
    pub async fn offset_range(&self, queue: &MessageQueue) -> Result<(QueueOffset, QueueOffset)> {
        self.consumer.shared.pull.offset_range(queue).await
    }

    /// The first message of a queue stored at or after a time, ms since 1970.
    pub async fn offset_at(&self, queue: &MessageQueue, stored_at: u64) -> Result<QueueOffset> {
        self.consumer.shared.pull.offset_at(queue, stored_at).await
    }

    /// This member's id.
    pub fn member(&self) -> &str {
        self.consumer.member()
    }

    /// Commits what was returned, gives the queues back and leaves the group.
    pub async fn shutdown(mut self) -> Result<()> {
        self.consumed();
        self.consumer.shutdown().await
    }
}
