//! Memory that is used again: fresh from the system it would cost more to touch for the first time than what is
//! done with it.
//!
//! A group's buffer stays in the tail of the log for a while and then goes ([`Buffers`]). A stretch of old records
//! lives until nobody reads them any more ([`Stretches`]).

use std::sync::{Arc, Mutex};

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

/// Memory of stretches that nobody reads any more; it stays initialised, so that reading into it is all there is to do.
#[derive(Debug, Default)]
pub(crate) struct Stretches(Arc<Mutex<Vec<Vec<u8>>>>);

impl Stretches {
    /// Room for so many bytes, with anything in it.
    pub(crate) fn take(&self, len: usize) -> Stretch {
        if len < limits::KEPT_STRETCH {
            return Stretch {
                memory: vec![0; len],
                len,
                home: None,
            };
        }
        // Few sizes, so that there is often one that fits.
        let size = len.next_power_of_two();
        let mut free = self.0.lock().expect(POISONED);
        let known = free.iter().rposition(|it| it.len() == size);
        let memory = known.map(|index| free.swap_remove(index));
        drop(free);
        Stretch {
            memory: memory.unwrap_or_else(|| vec![0; size]),
            len,
            home: Some(Arc::clone(&self.0)),
        }
    }
}

/// Where records are read into. Its memory goes home when it is dropped.
#[derive(Debug)]
pub(crate) struct Stretch {
    memory: Vec<u8>,
    len: usize,
    home: Option<Arc<Mutex<Vec<Vec<u8>>>>>,
}

impl AsRef<[u8]> for Stretch {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.len]
    }
}

impl AsMut<[u8]> for Stretch {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.memory[..self.len]
    }
}

impl From<Stretch> for Bytes {
    fn from(stretch: Stretch) -> Self {
        Self::from_owner(stretch)
    }
}

impl Drop for Stretch {
    fn drop(&mut self) {
        let Some(home) = &self.home else {
            return;
        };
        let mut free = home.lock().expect(POISONED);
        let bytes: usize = free.iter().map(Vec::len).sum();
        if bytes + self.memory.len() <= limits::FREE_STRETCHES {
            free.push(std::mem::take(&mut self.memory));
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

    #[test]
    fn the_memory_of_a_stretch_is_used_again_when_nobody_reads_it() {
        let stretches = Stretches::default();
        let read = |len: usize, byte: u8| {
            let mut stretch = stretches.take(len);
            stretch.as_mut().fill(byte);
            Bytes::from(stretch)
        };
        let first = read(100_000, 1);
        let (at, slice) = (first.as_ptr(), first.slice(10..20));
        drop(first);
        let second = read(120_000, 2);
        assert_ne!(second.as_ptr(), at, "it is read by somebody");
        assert_eq!(slice, [1; 10][..]);
        drop(slice);
        let third = read(90_000, 3);
        assert_eq!(third.as_ptr(), at);
        assert_eq!((third.len(), second.len()), (90_000, 120_000));
        assert!(third.iter().all(|byte| *byte == 3));
        assert_eq!(read(10, 4), [4; 10][..]);
    }

    #[test]
    fn free_stretches_are_bounded() {
        let stretches = Stretches::default();
        let all: Vec<_> = (0..40).map(|_| stretches.take(1 << 20)).collect();
        drop(all);
        let free = stretches.0.lock().expect(POISONED);
        let bytes: usize = free.iter().map(Vec::len).sum();
        assert_eq!(bytes, limits::FREE_STRETCHES);
    }
}
