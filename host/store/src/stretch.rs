//! Many records with few calls: those that lie close to each other on disk are read in one stretch, and
//! handed out as slices of it.
//!
//! A stretch of a sealed segment can be a mapping. It is read in before anybody touches it
//! ([`crate::mapping`]), and where that fails, it is read like all else: an unreadable sector is an error
//! that names the record it lies in, and costs its neighbours nothing.

use std::io;

use bytes::Bytes;
use quern_protocol::RecordView;

use crate::config::ReadMode;
use crate::consume_queue::Entry;
use crate::error::ReadError;
use crate::fs::File;
use crate::limits;
use crate::segment::Segment;
use crate::segments::Segments;

impl Segments {
    /// Records of entries, in their order. Ends before the first that cannot be read; an error when that
    /// is the first of all.
    pub(crate) fn records(&self, entries: &[Entry]) -> Result<Vec<Bytes>, ReadError> {
        let (mut records, mut announced) = (Vec::with_capacity(entries.len()), 0);
        while let Some(rest) = entries.get(records.len()..).filter(|it| !it.is_empty()) {
            if records.len() >= announced {
                announced = records.len() + self.announce(rest);
            }
            match self.next(rest, &mut records) {
                Ok(()) => {}
                Err(error) if records.is_empty() => return Err(error),
                // Whoever goes on from there is told.
                Err(_) => break,
            }
        }
        Ok(records)
    }

    /// Tells the disk of the stretches that come next, as many as it may have at once: those of one queue lie between
    /// others', and the kernel takes reads with gaps for reads at random. How many entries there are in them.
    fn announce(&self, entries: &[Entry]) -> usize {
        // Those behind one that is in memory are, too.
        if entries
            .first()
            .is_some_and(|it| self.is_recent(it.position))
        {
            return entries.len();
        }
        let most = match self.traffic.is_there() {
            true => limits::READ_BESIDE_WRITES,
            false => limits::ANNOUNCED,
        };
        let (mut covered, mut told) = (0, 0);
        while let Some(rest) = entries.get(covered..)
            && let Some(first) = rest.first()
            && !self.is_recent(first.position)
            && let Some(segment) = self.holding(first.position)
        {
            let (count, len) = stretch(rest, segment.end());
            if covered > 0 && told + len > most {
                break;
            }
            // The first is read now, which tells the disk as well.
            if covered > 0 {
                segment.file.will_read(first.position.0 - segment.base, len);
            }
            (covered, told) = (covered + count.max(1), told + len);
        }
        covered
    }

    /// The same for who must not wait for a disk; `None` = somebody else has to read them, who may, or who then
    /// learns why they cannot be read.
    pub(crate) fn records_now(&self, entries: &[Entry]) -> Option<Vec<Bytes>> {
        let mut records = Vec::with_capacity(entries.len());
        while let Some(first) = entries.get(records.len()) {
            if let Some(record) = self.in_tail(first) {
                records.push(record);
                continue;
            }
            let rest = &entries[records.len()..];
            let segment = self.holding(first.position)?;
            let (count, len) = stretch(rest, segment.end());
            let mut bytes = self.stretches.take(len);
            let read = segment
                .file
                .read_now(bytes.as_mut(), first.position.0 - segment.base);
            if read.ok()? != len {
                return None;
            }
            cut(&rest[..count], &bytes.into(), &mut records).ok()?;
        }
        Some(records)
    }

    /// At least one record more.
    fn next(&self, entries: &[Entry], records: &mut Vec<Bytes>) -> Result<(), ReadError> {
        let Some(first) = entries.first() else {
            return Ok(());
        };
        if let Some(record) = self.in_tail(first) {
            records.push(record);
            return Ok(());
        }
        let (segment, is_sealed) = self.holding_sealed(first.position)?;
        let (count, len) = stretch(entries, segment.end());
        let Ok(bytes) = self.stretch(&segment, is_sealed, first.position.0, len) else {
            // One by one, so that only what cannot be read is missed.
            for entry in entries.iter().take(count) {
                records.push(self.on_disk(entry)?);
            }
            return Ok(());
        };
        cut(&entries[..count], &bytes, records)
    }

    fn stretch(
        &self,
        segment: &Segment,
        is_sealed: bool,
        from: u64,
        len: usize,
    ) -> io::Result<Bytes> {
        let at = from - segment.base;
        // A mapping costs more than it saves where there is little to copy.
        let may_map = is_sealed && self.read_mode() == ReadMode::Mmap && len >= limits::MAPPED;
        let is_beside_writes = self.traffic.is_there();
        if may_map
            && !is_beside_writes
            && let Ok(window) = segment.file.map(at, len)
        {
            return Ok(window);
        }
        let mut bytes = self.stretches.take(len);
        let read = match is_beside_writes {
            true => read_in_pieces(&*segment.file, bytes.as_mut(), at)?,
            false => segment.file.read_at(bytes.as_mut(), at)?,
        };
        if read != len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(bytes.into())
    }
}

/// Reads with little asked of the disk at once, and nothing ahead: of what it was told of before the kernel has
/// nothing to guess.
fn read_in_pieces(file: &dyn File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0;
    for piece in buffer.chunks_mut(limits::READ_BESIDE_WRITES) {
        let from = at + filled as u64;
        file.will_read(from, piece.len());
        let read = file.read_at(piece, from)?;
        filled += read;
        if read < piece.len() {
            break;
        }
    }
    Ok(filled)
}

/// The records of a stretch, up to the first that is damaged.
fn cut(entries: &[Entry], stretch: &Bytes, records: &mut Vec<Bytes>) -> Result<(), ReadError> {
    let Some(first) = entries.first() else {
        return Ok(());
    };
    for entry in entries {
        let from = (entry.position.0 - first.position.0) as usize;
        let record = stretch.slice(from..from + entry.size as usize);
        verify(entry, &record)?;
        records.push(record);
    }
    Ok(())
}

/// How many of the entries are read at once, and the bytes from the first of them to the end of the
/// last.
fn stretch(entries: &[Entry], segment_end: u64) -> (usize, usize) {
    let (mut count, mut from, mut end) = (0, 0, 0);
    for entry in entries {
        let next = entry.position.0.saturating_add(entry.size.into());
        if count == 0 {
            from = entry.position.0;
        } else {
            let gap = entry.position.0.checked_sub(end);
            let is_near = gap.is_some_and(|gap| gap <= limits::STRETCH_GAP);
            if !is_near || next > segment_end || next - from > limits::STRETCH {
                break;
            }
        }
        (count, end) = (count + 1, next);
    }
    (count, (end - from) as usize)
}

/// Whether these bytes are the record of the entry.
pub(crate) fn verify(entry: &Entry, bytes: &[u8]) -> Result<(), ReadError> {
    let view = RecordView::parse(bytes).map_err(ReadError::damaged(entry.position))?;
    let header = &view.header;
    if header.position != entry.position || header.queue_offset != entry.offset {
        let damaged = ReadError::damaged(entry.position);
        return Err(damaged(format!(
            "another record lies here, offset {} of position {}",
            header.queue_offset, header.position
        )));
    }
    Ok(())
}
