//! Everything that is made of the log's records, in log order: consume queues, what producers have sent,
//! the observer's state. One place applies records, whether they have just become durable or are read
//! again at a start, so both come to the same.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use quern_protocol::{LogPosition, Origin, QueueOffset, RecordKind, Tag};

use crate::consume_queue::{ConsumeQueues, Entry, Key};
use crate::dispatch::{Dispatched, Observer, StateRecord};
use crate::group::{GroupHeader, Scanned};
use crate::key_index::{self, KeyIndex};
use crate::producers::{self, Producers};
use crate::queue::Written;
use crate::snapshot::{Assembly, Contents, Item};
use crate::wait_list::{WaitList, Waiting};

/// Where a group begins: what a start can read on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Mark {
    pub(crate) position: u64,
    /// Checksum of the group before.
    pub(crate) previous_crc: u32,
}

/// Marks are no closer together than this, bytes.
const MARK_EVERY: u64 = 1024 * 1024;

/// A complete snapshot in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InLog {
    /// True of everything before.
    pub(crate) as_of: u64,
}

/// What the log adds up to, and how far it has been read.
pub(crate) struct Derived {
    pub(crate) queues: Arc<ConsumeQueues>,
    pub(crate) producers: Producers,
    pub(crate) observer: Box<dyn Observer>,
    pub(crate) keys: Arc<KeyIndex>,
    pub(crate) timers: Arc<WaitList>,
    pub(crate) halves: Arc<WaitList>,
    /// Base of the segment that the newest records are in; of those before, the key index has files.
    newest_segment: u64,
    /// Everything before this position is in.
    pub(crate) applied: u64,
    /// Of the last group, ms of the log's clock.
    pub(crate) stored_at: u64,
    /// The newest complete snapshot in the log.
    pub(crate) snapshot: Option<InLog>,
    assembly: Assembly,
    marks: VecDeque<Mark>,
    last_mark: Mark,
}

impl Derived {
    pub(crate) fn new(queues: ConsumeQueues, keys: KeyIndex, observer: Box<dyn Observer>) -> Self {
        Self {
            queues: Arc::new(queues),
            producers: Producers::default(),
            observer,
            keys: Arc::new(keys),
            timers: Arc::new(WaitList::new(RecordKind::Timer)),
            halves: Arc::new(WaitList::new(RecordKind::Half)),
            newest_segment: u64::MAX,
            applied: 0,
            stored_at: 0,
            snapshot: None,
            assembly: Assembly::default(),
            marks: VecDeque::new(),
            last_mark: Mark::default(),
        }
    }

    /// What comes now is of this segment, from a position on.
    pub(crate) fn enter(&mut self, segment: u64, from: u64) {
        if self.newest_segment != segment {
            self.newest_segment = segment;
            self.keys.begin(segment, from);
        }
    }

    /// A group has been applied.
    pub(crate) fn passed(&mut self, begins: Mark, end: u64, stored_at: u64) {
        let last = self.marks.back().map_or(0, |mark| mark.position);
        if self.marks.is_empty() || begins.position >= last + MARK_EVERY {
            self.marks.push_back(begins);
        }
        self.last_mark = begins;
        self.applied = end;
        self.stored_at = stored_at;
    }

    /// The last mark at or before a position; those before it are not asked for again.
    pub(crate) fn mark_before(&mut self, position: u64) -> Mark {
        if self.last_mark.position <= position {
            self.marks = VecDeque::from([self.last_mark]);
            return self.last_mark;
        }
        while self.marks.len() > 1 && self.marks[1].position <= position {
            self.marks.pop_front();
        }
        self.marks.front().copied().unwrap_or(self.last_mark)
    }

