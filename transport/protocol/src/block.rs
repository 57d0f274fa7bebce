//! The block of bytes a producer makes of a message. Little-endian.
//!
//! ```text
//!  0  u32 len          of the whole block, a multiple of 8
//!  4  u32 crc          CRC-32C of bytes 0..4 and 8..len
//!  8  u8  codec        of the body: 0 none, 1 lz4, 2 zstd, 3 zlib
//!  9  u8  flags        0
//! 10  u16 tag_len
//! 12  u16 keys_len
//! 14  u16 pairs_len    properties, the system's too
//! 16  u32 body_len
//! 20  u32 raw_len      body once decompressed
//! 24  u64 born_at      ms since 1970, the producer's clock
//! 32  tag, keys, pairs (u16 length + bytes, key then value), body, zero padding
//! ```
//!
//! The broker stores a block byte for byte behind a record header, and consumers receive it so: the
//! producer's CRC covers the message all the way. [`Block::parse`] checks every byte, so a block
//! that exists can be read without further checks. Frozen in `tests/golden`.

use std::borrow::Cow;

use bytes::Bytes;

use crate::compression::{self, BadBody, Compression};
use crate::limits;
use crate::message::{MessageError, Tag};

/// Bytes before the tag.
pub const BLOCK_HEADER: usize = 32;

/// A block of the broker's own: a body and nothing else.
pub fn state_block(body: &[u8], born_at: u64) -> Bytes {
    lay_out(&Parts {
        tag: "",
        keys: "",
        pairs_len: 0,
        pairs: std::iter::empty,
        body: Body::Plain(body),
        born_at,
    })
}

/// A body as it goes into a block.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Body<'a> {
    Plain(&'a [u8]),
    Compressed {
        by: Compression,
        bytes: &'a [u8],
        raw_len: usize,
    },
}

impl<'a> Body<'a> {
    fn parts(self) -> (u8, &'a [u8], usize) {
        match self {
            Self::Plain(bytes) => (0, bytes, bytes.len()),
            Self::Compressed { by, bytes, raw_len } => (by.codec(), bytes, raw_len),
        }
    }
}

pub(crate) struct Parts<'a, P> {
    pub(crate) tag: &'a str,
    pub(crate) keys: &'a str,
    pub(crate) pairs_len: usize,
    pub(crate) pairs: P,
    pub(crate) body: Body<'a>,
    pub(crate) born_at: u64,
}

/// The lengths were checked: each fits its field.
pub(crate) fn lay_out<'a, P, I>(parts: &Parts<'a, P>) -> Bytes
where
    P: Fn() -> I,
    I: Iterator<Item = (&'a str, &'a str)>,
{
    let (codec, body, raw_len) = parts.body.parts();
    let filled = BLOCK_HEADER + parts.tag.len() + parts.keys.len() + parts.pairs_len + body.len();
    let len = filled.next_multiple_of(8);
    let mut out = Vec::with_capacity(len);
    out.extend_from_slice(&(len as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&[codec, 0]);
    out.extend_from_slice(&(parts.tag.len() as u16).to_le_bytes());
    out.extend_from_slice(&(parts.keys.len() as u16).to_le_bytes());
    out.extend_from_slice(&(parts.pairs_len as u16).to_le_bytes());
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(&(raw_len as u32).to_le_bytes());
    out.extend_from_slice(&parts.born_at.to_le_bytes());
    out.extend_from_slice(parts.tag.as_bytes());
    out.extend_from_slice(parts.keys.as_bytes());
    put_pairs((parts.pairs)(), &mut out);
    out.extend_from_slice(body);
    out.resize(len, 0);
    let crc = crc_around(&out, 4..8);
    out[4..8].copy_from_slice(&crc.to_le_bytes());
    Bytes::from(out)
}

/// CRC-32C of all of `bytes` but the field that holds it.
pub fn crc_around(bytes: &[u8], field: std::ops::Range<usize>) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(&bytes[..field.start]);
    digest.update(&bytes[field.end..]);
    digest.finalize() as u32
}

