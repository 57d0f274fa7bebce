//! The syncer: makes written groups durable, then visible, then answers. It is the dispatcher too:
//! the only writer of consume queues, always in log order, never past what is durable.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quern_protocol::record::RECORD_HEADER;
use quern_protocol::{Block, LogPosition, QueueOffset, RecordKind};

use crate::Observer;
use crate::consume_queue::{ConsumeQueues, Entry};
use crate::dispatch::Dispatched;
use crate::queue::{Group, Queue, Written};
use crate::segments::Segments;

/// The syncer's thread.
pub(crate) struct Syncer {
    pub(crate) queue: Arc<Queue>,
    pub(crate) segments: Arc<Segments>,
    pub(crate) queues: Arc<ConsumeQueues>,
    pub(crate) durable: Arc<AtomicU64>,
    pub(crate) observer: Observer,
}

impl Syncer {
    /// Runs until the appender is done and everything it wrote is durable, or the log has failed.
    pub(crate) fn run(mut self) {
        while let Some(groups) = self.next() {
            if let Err(error) = sync(&groups) {
                let why = error.to_string();
                tracing::error!(
                    code = "Q-4002",
                    why,
                    "a sync failed; the log is closed to writes"
                );
                self.put_back(groups);
                self.queue.fail(&why);
                return;
            }
            let Some(last) = groups.last() else { continue };
            let end = last.position + last.bytes.len() as u64;
            self.durable.store(end, Ordering::Release);
            let synced: usize = groups.iter().map(|group| group.bytes.len()).sum();
            self.let_appender_go_on(synced);
            for group in groups {
                self.dispatch(group);
            }
        }
    }

    fn next(&self) -> Option<Vec<Group>> {
        let mut state = self.queue.lock();
        loop {
            if state.failed.is_some() {
                return None;
            }
            if !state.groups.is_empty() {
                state.syncing = true;
                return Some(std::mem::take(&mut state.groups));
            }
            if state.appender_done {
                return None;
            }
            state = self.queue.wait(&self.queue.for_syncer, state);
        }
    }

    /// Before dispatching, so that the next group is written meanwhile.
    fn let_appender_go_on(&self, synced: usize) {
        let mut state = self.queue.lock();
        state.syncing = false;
        // A failure has set it to nothing already.
        state.unsynced = state.unsynced.saturating_sub(synced);
        self.queue.for_appender.notify_one();
    }

    /// So that they are answered with all others that fail.
    fn put_back(&self, mut groups: Vec<Group>) {
        let mut state = self.queue.lock();
        groups.append(&mut state.groups);
        state.groups = groups;
    }

    fn dispatch(&mut self, group: Group) {
        self.segments.keep(group.position, group.bytes);
        for written in &group.batches {
            self.make_visible(written);
        }
        for Written { batch, appended } in group.batches {
            batch.slot.settle(Ok(appended));
        }
    }

    fn make_visible(&mut self, written: &Written) {
        let Written { batch, appended } = written;
        if batch.kind == RecordKind::Message {
            let next = self.queues.append(batch.key, entries(written));
            (self.observer)(Dispatched::Message {
                topic: batch.key.0,
                queue: batch.key.1,
                next,
            });
        } else {
            let block = Block::lengths(&batch.blocks);
            let block = block.expect("state blocks are made by the store itself");
            (self.observer)(Dispatched::State {
                kind: batch.kind,
                position: appended.position,
                body: block.body(),
            });
        }
    }
}

fn sync(groups: &[Group]) -> std::io::Result<()> {
    // All in one segment: a roll waits until everything is durable.
    match groups.last() {
        Some(group) => group.file.sync_data(),
        None => Ok(()),
    }
}

fn entries(written: &Written) -> impl Iterator<Item = Entry> {
    let mut position = written.appended.position.0;
    let first = written.appended.first.0;
    written
        .batch
        .facts
        .iter()
        .enumerate()
        .map(move |(index, block)| {
            let entry = Entry {
                offset: QueueOffset(first + index as u64),
                position: LogPosition(position),
                size: RECORD_HEADER as u32 + block.len,
                tag_code: block.tag_code,
            };
            position += u64::from(entry.size);
            entry
        })
}
