//! The frame: what travels on every stream, in both directions. Little-endian.
//!
//! ```text
//!  0  u32 len          bytes after this field: 20 + header + body
//!  4  u16 kind         operation; top bit set = reply
//!  6  u8  version      of this kind's header
//!  7  u8  flags        1 error · 2 more follows · 4 one-way; any other bit is refused
//!  8  u64 correlation  chosen by the asker, echoed in the reply
//! 16  u32 header_len
//! 20  u32 deadline_ms  time left when sent; 0 = none
//! 24  header           postcard
//!     body             raw: message blocks, log records, a table, or nothing
//! ```
//!
//! Header and body are framed apart, so a body is never parsed or copied on its way. The prefix is
//! checked before anything is allocated: a length beyond [`crate::limits`] is an error, not a wait.
//! Frozen in `tests/golden`; to change it, raise the ALPN version.

use bytes::{BufMut, Bytes};

use crate::error::{Code, WireError};
use crate::limits;
use crate::operation::{Operation, Place, encode_request};

const REPLY: u16 = 0x8000;
/// Replies have not changed since the first release.
const REPLY_VERSION: u8 = 1;

/// The flag byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(u8);

impl Flags {
    pub const NONE: Self = Self(0);
    pub const ERROR: Self = Self(1);
    pub const MORE: Self = Self(2);
    pub const ONE_WAY: Self = Self(4);
    const KNOWN: u8 = 1 | 2 | 4;

    pub fn is_error(self) -> bool {
        self.0 & Self::ERROR.0 != 0
    }

    /// Another frame answers the same request.
    pub fn has_more(self) -> bool {
        self.0 & Self::MORE.0 != 0
    }

    pub fn is_one_way(self) -> bool {
        self.0 & Self::ONE_WAY.0 != 0
    }
}

/// The 24 bytes before a header, decoded and within limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    pub kind: u16,
    pub is_reply: bool,
    pub version: u8,
    pub flags: Flags,
    pub correlation: u64,
    pub deadline_ms: u32,
    pub header_len: usize,
    pub body_len: usize,
}

/// Why a prefix was refused. The stream cannot be resynchronised after one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("frame says it is {len} bytes long, less than its own prefix: not this protocol")]
    TooShort { len: u32 },
    #[error("frame header is {len} bytes, the limit is {max}", max = limits::FRAME_HEADER)]
    HeaderTooLarge { len: u32 },
    #[error("frame header of {header} bytes does not fit a frame of {len} bytes")]
    HeaderOverrun { header: u32, len: u32 },
    #[error("frame body is {len} bytes, the limit is {max}", max = limits::FRAME_BODY)]
    BodyTooLarge { len: u32 },
    #[error("frame flags {0:#04x} contain bits this version does not know")]
    UnknownFlags(u8),
}

impl FrameError {
    pub fn code(self) -> Code {
        match self {
            Self::HeaderTooLarge { .. } | Self::BodyTooLarge { .. } => Code::TOO_LARGE,
            Self::TooShort { .. } | Self::HeaderOverrun { .. } | Self::UnknownFlags(_) => {
                Code::PROTOCOL
            }
        }
    }
}

impl Prefix {
    /// Checks and decodes the 24 bytes a frame begins with.
    pub fn decode(bytes: &[u8; limits::FRAME_PREFIX]) -> Result<Self, FrameError> {
        let [l0, l1, l2, l3, k0, k1, version, flags, rest @ ..] = *bytes;
        let [
            c0,
            c1,
            c2,
            c3,
            c4,
            c5,
            c6,
            c7,
            h0,
            h1,
            h2,
            h3,
            d0,
            d1,
            d2,
            d3,
        ] = rest;
        let len = u32::from_le_bytes([l0, l1, l2, l3]);
        let kind = u16::from_le_bytes([k0, k1]);
        let header = u32::from_le_bytes([h0, h1, h2, h3]);
        const AFTER_LEN: u32 = limits::FRAME_PREFIX as u32 - 4;
        if len < AFTER_LEN {
            return Err(FrameError::TooShort { len });
        }
        if flags & !Flags::KNOWN != 0 {
            return Err(FrameError::UnknownFlags(flags));
        }
        if header as usize > limits::FRAME_HEADER {
            return Err(FrameError::HeaderTooLarge { len: header });
        }
        let payload = len - AFTER_LEN;
        let Some(body) = payload.checked_sub(header) else {
            return Err(FrameError::HeaderOverrun { header, len });
        };
        if body as usize > limits::FRAME_BODY {
            return Err(FrameError::BodyTooLarge { len: body });
        }
        Ok(Self {
            kind: kind & !REPLY,
            is_reply: kind & REPLY != 0,
            version,
            flags: Flags(flags),
            correlation: u64::from_le_bytes([c0, c1, c2, c3, c4, c5, c6, c7]),
            deadline_ms: u32::from_le_bytes([d0, d1, d2, d3]),
            header_len: header as usize,
            body_len: body as usize,
        })
    }
}