/// Why bytes are not a block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    #[error("block is cut short: {have} bytes of at least {need}")]
    Truncated { have: usize, need: usize },
    #[error("block length {len} is not a multiple of 8")]
    Length { len: u32 },
    #[error(
        "block checksum is {stored:#010x}, its bytes give {computed:#010x}: damaged on the way"
    )]
    Checksum { stored: u32, computed: u32 },
    #[error("block codec {0} is not known to this version")]
    Codec(u8),
    #[error("block flags {0:#04x} are not known to this version")]
    Flags(u8),
    #[error("the parts of a block of {len} bytes need {need}")]
    Parts { len: usize, need: usize },
    #[error("block padding is not zero")]
    Padding,
    #[error("the {0} of a block is not UTF-8")]
    Utf8(&'static str),
    #[error("the properties of a block do not add up")]
    Pairs,
    #[error(transparent)]
    Body(#[from] BadBody),
    #[error(transparent)]
    Message(#[from] MessageError),
}

impl BlockError {
    pub fn code(&self) -> crate::Code {
        match self {
            Self::Checksum { .. } => crate::Code::BAD_CHECKSUM,
            Self::Message(error) => error.code(),
            Self::Codec(_) | Self::Flags(_) => crate::Code::UNSUPPORTED,
            _ => crate::Code::BAD_MESSAGE,
        }
    }
}

/// A checked block, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block<'a> {
    bytes: &'a [u8],
    tag: &'a str,
    keys: &'a str,
    pairs: Pairs<'a>,
    compression: Option<Compression>,
    body: &'a [u8],
    raw_len: usize,
    crc: u32,
    born_at: u64,
}

fn u16_at(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

impl<'a> Block<'a> {
    /// Reads the block that `bytes` begin with and checks every byte of it. More may follow.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BlockError> {
        let block = Self::lengths(bytes)?;
        let (stored, computed) = (block.crc, crc_around(block.bytes, 4..8));
        if stored != computed {
            return Err(BlockError::Checksum { stored, computed });
        }
        Pairs::parse(block.pairs.0).ok_or(BlockError::Pairs)?;
        Tag::check(block.tag)?;
        if block.raw_len > limits::MESSAGE_BODY {
            return Err(MessageError::BodyTooLarge { len: block.raw_len }.into());
        }
        if !compression::allows(block.body.len(), block.raw_len) {
            let (len, raw_len) = (block.body.len(), block.raw_len);
            return Err(MessageError::ExpandsTooFar { len, raw_len }.into());
        }
        Ok(block)
    }

    /// Reads a block that has been parsed before, by the log or on arrival; of one that has not, properties that do not
    /// add up are not there.
    pub fn lengths(bytes: &'a [u8]) -> Result<Self, BlockError> {
        if bytes.len() < BLOCK_HEADER {
            return Err(BlockError::Truncated {
                have: bytes.len(),
                need: BLOCK_HEADER,
            });
        }
        let len = u32_at(bytes, 0);
        if !len.is_multiple_of(8) {
            return Err(BlockError::Length { len });
        }
        let len = len as usize;
        if len < BLOCK_HEADER || bytes.len() < len {
            return Err(BlockError::Truncated {
                have: bytes.len(),
                need: len.max(BLOCK_HEADER),
            });
        }
        let bytes = &bytes[..len];
        let compression = match bytes[8] {
            0 => None,
            codec => Some(Compression::of(codec).ok_or(BlockError::Codec(codec))?),
        };
        if bytes[9] != 0 {
            return Err(BlockError::Flags(bytes[9]));
        }
        let (tag, keys, pairs) = (u16_at(bytes, 10), u16_at(bytes, 12), u16_at(bytes, 14));
        let (body, raw) = (u32_at(bytes, 16) as usize, u32_at(bytes, 20) as usize);
        let need = BLOCK_HEADER + tag + keys + pairs + body;
        if need.next_multiple_of(8) != len || compression.is_none() && raw != body {
            return Err(BlockError::Parts { len, need });
        }
        let (tag, rest) = bytes[BLOCK_HEADER..].split_at(tag);
        let (keys, rest) = rest.split_at(keys);
        let (pairs, rest) = rest.split_at(pairs);
        let (body, padding) = rest.split_at(body);
        if padding.iter().any(|byte| *byte != 0) {
            return Err(BlockError::Padding);
        }
        Ok(Self {
            bytes,
            tag: str::from_utf8(tag).map_err(|_| BlockError::Utf8("tag"))?,
            keys: str::from_utf8(keys).map_err(|_| BlockError::Utf8("keys"))?,
            pairs: Pairs(pairs),
            compression,
            body,
            raw_len: raw,
            crc: u32_at(bytes, 4),
            born_at: u64::from(u32_at(bytes, 24)) | u64::from(u32_at(bytes, 28)) << 32,
        })
    }

    /// The block itself.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub fn crc(&self) -> u32 {
        self.crc
    }

    /// Empty = none.
    pub fn tag(&self) -> &'a str {
        self.tag
    }

    /// Separated by spaces; empty = none.
    pub fn keys(&self) -> &'a str {
        self.keys
    }

    /// How the body is compressed.
    pub fn compression(&self) -> Option<Compression> {
        self.compression
    }

    /// The body as it was sent, compressed if it is.
    pub fn stored_body(&self) -> &'a [u8] {
        self.body
    }

    /// Length of the body once decompressed.
    pub fn raw_len(&self) -> usize {
        self.raw_len
    }

    /// The body that the application gave. An error of a compressed one means that no broker has checked it.
    pub fn body(&self) -> Result<Cow<'a, [u8]>, BadBody> {
        match self.compression {
            None => Ok(Cow::Borrowed(self.body)),
            Some(by) => Ok(Cow::Owned(by.decompress(self.body, self.raw_len)?)),
        }
    }

    /// ms since 1970, by the producer's clock.
    pub fn born_at(&self) -> u64 {
        self.born_at
    }

    /// Properties in the order they were set, the system's included.
    pub fn properties(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.pairs.iter()
    }

    /// Filters ask for this of every message: only what is found is looked at as text.
    pub fn property(&self, name: &str) -> Option<&'a str> {
        let mut rest = self.pairs.0;
        loop {
            let key = take_bytes(&mut rest)?;
            let value = take_bytes(&mut rest)?;
            if key == name.as_bytes() {
                return str::from_utf8(value).ok();
            }
        }
    }
}

