//! Compressed bodies: who makes them, and within which bounds they are taken.
//!
//! Only a body is compressed, by its producer, and it stays so in the log and on the way: tag, keys and properties
//! are for filters to read. The forms are RocketMQ's, so that bodies pass between the protocols as they are: LZ4 and
//! Zstandard frames, and zlib streams.

use std::fmt;
use std::io::{self, Read, Write as _};
use std::str::FromStr;

use crate::limits;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// An LZ4 frame: fast, about half the size for JSON.
    Lz4,
    /// A Zstandard frame, level 3: slower, and smaller.
    Zstd,
    /// A zlib stream, level 5: what clients of RocketMQ make by default.
    Zlib,
}

/// Zlib's level, RocketMQ's.
const ZLIB_LEVEL: u32 = 5;
/// Zstandard's, its own default.
const ZSTD_LEVEL: i32 = 3;
/// A frame that wants more memory to be read is not taken: 8 MiB, which no level up to 19 does for a body.
const ZSTD_WINDOW_LOG: u32 = 23;

/// A compressed body is not what its block says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadBody {
    #[error("the {0} body does not decompress: {1}")]
    Damaged(Compression, String),
    #[error("the {compression} body decompresses to {found} bytes, its block says {said}")]
    Length {
        compression: Compression,
        said: usize,
        /// `said + 1` = or more.
        found: usize,
    },
}

impl Compression {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Lz4, Self::Zstd, Self::Zlib];

    /// Its number in a block.
    pub(crate) fn codec(self) -> u8 {
        match self {
            Self::Lz4 => 1,
            Self::Zstd => 2,
            Self::Zlib => 3,
        }
    }

    pub(crate) fn of(codec: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.codec() == codec)
    }

    /// Compresses a body. `None` = it would not be smaller, or so much smaller that nobody would take it
    /// ([`allows`]): then it goes as it is.
    pub fn compress(self, body: &[u8]) -> Option<Vec<u8>> {
        let made = match self {
            Self::Lz4 => lz4(body),
            Self::Zstd => zstd::bulk::compress(body, ZSTD_LEVEL),
            Self::Zlib => zlib(body),
        };
        // Writing to memory does not fail; if it did, the body would go as it is.
        let made = made.ok()?;
        (made.len() < body.len() && allows(made.len(), body.len())).then_some(made)
    }

    /// The body again. `raw_len` is what its block says, and has been checked: no more is ever allocated.
    pub fn decompress(self, body: &[u8], raw_len: usize) -> Result<Vec<u8>, BadBody> {
        let mut raw = Vec::with_capacity(raw_len);
        let read = match self {
            Self::Lz4 => read_at_most(lz4_flex::frame::FrameDecoder::new(body), raw_len, &mut raw),
            Self::Zstd => zstd::Decoder::with_buffer(body).and_then(|mut decoder| {
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                read_at_most(decoder, raw_len, &mut raw)
            }),
            Self::Zlib => read_at_most(flate2::bufread::ZlibDecoder::new(body), raw_len, &mut raw),
        };
        let found = read.map_err(|error| BadBody::Damaged(self, error.to_string()))?;
        if found != raw_len {
            return Err(BadBody::Length {
                compression: self,
                said: raw_len,
                found,
            });
        }
        Ok(raw)
    }
}

/// Whether a body of `len` bytes may say that it is `raw_len` bytes once decompressed: who asks for 1 MiB of messages
/// must not be handed gigabytes.
pub fn allows(len: usize, raw_len: usize) -> bool {
    raw_len <= limits::EXPANDS_FREELY.max(len.saturating_mul(limits::EXPANSION))
}

fn lz4(body: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::with_capacity(body.len() / 2));
    encoder.write_all(body)?;
    Ok(encoder.finish()?)
}

