//! The scrub: reads sealed segments again and again, a slice at a time, so that a disk that loses what
//! it was given is noticed before somebody asks for it. It changes nothing.

use std::io;

use crate::audit::Damage;
use crate::group::{GroupKind, Unreadable, verify};
use crate::scan::{Next, Scan};
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

impl Scrub {
    /// Verifies the next `budget` bytes of sealed segments, oldest first, and begins anew at their end.
    pub(crate) fn slice(
        &mut self,
        sealed: &[Segment],
        log: LogId,
        budget: u64,
    ) -> io::Result<Vec<Damage>> {
        let mut damage = Vec::new();
        let mut left = budget;
        let next = sealed.iter().find(|segment| self.position < segment.end());
        let Some(segment) = next else {
            *self = Self::default();
            return Ok(damage);
        };
        if self.position < segment.first() {
            self.position = segment.first();
        }
        let mut scan = Scan::new(segment, log);
        while left > 0 {
            let from = self.position;
            match self.piece(&mut scan)? {
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
                    let to = scan.resume(from)?.unwrap_or_else(|| segment.end());
                    damage.push(Damage {
                        file: Segment::file_name(segment.base),
                        from: LogPosition(from),
                        to: LogPosition(to),
                        why,
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
        Ok(damage)
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
