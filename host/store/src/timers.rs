//! Messages for later: records of kind timer, delivered when their time has come, or called off before.

use quern_protocol::{LogPosition, Origin, RecordKind, TopicId};

use crate::error::ReadError;
use crate::pending::{Acknowledge, Pending, Slot};
use crate::wait_list::{AppendOne, Waiting, batch};
use crate::{Append, Store, limits};

/// Messages that may wait unless it is said otherwise.
pub const DEFAULT_WAITING: usize = limits::WAITING;

/// When a message is to be in its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// So many ms after it is stored.
    In(u64),
    /// ms since 1970, not before it is stored.
    At(u64),
}

impl Store {
    /// Hands over one message. One for later is refused when too many wait already.
    pub fn submit_one(&self, one: AppendOne) -> Pending {
        let slot = Slot::new(Acknowledge::Durable);
        let Some(due_at) = one.due_at else {
            return self.enqueue(batch(RecordKind::Message, one, slot));
        };
        let mut timer = batch(RecordKind::Timer, one, slot);
        timer.origin = Some(Origin {
            due_at,
            root: LogPosition(0),
        });
        self.enqueue_waiting(&self.0.timers, timer)
    }

    /// Hands over messages for later, as [`Self::submit`] does those for now: they are in no queue before
    /// they are due. Refused when too many wait already.
    pub fn submit_later(&self, append: Append, due: Due) -> Pending {
        let (due_at, due_in) = match due {
            Due::In(ms) => (0, Some(ms)),
            Due::At(ms) => (ms, None),
        };
        let mut timers = Self::waiting_batch(RecordKind::Timer, append);
        timers.due_in = due_in;
        timers.origin = Some(Origin {
            due_at,
            root: LogPosition(0),
        });
        self.enqueue_waiting(&self.0.timers, timers)
    }

    /// Messages whose time has come and of which nobody has begun to decide, the longest due first.
    pub fn due_timers(&self, now: u64, most: usize) -> Vec<Waiting> {
        self.0.timers.due(now, most)
    }

    /// When the next message is due, ms since 1970.
    pub fn next_due(&self) -> Option<u64> {
        self.0.timers.next_due()
    }

    /// Messages that wait for a topic, the soonest first, from behind one: its due time and position.
    pub fn waiting(&self, topic: TopicId, behind: (u64, LogPosition), most: usize) -> Vec<Waiting> {
        self.0.timers.behind(Some(topic), behind, most)
    }

    /// The message of a timer; `None` = it does not wait any more. May block.
    pub fn waiting_message(&self, position: LogPosition) -> Result<Option<AppendOne>, ReadError> {
        self.waiting_in(&self.0.timers, position)
    }

    /// Makes a timer's message one of its queue, as `dress` changes it. `None` = it does not wait any more, or
    /// something else becomes of it just now. May block.
    pub fn fire(
        &self,
        position: LogPosition,
        dress: impl FnOnce(&mut AppendOne),
    ) -> Result<Option<Pending>, ReadError> {
        self.deliver(&self.0.timers, position, dress)
    }

    /// A timer's message shall never come. `None` = it does not wait any more, or is delivered just now.
    pub fn cancel_timer(&self, position: LogPosition) -> Option<Pending> {
        self.call_off(&self.0.timers, position, RecordKind::TimerCancel)
    }

    /// Forgets a timer that cannot be read, until the log is opened again.
    pub fn forget_timer(&self, position: LogPosition) {
        self.0.timers.remove(position);
    }

    /// Messages that wait for their time.
    pub fn timers(&self) -> usize {
        self.0.timers.count()
    }

    /// The same of each topic that has some, in no order.
    pub fn timers_by_topic(&self) -> Vec<(TopicId, usize)> {
        self.0.timers.by_topic()
    }
}