/// Names and values, each u16 length + bytes; checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pairs<'a>(&'a [u8]);

impl<'a> Pairs<'a> {
    /// `None` when the bytes do not add up, are no UTF-8, or a name is empty.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let name = take_text(&mut rest)?;
            take_text(&mut rest)?;
            if name.is_empty() {
                return None;
            }
        }
        Some(Self(bytes))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let name = take_text(&mut rest)?;
            Some((name, take_text(&mut rest)?))
        })
    }

    pub fn get(&self, name: &str) -> Option<&'a str> {
        let mut all = self.iter();
        all.find(|(it, _)| *it == name).map(|(_, value)| value)
    }

    /// The caller has checked that each text fits its length field.
    pub fn encode<'t>(pairs: impl IntoIterator<Item = (&'t str, &'t str)>) -> Vec<u8> {
        let mut out = Vec::new();
        put_pairs(pairs, &mut out);
        out
    }
}

fn put_pairs<'t>(pairs: impl IntoIterator<Item = (&'t str, &'t str)>, out: &mut Vec<u8>) {
    for (name, value) in pairs {
        for text in [name, value] {
            out.extend_from_slice(&(text.len() as u16).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        }
    }
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (len, after) = rest.split_first_chunk::<2>()?;
    let (bytes, after) = after.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
    *rest = after;
    Some(bytes)
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    str::from_utf8(take_bytes(rest)?).ok()
}

/// The blocks of a `Send` body, each checked; stops at the first error.
pub fn blocks(bytes: &[u8]) -> impl Iterator<Item = Result<Block<'_>, BlockError>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let block = Block::parse(rest);
        rest = match &block {
            Ok(block) => &rest[block.bytes.len()..],
            Err(_) => &[],
        };
        Some(block)
    })
}
#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Message, UNIQUE_KEY};
    use proptest::prelude::*;

    fn sample() -> Bytes {
        Message::new("orders", "{\"sku\":\"A7\"}")
            .tag("paid")
            .key("order-42")
            .key("cart-7")
            .prop("region", "eu")
            .encode("0A-1", 1_700_000_000_000)
            .unwrap()
    }

    #[test]
    fn a_block_reads_back_what_the_message_said() {
        let bytes = sample();
        let block = Block::parse(&bytes).unwrap();
        assert_eq!(block.bytes().len() % 8, 0);
        assert_eq!((block.tag(), block.keys()), ("paid", "order-42 cart-7"));
        assert_eq!(block.property(UNIQUE_KEY), Some("0A-1"));
        assert_eq!(block.property("region"), Some("eu"));
        assert_eq!(block.stored_body(), b"{\"sku\":\"A7\"}");
        assert_eq!(block.born_at(), 1_700_000_000_000);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = sample();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Block::parse(&damaged).is_err(), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Block::parse(&bytes);
            let _ = Block::lengths(&bytes);
        }

        /// Damage behind a good checksum (a buggy producer) must not panic either.
        #[test]
        fn resealed_damage_never_panics(at in 0usize..100, value: u8) {
            let mut bytes = sample().to_vec();
            let at = at % bytes.len();
            bytes[at] = value;
            let crc = crc_around(&bytes, 4..8);
            bytes[4..8].copy_from_slice(&crc.to_le_bytes());
            if let Ok(block) = Block::parse(&bytes) {
                prop_assert!(block.properties().count() <= bytes.len());
            }
        }
    }
}
