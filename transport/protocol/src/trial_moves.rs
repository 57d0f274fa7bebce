//! `TrialMoves`: what a selector or a strategy that is tried in the shadow would have decided otherwise than the active
//! version. [`crate::TrialReport`] has the counts.

use serde::{Deserialize, Serialize};

use crate::ids::{BrokerName, GroupName, PluginName, QueueId, TopicName};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialMoves {
    pub name: PluginName,
}

/// Where something would have gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TrialMove {
    /// A message, named by its order key, or by its id if it has none.
    Message {
        topic: TopicName,
        key: String,
        active: (BrokerName, QueueId),
        trial: (BrokerName, QueueId),
    },
    /// A queue of a group. `None` = nobody shall consume it.
    Queue {
        group: GroupName,
        topic: TopicName,
        broker: BrokerName,
        queue: QueueId,
        active: Option<String>,
        trial: Option<String>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialMovesReply {
    /// Of messages the first 32; of queues those of each group as it was shared out last, 1,024 at most.
    pub moves: Vec<TrialMove>,
}
