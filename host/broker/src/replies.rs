//! Replies to requests, on their way to who asked: `Reply`, `FetchReplies`. In memory only: who asked waits for a
//! moment, and hears that there was no reply when this broker dies.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use quern_protocol::{
    Code, FetchReplies, FetchRepliesReply, Replied, Reply, ReplyOutcome, ReplyReply, WireError,
    limits as wire,
};
use tokio::sync::Notify;

use crate::{Broker, hold, limits, reply, send};

/// One reply.
#[derive(Debug)]
struct Kept {
    correlation: String,
    block: Bytes,
    /// By the log's clock.
    until: u64,
}

/// Where the replies for one client are. It is there while something is in it, or somebody waits.
#[derive(Debug, Default)]
struct Inbox {
    replies: VecDeque<Kept>,
    waiting: usize,
    /// Rings when there is a reply.
    bell: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Table {
    inboxes: HashMap<String, Inbox>,
    count: usize,
    bytes: usize,
    /// When it was last looked for what is over.
    looked_at: u64,
}

impl Table {
    fn take(&mut self, inbox: &str) -> Option<Kept> {
        let kept = self.inboxes.get_mut(inbox)?.replies.pop_front()?;
        self.count -= 1;
        self.bytes -= kept.block.len();
        Some(kept)
    }

    /// Lets go of what nobody waits for any more, from time to time; how many there were.
    fn expire(&mut self, now: u64) -> u64 {
        if now < self.looked_at + limits::REPLIES_LOOK {
            return 0;
        }
        self.looked_at = now;
        let (count, bytes) = (&mut self.count, &mut self.bytes);
        let mut expired = 0;
        self.inboxes.retain(|_, inbox| {
            inbox.replies.retain(|it| {
                let is_over = it.until <= now;
                if is_over {
                    expired += 1;
                    *count -= 1;
                    *bytes -= it.block.len();
                }
                !is_over
            });
            inbox.waiting > 0 || !inbox.replies.is_empty()
        });
        expired
    }
}

/// Replies that were not fetched yet.
#[derive(Debug, Default)]
pub(crate) struct Replies(Mutex<Table>);

impl Replies {
    fn table(&self) -> MutexGuard<'_, Table> {
        let table = self.0.lock();
        table.expect("no code that can panic runs under the replies lock")
    }
}

/// Somebody waits at an inbox.
struct Waiting<'a> {
    replies: &'a Replies,
    inbox: &'a str,
    bell: Arc<Notify>,
}

impl<'a> Waiting<'a> {
    fn at(replies: &'a Replies, inbox: &'a str) -> Self {
        let mut table = replies.table();
        let entry = table.inboxes.entry(inbox.to_owned()).or_default();
        entry.waiting += 1;
        let bell = Arc::clone(&entry.bell);
        Self {
            replies,
            inbox,
            bell,
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut table = self.replies.table();
        if let Some(inbox) = table.inboxes.get_mut(self.inbox) {
            inbox.waiting -= 1;
            if inbox.waiting == 0 && inbox.replies.is_empty() {
                table.inboxes.remove(self.inbox);
            }
        }
    }
}

pub(crate) fn reply(broker: &Broker, request: Reply, body: Bytes) -> Result<ReplyReply, WireError> {
    if let Some(beyond) = request.beyond_limits() {
        return Err(reply::bad_request(beyond));
    }
    send::check_blocks(broker, 1, &body)?;
    let now = broker.store.now_ms();
    if request.until <= now {
        broker.metrics.replies_late.add(1);
        let outcome = ReplyOutcome::Late;
        return Ok(ReplyReply { outcome });
    }
    let mut table = broker.replies.table();
    broker.metrics.replies_late.add(table.expire(now));
    if table.count >= limits::REPLIES || table.bytes + body.len() > limits::REPLIES_BYTES {
        let why = format!(
            "{} replies, {} bytes, wait here for who asked; more are not kept",
            table.count, table.bytes
        );
        return Err(WireError::new(Code::RETRY_AFTER, why));
    }
    table.count += 1;
    table.bytes += body.len();
    let kept = Kept {
        correlation: request.correlation,
        block: body,
        // A clock that is far ahead must not keep it for ever.
        until: request.until.min(now + limits::REPLY_KEPT),
    };
    let inbox = table.inboxes.entry(request.inbox).or_default();
    inbox.replies.push_back(kept);
    inbox.bell.notify_waiters();
    let outcome = ReplyOutcome::Taken;
    Ok(ReplyReply { outcome })
}

pub(crate) async fn fetch(
    broker: &Arc<Broker>,
    request: FetchReplies,
) -> Result<FetchRepliesReply, WireError> {
    if let Some(beyond) = request.beyond_limits() {
        return Err(reply::bad_request(beyond));
    }
    let waiting = Waiting::at(&broker.replies, &request.inbox);
    let look = || std::future::ready(Ok(fetched(broker, &request.inbox)));
    let wait = (request.wait_ms, wire::PULL_WAIT_MS);
    let replies = hold::until_some(broker, wait, &waiting.bell, look).await?;
    Ok(FetchRepliesReply { replies })
}

/// What is in an inbox, as much as goes into one answer.
fn fetched(broker: &Broker, inbox: &str) -> Vec<Replied> {
    let mut table = broker.replies.table();
    broker
        .metrics
        .replies_late
        .add(table.expire(broker.store.now_ms()));
    let (mut replies, mut bytes) = (Vec::new(), 0);
    while bytes < limits::CHECKS_BYTES
        && let Some(kept) = table.take(inbox)
    {
        bytes += kept.block.len();
        replies.push(Replied {
            correlation: kept.correlation,
            block: kept.block.to_vec(),
        });
    }
    replies
}
