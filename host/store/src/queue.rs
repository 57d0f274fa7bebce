//! What sessions, appender, syncer and the maker of spares share: two bounded queues under one lock,
//! and who waits for what.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use quern_protocol::record::RECORD_HEADER;
use quern_protocol::{Extensions, Origin, ProducerStamp, QueueOffset, RecordKind};

use crate::consume_queue::Key;
use crate::error::AppendError;
use crate::fs::File;
use crate::gathering::Gathering;
use crate::limits;
use crate::pending::{Appended, Slot};
use crate::retention::DiskLevel;
use crate::spares::{Blank, Claim, Spare, Stock};

/// What is known of one block without looking at it again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockFacts {
    pub(crate) len: u32,
    pub(crate) crc: u32,
    pub(crate) tag_code: i32,
}

/// What a copy of a message has from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Original {
    pub(crate) offset: QueueOffset,
    pub(crate) stored_at: u64,
}

/// A batch on its way to the log.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) key: Key,
    pub(crate) kind: RecordKind,
    pub(crate) producer: Option<ProducerStamp>,
    pub(crate) origin: Option<Origin>,
    /// The origin's due time is so many ms after it is stored.
    pub(crate) due_in: Option<u64>,
    /// Copies of records that are to go; a full disk takes them.
    pub(crate) carried: bool,
    /// Of a copy of a message that is in its queue.
    pub(crate) original: Option<Original>,
    /// How often its messages have been delivered before.
    pub(crate) attempts: u16,
    /// Encoded pairs, at most [`quern_protocol::limits::NOTES`] bytes; empty = none.
    pub(crate) notes: Bytes,
    pub(crate) blocks: Bytes,
    pub(crate) facts: Vec<BlockFacts>,
    /// Hashes that messages can be found by, each with the index of its block.
    pub(crate) keys: Vec<(u32, u64)>,
    pub(crate) slot: Slot,
}

impl Batch {
    /// Blocks of nobody in particular, that come from nowhere.
    pub(crate) fn new(
        kind: RecordKind,
        key: Key,
        facts: Vec<BlockFacts>,
        blocks: Bytes,
        slot: Slot,
    ) -> Self {
        Self {
            key,
            kind,
            producer: None,
            origin: None,
            due_in: None,
            carried: false,
            original: None,
            attempts: 0,
            notes: Bytes::new(),
            blocks,
            facts,
            keys: Vec::new(),
            slot,
        }
    }

    /// Of each of its records, stored then.
    pub(crate) fn extensions(&self, stored_at: u64) -> Extensions {
        Extensions {
            producer: self.producer,
            origin: self.origin(stored_at),
            carried: self.carried,
            notes_len: self.notes.len() as u16,
        }
    }

    /// The origin of a batch stored then.
    pub(crate) fn origin(&self, stored_at: u64) -> Option<Origin> {
        self.origin.map(|origin| Origin {
            due_at: match self.due_in {
                Some(ms) => stored_at.saturating_add(ms),
                None => origin.due_at,
            },
            ..origin
        })
    }

    /// Bytes of each of its records before the block.
    pub(crate) fn head_len(&self) -> u32 {
        (RECORD_HEADER + self.extensions(0).size()) as u32
    }

    pub(crate) fn claim(&self) -> Claim {
        if self.carried || self.kind == RecordKind::Snapshot {
            Claim::MakesRoom
        } else if self.kind.is_state() {
            Claim::Broker
        } else {
            Claim::Users
        }
    }

    /// Bytes it takes in the log.
    pub(crate) fn stored_len(&self) -> usize {
        self.blocks.len() + self.facts.len() * self.head_len() as usize
    }
}

/// One that is lost in a panic is not waited for.
impl Drop for Batch {
    fn drop(&mut self) {
        if thread::panicking() && !self.slot.is_settled() {
            let why = "a thread of the log panicked".to_owned();
            self.slot.settle(Err(AppendError::Failed(why)));
        }
    }
}

/// A batch in the log.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) batch: Batch,
    pub(crate) appended: Appended,
}