    /// A batch that has just become durable.
    pub(crate) fn written(&mut self, written: &Written) {
        let Written { batch, appended } = written;
        if batch.facts.is_empty() {
            // Sent again; the first of them has been here.
            return;
        }
        if let Some(stamp) = &batch.producer {
            let sent = producers::Batch::new(stamp, appended);
            self.producers.apply(stamp, batch.key, sent);
        }
        self.keys.add(written.keys());
        if batch.original.is_some() {
            for entry in written.entries() {
                self.queues.keep(batch.key, entry);
            }
        } else if batch.kind.is_queued() {
            let next = if cfg!(zoo = "z16") {
                self.queues.end(batch.key)
            } else {
                self.queues.append(batch.key, written.entries())
            };
            self.tell_of_messages(batch.key, next);
        } else if let Some(list) = self.waiting(batch.kind) {
            let mut soonest = None;
            for (waiting, at) in written.waiting() {
                soonest = Some(soonest.unwrap_or(u64::MAX).min(waiting.due_at));
                match batch.carried {
                    true => list.moved(waiting, at),
                    false => list.put(waiting, at),
                }
            }
            if let Some(due_at) = soonest {
                let kind = batch.kind;
                let waiting = Dispatched::Waiting { kind, due_at };
                self.observer.dispatched(waiting);
            }
        }
        if let (true, Some(origin)) = (decides(batch.kind), batch.origin) {
            self.decided(origin);
        } else if batch.kind.is_state() {
            self.state(batch.kind, appended.position, written.state_body());
        }
    }

    /// Where messages of this kind wait.
    fn waiting(&self, kind: RecordKind) -> Option<&WaitList> {
        match kind {
            RecordKind::Timer => Some(&self.timers),
            RecordKind::Half => Some(&self.halves),
            _ => None,
        }
    }

    /// One that waited does not any more.
    fn decided(&self, origin: Origin) {
        self.timers.remove(origin.root);
        self.halves.remove(origin.root);
    }

    fn tell_of_messages(&mut self, (topic, queue): Key, next: QueueOffset) {
        self.observer
            .dispatched(Dispatched::Message { topic, queue, next });
    }

    fn state(&mut self, kind: RecordKind, position: LogPosition, body: &[u8]) {
        if kind == RecordKind::Snapshot {
            self.chunk(body);
        } else {
            self.observer.dispatched(Dispatched::State {
                kind,
                position,
                body,
            });
        }
    }

    fn chunk(&mut self, body: &[u8]) -> Option<Vec<Item>> {
        let (as_of, items) = self.assembly.add(body)?;
        self.snapshot = Some(InLog { as_of });
        Some(items)
    }

    /// What all of it comes to, in items of a snapshot.
    pub(crate) fn items(&mut self) -> Vec<Item> {
        let state = self.observer.snapshot().into_iter();
        let mut items: Vec<Item> = state
            .map(|record| Item::State(record.kind as u8, record.body))
            .collect();
        let mut queues: Vec<_> = self.queues.bounds().into_iter().collect();
        queues.sort_unstable();
        let queue = |((topic, queue), (min, end))| Item::Queue(topic, queue, min, end);
        items.extend(queues.into_iter().map(queue));
        items.extend(self.producers.all().cloned().map(Item::Producer));
        items
    }
}

/// Whether its records say what becomes of one that waited.
fn decides(kind: RecordKind) -> bool {
    kind.is_queued() || matches!(kind, RecordKind::TimerCancel | RecordKind::Rollback)
}

/// How the log is read at a start.
pub(crate) enum Reading {
    /// On from a state file, which is true of everything before `as_of`; queue entries are known up to
    /// these ends.
    On { as_of: u64, ends: HashMap<Key, u64> },
    /// From the beginning: state records wait, since a snapshot may take the place of most.
    Anew {
        /// Nothing has been taken away from it.
        is_whole: bool,
        waiting: Vec<(u64, StateRecord)>,
        base: Option<(u64, Vec<Item>)>,
    },
}

impl Reading {
    pub(crate) fn anew(is_whole: bool) -> Self {
        Self::Anew {
            is_whole,
            waiting: Vec::new(),
            base: None,
        }
    }
}

