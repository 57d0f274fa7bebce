//! The asking side of a subscription: one request on a lane, and the many frames that answer it.

use bytes::Bytes;
use quern_protocol::frame::Outgoing;
use quern_protocol::{Cancel, Credit, PullReply, Subscribe};
use tokio::sync::SemaphorePermit;

use crate::connection::decode;
use crate::error::CallError;
use crate::lane::{Lane, cost};

/// What is sent of one queue, as far as it was granted. Dropped, it is cancelled.
#[derive(Debug)]
pub struct Subscription {
    lane: Lane,
    correlation: u64,
}

impl Lane {
    /// Begins a subscription, once the lane has room for another frame.
    pub async fn subscribe(&self, request: &Subscribe) -> Result<Subscription, CallError> {
        let frame = Outgoing::request(request, Vec::new())?;
        let room = self.room_for(&frame).await;
        let mut state = self.shared().state();
        if let Some(lost) = &state.ended {
            return Err(CallError::Lost(lost.clone()));
        }
        let correlation = state.slots.take_many(request.bytes);
        state.write(frame.correlation(correlation), room.num_permits());
        room.forget();
        drop(state);
        Ok(Subscription {
            lane: self.clone(),
            correlation,
        })
    }

    async fn room_for(&self, frame: &Outgoing) -> SemaphorePermit<'_> {
        let room = self.shared().room.acquire_many(cost(frame)).await;
        room.expect("never closed")
    }
}

impl Subscription {
    /// The next delivery, and its records; `None` = the broker has ended it. Dropped before it resolves, nothing is
    /// lost.
    pub async fn next(&mut self) -> Option<Result<(PullReply, Bytes), CallError>> {
        let shared = self.lane.shared();
        let next = std::future::poll_fn(|cx| {
            let mut state = shared.state();
            state.slots.poll_many(self.correlation, cx)
        });
        Some(match next.await? {
            Ok(frame) => decode::<Subscribe>(frame),
            Err(lost) => Err(lost.into()),
        })
    }

    /// Lets so much more be sent.
    pub async fn grant(&self, messages: u32, bytes: u32) {
        let credit = Credit {
            correlation: self.correlation,
            messages,
            bytes,
        };
        let Ok(frame) = Outgoing::request(&credit, Vec::new()) else {
            return;
        };
        let room = self.lane.room_for(&frame).await;
        let mut state = self.lane.shared().state();
        // What has ended tells by the next delivery.
        if state.ended.is_none() {
            state.slots.grant(self.correlation, bytes);
            state.write(frame.one_way(), room.num_permits());
            room.forget();
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = self.lane.shared().state();
        let has_ended = state.slots.release(self.correlation);
        let cancel = Cancel {
            correlation: self.correlation,
        };
        if !has_ended
            && state.ended.is_none()
            && let Ok(frame) = Outgoing::request(&cancel, Vec::new())
        {
            state.write(frame.one_way(), 0);
        }
    }
}
