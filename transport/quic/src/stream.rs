//! Framed streams: frames in order, one direction each, nothing allocated before a prefix is checked.
//!
//! A frame that lies whole in what QUIC delivered is a slice of it; only one that crosses deliveries
//! is copied together. A large frame is charged to the process's assembly budget before it is read
//! on, its memory grows as it arrives, and it has a limited time to do so.

use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use quern_protocol::frame::{Frame, Outgoing, Prefix};
use quern_protocol::limits::FRAME_PREFIX;
use quinn::{ReadError, RecvStream, SendStream, VarInt, WriteError};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Sleep, sleep};

use crate::batch::Batch;
use crate::connection::{LaneWindow, Link};
use crate::error::{CloseReason, EndedBy, Lost, StreamError};
use crate::limits;

/// The way out of a stream. Dropped before [`FrameSender::finish`], it resets the stream.
#[derive(Debug)]
pub struct FrameSender {
    stream: SendStream,
    link: Arc<Link>,
    finished: bool,
}

impl FrameSender {
    pub(crate) fn new(stream: SendStream, link: Arc<Link>) -> Self {
        Self {
            stream,
            link,
            finished: false,
        }
    }

    /// Sends one frame; waits while the other side reads no further.
    pub async fn send(&mut self, frame: Outgoing) -> Result<(), StreamError> {
        let mut batch = Batch::with_capacity(frame.wire_len().min(limits::COPIED_BODY));
        batch.push(frame);
        self.write(&mut batch).await
    }

    /// Says that no frame will follow.
    pub fn finish(&mut self) {
        self.finished = true;
        // Fails only if the stream has ended already.
        let _ = self.stream.finish();
    }

    /// Drops what is not delivered yet and says so.
    pub fn reset(&mut self) {
        self.finished = true;
        // Fails only if the stream has ended already.
        let _ = self
            .stream
            .reset(VarInt::from_u32(CloseReason::Bye.number()));
    }

    pub(crate) async fn write(&mut self, batch: &mut Batch) -> Result<(), StreamError> {
        std::future::poll_fn(|cx| self.poll_write(cx, batch)).await
    }

    /// Writes all of a batch; what is left in it is what could not be written yet.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut Batch,
    ) -> Poll<Result<(), StreamError>> {
        loop {
            let chunks = batch.chunks();
            if chunks.is_empty() {
                return Poll::Ready(Ok(()));
            }
            // Not resolved means not written, and the waker stays registered with the stream.
            let written = ready!(pin!(self.stream.write_chunks(chunks)).poll(cx));
            match written {
                Ok(written) => batch.advance(written.chunks),
                Err(error) => return Poll::Ready(Err(self.failed(error))),
            }
        }
    }

    /// Resolves when the other side asks for no more, or has everything.
    pub(crate) fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        let stopped = self.stream.stopped();
        async move {
            // How it ended makes no difference to who waits for the end.
            let _ = stopped.await;
        }
    }

    fn failed(&self, error: WriteError) -> StreamError {
        match error {
            WriteError::ConnectionLost(error) => StreamError::Lost(self.link.lost(error)),
            WriteError::Stopped(_) | WriteError::ClosedStream | WriteError::ZeroRttRejected => {
                StreamError::Reset
            }
        }
    }
}

impl Drop for FrameSender {
    fn drop(&mut self) {
        if !self.finished {
            self.reset();
        }
    }
}

/// Bytes of large frames that may still be half received, in KiB.
static ASSEMBLY: Semaphore = Semaphore::const_new(limits::ASSEMBLY / 1024);

/// Deliveries taken from QUIC at once.
const CHUNKS: usize = 32;

/// The way in of a stream.
#[derive(Debug)]
pub struct FrameReceiver {
    stream: RecvStream,
    link: Arc<Link>,
    chunks: VecDeque<Bytes>,
    partial: Option<Partial>,
    /// A prefix that crosses deliveries.
    prefix: BytesMut,
    /// Held while the stream is.
    share: Option<LaneWindow>,
}

