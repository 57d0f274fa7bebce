//! Messages on their way: who waits for each, and how much of everything may be under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use quern_protocol::SendReply;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

use super::sent::{How, SendResult};
use super::task::Destination;
use crate::error::Result;
use crate::routes::MessageQueue;
use crate::tracer::TracedSending;

/// Who wants to know where a message went.
#[derive(Debug)]
pub(super) enum Answer {
    To(oneshot::Sender<Result<SendResult>>),
    /// Nobody; those that are not stored are counted.
    Counted(Arc<AtomicU64>),
}

impl Answer {
    pub(super) fn tell(self, result: Result<SendResult>) {
        match (self, result) {
            // Whoever asked may have gone; the message is stored all the same.
            (Self::To(asker), result) => drop(asker.send(result)),
            (Self::Counted(lost), Err(error)) => {
                lost.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%error, "a message that was sent one way was not stored");
            }
            (Self::Counted(_), Ok(_)) => {}
        }
    }
}

/// Bounds what is unanswered, messages and bytes with one count: a message takes its bytes of it, and at least its
/// share.
#[derive(Debug, Clone)]
pub(super) struct Room {
    pub(super) bytes: Arc<Semaphore>,
    pub(super) all: u32,
    share: u32,
}

impl Room {
    pub(super) fn new((messages, bytes): (usize, usize)) -> Self {
        // Semaphores count in u32.
        let all = u32::try_from(bytes).unwrap_or(u32::MAX).max(1);
        let share = all / u32::try_from(messages).unwrap_or(u32::MAX).max(1);
        Self {
            bytes: Arc::new(Semaphore::new(all as usize)),
            all,
            share,
        }
    }

    pub(super) fn cost(&self, job: &Job) -> u32 {
        let size = u32::try_from(job.block.len()).unwrap_or(u32::MAX);
        size.max(self.share).min(self.all)
    }
}

/// One message on its way.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) destination: Destination,
    pub(super) id: String,
    pub(super) block: Bytes,
    pub(super) deadline: Instant,
    pub(super) attempts: u32,
    pub(super) answer: Answer,
    /// If it is written down.
    pub(super) traced: Option<TracedSending>,
    /// Its share of the bytes under way, given back when it is answered.
    pub(super) room: Option<OwnedSemaphorePermit>,
}

impl Job {
    /// Tells where the message is.
    pub(super) fn stored(mut self, queue: MessageQueue, reply: &SendReply, how: How) {
        let sent = SendResult {
            message_id: std::mem::take(&mut self.id),
            status: reply.status,
            queue,
            offset: reply.first,
            position: reply.position,
            stored_at: reply.stored_at,
            how,
        };
        self.answered(Ok(sent));
    }

    pub(super) fn answered(self, answer: Result<SendResult>) {
        if let Some(traced) = self.traced {
            let to = (&self.destination.topic, self.destination.later.as_ref());
            traced.answered(to, &self.block, &answer);
        }
        self.answer.tell(answer);
    }
}
