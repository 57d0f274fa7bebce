//! Says that a message is given back: the broker it is on keeps it for later.

use std::sync::atomic::{AtomicBool, Ordering};

use quern_protocol::retry::is_retry_topic;
use quern_protocol::{Code, GivingBack, Reconsume, ReconsumeReply, limits as wire};

use super::MessageView;
use super::membership::Shared;
use crate::error::{Error, Result};

/// One time that a message is given back, however often that has to be said.
#[derive(Debug)]
pub(super) struct Giving {
    id: u64,
    is_said: AtomicBool,
}

impl Giving {
    pub(super) fn new() -> Self {
        Self {
            id: fastrand::u64(..),
            is_said: AtomicBool::new(false),
        }
    }

    fn say(&self) -> GivingBack {
        GivingBack {
            id: self.id,
            is_again: self.is_said.swap(true, Ordering::Relaxed),
        }
    }
}

impl Shared {
    /// Says once that a message is given back.
    pub(super) async fn give_back(
        &self,
        message: &MessageView,
        (reason, dead_after): (&str, Option<u16>),
        giving: &Giving,
    ) -> Result<ReconsumeReply> {
        if self.local.is_some() {
            let why = "what is broadcast is given back to nobody: every consumer has its own";
            return Err(Error::new(Code::NOT_FOUND, why));
        }
        let queue = message.queue();
        let request = Reconsume {
            group: self.group.clone(),
            topic: queue.topic.clone(),
            queue: queue.queue,
            offset: message.offset(),
            delay_ms: 0,
            reason: reason[..reason.floor_char_boundary(wire::REASON)].to_owned(),
            dead_after,
            giving: Some(giving.say()),
        };
        let broker = self.client.0.routes.broker(queue).await?;
        let given = self.client.call(&broker.address, &request).await?;
        // The first that a group gives back on a broker brings about the topic it comes from, there.
        if is_retry_topic(&given.topic) && !self.has_retries_at(&queue.broker) {
            self.client.0.routes.doubt(&given.topic);
            self.anew.notify_one();
        }
        Ok(given)
    }
}