/// A frame of which some bytes are still to come.
struct Partial {
    prefix: Prefix,
    payload: BytesMut,
    large: Option<Large>,
}

impl std::fmt::Debug for Partial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Partial")
            .field("prefix", &self.prefix)
            .field("have", &self.payload.len())
            .finish_non_exhaustive()
    }
}

/// What a large frame needs besides its bytes.
struct Large {
    charge: Charge,
    patience: Pin<Box<Sleep>>,
}

enum Charge {
    Waiting(Pin<Box<dyn Future<Output = SemaphorePermit<'static>> + Send + Sync>>),
    #[expect(dead_code, reason = "held for its drop, which gives the budget back")]
    Held(SemaphorePermit<'static>),
}

impl FrameReceiver {
    pub(crate) fn new(stream: RecvStream, link: Arc<Link>) -> Self {
        Self {
            stream,
            link,
            chunks: VecDeque::new(),
            partial: None,
            prefix: BytesMut::new(),
            share: None,
        }
    }

    /// Keeps the stream's share of the connection's window while the stream lives.
    pub(crate) fn keep(&mut self, share: LaneWindow) {
        self.share = Some(share);
    }

    pub(crate) fn has_share(&self) -> bool {
        self.share.is_some()
    }

    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// The next frame; `None` when the other side finished. Dropping the future loses nothing.
    pub async fn receive(&mut self) -> Result<Option<Frame>, StreamError> {
        std::future::poll_fn(|cx| self.poll_receive(cx)).await
    }

    pub(crate) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Frame>, StreamError>> {
        loop {
            if let Some(frame) = self.assemble()? {
                return Poll::Ready(Ok(Some(frame)));
            }
            if let Some(large) = self
                .partial
                .as_mut()
                .and_then(|partial| partial.large.as_mut())
            {
                if large.patience.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Err(StreamError::Slow));
                }
                if let Charge::Waiting(permit) = &mut large.charge {
                    let permit = ready!(permit.as_mut().poll(cx));
                    large.charge = Charge::Held(permit);
                    continue;
                }
            }
            if !ready!(self.poll_fill(cx))? {
                let between_frames = self.partial.is_none() && self.prefix.is_empty();
                return Poll::Ready(if between_frames {
                    Ok(None)
                } else {
                    Err(StreamError::Truncated)
                });
            }
        }
    }

    /// The next frame if all of it has arrived and been taken from QUIC already.
    pub(crate) fn buffered(&mut self) -> Result<Option<Frame>, StreamError> {
        self.assemble()
    }