/// A frame as received: one body, shared with the buffer it arrived in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u16,
    pub is_reply: bool,
    pub version: u8,
    pub flags: Flags,
    pub correlation: u64,
    pub deadline_ms: u32,
    pub header: Bytes,
    pub body: Bytes,
}

/// A frame to be sent: its body may lie in several places and is gathered on the way out.
#[derive(Debug, Clone)]
pub struct Outgoing {
    kind: u16,
    version: u8,
    flags: Flags,
    correlation: u64,
    deadline_ms: u32,
    header: Vec<u8>,
    body: Vec<Bytes>,
}

/// A frame is larger than the protocol allows; it was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} would be {len} bytes, the limit is {max}")]
pub struct TooLarge {
    pub what: &'static str,
    pub len: usize,
    pub max: usize,
}

impl From<TooLarge> for WireError {
    fn from(error: TooLarge) -> Self {
        Self::new(Code::TOO_LARGE, error.to_string())
    }
}

impl Outgoing {
    /// A request. A table operation brings no body of its own.
    pub fn request<O: Operation>(operation: &O, body: Vec<Bytes>) -> Result<Self, TooLarge> {
        let (version, encoded) = encode_request(operation);
        let (header, body) = place(O::REQUEST, encoded, body);
        Self::new(O::KIND as u16, version, header, body)
    }

    /// The reply to an `O`.
    pub fn reply<O: Operation>(reply: &O::Reply, body: Vec<Bytes>) -> Result<Self, TooLarge> {
        let (header, body) = place(O::REPLY, encode(reply), body);
        Self::new(O::KIND as u16 | REPLY, REPLY_VERSION, header, body)
    }

    /// The error that answers a request of this kind.
    pub fn error(kind: u16, error: &WireError) -> Self {
        Self {
            kind: kind | REPLY,
            version: REPLY_VERSION,
            flags: Flags::ERROR,
            correlation: 0,
            deadline_ms: 0,
            header: error.encode(),
            body: Vec::new(),
        }
    }

    fn new(kind: u16, version: u8, header: Vec<u8>, body: Vec<Bytes>) -> Result<Self, TooLarge> {
        let body_len = body.iter().map(Bytes::len).sum();
        for (what, len, max) in [
            ("frame header", header.len(), limits::FRAME_HEADER),
            ("frame body", body_len, limits::FRAME_BODY),
        ] {
            if len > max {
                return Err(TooLarge { what, len, max });
            }
        }
        Ok(Self {
            kind,
            version,
            flags: Flags::NONE,
            correlation: 0,
            deadline_ms: 0,
            header,
            body,
        })
    }

    #[must_use]
    pub fn correlation(mut self, correlation: u64) -> Self {
        self.correlation = correlation;
        self
    }

    #[must_use]
    pub fn deadline_ms(mut self, deadline_ms: u32) -> Self {
        self.deadline_ms = deadline_ms;
        self
    }

    #[must_use]
    pub fn one_way(mut self) -> Self {
        self.flags = Flags::ONE_WAY;
        self
    }

    /// Another frame answers the same request.
    #[must_use]
    pub fn more(mut self) -> Self {
        self.flags = Flags::MORE;
        self
    }

    /// Bytes this frame takes on the wire.
    pub fn wire_len(&self) -> usize {
        limits::FRAME_PREFIX + self.header.len() + self.body_len()
    }

    pub fn body_len(&self) -> usize {
        self.body.iter().map(Bytes::len).sum()
    }

    /// Appends prefix and header; the body follows by [`Outgoing::into_body`].
    pub fn put_head(&self, out: &mut impl BufMut) {
        let len = limits::FRAME_PREFIX - 4 + self.header.len() + self.body_len();
        out.put_u32_le(len as u32);
        out.put_u16_le(self.kind);
        out.put_u8(self.version);
        out.put_u8(self.flags.0);
        out.put_u64_le(self.correlation);
        out.put_u32_le(self.header.len() as u32);
        out.put_u32_le(self.deadline_ms);
        out.put_slice(&self.header);
    }

    pub fn into_body(self) -> Vec<Bytes> {
        self.body
    }

    /// The frame in one piece, as a reader meets it.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.wire_len());
        self.put_head(&mut out);
        for part in &self.body {
            out.extend_from_slice(part);
        }
        out
    }
}

