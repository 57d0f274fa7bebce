//! The subscriptions of one stream of a server: requests that are answered by many frames, as far as there is credit.
//!
//! One that has something to send is asked for one frame in its turn, so all of a stream get on alike.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::stream::SelectAll;
use futures_util::{Stream, StreamExt as _};
use quern_protocol::frame::Outgoing;
use quern_protocol::{Code, WireError};

use crate::credit::{Answers, Credit};
use crate::limits;

#[derive(Default)]
pub(crate) struct Subscriptions {
    all: SelectAll<Subscribed>,
    credits: HashMap<u64, Arc<Credit>>,
}

impl Subscriptions {
    /// The credit of one more; or why there can be none.
    pub(crate) fn room_for(&self, correlation: u64) -> Result<Arc<Credit>, WireError> {
        if correlation == 0 || self.credits.contains_key(&correlation) {
            let text = "a subscription needs a correlation id of its own on a long stream";
            return Err(WireError::new(Code::PROTOCOL, text));
        }
        if self.credits.len() >= limits::STREAM_SUBSCRIPTIONS {
            let text = format!(
                "this stream has {} subscriptions, the limit",
                limits::STREAM_SUBSCRIPTIONS
            );
            return Err(WireError::new(Code::RETRY_AFTER, text).after_ms(1_000));
        }
        Ok(Arc::default())
    }

    pub(crate) fn begin(&mut self, correlation: u64, credit: Arc<Credit>, answers: Answers) {
        self.credits.insert(correlation, Arc::clone(&credit));
        self.all.push(Subscribed {
            correlation,
            credit,
            answers: Some(answers),
        });
    }

    /// One that has ended is granted nothing.
    pub(crate) fn grant(&self, credit: &quern_protocol::Credit) {
        if let Some(of) = self.credits.get(&credit.correlation) {
            of.grant(credit.messages, credit.bytes);
        }
    }

    pub(crate) fn cancel(&mut self, correlation: u64) {
        if let Some(credit) = self.credits.remove(&correlation) {
            credit.cancel();
        }
    }

    /// The next frame of any, if there is one now.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Option<Outgoing> {
        loop {
            match self.all.poll_next_unpin(cx) {
                Poll::Ready(Some((_, Some(answer)))) => return Some(answer),
                Poll::Ready(Some((correlation, None))) => {
                    self.credits.remove(&correlation);
                }
                Poll::Ready(None) | Poll::Pending => return None,
            }
        }
    }
}

/// One of them.
struct Subscribed {
    correlation: u64,
    credit: Arc<Credit>,
    /// `None` once over.
    answers: Option<Answers>,
}

impl Stream for Subscribed {
    /// `None` = it is over, which is told once.
    type Item = (u64, Option<Outgoing>);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let correlation = self.correlation;
        let is_cancelled = self.credit.watch(cx);
        let Some(answers) = &mut self.answers else {
            return Poll::Ready(None);
        };
        if is_cancelled {
            self.answers = None;
            return Poll::Ready(None);
        }
        match answers.as_mut().poll_next(cx) {
            Poll::Ready(Some(answer)) => {
                Poll::Ready(Some((correlation, Some(answer.correlation(correlation)))))
            }
            Poll::Ready(None) => {
                self.answers = None;
                Poll::Ready(Some((correlation, None)))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}
