//! A segment: one file of the log. Its name is its base position, twenty digits; the next segment
//! begins where it ends. Little-endian.
//!
//! ```text
//! segment header, 4,096 B; crc of 0..12 and 16..4,096
//!   0 u8[8] "QUERNSEG"   8 u16 format  10 u16 flags  12 u32 crc  16 u8[16] log uuid
//!  32 u64 base          40 u64 size                  48 u64 created_at
//!  56 u32 epoch         60 u32 alignment = 8         64 zeros
//! ```

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quern_protocol::block::crc_around;
use quern_protocol::{Epoch, LogPosition};

use crate::checkpoint::Checkpoint;
use crate::error::OpenError;
use crate::fs::{File, Fs};
use crate::le::{id_at, u16_at, u32_at, u64_at};

/// The format this version writes and reads.
pub const FORMAT: u16 = 1;
/// Bytes before the first group.
pub(crate) const SEGMENT_HEADER: u64 = 4_096;
const MAGIC: &[u8; 8] = b"QUERNSEG";

/// Identifies one log, so that a file of another is never taken for one of ours.
pub(crate) type LogId = [u8; 16];

/// What a segment says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) log: LogId,
    pub(crate) base: LogPosition,
    pub(crate) size: u64,
    pub(crate) created_at: u64,
    pub(crate) epoch: Epoch,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; SEGMENT_HEADER as usize];
        out[0..8].copy_from_slice(MAGIC);
        out[8..10].copy_from_slice(&FORMAT.to_le_bytes());
        out[16..32].copy_from_slice(&self.log);
        out[32..40].copy_from_slice(&self.base.0.to_le_bytes());
        out[40..48].copy_from_slice(&self.size.to_le_bytes());
        out[48..56].copy_from_slice(&self.created_at.to_le_bytes());
        out[56..60].copy_from_slice(&self.epoch.0.to_le_bytes());
        out[60..64].copy_from_slice(&8u32.to_le_bytes());
        let crc = crc_around(&out, 12..16);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Whether these are the bytes of a header as it was written, of whatever format.
    pub(crate) fn is_whole(bytes: &[u8]) -> bool {
        bytes.len() >= SEGMENT_HEADER as usize
            && &bytes[0..8] == MAGIC
            && u32_at(bytes, 12) == crc_around(&bytes[..SEGMENT_HEADER as usize], 12..16)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() < SEGMENT_HEADER as usize || &bytes[0..8] != MAGIC {
            return Err("its header is not a segment's".to_owned());
        }
        let bytes = &bytes[..SEGMENT_HEADER as usize];
        let stored = u32_at(bytes, 12);
        if stored != crc_around(bytes, 12..16) {
            return Err("its header's checksum is wrong".to_owned());
        }
        let format = u16_at(bytes, 8);
        if format != FORMAT {
            return Err(format!("it has format {format}, not {FORMAT}"));
        }
        let (base, size) = (u64_at(bytes, 32), u64_at(bytes, 40));
        if size <= SEGMENT_HEADER || base.checked_add(size).is_none() {
            return Err(format!("its size of {size} bytes is impossible"));
        }
        Ok(Self {
            log: id_at(bytes, 16),
            base: LogPosition(base),
            size,
            created_at: u64_at(bytes, 48),
            epoch: Epoch(u32_at(bytes, 56)),
        })
    }
}

/// Segments lie one level below the data directory.
fn data_dir(segments: &Path) -> PathBuf {
    segments.parent().unwrap_or(segments).to_owned()
}

/// An open segment.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) base: u64,
    pub(crate) size: u64,
    /// By the log's clock, ms: all in the segments before was stored until then.
    pub(crate) created_at: u64,
    pub(crate) file: Arc<dyn File>,
}

impl Segment {
    pub(crate) fn new(header: &SegmentHeader, file: Arc<dyn File>) -> Self {
        Self {
            base: header.base.0,
            size: header.size,
            created_at: header.created_at,
            file,
        }
    }

    /// Where its first group lies.
    pub(crate) fn first(&self) -> u64 {
        self.base + SEGMENT_HEADER
    }

    /// First position of the next segment.
    pub(crate) fn end(&self) -> u64 {
        self.base + self.size
    }

    /// Opens the segments of a directory: each of this log, each where the one before ends, the first
    /// where the log begins. Those before it are what retention has not come to remove.
    pub(crate) fn open_all(
        fs: &dyn Fs,
        dir: &Path,
        log: LogId,
        known: &Checkpoint,
    ) -> Result<Vec<Self>, OpenError> {
        let unusable = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Unusable { path, source }
        };
        let names = fs.list(dir).map_err(unusable(dir))?;
        let mut segments: Vec<Self> = Vec::new();
        for name in names.iter().filter(|name| name.ends_with(".seg")) {
            let path = dir.join(name);
            // Who wants to write has not got the lock on a medium that cannot be written.
            let file = match fs.open(&path) {
                Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => {
                    fs.open_to_read(&path)
                }
                opened => opened,
            };
            let file = file.map_err(unusable(&path))?;
            let mut bytes = vec![0; SEGMENT_HEADER as usize];
            let read = file.read_at(&mut bytes, 0).map_err(unusable(&path))?;
            let base = name.trim_end_matches(".seg").parse().ok();
            let header = SegmentHeader::decode(&bytes[..read]).and_then(|header| {
                if header.log != log {
                    Err("it belongs to another log".to_owned())
                } else if Some(header.base.0) != base {
                    Err(format!("it says it begins at {}", header.base))
                } else {
                    Ok(header)
                }
            });
            let header = header.map_err(|why| OpenError::Corrupt {
                dir: data_dir(dir),
                file: name.clone(),
                position: LogPosition(base.unwrap_or(0)),
                durable: known.durable,
                why,
            })?;
            if header.base < known.head {
                continue;
            }
            let expected = match segments.last() {
                Some(last) => last.end(),
                None if known.is_known() => known.head.0,
                None => header.base.0,
            };
            if header.base.0 != expected {
                return Err(OpenError::Hole {
                    missing: LogPosition(expected),
                });
            }
            segments.push(Self::new(&header, file));
        }
        Ok(segments)
    }

    /// Removes what retention has not come to remove.
    pub(crate) fn remove_before(fs: &dyn Fs, dir: &Path, head: u64) -> io::Result<()> {
        let mut removed = false;
        for name in fs.list(dir)? {
            let base = name.strip_suffix(".seg").and_then(|base| base.parse().ok());
            if base.is_some_and(|base: u64| base < head) {
                fs.remove(&dir.join(&name))?;
                removed = true;
            }
        }
        if removed { fs.sync_dir(dir) } else { Ok(()) }
    }

    pub(crate) fn file_name(base: u64) -> String {
        format!("{base:020}.seg")
    }

    pub(crate) fn path(dir: &Path, base: u64) -> PathBuf {
        dir.join(Self::file_name(base))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_and_every_flipped_bit_is_noticed() {
        let header = SegmentHeader {
            log: [7; 16],
            base: LogPosition(1 << 30),
            size: 1 << 23,
            created_at: 5,
            epoch: Epoch(3),
        };
        let bytes = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        for bit in (0..bytes.len() * 8).step_by(7) {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&damaged).is_err(), "bit {bit}");
        }
    }
}
