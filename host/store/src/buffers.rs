//! Memory of groups, used again. A group's buffer stays in the tail of the log for a while and then goes; memory
//! fresh from the system would cost more to touch for the first time than it costs to lay out a group in it.

use std::sync::Mutex;

use bytes::Bytes;

use crate::limits;

/// Empty buffers.
#[derive(Debug, Default)]
pub(crate) struct Buffers(Mutex<Vec<Vec<u8>>>);

const POISONED: &str = "no code that can panic runs under the lock of buffers";

impl Buffers {
    /// An empty buffer for so many bytes. What it has room for beyond them is less than they are, since it is
    /// counted by what is in it.
    pub(crate) fn take(&self, len: usize) -> Vec<u8> {
        let mut free = self.0.lock().expect(POISONED);
        let fits = |it: &Vec<u8>| (len..=len * 2).contains(&it.capacity());
        match free.iter().rposition(fits) {
            Some(index) => free.swap_remove(index),
            None => Vec::with_capacity(len),
        }
    }

    /// A group that is no longer kept; whoever still reads it keeps its memory.
    pub(crate) fn give_back(&self, used: Bytes) {
        let Ok(mut buffer) = used.try_into_mut() else {
            return;
        };
        buffer.clear();
        let mut free = self.0.lock().expect(POISONED);
        free.push(buffer.into());
        let mut bytes: usize = free.iter().map(Vec::capacity).sum();
        while bytes > limits::FREE_BUFFERS && !free.is_empty() {
            bytes -= free.remove(0).capacity();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_if_nobody_reads_it_and_it_fits() {
        let buffers = Buffers::default();
        let group = |len: usize| {
            let mut group = buffers.take(len);
            group.resize(len, 7);
            Bytes::from(group)
        };
        let first = group(100_000);
        let at = first.as_ptr();
        let slice = first.slice(10..20);
        buffers.give_back(first);
        let second = group(100_000);
        assert_ne!(second.as_ptr(), at, "it is read by somebody");
        assert_eq!(&slice[..], [7; 10]);
        let at = second.as_ptr();
        buffers.give_back(second);
        assert_ne!(group(40_000).as_ptr(), at, "it is far too large");
        let third = buffers.take(60_000);
        assert!(third.is_empty());
        assert_eq!(third.as_ptr(), at);
    }

    #[test]
    fn free_buffers_are_bounded() {
        let buffers = Buffers::default();
        let all: Vec<_> = (0..40).map(|_| vec![1; 1 << 20]).collect();
        all.into_iter().for_each(|it| buffers.give_back(it.into()));
        let free = buffers.0.lock().expect(POISONED);
        let bytes: usize = free.iter().map(Vec::capacity).sum();
        assert!(bytes <= limits::FREE_BUFFERS, "{bytes}");
        assert!(!free.is_empty());
    }
}
