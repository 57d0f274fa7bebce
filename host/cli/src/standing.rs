//! Which records of a topic stand for its messages: of one that was copied, because it outlives its segment, the
//! original if it is still there, or else the last copy.

use std::collections::HashMap;
use std::ops::Range;

use quern_protocol::RecordHeader;

/// What was seen of one queue.
#[derive(Debug, Default)]
struct Queue {
    /// Offsets of originals, in their order; one range, unless some are lost.
    originals: Vec<Range<u64>>,
    /// By offset, where the last copy is.
    copies: HashMap<u64, u64>,
}

/// All queues of a topic.
#[derive(Debug, Default)]
pub(crate) struct Standing(HashMap<u32, Queue>);

impl Standing {
    /// Sees the next record of the log.
    pub(crate) fn see(&mut self, header: &RecordHeader) {
        let queue = self.0.entry(header.queue.0).or_default();
        let offset = header.queue_offset.0;
        if header.extensions.carried {
            queue.copies.insert(offset, header.position.0);
            return;
        }
        match queue.originals.last_mut() {
            Some(last) if last.end == offset => last.end += 1,
            _ => queue.originals.push(offset..offset + 1),
        }
    }

    /// Whether there is a copy that stands for a message, once all records were seen.
    pub(crate) fn has_copies(&self) -> bool {
        let mut queues = self.0.values();
        queues.any(|it| it.copies.keys().any(|offset| !it.has_original(*offset)))
    }

    /// Whether this record stands for its message.
    pub(crate) fn stands(&self, header: &RecordHeader) -> bool {
        let Some(queue) = self.0.get(&header.queue.0) else {
            return false;
        };
        let offset = header.queue_offset.0;
        let is_last = queue.copies.get(&offset) == Some(&header.position.0);
        !header.extensions.carried || is_last && !queue.has_original(offset)
    }
}

impl Queue {
    fn has_original(&self, offset: u64) -> bool {
        let after = self.originals.partition_point(|it| it.start <= offset);
        let before = after.checked_sub(1).and_then(|it| self.originals.get(it));
        before.is_some_and(|it| it.contains(&offset))
    }
}
