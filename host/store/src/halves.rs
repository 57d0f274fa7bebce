//! Messages of transactions: records of kind half, in no queue until the transaction's outcome is known.

use bytes::Bytes;
use quern_protocol::{LogPosition, Origin, RecordKind, TopicId};

use crate::error::ReadError;
use crate::pending::Pending;
use crate::wait_list::{AppendOne, Waiting};
use crate::{Append, Store};

impl Store {
    /// Hands over messages of a transaction whose outcome is not known, with notes of theirs: encoded pairs,
    /// at most [`quern_protocol::limits::NOTES`] bytes. Refused when too many wait already.
    pub fn submit_half(&self, append: Append, notes: Bytes) -> Pending {
        let mut halves = Self::waiting_batch(RecordKind::Half, append);
        halves.notes = notes;
        // It says since when they wait.
        halves.due_in = Some(0);
        halves.origin = Some(Origin::default());
        self.enqueue_waiting(&self.0.halves, halves)
    }

    /// Those of a topic, or of any, whose outcome is not known, the oldest first, from behind one: when it was
    /// stored, and its position.
    pub fn undecided(
        &self,
        topic: Option<TopicId>,
        behind: (u64, LogPosition),
        most: usize,
    ) -> Vec<Waiting> {
        self.0.halves.behind(topic, behind, most)
    }

    /// The message of a half; `None` = its outcome is known. May block.
    pub fn half(&self, position: LogPosition) -> Result<Option<AppendOne>, ReadError> {
        self.waiting_in(&self.0.halves, position)
    }

    /// Makes a half a message of its queue, as `dress` changes it. `None` = its outcome is known, or is being
    /// made known just now. May block.
    pub fn commit_half(
        &self,
        position: LogPosition,
        dress: impl FnOnce(&mut AppendOne),
    ) -> Result<Option<Pending>, ReadError> {
        self.deliver(&self.0.halves, position, dress)
    }

    /// A half shall never be a message. `None` as above.
    pub fn roll_back_half(&self, position: LogPosition) -> Option<Pending> {
        self.call_off(&self.0.halves, position, RecordKind::Rollback)
    }

    /// Resolves when nobody is making the outcome of a half known just now.
    pub async fn half_settled(&self, position: LogPosition) {
        self.0.halves.settled(position).await;
    }

    /// Forgets a half that cannot be read, until the log is opened again.
    pub fn forget_half(&self, position: LogPosition) {
        self.0.halves.remove(position);
    }

    /// Messages whose transaction's outcome is not known.
    pub fn halves(&self) -> usize {
        self.0.halves.count()
    }

    /// The same of each topic that has some, in no order.
    pub fn halves_by_topic(&self) -> Vec<(TopicId, usize)> {
        self.0.halves.by_topic()
    }
}
