//! The messages of one queue of which there are copies further on in the log, and where these are.

use std::collections::BTreeMap;

use crate::consume_queue::Packed;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    by_offset: BTreeMap<u64, Packed>,
    bytes: u64,
}

impl Kept {
    /// There is a copy; of several, the last in the log stands.
    pub(crate) fn put(&mut self, offset: u64, copy: Packed) {
        let known = self.by_offset.get(&offset).copied();
        if known.is_some_and(|known| known.position >= copy.position) {
            return;
        }
        self.by_offset.insert(offset, copy);
        self.bytes += u64::from(copy.size);
        self.bytes -= known.map_or(0, |known| u64::from(known.size));
    }

    pub(crate) fn get(&self, offset: u64) -> Option<Packed> {
        self.by_offset.get(&offset).copied()
    }

    /// Those of some offsets, in their order.
    pub(crate) fn range(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, Packed)> {
        let range = self.by_offset.range(from.min(to)..to);
        range.map(|(offset, packed)| (*offset, *packed))
    }

    /// How many there are of some offsets.
    pub(crate) fn count(&self, from: u64, to: u64) -> usize {
        let first = self.by_offset.first_key_value();
        if first.is_none_or(|(first, _)| *first < from) {
            return self.range(from, to).count();
        }
        // Few are behind the end.
        self.len() - self.by_offset.range(to..).count()
    }

    /// The log begins at `head` now.
    pub(crate) fn advance(&mut self, head: u64) {
        self.by_offset.retain(|_, copy| copy.position >= head);
        self.bytes = self.by_offset.values().map(|it| u64::from(it.size)).sum();
    }

    pub(crate) fn len(&self) -> usize {
        self.by_offset.len()
    }

    /// Bytes of the copies.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(position: u64, size: u32) -> Packed {
        Packed {
            position,
            size,
            tag_code: 0,
        }
    }

    #[test]
    fn the_last_copy_stands_and_all_are_counted() {
        let mut kept = Kept::default();
        for (offset, position, size) in
            [(3, 900, 10), (7, 1_000, 20), (3, 1_100, 30), (3, 1_050, 5)]
        {
            kept.put(offset, copy(position, size));
        }
        assert_eq!((kept.len(), kept.bytes()), (2, 50));
        assert_eq!(kept.get(3).map(|it| it.position), Some(1_100));
        for (range, count) in [
            ((0, 9), 2),
            ((0, 7), 1),
            ((4, 9), 1),
            ((8, 9), 0),
            ((5, 2), 0),
        ] {
            assert_eq!(kept.count(range.0, range.1), count, "{range:?}");
            assert_eq!(kept.range(range.0, range.1).count(), count, "{range:?}");
        }
        kept.advance(1_001);
        assert_eq!((kept.len(), kept.bytes()), (1, 30));
        kept.advance(2_000);
        assert_eq!((kept.len(), kept.bytes(), kept.count(0, 9)), (0, 0, 0));
    }
}
