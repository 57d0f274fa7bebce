//! A message as a consumer receives it: a slice of the reply it came in, read in place.

use bytes::Bytes;
use quern_protocol::message::UNIQUE_KEY;
use quern_protocol::request::REPLY_TO;
use quern_protocol::{
    Block, Compression, LogPosition, MessageHandle, QueueOffset, RecordHeader, RecordKind,
    RecordView,
};

use crate::error::Result;
use crate::letter::Letter;
use crate::routes::MessageQueue;

/// A received message. Its checksums have been verified.
#[derive(Debug, Clone)]
pub struct MessageView {
    queue: MessageQueue,
    header: RecordHeader,
    record: Bytes,
    letter: Letter,
}

impl MessageView {
    /// `record` has been verified; here its body is decompressed.
    pub(crate) fn new(queue: MessageQueue, header: RecordHeader, record: Bytes) -> Result<Self> {
        let letter = Letter::verified(record.slice(header.size()..))?;
        Ok(Self {
            queue,
            header,
            record,
            letter,
        })
    }

    fn block(&self) -> Block<'_> {
        self.letter.block()
    }

    /// Bytes of it here.
    pub(crate) fn size(&self) -> usize {
        self.record.len() + self.letter.decompressed_len()
    }

    /// Topic, broker and queue it came from.
    pub fn queue(&self) -> &MessageQueue {
        &self.queue
    }

    /// Its place in the queue.
    pub fn offset(&self) -> QueueOffset {
        self.header.queue_offset
    }

    /// Its place in the broker's log.
    pub fn position(&self) -> LogPosition {
        self.header.position
    }

    /// What it is found by on its broker, whatever becomes of its queue.
    pub fn handle(&self) -> MessageHandle {
        MessageHandle {
            broker: self.queue.broker.clone(),
            position: self.position(),
        }
    }

    /// The record it waited as before it was delivered, for its time or for its transaction.
    pub fn waited_as(&self) -> Option<LogPosition> {
        let origin = self.header.extensions.origin?;
        (self.header.kind.is_queued() && origin.root != LogPosition(0)).then_some(origin.root)
    }

    /// When it is due, or was, ms since 1970; `None` = it never had to wait for a time.
    pub fn due_at(&self) -> Option<u64> {
        let origin = self.header.extensions.origin?;
        (origin.due_at > 0 && !self.is_of_transaction()).then_some(origin.due_at)
    }

    /// Whether this is a message as it waits for its transaction.
    pub fn is_of_transaction(&self) -> bool {
        self.header.kind == RecordKind::Half
    }

    /// By the broker's log clock, ms since 1970.
    pub fn stored_at(&self) -> u64 {
        self.header.stored_at
    }

    /// By the producer's clock, ms since 1970.
    pub fn born_at(&self) -> u64 {
        self.block().born_at()
    }

    /// Empty = none.
    pub fn tag(&self) -> &str {
        self.block().tag()
    }

    /// Separated by spaces; empty = none.
    pub fn keys(&self) -> &str {
        self.block().keys()
    }

    /// The id its producer gave it; empty for one that gave none.
    pub fn message_id(&self) -> &str {
        self.property(UNIQUE_KEY).unwrap_or_default()
    }

    /// How often its group has given it back.
    pub fn attempts(&self) -> u16 {
        self.header.attempts
    }

    /// A property, the system's included: of a message that was given back also where it comes from and
    /// why, see [`crate::retry`].
    pub fn property(&self, name: &str) -> Option<&str> {
        let note = self.notes().find(|(it, _)| *it == name);
        note.map(|(_, value)| value)
            .or_else(|| self.block().property(name))
    }

    /// What the broker says about it: where a message that was given back comes from, and why.
    pub fn notes(&self) -> impl Iterator<Item = (&str, &str)> {
        let record = RecordView::trusted(&self.record);
        let record = record.expect("the record was verified when it arrived");
        record.notes.iter()
    }

    /// Whether its sender waits for a reply: see [`crate::Client::reply`].
    pub fn is_request(&self) -> bool {
        self.property(REPLY_TO).is_some()
    }

    /// Properties its producer set, in order.
    pub fn properties(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.block().properties();
        all.filter(|(name, _)| *name != UNIQUE_KEY)
    }

    /// The body, decompressed if it was compressed.
    pub fn body(&self) -> &[u8] {
        self.letter.body()
    }

    /// How its producer compressed the body.
    pub fn compression(&self) -> Option<Compression> {
        self.block().compression()
    }
}
