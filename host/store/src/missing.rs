//! Segments that cannot be opened, for a repair: their header is damaged, or they are not there.

use std::io;
use std::path::Path;

use quern_protocol::{Epoch, LogPosition};

use crate::fs::{self, Fs};
use crate::quarantine;
use crate::segment::{LogId, SEGMENT_HEADER, Segment, SegmentHeader};

/// A header that has to be written.
struct Head {
    header: SegmentHeader,
    is_there: bool,
}

/// Headers that have to be written before the log can be read.
pub(crate) struct Heads(Vec<Head>);

impl Heads {
    /// A segment's name tells where it begins, the next one's where it ends at the latest. `head` is where the log
    /// begins, if that is known.
    pub(crate) fn find(
        fs: &dyn Fs,
        log_dir: &Path,
        log: LogId,
        head: Option<u64>,
    ) -> io::Result<Self> {
        let names = fs.list(log_dir)?.into_iter();
        let bases = names.filter_map(|name| name.strip_suffix(".seg")?.parse::<u64>().ok());
        let bases: Vec<u64> = bases.filter(|base| *base >= head.unwrap_or(0)).collect();
        let mut heads = Vec::new();
        let mut expected = head.or_else(|| bases.first().copied()).unwrap_or(0);
        let (mut created_at, mut epoch) = (0, Epoch(1));
        let new = |base, size, created_at, epoch| SegmentHeader {
            log,
            base: LogPosition(base),
            size,
            created_at,
            epoch,
        };
        for (index, base) in bases.iter().enumerate() {
            if *base > expected + SEGMENT_HEADER {
                let header = new(expected, base - expected, created_at, epoch);
                heads.push(Head {
                    header,
                    is_there: false,
                });
            }
            let file = fs.open_to_read(&Segment::path(log_dir, *base))?;
            let mut bytes = vec![0; SEGMENT_HEADER as usize];
            let read = file.read_at(&mut bytes, 0)?;
            let size = match SegmentHeader::decode(&bytes[..read]) {
                Ok(header) => {
                    (created_at, epoch) = (header.created_at, header.epoch);
                    header.size
                }
                Err(_) if SegmentHeader::is_whole(&bytes[..read]) => file.len()?,
                Err(_) => {
                    let size = size(*base, file.len()?, bases.get(index + 1));
                    if size <= SEGMENT_HEADER {
                        continue;
                    }
                    let header = new(*base, size, created_at, epoch);
                    heads.push(Head {
                        header,
                        is_there: true,
                    });
                    size
                }
            };
            expected = base + size;
        }
        Ok(Self(heads))
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let bases = self.0.iter().map(|head| head.header.base.0);
        bases.map(Segment::file_name).collect()
    }
}

/// How long a segment is that does not say so. Its file has had all its space from the start; if another segment
/// fits between that and the next one there is, that is missing, and this one is no longer for it.
fn size(base: u64, len: u64, next: Option<&u64>) -> u64 {
    let Some(next) = next else {
        return len;
    };
    let is_whole = len > SEGMENT_HEADER && len.is_multiple_of(SEGMENT_HEADER);
    if is_whole && base + len + SEGMENT_HEADER < *next {
        len
    } else {
        next - base
    }
}

/// Writes the headers; what was in their place is put aside before.
pub(crate) fn make(fs: &dyn Fs, dir: &Path, heads: &Heads) -> io::Result<()> {
    let (aside, log_dir) = (dir.join(quarantine::DIR), dir.join("commitlog"));
    fs.create_dir(&aside)?;
    for Head { header, is_there } in &heads.0 {
        let path = Segment::path(&log_dir, header.base.0);
        let file = if *is_there {
            let file = fs.open(&path)?;
            let mut bytes = vec![0; SEGMENT_HEADER as usize];
            let read = file.read_at(&mut bytes, 0)?;
            let name = format!("{:020}.header", header.base.0);
            let name = quarantine::free_name(fs, &aside, &name)?;
            fs::write_whole(fs, &aside, &name, &bytes[..read])?;
            file
        } else {
            fs.create(&path, header.size)?
        };
        file.write_at(&header.encode(), 0)?;
        file.sync_data()?;
    }
    fs.sync_dir(&log_dir)
}
