//! What a damaged log lacks: the good parts of it go by, and what is missing between them is told by the
//! offsets of its queues.

use std::collections::{BTreeMap, HashMap};

use quern_protocol::{Epoch, LogPosition, QueueOffset, RecordHeader, RecordKind, RecordView};

use crate::audit::{Audit, Item};
use crate::consume_queue::Key;
use crate::filler;
use crate::group::GROUP_HEADER;
use crate::repair::{Lost, LostMessages};
use crate::segment::{SEGMENT_HEADER, Segment};
use crate::snapshot::{self, Assembly, Contents, StateFile};

/// A range without good groups.
#[derive(Debug, Clone)]
pub(crate) struct Hole {
    pub(crate) segment: u64,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) seals: bool,
    /// Nothing lies behind it, and all of it was durable: the log still has to be as long.
    pub(crate) ends_log: bool,
    pub(crate) before: Neighbour,
    /// A good group lies right before it.
    pub(crate) follows_good: bool,
    /// What the group behind it names.
    pub(crate) wanted: Option<u32>,
    pub(crate) stored_to: u64,
}

/// The last good group.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Neighbour {
    pub(crate) crc: u32,
    pub(crate) epoch: Epoch,
    pub(crate) stored_at: u64,
}

impl Hole {
    pub(crate) fn lost(&self, jumps: &[Jump]) -> Lost {
        let messages = jumps.iter().map(|jump| LostMessages {
            topic: jump.key.0,
            queue: jump.key.1,
            from: QueueOffset(jump.from),
            to: QueueOffset(jump.to),
        });
        Lost {
            file: Segment::file_name(self.segment),
            from: LogPosition(self.from),
            to: LogPosition(self.to),
            stored: (self.before.stored_at, self.stored_to),
            messages: messages.collect(),
            kept_in: None,
        }
    }
}

/// Messages that are missing between two positions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Jump {
    pub(crate) key: Key,
    pub(crate) after: u64,
    pub(crate) before: u64,
    pub(crate) from: u64,
    pub(crate) to: u64,
}

pub(crate) struct Plan {
    pub(crate) holes: Vec<(Hole, Vec<Jump>)>,
}

/// What is known of a queue while its messages go by.
#[derive(Debug, Clone, Copy)]
struct Known {
    first: u64,
    next: u64,
    position: u64,
}

/// The good parts of a log, as they go by, and what is missing between them.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    segment: u64,
    size: u64,
    /// Where the log begins, once a segment has been seen.
    head: Option<u64>,
    at: u64,
    sealed: bool,
    last: Neighbour,
    /// The last thing was a hole.
    in_hole: bool,
    holes: Vec<Hole>,
    queues: BTreeMap<Key, Known>,
    jumps: Vec<Jump>,
    /// What the first group names as the one before it.
    pub(crate) first_crc: u32,
    has_group: bool,
    assembly: Assembly,
}

impl Seen {
    pub(crate) fn item(&mut self, item: &Item<'_>) {
        match item {
            Item::Segment { base, size, .. } => {
                if self.head.is_none() {
                    self.head = Some(base.0);
                    self.sealed = true;
                }
                self.close(self.segment + self.size, true);
                (self.segment, self.size) = (base.0, *size);
                (self.at, self.sealed) = (base.0 + SEGMENT_HEADER, false);
            }
            Item::Group {
                position,
                bytes,
                stored_at,
                kind,
                chain,
                ..
            } => {
                self.close(position.0, false);
                if let Some(hole) = self.holes.last_mut().filter(|_| self.in_hole) {
                    hole.wanted = Some(chain.previous_crc);
                    hole.stored_to = *stored_at;
                }
                if !self.has_group && !self.in_hole {
                    self.first_crc = chain.previous_crc;
                }
                self.has_group = true;
                self.in_hole = false;
                self.last = Neighbour {
                    crc: chain.crc,
                    epoch: chain.epoch,
                    stored_at: *stored_at,
                };
                self.at = position.0 + u64::from(*bytes);
                self.sealed = *kind == "seal";
            }
            Item::Record { header, bytes } => {
                self.record(header);
                if header.kind == RecordKind::Snapshot {
                    self.snapshot(bytes);
                }
            }
            Item::Recalled { .. } => {}
        }
    }

    /// What lies before `to` was no good group.
    fn close(&mut self, to: u64, seals: bool) {
        if self.sealed || to <= self.at {
            return;
        }
        self.holes.push(Hole {
            segment: self.segment,
            from: self.at,
            to,
            seals,
            ends_log: false,
            before: self.last,
            follows_good: !self.in_hole,
            wanted: None,
            stored_to: 0,
        });
        self.in_hole = true;
        self.sealed = seals;
    }

