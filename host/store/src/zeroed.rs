//! Zeros ahead of small groups.
//!
//! A segment's space is reserved, not written. Whoever is first to write to a page of it pays for that with its
//! sync: the file system notes in its journal that there is something now, which takes the disk a second time. So
//! the space behind a small group is written too, much at once, and the groups that come next find it written. A
//! large group has many pages for its one note, and writing those twice would cost more.

use std::io;

use crate::error::is_full;
use crate::limits;
use crate::segment::Segment;

/// Up to where the space of the log has been written to, if only zeros.
#[derive(Debug)]
pub(crate) struct Zeroed(pub(crate) u64);

impl Zeroed {
    /// A group of so many bytes has been written up to here.
    pub(crate) fn follow(&mut self, segment: &Segment, end: u64, len: usize) -> io::Result<()> {
        if end <= self.0 {
            return Ok(());
        }
        self.0 = end;
        let ahead = limits::ZEROED.min(segment.size / limits::ZEROED_SHARE);
        // Of the zoo: what is not overwritten has to stay.
        if len as u64 >= ahead / limits::SMALL_GROUP_SHARE || cfg!(zoo = "z8") {
            return Ok(());
        }
        let at = end - segment.base;
        let to = (at + ahead).next_multiple_of(limits::PAGE);
        let to = to.min(segment.size);
        let zeroed = segment.file.write_at(&vec![0; (to - at) as usize], at);
        // They are a favour: without space for them groups go on as if they were there.
        match zeroed {
            Err(error) if !is_full(&error) => Err(error),
            _ => {
                self.0 = segment.base + to;
                Ok(())
            }
        }
    }
}
