//! Frames gathered for one write: small ones copied together, large bodies left where they lie.

use bytes::{Bytes, BytesMut};
use quern_protocol::frame::Outgoing;

use crate::limits;

/// Encoded frames that are not written yet, in order.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Ready pieces, from `written` on.
    chunks: Vec<Bytes>,
    written: usize,
    /// Follows the pieces.
    buffer: BytesMut,
    bytes: usize,
    frames: usize,
}

impl Batch {
    pub(crate) fn new() -> Self {
        Self::with_capacity(0)
    }

    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self {
            chunks: Vec::new(),
            written: 0,
            buffer: BytesMut::with_capacity(bytes),
            bytes: 0,
            frames: 0,
        }
    }

    pub(crate) fn push(&mut self, frame: Outgoing) {
        self.bytes += frame.wire_len();
        self.frames += 1;
        if self.buffer.capacity() - self.buffer.len() < frame.wire_len().min(limits::COPIED_BODY) {
            self.buffer.reserve(limits::BATCH_BYTES);
        }
        frame.put_head(&mut self.buffer);
        for part in frame.into_body() {
            if part.len() < limits::COPIED_BODY {
                self.buffer.extend_from_slice(&part);
            } else {
                self.seal();
                self.chunks.push(part);
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames == 0
    }

    /// No more should be gathered before this is written.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes >= limits::BATCH_BYTES || self.frames >= limits::BATCH_FRAMES
    }

    /// What is to be written, in order.
    pub(crate) fn chunks(&mut self) -> &mut [Bytes] {
        self.seal();
        self.chunks.get_mut(self.written..).unwrap_or_default()
    }

    /// The first `count` of [`Batch::chunks`] are written. The last one empties the batch.
    pub(crate) fn advance(&mut self, count: usize) {
        self.written += count;
        if self.written >= self.chunks.len() {
            self.chunks.clear();
            self.written = 0;
            self.bytes = 0;
            self.frames = 0;
        }
    }

    fn seal(&mut self) {
        if !self.buffer.is_empty() {
            self.chunks.push(self.buffer.split().freeze());
        }
    }
}