    /// The log ends: before what was durable, perhaps.
    pub(crate) fn end(&mut self, audited: &Audit) {
        let durable = audited.durable.0;
        // Behind it there is only what the next start puts aside.
        self.holes.retain(|hole| hole.from < durable);
        if self.sealed || self.at >= durable {
            return;
        }
        let here = audited.damage.iter().find(|it| it.from.0 == self.at);
        let to = here.map_or(durable, |it| it.to.0.max(durable));
        let len = (to - self.at).next_multiple_of(8);
        // Nothing has to follow, so it may be longer.
        let len = match filler::room(self.at, self.at + len, false) {
            0 => len.next_multiple_of(64),
            _ => len,
        };
        let end = self.segment + self.size;
        let to = (self.at + len).min(end);
        // The next message goes into the next segment where this one has room for nothing more, not even a seal.
        let seals = end - to < GROUP_HEADER as u64;
        self.close(if seals { end } else { to }, seals);
        if let Some(hole) = self.holes.last_mut() {
            hole.ends_log = seals;
        }
    }

    fn record(&mut self, header: &RecordHeader) {
        let key = (header.topic, header.queue);
        let (offset, position) = (header.queue_offset.0, header.position.0);
        let known = self.queues.get(&key).copied();
        let next = match header.kind {
            RecordKind::Message if !header.extensions.carried => offset.saturating_add(1),
            // An earlier repair.
            RecordKind::Quarantine if header.topic.0 > 0 => offset,
            _ => return,
        };
        // Where the log's beginning is gone, so may be the queue's.
        let expected = known.map_or(0, |it| it.next);
        let is_known = known.is_some() || self.head == Some(0);
        let is_told = header.kind == RecordKind::Quarantine;
        if is_known && !is_told && offset > expected {
            self.jumps.push(Jump {
                key,
                after: known.map_or(0, |it| it.position),
                before: position,
                from: expected,
                to: offset,
            });
        }
        let first = known.map_or(offset, |it| it.first);
        let next = next.max(expected);
        let known = Known {
            first,
            next,
            position,
        };
        self.queues.insert(key, known);
    }

    fn snapshot(&mut self, record: &[u8]) {
        let body = RecordView::trusted(record).map(|view| view.block.stored_body());
        let complete = body.ok().and_then(|body| self.assembly.add(body));
        if let Some((as_of, items)) = complete
            && let Ok(contents) = Contents::new(items)
        {
            self.recalled(as_of, &contents);
        }
    }

    /// What a snapshot or the state file says of where queues ended.
    pub(crate) fn recalled(&mut self, as_of: u64, contents: &Contents) {
        let mut queues: Vec<_> = contents.queues.iter().collect();
        queues.sort_unstable();
        for (key, (min, end)) in queues {
            let known = match self.queues.get(key) {
                Some(known) => *known,
                // Retention may have taken them.
                None if self.head != Some(0) => continue,
                None => Known {
                    first: *end,
                    next: *min,
                    position: 0,
                },
            };
            if known.next < *end {
                self.jumps.push(Jump {
                    key: *key,
                    after: known.position,
                    before: as_of,
                    from: known.next,
                    to: *end,
                });
                let known = Known {
                    next: *end,
                    ..known
                };
                self.queues.insert(*key, known);
            }
        }
    }

    /// Which hole says what of which queue: of those between the messages that are there, the first that
    /// has room. Those come first whose messages go on first.
    pub(crate) fn plan(&self) -> Plan {
        let mut jumps = self.jumps.clone();
        jumps.sort_by_key(|jump| (jump.before, jump.key));
        let mut holes = Vec::new();
        for hole in &self.holes {
            let mut room = filler::room(hole.from, hole.to, hole.seals);
            let (mut here, mut later) = (Vec::new(), Vec::new());
            for jump in jumps {
                if room > 0 && jump.after < hole.from && hole.from < jump.before {
                    here.push(jump);
                    room -= 1;
                } else {
                    later.push(jump);
                }
            }
            jumps = later;
            holes.push((hole.clone(), here));
        }
        Plan { holes }
    }

    /// The state stays true; its queues are made anew, without what is lost.
    pub(crate) fn correct(&self, file: &mut StateFile, first_crc: u32) {
        let mut queues: HashMap<Key, (u64, u64)> = HashMap::new();
        for item in &file.items {
            if let snapshot::Item::Queue(topic, queue, _, end) = item {
                queues.insert((*topic, *queue), (*end, *end));
            }
        }
        for (key, known) in &self.queues {
            let end = queues.get(key).map_or(known.next, |(_, end)| *end);
            queues.insert(*key, (known.first, end));
        }
        file.items
            .retain(|item| !matches!(item, snapshot::Item::Queue(..)));
        let mut queues: Vec<_> = queues.into_iter().collect();
        queues.sort_unstable();
        let queue = |((topic, queue), (min, end))| snapshot::Item::Queue(topic, queue, min, end);
        file.items.extend(queues.into_iter().map(queue));
        let head = self.head.unwrap_or(0);
        file.head = head;
        file.replay_from = head + SEGMENT_HEADER;
        file.previous_crc = first_crc;
        file.queue_log_end = 0;
    }
}