fn zlib(body: &[u8]) -> io::Result<Vec<u8>> {
    let level = flate2::Compression::new(ZLIB_LEVEL);
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::with_capacity(body.len() / 2), level);
    encoder.write_all(body)?;
    encoder.finish()
}

/// Reads to the end, or one byte further than allowed; how much there was.
fn read_at_most(from: impl Read, most: usize, into: &mut Vec<u8>) -> io::Result<usize> {
    let mut from = from.take(most as u64);
    from.read_to_end(into)?;
    let mut one_more = [0];
    let beyond = match into.len() == most {
        true => from.into_inner().read(&mut one_more)?,
        false => 0,
    };
    Ok(into.len() + beyond)
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
            Self::Zlib => "zlib",
        })
    }
}

/// Not the name of one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no compression: there are lz4, zstd and zlib")]
pub struct NoCompression(String);

impl FromStr for Compression {
    type Err = NoCompression;

    fn from_str(text: &str) -> Result<Self, NoCompression> {
        let found = Self::ALL.into_iter().find(|it| it.to_string() == text);
        found.ok_or_else(|| NoCompression(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn json() -> Vec<u8> {
        let line = |i: u32| {
            format!(
                "{{\"order\":{i},\"sku\":\"A{}\",\"region\":\"eu\"}}\n",
                i % 7
            )
        };
        (0..200).map(line).collect::<String>().into_bytes()
    }

    #[test]
    fn a_body_comes_back_as_it_was_and_is_smaller() {
        for compression in Compression::ALL {
            let body = json();
            let small = compression.compress(&body).unwrap();
            assert!(
                small.len() < body.len() / 4,
                "{compression}: {}",
                small.len()
            );
            assert_eq!(compression.decompress(&small, body.len()).unwrap(), body);
            assert_eq!(Compression::of(compression.codec()), Some(compression));
            assert_eq!(compression.to_string().parse(), Ok(compression));
        }
    }

    #[test]
    fn what_does_not_get_smaller_or_far_too_small_goes_as_it_is() {
        let noise: Vec<u8> = (0..4096u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        let zeros = vec![0; 4 << 20];
        for compression in Compression::ALL {
            assert_eq!(compression.compress(b""), None);
            assert_eq!(compression.compress(b"short"), None);
            let made = compression.compress(&noise);
            assert!(made.is_none_or(|it| it.len() < noise.len()));
            let made = compression.compress(&zeros);
            assert!(made.is_none_or(|it| allows(it.len(), zeros.len())));
        }
    }

    #[test]
    fn a_body_that_is_longer_or_shorter_than_it_says_is_noticed() {
        for compression in Compression::ALL {
            let body = json();
            let small = compression.compress(&body).unwrap();
            for said in [0, 1, body.len() - 1, body.len() + 1] {
                let found = if said < body.len() {
                    said + 1
                } else {
                    body.len()
                };
                let bad = BadBody::Length {
                    compression,
                    said,
                    found,
                };
                assert_eq!(compression.decompress(&small, said), Err(bad));
            }
            let cut = compression.decompress(&small[..small.len() / 2], body.len());
            assert!(cut.is_err(), "{compression}");
            assert!(compression.decompress(b"", body.len()).is_err());
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_never_panic_and_never_grow(
            body in proptest::collection::vec(any::<u8>(), 0..300),
            said in 0usize..5_000,
        ) {
            for compression in Compression::ALL {
                if let Ok(raw) = compression.decompress(&body, said) {
                    prop_assert_eq!(raw.len(), said);
                }
                if let Some(small) = compression.compress(&body) {
                    prop_assert_eq!(compression.decompress(&small, body.len()).unwrap(), body.clone());
                }
            }
        }

        #[test]
        fn damage_never_panics(at in 0usize..10_000, value: u8) {
            let body = json();
            for compression in Compression::ALL {
                let mut small = compression.compress(&body).unwrap();
                let at = at % small.len();
                small[at] = value;
                let _ = compression.decompress(&small, body.len());
            }
        }
    }
}
