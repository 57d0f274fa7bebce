//! The syncer: makes written groups durable, then visible, then answers. It is the dispatcher too:
//! the only writer of consume queues, always in log order, never past what is durable.
//!
//! A group that nothing waits behind is synced by the appender itself: waking a second thread would
//! cost a lone sender more than the sync leaves to gain. Unless the sender waits for the write alone.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quern_protocol::LogPosition;

use crate::clock::Clock;
use crate::derived::{Derived, Mark};
use crate::gathering::Synced;
use crate::queue::{Group, Queue, Written};
use crate::segments::Segments;
use crate::steps::Turn;
use crate::traffic::Traffic;

/// The syncer's patience beyond the appender's, so that what has come is written before it syncs.
const APPENDER_FIRST: Duration = Duration::from_micros(500);

/// What a group goes through once it is written.
#[derive(Clone)]
pub(crate) struct Syncer {
    pub(crate) queue: Arc<Queue>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) durable: Arc<AtomicU64>,
    /// Up to where the keeper has noted what the log comes to.
    pub(crate) checked: Arc<AtomicU64>,
    pub(crate) checkpoint_every: u64,
    /// Taken before the next sync may begin, so that groups are dispatched in log order.
    pub(crate) dispatcher: Arc<Mutex<Dispatcher>>,
}

/// Makes durable groups visible.
pub(crate) struct Dispatcher {
    pub(crate) segments: Arc<Segments>,
    pub(crate) derived: Derived,
}

impl Syncer {
    /// Ends when the appender is done and everything it wrote is durable, or the log has failed.
    pub(crate) fn turn(&mut self) -> Turn {
        let groups = {
            let mut state = self.queue.lock();
            if state.failed.is_some() || (state.appender_done && state.groups.is_empty()) {
                return Turn::Ended;
            }
            if state.groups.is_empty() || state.syncing {
                return Turn::Waiting(None);
            }
            // The appender ends the wait; here it only must not last for ever.
            if state.is_flushing() {
                return Turn::Waiting(Some(APPENDER_FIRST));
            }
            if let (Some(left), _) = state.gathering.look(self.clock.steady_us()) {
                let left = Duration::from_micros(left) + APPENDER_FIRST;
                return Turn::Waiting(Some(left));
            }
            state.syncing = true;
            std::mem::take(&mut state.groups)
        };
        if self.complete(groups) {
            Turn::Moved
        } else {
            Turn::Ended
        }
    }

    /// Syncs, dispatches and answers; the caller has set `syncing`. False: the log has failed.
    pub(crate) fn complete(&self, groups: Vec<Group>) -> bool {
        if cfg!(zoo = "z1") {
            return self.answer_before_sync(groups);
        }
        if cfg!(zoo = "z16") {
            self.show(&groups);
        }
        let began = self.clock.steady_us();
        self.traffic.sync_begins();
        let synced = sync(&groups);
        self.traffic.sync_ended();
        if let Err(error) = synced {
            let why = error.to_string();
            tracing::error!(
                code = "Q-4002",
                why,
                "a sync failed; the log is closed to writes"
            );
            self.put_back(groups);
            self.queue.fail(&why);
            return false;
        }
        let Some(last) = groups.last() else {
            return true;
        };
        let end = last.position + last.bytes.len() as u64;
        let mut dispatcher = self
            .dispatcher
            .lock()
            .expect("an observer that panics has ended the log");
        self.durable.store(end, Ordering::Release);
        self.let_others_go_on(&groups, began);
        for group in groups {
            dispatcher.dispatch(group);
        }
        let checked = self.checked.load(Ordering::Relaxed);
        let grown = dispatcher.derived.applied.saturating_sub(checked);
        drop(dispatcher);
        if grown >= self.checkpoint_every {
            self.queue.want_keeper();
        }
        true
    }

    /// Of the zoo: acknowledged first, made durable afterwards.
    fn answer_before_sync(&self, groups: Vec<Group>) -> bool {
        let file = groups.last().map(|group| Arc::clone(&group.file));
        let synced: usize = groups.iter().map(|group| group.bytes.len()).sum();
        let ends = groups
            .iter()
            .map(|group| group.position + group.bytes.len() as u64);
        let end = ends.max().unwrap_or_default();
        let mut dispatcher = self.dispatcher.lock().expect("of the zoo");
        groups
            .into_iter()
            .for_each(|group| dispatcher.dispatch(group));
        if file.is_some_and(|file| file.sync_data().is_err()) {
            self.queue.fail("of the zoo");
            return false;
        }
        self.durable.store(end, Ordering::Release);
        {
            let mut state = self.queue.lock();
            state.unsynced = state.unsynced.saturating_sub(synced);
        }
        self.let_others_go_on(&[], 0);
        true
    }

    /// Of the zoo: visible before it is durable.
    fn show(&self, groups: &[Group]) {
        let dispatcher = self.dispatcher.lock().expect("of the zoo");
        for written in groups.iter().flat_map(|group| &group.batches) {
            if written.batch.kind.is_queued() {
                let queues = &dispatcher.derived.queues;
                queues.append(written.batch.key, written.entries());
            }
        }
    }

    /// Before dispatching, so that the next group is written meanwhile.
    fn let_others_go_on(&self, synced: &[Group], began: u64) {
        let bytes = synced.iter().map(|group| group.bytes.len()).sum();
        let now = self.clock.steady_us();
        let mut state = self.queue.lock();
        state.syncing = false;
        // A failure has set it to nothing already.
        state.unsynced = state.unsynced.saturating_sub(bytes);
        if !state.closed && !state.rolling {
            let written = state.groups.iter().map(|group| group.batches.len());
            let waiting = state.batches.len() + written.sum::<usize>();
            state.gathering.synced(Synced {
                at: now,
                took: now.saturating_sub(began),
                answered: synced.iter().map(|group| group.batches.len()).sum(),
                waiting,
            });
            state.look_again = state.gathering.is_open();
        }
        self.queue.for_appender.notify_one();
        if !state.groups.is_empty() {
            self.queue.for_syncer.notify_one();
        }
    }

    /// So that they are answered with all others that fail.
    fn put_back(&self, mut groups: Vec<Group>) {
        let mut state = self.queue.lock();
        groups.append(&mut state.groups);
        state.groups = groups;
    }
}

impl Dispatcher {
    fn dispatch(&mut self, group: Group) {
        let begins = Mark {
            position: group.position,
            previous_crc: group.previous_crc,
        };
        let end = group.position + group.bytes.len() as u64;
        let is_written = !group.bytes.is_empty();
        self.segments.keep(group.position, group.bytes);
        if let Some(segment) = self.segments.holding(LogPosition(begins.position)) {
            self.derived.enter(segment.base, segment.first());
        }
        for written in &group.batches {
            self.derived.written(written);
        }
        if is_written {
            self.derived.passed(begins, end, group.stored_at);
        }
        for Written { batch, appended } in group.batches {
            batch.slot.settle(Ok(appended));
        }
    }
}

fn sync(groups: &[Group]) -> std::io::Result<()> {
    // All in one segment: a roll waits until everything is durable.
    let Some(group) = groups.last() else {
        return Ok(());
    };
    if cfg!(zoo = "z2") {
        return group.file.sync_data().or_else(|_| group.file.sync_data());
    }
    if cfg!(zoo = "z3") && groups.len() == 1 {
        return Ok(());
    }
    group.file.sync_data()
}
