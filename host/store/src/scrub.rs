//! The scrub: reads sealed segments again and again, a slice at a time, so that a disk that loses what
//! it was given is noticed before somebody asks for it. It changes nothing.

use std::io;

use crate::audit::Damage;
use crate::group::{GroupKind, Unreadable, verify};
use crate::scan::{Next, READ_AHEAD, Scan};
use crate::segment::{LogId, Segment};
use quern_protocol::LogPosition;

/// How far a pass over the log has come.
#[derive(Debug, Default)]
pub(crate) struct Scrub {
    position: u64,
    /// Checksum of the group before, where that is known.
    follows: Option<u32>,
}

/// Something that lies in a segment.
enum Piece {
    Good { len: u64, crc: u32, is_last: bool },
    Bad(String),
}

/// What is not as it was written.
#[derive(Debug)]
pub(crate) struct Bad {
    pub(crate) damage: Damage,
    /// The disk does not give something in this range. It may, another time.
    pub(crate) is_unreadable: bool,
}

impl Scrub {
    /// Verifies the next `budget` bytes of sealed segments, oldest first, and begins anew at their end.
    pub(crate) fn slice(
        &mut self,
        sealed: &[Segment],
        log: LogId,
        budget: u64,
    ) -> io::Result<Vec<Bad>> {
        let mut found = Vec::new();
        let mut left = budget;
        let next = sealed.iter().find(|segment| self.position < segment.end());
        let Some(segment) = next else {
            *self = Self::default();
            return Ok(found);
        };
        if self.position < segment.first() {
            self.position = segment.first();
        }
        let mut scan = Scan::new(segment, log);
        while left > 0 {
            let from = self.position;
            let piece = self.piece(&mut scan);
            let is_unreadable = piece.is_err();
            match piece.unwrap_or_else(|error| Piece::Bad(error.to_string())) {
                Piece::Good { len, crc, is_last } => {
                    self.follows = Some(crc);
                    self.position += len;
                    left = left.saturating_sub(len);
                    if is_last {
                        self.position = segment.end();
                        break;
                    }
                }
                Piece::Bad(why) => {
                    let to = match is_unreadable {
                        true => behind_unreadable(&mut scan, segment, from),
                        false => scan.resume(from)?.unwrap_or_else(|| segment.end()),
                    };
                    let damage = Damage {
                        file: Segment::file_name(segment.base),
                        from: LogPosition(from),
                        to: LogPosition(to),
                        why,
                    };
                    found.push(Bad {
                        damage,
                        is_unreadable,
                    });
                    self.follows = None;
                    self.position = to;
                    left = left.saturating_sub(to - from);
                    if to == segment.end() {
                        break;
                    }
                }
            }
        }
        Ok(found)
    }

    fn piece(&self, scan: &mut Scan<'_>) -> io::Result<Piece> {
        let next = scan.group(self.position, self.follows)?;
        let (header, crc, bytes) = match next {
            Next::Group { header, crc, bytes } => (header, crc, bytes),
            Next::Nothing(Unreadable::Damaged(why) | Unreadable::Later(why)) => {
                return Ok(Piece::Bad(why));
            }
        };
        Ok(match verify(&bytes, &header) {
            Ok(_) => Piece::Good {
                len: u64::from(header.len),
                crc,
                is_last: header.kind == GroupKind::Seal,
            },
            Err(Unreadable::Damaged(why) | Unreadable::Later(why)) => Piece::Bad(why),
        })
    }
}

/// Where it goes on behind what the disk does not give. It is not asked again and again for the same.
fn behind_unreadable(scan: &mut Scan<'_>, segment: &Segment, from: u64) -> u64 {
    let mut from = from;
    loop {
        from = from.saturating_add(READ_AHEAD as u64);
        if from >= segment.end() {
            return segment.end();
        }
        if let Ok(next) = scan.resume(from) {
            return next.unwrap_or_else(|| segment.end());
        }
    }
}
