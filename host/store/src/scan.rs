//! Reads a segment group by group, verifying every byte: for recovery, and for looking at a log
//! offline.

use std::io;

use bytes::Bytes;

use crate::fs::File;
use crate::group::{GROUP_HEADER, GROUP_MAGIC, GroupHeader, Unreadable};
use crate::segment::{LogId, Segment};

/// What lies at a position of a segment.
pub(crate) enum Next {
    /// A group whose header is good; its records are still to be verified.
    Group {
        header: GroupHeader,
        crc: u32,
        bytes: Bytes,
    },
    /// Nothing that can be read begins here, for this reason.
    Nothing(Unreadable),
}

/// Reads ahead: many small groups cost one read.
pub(crate) struct Scan<'a> {
    segment: &'a Segment,
    log: LogId,
    start: u64,
    ahead: Bytes,
}

/// So much is read at once.
pub(crate) const READ_AHEAD: usize = 1024 * 1024;

impl<'a> Scan<'a> {
    pub(crate) fn new(segment: &'a Segment, log: LogId) -> Self {
        Self {
            segment,
            log,
            start: segment.base,
            ahead: Bytes::new(),
        }
    }

    /// The group at a position; `follows` is the checksum of the one before, where that is known.
    pub(crate) fn group(&mut self, position: u64, follows: Option<u32>) -> io::Result<Next> {
        let head = self.get(position, GROUP_HEADER)?;
        let (header, crc) = match GroupHeader::decode(&head, position, &self.log) {
            Ok(decoded) => decoded,
            Err(why) => return Ok(Next::Nothing(why)),
        };
        let follows = follows.filter(|_| !cfg!(zoo = "z8"));
        if follows.is_some_and(|crc| crc != header.previous_crc) {
            let why = "the group does not follow the one before";
            return Ok(Next::Nothing(Unreadable::Damaged(why.to_owned())));
        }
        let bytes = self.get(position, header.len as usize)?;
        if bytes.len() != header.len as usize {
            let why = "the group is cut short".to_owned();
            return Ok(Next::Nothing(Unreadable::Damaged(why)));
        }
        Ok(Next::Group { header, crc, bytes })
    }

    /// Where the next good group header lies behind a position that has none.
    pub(crate) fn resume(&mut self, after: u64) -> io::Result<Option<u64>> {
        let mut position = after + 8;
        loop {
            let ahead = self.get(position, READ_AHEAD)?;
            if ahead.len() < GROUP_HEADER {
                return Ok(None);
            }
            let magic = GROUP_MAGIC.to_le_bytes();
            let mut words = ahead.chunks_exact(8).enumerate();
            let Some((at, _)) = words.find(|(_, word)| word.starts_with(&magic)) else {
                position += (ahead.len() / 8 * 8) as u64;
                continue;
            };
            position += at as u64 * 8;
            let head = self.get(position, GROUP_HEADER)?;
            if GroupHeader::decode(&head, position, &self.log).is_ok() {
                return Ok(Some(position));
            }
            position += 8;
        }
    }

    /// Behind the last byte that is not zero; `from` when all are.
    pub(crate) fn used_up_to(&mut self, from: u64) -> io::Result<u64> {
        let (mut position, mut used) = (from, from);
        while position < self.segment.end() {
            let bytes = self.get(position, READ_AHEAD)?;
            if bytes.is_empty() {
                break;
            }
            if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
                used = position + last as u64 + 1;
            }
            position += bytes.len() as u64;
        }
        Ok(used)
    }

    /// Up to `len` bytes at a position; fewer only at the end of the segment.
    pub(crate) fn get(&mut self, position: u64, len: usize) -> io::Result<Bytes> {
        let room = self.segment.end().saturating_sub(position);
        let len = (len as u64).min(room) as usize;
        let end = position + len as u64;
        if position < self.start || end > self.start + self.ahead.len() as u64 {
            let want = (len.max(READ_AHEAD) as u64).min(room) as usize;
            let mut bytes = vec![0; want];
            let file: &dyn File = &*self.segment.file;
            let read = file.read_at(&mut bytes, position - self.segment.base)?;
            bytes.truncate(read);
            self.start = position;
            self.ahead = Bytes::from(bytes);
        }
        let from = ((position - self.start) as usize).min(self.ahead.len());
        Ok(self.ahead.slice(from..(from + len).min(self.ahead.len())))
    }
}