/// One write, not yet durable.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) position: u64,
    /// Of the group before.
    pub(crate) previous_crc: u32,
    pub(crate) stored_at: u64,
    /// Empty when all of it was in the log already.
    pub(crate) bytes: Bytes,
    pub(crate) batches: Vec<Written>,
    pub(crate) file: Arc<dyn File>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) batches: VecDeque<Batch>,
    pub(crate) submitted: usize,
    /// Somebody waits for a batch to be written, not for a sync: it is not kept back to collect others.
    pub(crate) hurried: bool,
    pub(crate) closed: bool,
    pub(crate) groups: Vec<Group>,
    pub(crate) unsynced: usize,
    pub(crate) syncing: bool,
    /// Whom the next sync waits for.
    pub(crate) gathering: Gathering,
    /// It has ended: all that has come is written before the next sync.
    pub(crate) flushing: bool,
    /// It has begun: whoever sleeps until there is something to write has to know how long it lasts.
    pub(crate) look_again: bool,
    /// The appender has taken batches, and not handed them over yet.
    pub(crate) writing: bool,
    pub(crate) appender_done: bool,
    /// The appender has a group that waits for a new segment.
    pub(crate) rolling: bool,
    pub(crate) stock: Stock,
    /// The log has grown enough to be worth the keeper's attention.
    pub(crate) keeper_due: bool,
    pub(crate) disk: DiskLevel,
    pub(crate) failed: Option<String>,
    waiting_for_room: Vec<Waker>,
}

impl State {
    /// Whether the appender should write now.
    pub(crate) fn write_now(&self) -> bool {
        let idle = !self.syncing && self.groups.is_empty() && !self.gathering.is_open();
        !self.batches.is_empty()
            && self.unsynced < limits::UNSYNCED
            && (idle
                || self.hurried
                || self.flushing
                || self.closed
                || self.submitted >= limits::GROUP_WHILE_SYNCING)
    }

    /// A segment may be sealed: all of it is durable, and there is one to go on with.
    pub(crate) fn can_roll(&self) -> bool {
        let all_durable = !self.syncing && self.groups.is_empty() && self.unsynced == 0;
        all_durable && matches!(self.stock.spare, Spare::Made(_))
    }

    /// The next segment, if this one may be sealed; if not, the appender waits for both.
    pub(crate) fn take_next(&mut self, claim: Claim, len: u64) -> Option<io::Result<Blank>> {
        self.rolling = !self.can_roll();
        if self.rolling {
            self.gathering.close();
            self.flushing = false;
            return None;
        }
        self.stock.take(claim, len)
    }

    /// No batch will come any more.
    pub(crate) fn is_drained(&self) -> bool {
        self.closed && self.batches.is_empty() && !self.rolling
    }

    pub(crate) fn appender_may_move(&self) -> bool {
        let may_write = if self.rolling {
            self.can_roll()
        } else {
            self.write_now()
        };
        may_write || self.look_again || self.failed.is_some() || self.is_drained()
    }

    /// The appender has something to write before the next sync.
    pub(crate) fn is_flushing(&self) -> bool {
        self.flushing && (self.writing || self.write_now())
    }

    pub(crate) fn syncer_may_move(&self) -> bool {
        let waits = self.syncing || self.is_flushing() || self.gathering.is_open();
        (!self.groups.is_empty() && !waits)
            || self.failed.is_some()
            || (self.appender_done && self.groups.is_empty())
    }

    pub(crate) fn maker_may_move(&self) -> bool {
        self.stock.has_task() || self.failed.is_some() || self.appender_done
    }

    pub(crate) fn keeper_may_move(&self) -> bool {
        self.keeper_due || self.failed.is_some() || self.appender_done
    }

    fn has_room(&self) -> bool {
        self.submitted < limits::SUBMITTED || self.closed
    }
}

impl DiskLevel {
    /// Whether there is still room for such a batch: records of the broker's own are small, and some make
    /// room.
    fn takes(self, claim: Claim) -> bool {
        self < Self::Refusing || claim > Claim::Users
    }
}

/// Shared by sessions, appender and syncer.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    pub(crate) for_appender: Condvar,
    pub(crate) for_syncer: Condvar,
    pub(crate) for_maker: Condvar,
    pub(crate) for_keeper: Condvar,
}

