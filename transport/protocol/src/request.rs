//! Requests by message, and their replies: a message with [`REPLY_TO`] asks for a reply, which whoever consumes it
//! gives to the broker it came from, and that broker to the client that waits there. The names are RocketMQ's.
//!
//! A reply is in no topic: it is worth something to one client for a moment. A broker keeps it in memory until the
//! client takes it, or the request's time is over.

use serde::{Deserialize, Serialize};

/// The property that names the inbox the reply is for.
pub const REPLY_TO: &str = "REPLY_TO_CLIENT";
/// The property that tells the requests of one inbox apart.
pub const CORRELATION_ID: &str = "CORRELATION_ID";
/// The property that says how long a reply is waited for, ms from when the message was stored.
pub const TTL: &str = "TTL";

/// The reply to a message, its block in the body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// See [`REPLY_TO`].
    pub inbox: String,
    /// See [`CORRELATION_ID`].
    pub correlation: String,
    /// By the broker's log clock, ms since 1970: nobody waits longer.
    pub until: u64,
}

/// What became of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReplyOutcome {
    /// It is kept until it is fetched, or the request's time is over.
    Taken,
    /// The request's time is over: it was not taken.
    Late,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplyReply {
    pub outcome: ReplyOutcome,
}

/// Fetches the replies in an inbox, each once. Held until there are some, or for `wait_ms`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchReplies {
    pub inbox: String,
    /// At most 30,000.
    pub wait_ms: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchRepliesReply {
    pub replies: Vec<Replied>,
}

/// A reply that was fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replied {
    pub correlation: String,
    /// Its message's block.
    pub block: Vec<u8>,
}

impl Reply {
    /// What is beyond the limits of its names, if anything is.
    pub fn beyond_limits(&self) -> Option<String> {
        let names = [("inbox", &self.inbox), (CORRELATION_ID, &self.correlation)];
        let bad = names.into_iter().find(|(_, text)| !is_name(text));
        bad.map(|(what, text)| not_a_name(what, text))
    }
}

impl FetchReplies {
    /// The same.
    pub fn beyond_limits(&self) -> Option<String> {
        (!is_name(&self.inbox)).then(|| not_a_name("inbox", &self.inbox))
    }
}

fn is_name(text: &str) -> bool {
    (1..=crate::limits::NAME).contains(&text.len()) && !text.contains(char::is_control)
}

fn not_a_name(what: &str, text: &str) -> String {
    let most = crate::limits::NAME;
    format!("{what} {text:?} has to be 1 to {most} bytes without control characters")
}
