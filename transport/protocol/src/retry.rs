//! Messages a group could not consume: given back, they come again later in the group's retry topic, and
//! after so many times they are dead letters. Both topics have RocketMQ's names, and only brokers write to
//! them.
//!
//! A broker says in notes of the record where such a message comes from: [`ORIGIN_TOPIC`] and the others.
//! Its block is the producer's still, its id too.

use serde::{Deserialize, Serialize};

use crate::ids::{GroupName, NameError, QueueId, QueueOffset, TopicName};
use crate::transaction::parked_topic;

const RETRY: &str = "%RETRY%";
const DEAD: &str = "%DLQ%";

/// The topic the message was sent to.
pub const ORIGIN_TOPIC: &str = "RETRY_TOPIC";
/// The queue it was sent to.
pub const ORIGIN_QUEUE: &str = "REAL_QID";
/// Its offset there.
pub const ORIGIN_OFFSET: &str = "__ORIGIN_OFFSET";
/// The number under which it was given back last, in hexadecimal: see [`GivingBack`].
pub const GIVING: &str = "__RETRY_ID";
/// Why it was given back last.
pub const REASON: &str = "__RETRY_REASON";
/// The code of the error for which no filter has judged it.
pub const UNJUDGED: &str = "QUERN_UNJUDGED";

/// Where a group finds the messages it has given back. An error for a name that leaves no room for it.
pub fn retry_topic(group: &GroupName) -> Result<TopicName, NameError> {
    TopicName::new(format!("{RETRY}{group}"))
}

/// Where messages lie that a group has given back too often.
pub fn dead_letter_topic(group: &GroupName) -> Result<TopicName, NameError> {
    TopicName::new(format!("{DEAD}{group}"))
}

/// Whether only brokers may write to a topic of this name.
pub fn is_reserved_topic(topic: &TopicName) -> bool {
    topic.as_str().starts_with(RETRY)
        || topic.as_str().starts_with(DEAD)
        || *topic == parked_topic()
}

/// Whether this is some group's retry topic.
pub fn is_retry_topic(topic: &TopicName) -> bool {
    topic.as_str().starts_with(RETRY)
}

/// Gives a message back. Answered when it is durable that it comes again; whoever hears no answer and
/// says so again gets it twice, unless it says that it is again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reconsume {
    pub group: GroupName,
    /// Where the group has it from: a topic of its own, or its retry topic.
    pub topic: TopicName,
    pub queue: QueueId,
    pub offset: QueueOffset,
    /// When it comes again, ms from now; 0 = as the group has it.
    pub delay_ms: u32,
    /// For whoever looks into it; what is beyond 1,024 bytes is cut off.
    pub reason: String,
    /// It is a dead letter at once, after so many attempts where it is; `None` = as the group has it. Since
    /// version 2.
    pub dead_after: Option<u16>,
    /// By which the broker recognises it when it comes again; `None` = it does not. Since version 3.
    pub giving: Option<GivingBack>,
}

/// One time that a message is given back, however often that has to be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivingBack {
    /// Drawn at random.
    pub id: u64,
    /// It was said before, and no answer came.
    pub is_again: bool,
}

impl Reconsume {
    pub(crate) fn says_more_than_version_1(&self) -> bool {
        self.dead_after.is_some() || self.says_more_than_version_2()
    }

    pub(crate) fn says_more_than_version_2(&self) -> bool {
        self.giving.is_some()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReconsumeReply {
    /// The group's retry topic, or that of its dead letters.
    pub topic: TopicName,
    /// How often it has been given back, this time included.
    pub attempts: u16,
    /// When it comes again, ms since 1970; 0 = it does not, it is a dead letter.
    pub due_at: u64,
}

/// What becomes of a message that a group's filter fails on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FilterFailure {
    /// It waits, and what is behind it; the filter is asked again.
    #[default]
    Stall,
    /// The group gets it, with the note [`UNJUDGED`].
    Pass,
    /// It becomes a dead letter of the group. What is behind it goes on.
    Park,
}

/// What can be set of a group. Kinds are only added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupSetting {
    /// A message is given to the group so many times more; then it is a dead letter.
    Retries(u16),
    /// How long each of these times is waited, ms; the last for all that follow.
    RetryDelays(Vec<u32>),
    /// Whether the group may consume; it may, unless it is set otherwise.
    Consume(bool),
    /// What becomes of messages its filters fail on. Told only where it is not what it usually is.
    OnFilterFailure(FilterFailure),
    /// Whether its consumers may broadcast; they may, unless it is set otherwise. Told only where they may not.
    Broadcast(bool),
    /// Whether a group that has committed nothing of a topic may begin with what is there; if not, with what comes
    /// then. Told only where it may not.
    FromMin(bool),
    /// The group may not consume this topic. Told for each topic it may not.
    Forbid(ForbiddenTopic),
    /// It may again.
    Allow(TopicName),
}

/// A topic that a group may not consume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForbiddenTopic {
    pub topic: TopicName,
    /// Who says so, as they call themselves: 1 to 64 bytes without control characters. For people; nothing checks it.
    pub by: String,
}

/// Changes settings of a group on one broker: all of them or none. Without any, only tells what holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetGroup {
    pub group: GroupName,
    pub settings: Vec<GroupSetting>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetGroupReply {
    /// All of them, as they are now.
    pub settings: Vec<GroupSetting>,
}

/// Sends dead letters of a group back to the topics they come from, the oldest first, those that have not
/// been dealt with before. Durable, and noted as dealt with, when it is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResendDeadLetters {
    pub group: GroupName,
    /// At most so many; fewer when they are large.
    pub messages: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResendDeadLettersReply {
    pub resent: u32,
    /// Still there, on this broker.
    pub left: u64,
}