fn place(place: Place, encoded: Vec<u8>, body: Vec<Bytes>) -> (Vec<u8>, Vec<Bytes>) {
    match place {
        Place::Header => (encoded, body),
        Place::Table => {
            debug_assert!(body.is_empty(), "a table is the body");
            (Vec::new(), vec![Bytes::from(encoded)])
        }
    }
}

/// Postcard of our own types: they hold only strings, integers and sequences, which cannot fail.
pub(crate) fn encode<T: serde::Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("protocol types always encode")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::{Request, decode_reply};
    use crate::{Heartbeat, HeartbeatReply, ListTopics, ListTopicsReply};

    fn receive(bytes: &[u8]) -> Frame {
        let (prefix, rest) = bytes.split_first_chunk().unwrap();
        let prefix = Prefix::decode(prefix).unwrap();
        let (header, body) = rest.split_at(prefix.header_len);
        assert_eq!(body.len(), prefix.body_len);
        Frame {
            kind: prefix.kind,
            is_reply: prefix.is_reply,
            version: prefix.version,
            flags: prefix.flags,
            correlation: prefix.correlation,
            deadline_ms: prefix.deadline_ms,
            header: Bytes::copy_from_slice(header),
            body: Bytes::copy_from_slice(body),
        }
    }

    #[test]
    fn a_request_and_its_replies_come_back_as_they_went() {
        let asked = Heartbeat { broker: None };
        let sent = Outgoing::request(&asked, Vec::new()).unwrap();
        let frame = receive(&sent.correlation(7).deadline_ms(3000).to_vec());
        assert_eq!((frame.correlation, frame.deadline_ms), (7, 3000));
        assert_eq!(Request::decode(&frame), Ok(Request::Heartbeat(asked)));

        let answer = HeartbeatReply {
            registered: true,
            time_ms: 5,
        };
        let frame = receive(
            &Outgoing::reply::<Heartbeat>(&answer, Vec::new())
                .unwrap()
                .to_vec(),
        );
        assert!(frame.is_reply);
        assert_eq!(decode_reply::<Heartbeat>(&frame), Ok(answer));

        let table = ListTopicsReply { topics: Vec::new() };
        let frame = receive(
            &Outgoing::reply::<ListTopics>(&table, Vec::new())
                .unwrap()
                .to_vec(),
        );
        assert!(frame.header.is_empty());
        assert_eq!(decode_reply::<ListTopics>(&frame), Ok(table));

        let error = WireError::new(Code::NOT_FOUND, "no such topic");
        let frame = receive(&Outgoing::error(frame.kind, &error).to_vec());
        assert_eq!(decode_reply::<ListTopics>(&frame), Err(error));
    }

    #[test]
    fn a_bad_prefix_is_named_before_anything_is_allocated() {
        let good: [u8; 24] = Outgoing::request(&ListTopics {}, Vec::new())
            .unwrap()
            .to_vec()
            .try_into()
            .unwrap();
        let with = |at: usize, bytes: &[u8]| {
            let mut prefix = good;
            prefix[at..at + bytes.len()].copy_from_slice(bytes);
            Prefix::decode(&prefix).map(|_| ())
        };
        let cases: &[(usize, &[u8], FrameError)] = &[
            (0, &[19, 0, 0, 0], FrameError::TooShort { len: 19 }),
            (7, &[8], FrameError::UnknownFlags(8)),
            (
                16,
                &[1, 0, 0, 0],
                FrameError::HeaderOverrun { header: 1, len: 20 },
            ),
            (
                16,
                &[1, 0x40, 0, 0],
                FrameError::HeaderTooLarge { len: 0x4001 },
            ),
            (
                0,
                &[21, 0, 0x80, 0],
                FrameError::BodyTooLarge { len: 0x80_0001 },
            ),
        ];
        assert_eq!(with(0, &[]), Ok(()));
        for (at, bytes, error) in cases {
            assert_eq!(with(*at, bytes), Err(*error));
        }
    }

    #[test]
    fn trailing_bytes_unknown_kinds_and_versions_are_refused() {
        let frame = receive(
            &Outgoing::request(&Heartbeat { broker: None }, Vec::new())
                .unwrap()
                .to_vec(),
        );
        let code = |frame: Frame| Request::decode(&frame).unwrap_err().code;
        let mut long = frame.header.to_vec();
        long.push(0);
        let trailing = Frame {
            header: long.into(),
            ..frame.clone()
        };
        assert_eq!(code(trailing), Code::PROTOCOL.number);
        let unknown = Frame {
            kind: 999,
            ..frame.clone()
        };
        assert_eq!(code(unknown), Code::UNSUPPORTED.number);
        assert_eq!(
            code(Frame {
                version: 9,
                ..frame
            }),
            Code::UNSUPPORTED.number
        );
    }
}
