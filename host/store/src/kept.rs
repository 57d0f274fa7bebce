//! The messages of one queue of which there are copies further on in the log, and where these are. There can be millions
//! of them, and requests ask how many are in a range: so they lie in chunks, whose lengths are known.

use crate::consume_queue::Packed;

/// Most messages of a chunk.
const CHUNK: usize = 512;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// In the order of offsets; none is empty.
    chunks: Vec<Vec<(u64, Packed)>>,
    len: usize,
    bytes: u64,
}

impl Kept {
    /// There is a copy; of several, the last in the log stands.
    pub(crate) fn put(&mut self, offset: u64, copy: Packed) {
        let (at, index) = self.place(offset);
        let is_last = at + 1 >= self.chunks.len();
        let Some(chunk) = self.chunks.get_mut(at) else {
            self.chunks.push(Vec::new());
            return self.put_last(offset, copy);
        };
        match chunk.get_mut(index) {
            Some((here, known)) if *here == offset => {
                if known.position < copy.position {
                    self.bytes += u64::from(copy.size);
                    self.bytes -= u64::from(known.size);
                    *known = copy;
                }
                return;
            }
            // Most come in their order.
            None if is_last => return self.put_last(offset, copy),
            _ => chunk.insert(index, (offset, copy)),
        }
        if chunk.len() > CHUNK {
            let half = chunk.split_off(CHUNK / 2);
            self.chunks.insert(at + 1, half);
        }
        self.len += 1;
        self.bytes += u64::from(copy.size);
    }

    /// Behind all others.
    fn put_last(&mut self, offset: u64, copy: Packed) {
        match self.chunks.last_mut().filter(|it| it.len() < CHUNK) {
            Some(last) => last.push((offset, copy)),
            None => self.chunks.push(vec![(offset, copy)]),
        }
        self.len += 1;
        self.bytes += u64::from(copy.size);
    }

    /// Chunk and index in it of the first at or behind an offset, or where that would be.
    fn place(&self, offset: u64) -> (usize, usize) {
        let begins = |chunk: &Vec<(u64, Packed)>| chunk.first().is_some_and(|it| it.0 <= offset);
        let at = self.chunks.partition_point(begins).saturating_sub(1);
        let chunk = self.chunks.get(at).map_or(&[][..], |it| it);
        (at, chunk.partition_point(|(here, _)| *here < offset))
    }

    pub(crate) fn get(&self, offset: u64) -> Option<Packed> {
        let (at, index) = self.place(offset);
        let (here, copy) = self.chunks.get(at)?.get(index)?;
        (*here == offset).then_some(*copy)
    }

    /// Those of some offsets, in their order.
    pub(crate) fn range(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, Packed)> {
        let (at, index) = self.place(from);
        let chunks = self.chunks.get(at..).unwrap_or_default();
        let all = chunks.iter().flatten().skip(index).copied();
        all.take_while(move |(offset, _)| *offset < to)
    }

    /// How many there are of some offsets.
    pub(crate) fn count(&self, from: u64, to: u64) -> usize {
        let before = |offset| {
            let (at, index) = self.place(offset);
            self.chunks[..at].iter().map(Vec::len).sum::<usize>() + index
        };
        before(to).saturating_sub(before(from))
    }

    /// The log begins at `head` now.
    pub(crate) fn advance(&mut self, head: u64) {
        let all = std::mem::take(self).chunks.into_iter().flatten();
        for (offset, copy) in all.filter(|(_, copy)| copy.position >= head) {
            self.put_last(offset, copy);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
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

    #[test]
    fn however_they_come_it_is_what_a_map_has() {
        for seed in 0..20 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut kept, mut map) = (Kept::default(), std::collections::BTreeMap::new());
            let offsets = [500, 5_000, 1 << 40][random.usize(0..3)];
            let mut head = 0;
            for _ in 0..random.usize(1..6) {
                let mut next = random.u64(0..offsets);
                for _ in 0..random.usize(0..3_000) {
                    next = match random.u8(0..3) {
                        0 => random.u64(0..offsets),
                        _ => next + random.u64(0..3),
                    };
                    let copy = copy(head + random.u64(0..1_000), random.u32(1..100));
                    kept.put(next, copy);
                    let known = map.entry(next).or_insert(copy);
                    if known.position < copy.position {
                        *known = copy;
                    }
                }
                let bytes: u64 = map.values().map(|it| u64::from(it.size)).sum();
                assert_eq!(
                    (kept.len(), kept.bytes()),
                    (map.len(), bytes),
                    "seed {seed}"
                );
                for _ in 0..50 {
                    let (from, to) = (random.u64(0..offsets), random.u64(0..=offsets));
                    let expected = map.range(from..to.max(from));
                    let expected: Vec<_> = expected.map(|(at, it)| (*at, *it)).collect();
                    assert_eq!(kept.count(from, to), expected.len(), "seed {seed}");
                    assert!(kept.range(from, to).eq(expected), "seed {seed}");
                    assert_eq!(kept.get(from), map.get(&from).copied(), "seed {seed}");
                }
                head += random.u64(0..1_200);
                kept.advance(head);
                map.retain(|_, it| it.position >= head);
            }
        }
    }
}
