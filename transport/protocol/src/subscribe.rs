//! `Subscribe`: have the messages of a queue sent as they come. One request is answered by many frames, each of which
//! but the last says that more follow, for as long as the asker wants. What it is willing to take it says by `Credit`:
//! messages and bytes, of which the broker spends both and sends nothing when either is used up. So one that is slow
//! costs the broker nothing, and one that is quick never asks.

use serde::{Deserialize, Serialize};

use crate::ids::{GroupName, QueueId, QueueOffset, TopicName};
use crate::pull::Filter;

/// Read a queue from an offset on. Answered by [`crate::PullReply`]s; one that tells of a stall is followed by another try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscribe {
    /// As in a pull; and whose lease `epoch` names.
    pub group: Option<GroupName>,
    pub topic: TopicName,
    pub queue: QueueId,
    /// By which right: the stream ends with `Q-3003` when this lease of the group's is over. `None` = by nobody's.
    pub epoch: Option<u64>,
    pub from: QueueOffset,
    pub filter: Filter,
    /// What is granted to begin with.
    pub messages: u32,
    pub bytes: u32,
}

/// Grants more to a subscription of the same stream; nothing answers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credit {
    /// The subscription's.
    pub correlation: u64,
    pub messages: u32,
    pub bytes: u32,
}