impl Derived {
    /// Goes on from what a state file says.
    pub(crate) fn load(&mut self, as_of: u64, contents: Contents) {
        // What is not in the queue log is read again.
        let mins = contents.queues.iter().map(|(key, (min, _))| (*key, *min));
        self.queues.begin(&mins.collect());
        self.applied = as_of;
        for sent in contents.producers {
            self.producers.recall(sent);
        }
        for (key, entry) in contents.kept {
            self.queues.keep(key, entry);
        }
        for (kind, waiting, at) in contents.waiting {
            if let Some(list) = self.waiting(kind) {
                list.put(waiting, at);
            }
        }
        for StateRecord { kind, body } in contents.state {
            self.state(kind, LogPosition(0), &body);
        }
    }

    /// Why a group's records cannot be the log's next.
    pub(crate) fn misplaced(&self, records: &[Scanned<'_>], reading: &Reading) -> Option<String> {
        let mut next: HashMap<Key, u64> = HashMap::new();
        for Scanned { header, .. } in records {
            if !header.kind.is_queued() || header.extensions.carried {
                continue;
            }
            let key = (header.topic, header.queue);
            let offset = header.queue_offset.0;
            let end = |key| self.queues.end(key).0;
            let expected = *next.entry(key).or_insert_with(|| end(key));
            let known = match reading {
                Reading::On { ends, .. } => ends.get(&key).is_some_and(|end| offset < *end),
                // The beginning of the queue may be gone.
                Reading::Anew { is_whole, .. } => expected == 0 && !is_whole,
            };
            // Nothing can come behind the last there can be.
            let Some(after) = offset
                .checked_add(1)
                .filter(|_| offset == expected || known)
            else {
                return Some(format!(
                    "a record has queue offset {offset}, the next is {expected}"
                ));
            };
            next.insert(key, expected.max(after));
        }
        None
    }

    /// Records of a group that is read again.
    pub(crate) fn read_again(
        &mut self,
        header: &GroupHeader,
        previous_crc: u32,
        records: &[Scanned<'_>],
        reading: &mut Reading,
    ) {
        for record in records {
            self.record_again(record, reading);
        }
        let begins = Mark {
            position: header.position.0,
            previous_crc,
        };
        let end = header.position.0 + u64::from(header.len);
        let applied = self.applied.max(end);
        self.passed(begins, end, header.stored_at);
        self.applied = applied;
    }

    fn record_again(&mut self, record: &Scanned<'_>, reading: &mut Reading) {
        let Scanned { header, block } = record;
        let position = header.position.0;
        if position >= self.newest_segment {
            let mut keys = Vec::new();
            key_index::hashes(header.kind, header.topic, block, |hash| {
                keys.push(key_index::Entry { hash, position });
            });
            self.keys.add(keys.into_iter());
        }
        if header.kind.is_queued() {
            let key = (header.topic, header.queue);
            let entry = Entry {
                offset: header.queue_offset,
                position: header.position,
                size: header.len,
                tag_code: Tag::code(block.tag()),
            };
            let end = self.queues.end(key);
            if header.extensions.carried {
                self.queues.keep(key, entry);
            } else if entry.offset >= end {
                self.queues.append(key, std::iter::once(entry));
            }
        }
        if header.kind == RecordKind::Quarantine {
            // Messages of this queue before that offset were damaged, and are put aside.
            if header.topic.0 > 0 {
                let key = (header.topic, header.queue);
                self.queues
                    .step_over(key, header.queue_offset, header.position);
            }
            if let Reading::Anew { is_whole, .. } = reading {
                // Of queues that were all lost, only a snapshot may know where they go on.
                *is_whole = false;
            }
            return;
        }
        if matches!(reading, Reading::On { as_of, .. } if position < *as_of) {
            return;
        }
        self.producers.apply_record(header);
        if let Some(list) = self.waiting(header.kind) {
            list.put(Waiting::of(header), header.position);
        }
        if let (true, Some(origin)) = (decides(header.kind), header.extensions.origin) {
            self.decided(origin);
            return;
        }
        if !header.kind.is_state() {
            return;
        }
        let body = block.stored_body();
        match reading {
            Reading::On { .. } => self.state(header.kind, header.position, body),
            Reading::Anew { waiting, base, .. } if header.kind == RecordKind::Snapshot => {
                if let (Some(items), Some(InLog { as_of })) = (self.chunk(body), self.snapshot) {
                    waiting.retain(|(position, _)| *position >= as_of);
                    *base = Some((as_of, items));
                }
            }
            Reading::Anew { waiting, .. } => waiting.push((
                position,
                StateRecord {
                    kind: header.kind,
                    body: body.to_vec(),
                },
            )),
        }
    }

    /// The log has been read to its end. The error names a state record of a later format.
    pub(crate) fn all_read(&mut self, reading: Reading) -> Result<(), u8> {
        let Reading::Anew { waiting, base, .. } = reading else {
            return Ok(());
        };
        if let Some((_, items)) = base {
            let contents = Contents::new(items)?;
            let ends = contents.queues.into_iter();
            let mut mins: HashMap<Key, u64> = ends.map(|(key, (_, end))| (key, end)).collect();
            // Queues of which there is something, those whose topic is gone too: the observer knows.
            for (key, (min, end)) in self.queues.bounds() {
                // Of one that only copies are left of, the snapshot knows where it goes on.
                match min < end {
                    true => drop(mins.insert(key, min)),
                    false => drop(mins.entry(key).or_insert(min)),
                }
            }
            self.queues.begin(&mins);
            for sent in contents.producers {
                self.producers.recall(sent);
            }
            self.producers.expire(self.stored_at);
            for StateRecord { kind, body } in contents.state {
                self.state(kind, LogPosition(0), &body);
            }
        }
        for (position, StateRecord { kind, body }) in waiting {
            self.state(kind, LogPosition(position), &body);
        }
        Ok(())
    }
}

impl Written {
    pub(crate) fn entries(&self) -> impl Iterator<Item = Entry> {
        let mut position = self.appended.position.0;
        let first = self.appended.first.0;
        let facts = self.batch.facts.iter().enumerate();
        let head = self.batch.head_len();
        facts.map(move |(index, block)| {
            let entry = Entry {
                offset: QueueOffset(first + index as u64),
                position: LogPosition(position),
                size: head + block.len,
                tag_code: block.tag_code,
            };
            position += u64::from(entry.size);
            entry
        })
    }

    /// Messages that wait, each with the place of its record.
    fn waiting(&self) -> impl Iterator<Item = (Waiting, LogPosition)> {
        let origin = self.batch.origin(self.appended.stored_at);
        let origin = origin.unwrap_or_default();
        self.entries().map(move |entry| {
            let waiting = Waiting {
                position: match self.batch.carried {
                    true => origin.root,
                    false => entry.position,
                },
                due_at: origin.due_at,
                size: entry.size,
                topic: self.batch.key.0,
            };
            (waiting, entry.position)
        })
    }

    fn keys(&self) -> impl Iterator<Item = key_index::Entry> {
        let mut entries = self.entries().zip(0..);
        let mut current = entries.next();
        self.batch.keys.iter().filter_map(move |(index, hash)| {
            while current.is_some_and(|(_, at)| at < *index) {
                current = entries.next();
            }
            let (entry, _) = current?;
            Some(key_index::Entry {
                hash: *hash,
                position: entry.position.0,
            })
        })
    }

    fn state_body(&self) -> &[u8] {
        let block = quern_protocol::Block::lengths(&self.batch.blocks);
        let block = block.expect("state blocks are made by the store itself");
        block.stored_body()
    }
}
