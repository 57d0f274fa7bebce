//! All segments of a log, for readers: which file holds a position, and the tail of the log that is
//! still in memory.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use bytes::Bytes;
use quern_protocol::LogPosition;

use crate::buffers::{Buffers, Stretches};
use crate::clock::Clock;
use crate::config::ReadMode;
use crate::consume_queue::Entry;
use crate::error::ReadError;
use crate::limits;
use crate::retention::Sealed;
use crate::segment::Segment;
use crate::stretch::verify;
use crate::traffic::Traffic;

const POISONED: &str = "no code that can panic runs under the segments lock";

#[derive(Debug, Default)]
struct Tail {
    /// Group buffers by position, contiguous but for segment headers.
    groups: VecDeque<(u64, Bytes)>,
    bytes: usize,
}

/// Shared by the writer, who adds, and all readers.
#[derive(Debug)]
pub(crate) struct Segments {
    files: RwLock<Vec<Segment>>,
    tail: RwLock<Tail>,
    pub(crate) buffers: Buffers,
    pub(crate) stretches: Stretches,
    /// Where the tail in memory begins.
    recent: AtomicU64,
    read_mode: ReadMode,
    pub(crate) traffic: Arc<Traffic>,
}

impl Segments {
    pub(crate) fn new(
        files: Vec<Segment>,
        end: LogPosition,
        read_mode: ReadMode,
        clock: &Arc<dyn Clock>,
    ) -> Self {
        Self {
            traffic: Arc::new(Traffic::new(clock)),
            read_mode,
            files: RwLock::new(files),
            tail: RwLock::default(),
            buffers: Buffers::default(),
            stretches: Stretches::default(),
            recent: AtomicU64::new(end.0),
        }
    }

    pub(crate) fn add(&self, segment: Segment) {
        self.files.write().expect(POISONED).push(segment);
    }

    /// The segment that a position is in.
    pub(crate) fn holding(&self, position: LogPosition) -> Option<Segment> {
        let files = self.files.read().expect(POISONED);
        let after = files.partition_point(|segment| segment.base <= position.0);
        files.get(after.checked_sub(1)?).cloned()
    }

    /// The same, and whether it is sealed, so that it never changes again.
    pub(crate) fn holding_sealed(
        &self,
        position: LogPosition,
    ) -> Result<(Segment, bool), ReadError> {
        let files = self.files.read().expect(POISONED);
        let after = files.partition_point(|segment| segment.base <= position.0);
        let segment = after.checked_sub(1).and_then(|index| files.get(index));
        let segment = segment.ok_or_else(|| not_held(position))?;
        Ok((segment.clone(), after < files.len()))
    }

    pub(crate) fn read_mode(&self) -> ReadMode {
        self.read_mode
    }

    /// All of them, oldest first.
    pub(crate) fn all(&self) -> Vec<Segment> {
        self.files.read().expect(POISONED).clone()
    }

    /// Where the log begins.
    pub(crate) fn head(&self) -> u64 {
        let files = self.files.read().expect(POISONED);
        files.first().map_or(0, |segment| segment.base)
    }

    /// The segments that are no longer written to, and the size of the one that is.
    pub(crate) fn sealed(&self) -> (Vec<Sealed>, u64) {
        let files = self.files.read().expect(POISONED);
        let sealed = files.windows(2).map(|pair| Sealed {
            end: pair[0].end(),
            size: pair[0].size,
            newest: pair[1].created_at,
        });
        let active = files.last().map_or(0, |segment| segment.size);
        (sealed.collect(), active)
    }

    /// Takes out the segments before a position; readers that have one keep it.
    pub(crate) fn retire(&self, head: u64) -> Vec<Segment> {
        let mut files = self.files.write().expect(POISONED);
        let count = files.partition_point(|segment| segment.end() <= head);
        files.drain(..count).collect()
    }

    /// Keeps a durable group for readers.
    pub(crate) fn keep(&self, position: u64, group: Bytes) {
        if group.is_empty() {
            return;
        }
        let mut tail = self.tail.write().expect(POISONED);
        tail.bytes += group.len();
        tail.groups.push_back((position, group));
        while tail.bytes > limits::TAIL_CACHE && tail.groups.len() > 1 {
            if let Some((_, old)) = tail.groups.pop_front() {
                tail.bytes -= old.len();
                self.buffers.give_back(old);
            }
        }
        if let Some((first, _)) = tail.groups.front() {
            self.recent.store(*first, Ordering::Release);
        }
    }

    pub(crate) fn is_recent(&self, position: LogPosition) -> bool {
        position.0 >= self.recent.load(Ordering::Acquire)
    }

    /// A record: a slice of the tail, or read from disk and verified.
    pub(crate) fn record(&self, entry: &Entry) -> Result<Bytes, ReadError> {
        match self.in_tail(entry) {
            Some(record) => Ok(record),
            None => self.on_disk(entry),
        }
    }

    pub(crate) fn in_tail(&self, entry: &Entry) -> Option<Bytes> {
        let tail = self.tail.read().expect(POISONED);
        let after = tail
            .groups
            .partition_point(|(position, _)| *position <= entry.position.0);
        let (position, group) = tail.groups.get(after.checked_sub(1)?)?;
        let from = (entry.position.0 - position) as usize;
        let to = from + entry.size as usize;
        (to <= group.len()).then(|| group.slice(from..to))
    }

    pub(crate) fn on_disk(&self, entry: &Entry) -> Result<Bytes, ReadError> {
        let bytes = self.read(entry.position, entry.size as usize)?;
        verify(entry, &bytes)?;
        Ok(Bytes::from(bytes))
    }

    /// Bytes of the log as they are on disk.
    pub(crate) fn read(&self, position: LogPosition, len: usize) -> Result<Vec<u8>, ReadError> {
        let failed = |why: String| ReadError::Io { position, why };
        let segment = self.holding(position);
        let segment = segment.ok_or_else(|| not_held(position))?;
        let mut bytes = vec![0; len];
        let read = segment
            .file
            .read_at(&mut bytes, position.0 - segment.base)
            .map_err(|error| failed(error.to_string()))?;
        if read != len {
            return Err(failed(format!("the file ends {} bytes early", len - read)));
        }
        Ok(bytes)
    }
}

fn not_held(position: LogPosition) -> ReadError {
    ReadError::Io {
        position,
        why: "no segment holds it".to_owned(),
    }
}