    /// Takes deliveries from QUIC; `false` at the end of the stream.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, StreamError>> {
        let mut chunks = [const { Bytes::new() }; CHUNKS];
        // Not resolved means not read, and the waker stays registered with the stream.
        let read = ready!(pin!(self.stream.read_chunks(&mut chunks)).poll(cx));
        match read {
            Ok(Some(count)) => {
                self.chunks.extend(chunks.into_iter().take(count));
                Poll::Ready(Ok(true))
            }
            Ok(None) => Poll::Ready(Ok(false)),
            Err(ReadError::ConnectionLost(error)) => {
                Poll::Ready(Err(StreamError::Lost(self.link.lost(error))))
            }
            Err(_) => Poll::Ready(Err(StreamError::Reset)),
        }
    }

    /// Makes one frame of what has been taken, if it is whole.
    fn assemble(&mut self) -> Result<Option<Frame>, StreamError> {
        if self.partial.is_none() {
            let Some(prefix) = self.take_prefix()? else {
                return Ok(None);
            };
            let length = prefix.header_len + prefix.body_len;
            if let Some(payload) = self.take_slice(length) {
                return Ok(Some(frame(prefix, payload)));
            }
            self.partial = Some(Partial::new(prefix));
        }
        let Some(partial) = &mut self.partial else {
            return Ok(None);
        };
        let length = partial.prefix.header_len + partial.prefix.body_len;
        // Nothing of a large frame is copied before it is paid for.
        if let Some(Large {
            charge: Charge::Waiting(_),
            ..
        }) = partial.large
        {
            return Ok(None);
        }
        while partial.payload.len() < length {
            let Some(chunk) = self.chunks.front_mut() else {
                return Ok(None);
            };
            let wanted = length - partial.payload.len();
            let part = chunk.split_to(wanted.min(chunk.len()));
            if chunk.is_empty() {
                self.chunks.pop_front();
            }
            partial.grow(length, part.len());
            partial.payload.extend_from_slice(&part);
        }
        Ok(self
            .partial
            .take()
            .map(|whole| frame(whole.prefix, whole.payload.freeze())))
    }

    fn take_prefix(&mut self) -> Result<Option<Prefix>, StreamError> {
        if self.prefix.is_empty()
            && let Some(front) = self.chunks.front_mut()
            && let Some(bytes) = front.first_chunk::<FRAME_PREFIX>()
        {
            let prefix = Prefix::decode(bytes)?;
            front.advance(FRAME_PREFIX);
            if front.is_empty() {
                self.chunks.pop_front();
            }
            return Ok(Some(prefix));
        }
        while let Some(front) = self.chunks.front_mut() {
            let wanted = FRAME_PREFIX - self.prefix.len();
            let part = front.split_to(wanted.min(front.len()));
            if front.is_empty() {
                self.chunks.pop_front();
            }
            self.prefix.extend_from_slice(&part);
            if let Some(bytes) = self.prefix.first_chunk::<FRAME_PREFIX>() {
                let prefix = Prefix::decode(bytes)?;
                self.prefix.clear();
                return Ok(Some(prefix));
            }
        }
        Ok(None)
    }

    fn take_slice(&mut self, length: usize) -> Option<Bytes> {
        if length == 0 {
            return Some(Bytes::new());
        }
        let front = self.chunks.front_mut()?;
        if front.len() < length {
            return None;
        }
        let slice = front.split_to(length);
        if front.is_empty() {
            self.chunks.pop_front();
        }
        Some(slice)
    }
}

impl Partial {
    fn new(prefix: Prefix) -> Self {
        let length = prefix.header_len + prefix.body_len;
        let large = (length > limits::ASSEMBLED_FREE).then(|| Large {
            charge: Charge::Waiting(Box::pin(async move {
                let kib = u32::try_from(length.div_ceil(1024)).expect("frames are bounded");
                ASSEMBLY.acquire_many(kib).await.expect("never closed")
            })),
            patience: Box::pin(sleep(limits::ASSEMBLY_WAIT)),
        });
        Self {
            prefix,
            payload: BytesMut::with_capacity(length.min(limits::ASSEMBLED_FREE)),
            large,
        }
    }

    /// Doubles as bytes arrive: a length alone buys no memory.
    fn grow(&mut self, length: usize, more: usize) {
        let have = self.payload.len();
        if self.payload.capacity() < have + more {
            let target = (2 * self.payload.capacity()).clamp(have + more, length);
            self.payload.reserve(target - have);
        }
    }
}

fn frame(prefix: Prefix, mut payload: Bytes) -> Frame {
    let header = payload.split_to(prefix.header_len);
    Frame {
        kind: prefix.kind,
        is_reply: prefix.is_reply,
        version: prefix.version,
        flags: prefix.flags,
        correlation: prefix.correlation,
        deadline_ms: prefix.deadline_ms,
        header,
        body: payload,
    }
}

impl StreamError {
    /// The same as the end of whatever was under way on the stream.
    pub fn into_lost(self) -> Lost {
        match self {
            Self::Lost(lost) => lost,
            Self::Reset => Lost::new(EndedBy::Peer, None, "the stream was given up"),
            other => Lost::new(EndedBy::Us, Some(CloseReason::Protocol), &other.to_string()),
        }
    }
}