const POISONED: &str = "no code that can panic runs under the log's lock";

impl Queue {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(POISONED)
    }

    /// Waits on this thread, at most so long, until it is so.
    pub(crate) fn wait(
        &self,
        event: &Condvar,
        most: Option<Duration>,
        may_move: fn(&State) -> bool,
    ) {
        let state = self.lock();
        match most {
            Some(most) => drop(event.wait_timeout_while(state, most, |state| !may_move(state))),
            None => drop(event.wait_while(state, |state| !may_move(state))),
        }
    }

    /// Takes no more batches; what is under way goes on to its end.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.gathering.close();
        drop(state);
        self.notify_all();
    }

    pub(crate) fn notify_all(&self) {
        self.for_appender.notify_all();
        self.for_syncer.notify_all();
        self.for_maker.notify_all();
        self.for_keeper.notify_all();
    }

    /// There is something for the keeper to look at.
    pub(crate) fn want_keeper(&self) {
        self.lock().keeper_due = true;
        self.for_keeper.notify_one();
    }

    /// What waits is written now, a sync or not.
    pub(crate) fn hurry(&self) {
        let mut state = self.lock();
        state.hurried = true;
        if state.appender_may_move() {
            self.for_appender.notify_one();
        }
    }

    /// Orders another spare.
    pub(crate) fn want_spare(&self) {
        self.lock().stock.spare = Spare::Wanted;
        self.for_maker.notify_one();
    }

    /// There may be space again for what could not be made. True: not all is there, and something is
    /// refused.
    pub(crate) fn make_again(&self) -> bool {
        let mut state = self.lock();
        if !state.stock.is_whole() {
            state.stock.try_again();
            self.for_maker.notify_one();
        }
        state.stock.refuses(Claim::Users)
    }

    /// Takes a batch; the order of calls is the order in the log.
    pub(crate) fn submit(&self, batch: Batch) {
        let claim = batch.claim();
        let refused = {
            let mut state = self.lock();
            if let Some(why) = &state.failed {
                Some((batch, AppendError::Failed(why.clone())))
            } else if state.closed {
                Some((batch, AppendError::Closed))
            } else if !state.disk.takes(claim) || state.stock.refuses(claim) {
                Some((batch, AppendError::DiskFull))
            } else {
                state.submitted += batch.blocks.len();
                state.hurried |= batch.slot.is_eager();
                state.flushing |= state.gathering.came();
                state.batches.push_back(batch);
                if state.appender_may_move() {
                    self.for_appender.notify_one();
                }
                None
            }
        };
        if let Some((batch, error)) = refused {
            batch.slot.settle(Err(error));
        }
    }

    /// Lets those go on who waited for room.
    pub(crate) fn announce_room(state: &mut State) -> Vec<Waker> {
        if state.has_room() {
            std::mem::take(&mut state.waiting_for_room)
        } else {
            Vec::new()
        }
    }

    /// Resolves when the appender's queue has room.
    pub(crate) fn ready(&self) -> Ready<'_> {
        Ready(self)
    }

    /// The log takes no more writes; everything under way fails.
    pub(crate) fn fail(&self, why: &str) {
        let (batches, groups, wakers) = {
            let mut state = self.lock();
            state.failed.get_or_insert_with(|| why.to_owned());
            state.submitted = 0;
            state.unsynced = 0;
            self.notify_all();
            (
                std::mem::take(&mut state.batches),
                std::mem::take(&mut state.groups),
                Self::announce_room(&mut state),
            )
        };
        let error = AppendError::Failed(why.to_owned());
        let written = groups.into_iter().flat_map(|group| group.batches);
        for batch in batches.into_iter().chain(written.map(|it| it.batch)) {
            batch.slot.settle(Err(error.clone()));
        }
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// See [`Queue::ready`].
pub(crate) struct Ready<'a>(&'a Queue);

impl Future for Ready<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        if state.has_room() {
            return Poll::Ready(());
        }
        state.waiting_for_room.push(context.waker().clone());
        Poll::Pending
    }
}
