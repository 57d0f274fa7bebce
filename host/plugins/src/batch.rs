//! Messages laid out for a guest: a few flat lists, however many messages there are, because a
//! list is one allocation in the guest.

use std::ops::Range;

use crate::bindings::types;
use crate::limits;

/// A text of a message a subscription reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    Property(String),
    Tag,
    Keys,
    Topic,
    MessageId,
    OrderKey,
    Group,
    Zone,
    Other(String),
}

/// A number of a message a subscription reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Number {
    Integer(String),
    TagCode,
    QueueId,
    QueueOffset,
    Size,
    BornTimestamp,
    StoreTimestamp,
    ReconsumeTimes,
    Sequence,
    Random,
    Other(String),
}

/// What a subscription reads of each message, in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    pub fields: Vec<Field>,
    pub numbers: Vec<Number>,
    /// Nothing outside these tag codes can match; `None` = cannot tell.
    pub tag_codes: Option<Vec<i32>>,
}

impl From<types::Needs> for Needs {
    fn from(needs: types::Needs) -> Self {
        Self {
            fields: needs.fields.into_iter().map(Field::from).collect(),
            numbers: needs.numbers.into_iter().map(Number::from).collect(),
            tag_codes: needs.tag_codes,
        }
    }
}

impl From<types::Field> for Field {
    fn from(field: types::Field) -> Self {
        match field {
            types::Field::Property(name) => Self::Property(name),
            types::Field::Tag => Self::Tag,
            types::Field::Keys => Self::Keys,
            types::Field::Topic => Self::Topic,
            types::Field::MessageId => Self::MessageId,
            types::Field::OrderKey => Self::OrderKey,
            types::Field::Group => Self::Group,
            types::Field::Zone => Self::Zone,
            types::Field::Other(name) => Self::Other(name),
        }
    }
}

impl From<types::Number> for Number {
    fn from(number: types::Number) -> Self {
        match number {
            types::Number::Integer(name) => Self::Integer(name),
            types::Number::TagCode => Self::TagCode,
            types::Number::QueueId => Self::QueueId,
            types::Number::QueueOffset => Self::QueueOffset,
            types::Number::Size => Self::Size,
            types::Number::BornTimestamp => Self::BornTimestamp,
            types::Number::StoreTimestamp => Self::StoreTimestamp,
            types::Number::ReconsumeTimes => Self::ReconsumeTimes,
            types::Number::Sequence => Self::Sequence,
            types::Number::Random => Self::Random,
            types::Number::Other(name) => Self::Other(name),
        }
    }
}

const ABSENT: u32 = 1 << 31;

/// Messages as the contract lays them out. Bodies are empty unless a body filter is asked.
#[derive(Debug, Clone)]
pub(crate) struct Flat {
    pub(crate) messages: types::Batch,
    pub(crate) bodies: Bodies,
}

/// Body i is `bytes[ends[i - 1] .. ends[i]]`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bodies {
    pub(crate) ends: Vec<u32>,
    pub(crate) bytes: Vec<u8>,
}

impl Flat {
    /// What judging them may cost.
    pub(crate) fn fuel(&self, fuel: &limits::Fuel) -> u64 {
        fuel.batch
            + u64::from(self.messages.len) * fuel.message
            + self.messages.text.len() as u64 * fuel.byte
            + self.bodies.bytes.len() as u64 * fuel.body_byte
    }
}

/// Messages on their way to a guest. Filled message by message: begin, each text, each number, the
/// body if bodies are wanted, end.
pub struct Batch {
    fields: usize,
    numbers: usize,
    /// Worth judging when it has so many messages.
    most: usize,
    pub(crate) flat: Flat,
}

impl Batch {
    /// For subscriptions with these needs.
    pub fn new(needs: &Needs) -> Self {
        Self {
            fields: needs.fields.len(),
            numbers: needs.numbers.len(),
            most: limits::BATCH_MESSAGES,
            flat: Flat {
                messages: types::Batch {
                    len: 0,
                    ends: Vec::new(),
                    text: String::new(),
                    numbers: Vec::new(),
                },
                bodies: Bodies::default(),
            },
        }
    }

    /// The same, for not more than so many messages.
    pub(crate) fn of(most: usize, needs: &Needs) -> Self {
        Self {
            most,
            ..Self::new(needs)
        }
    }

    #[inline]
    pub fn begin_message(&mut self) {
        debug_assert!(self.is_whole(), "the message before was ended");
    }

    /// The next text of this message; `None` = it has none.
    #[inline]
    pub fn text(&mut self, text: Option<&str>) {
        let flat = &mut self.flat.messages;
        flat.text.push_str(text.unwrap_or(""));
        let end = flat.text.len() as u32;
        flat.ends.push(match text {
            Some(_) => end,
            None => end | ABSENT,
        });
    }

    /// The next number of this message.
    #[inline]
    pub fn number(&mut self, number: i64) {
        self.flat.messages.numbers.push(number);
    }

    /// The body of this message: of each, or of none.
    pub fn body(&mut self, body: &[u8]) {
        let bodies = &mut self.flat.bodies;
        bodies.bytes.extend_from_slice(body);
        bodies.ends.push(bodies.bytes.len() as u32);
    }

    #[inline]
    pub fn end_message(&mut self) {
        self.flat.messages.len += 1;
        debug_assert!(self.is_whole(), "every text and number was given");
    }

    fn is_whole(&self) -> bool {
        let messages = self.len();
        self.flat.messages.ends.len() == messages * self.fields
            && self.flat.messages.numbers.len() == messages * self.numbers
            && [0, messages].contains(&self.flat.bodies.ends.len())
    }

    /// How many messages.
    #[inline]
    pub fn len(&self) -> usize {
        self.flat.messages.len as usize
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.flat.messages.len == 0
    }

    /// Worth judging now: more would not make it cheaper, or take too long.
    #[inline]
    pub fn is_full(&self) -> bool {
        let bodies = &self.flat.bodies;
        self.len() >= self.most
            || self.flat.messages.text.len() >= limits::BATCH_TEXT
            || bodies.ends.len() >= limits::BATCH_BODIES
            || bodies.bytes.len() >= limits::BATCH_BODY_BYTES
    }

    pub fn clear(&mut self) {
        let flat = &mut self.flat.messages;
        flat.len = 0;
        flat.ends.clear();
        flat.text.clear();
        flat.numbers.clear();
        self.flat.bodies.ends.clear();
        self.flat.bodies.bytes.clear();
    }

    /// Some of the messages, the last one first.
    pub(crate) fn backwards(&self, range: Range<usize>) -> Flat {
        let mut flat = self.slice(0..0);
        for message in range.rev() {
            let Flat { messages, bodies } = self.slice(message..message + 1);
            // Adding a start leaves the mark of an absent text as it is.
            let start = flat.messages.text.len() as u32;
            let ends = messages.ends.iter().map(|end| end + start);
            flat.messages.len += 1;
            flat.messages.ends.extend(ends);
            flat.messages.text.push_str(&messages.text);
            flat.messages.numbers.extend(messages.numbers);
            let start = flat.bodies.bytes.len() as u32;
            let ends = bodies.ends.iter().map(|end| end + start);
            flat.bodies.ends.extend(ends);
            flat.bodies.bytes.extend(bodies.bytes);
        }
        flat
    }

    /// Some of the messages, as a batch of their own.
    pub(crate) fn slice(&self, range: Range<usize>) -> Flat {
        let (from, to) = (range.start, range.end);
        let all = &self.flat.messages;
        let texts = from * self.fields..to * self.fields;
        let (ends, bytes) = cut(&all.ends, texts);
        let bodies = match self.flat.bodies.ends.is_empty() {
            true => Bodies::default(),
            false => {
                let (ends, bytes) = cut(&self.flat.bodies.ends, range);
                Bodies {
                    ends,
                    bytes: self.flat.bodies.bytes[bytes].to_vec(),
                }
            }
        };
        Flat {
            messages: types::Batch {
                len: (to - from) as u32,
                ends,
                text: all.text[bytes].to_owned(),
                numbers: all.numbers[from * self.numbers..to * self.numbers].to_vec(),
            },
            bodies,
        }
    }
}

/// Some of the ends, as if theirs were the only pieces; and the bytes they stand for.
fn cut(ends: &[u32], pieces: Range<usize>) -> (Vec<u32>, Range<usize>) {
    let start = match pieces.start {
        0 => 0,
        index => ends[index - 1] & !ABSENT,
    };
    let ends = &ends[pieces];
    let end = ends.last().map_or(start, |end| end & !ABSENT);
    let ends = ends.iter().map(|end| end - start).collect();
    (ends, start as usize..end as usize)
}

/// What a number of the contract is where there is none.
const NO_NUMBER: i64 = i64::MIN;
/// What it is where a property is there and is no 64-bit integer.
const NOT_A_NUMBER: i64 = i64::MIN + 1024;

/// A property as [`Number::Integer`] gives it: by Java's syntax, a sign and decimal digits of any
/// script, with the contract's two marks.
pub fn integer(property: Option<&str>) -> i64 {
    let Some(text) = property.filter(|text| !text.is_empty()) else {
        return NO_NUMBER;
    };
    match text.parse().ok().or_else(|| java_long(text)) {
        Some(NO_NUMBER | NOT_A_NUMBER) | None => NOT_A_NUMBER,
        Some(value) => value,
    }
}

/// First digits of Unicode's decimal number systems within the first plane, as Java 17 knows them.
const ZEROS: [u16; 37] = [
    0x0030, 0x0660, 0x06F0, 0x07C0, 0x0966, 0x09E6, 0x0A66, 0x0AE6, 0x0B66, 0x0BE6, 0x0C66, 0x0CE6,
    0x0D66, 0x0DE6, 0x0E50, 0x0ED0, 0x0F20, 0x1040, 0x1090, 0x17E0, 0x1810, 0x1946, 0x19D0, 0x1A80,
    0x1A90, 0x1B50, 0x1BB0, 0x1C40, 0x1C50, 0xA620, 0xA8D0, 0xA900, 0xA9D0, 0xA9F0, 0xAA50, 0xABF0,
    0xFF10,
];

/// Rewrites foreign digits as our own; whatever else is there is then refused by the parser.
#[cold]
fn java_long(text: &str) -> Option<i64> {
    if text.is_ascii() {
        return None;
    }
    let ours = text.chars().map(|c| digit_of_ours(c).unwrap_or(c));
    ours.collect::<String>().parse().ok()
}

fn digit_of_ours(c: char) -> Option<char> {
    let unit = u16::try_from(u32::from(c)).ok()?;
    let below = ZEROS.partition_point(|zero| *zero <= unit);
    let zero = ZEROS[below.checked_sub(1)?];
    char::from_digit(u32::from(unit - zero), 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_the_batch_its_messages_would_have_made() {
        let needs = Needs {
            fields: vec![Field::Tag, Field::Keys],
            numbers: vec![Number::Size],
            tag_codes: None,
        };
        let messages: &[(Option<&str>, Option<&str>, i64)] = &[
            (Some("a"), None, 1),
            (None, Some("bcd"), 2),
            (None, None, 3),
            (Some("ö"), Some(""), 4),
        ];
        let build = |messages: &[(Option<&str>, Option<&str>, i64)]| {
            let mut batch = Batch::new(&needs);
            for (tag, keys, size) in messages {
                batch.begin_message();
                batch.text(*tag);
                batch.text(*keys);
                batch.number(*size);
                batch.body(keys.unwrap_or("none").as_bytes());
                batch.end_message();
            }
            batch
        };
        let whole = build(messages);
        for from in 0..=messages.len() {
            for to in from..=messages.len() {
                let (slice, alone) = (whole.slice(from..to), build(&messages[from..to]).flat);
                assert_eq!(slice.bodies.ends, alone.bodies.ends, "{from}..{to}");
                assert_eq!(slice.bodies.bytes, alone.bodies.bytes);
                let (slice, alone) = (slice.messages, alone.messages);
                assert_eq!(slice.len, alone.len);
                assert_eq!(slice.ends, alone.ends, "{from}..{to}");
                assert_eq!(slice.text, alone.text);
                assert_eq!(slice.numbers, alone.numbers);
                let turned = messages[from..to].iter().rev().copied();
                let turned = build(&turned.collect::<Vec<_>>()).flat;
                let backwards = whole.backwards(from..to);
                assert_eq!(backwards.bodies.ends, turned.bodies.ends, "{from}..{to}");
                assert_eq!(backwards.bodies.bytes, turned.bodies.bytes);
                let (backwards, turned) = (backwards.messages, turned.messages);
                assert_eq!(backwards.len, turned.len);
                assert_eq!(backwards.ends, turned.ends, "{from}..{to}");
                assert_eq!(backwards.text, turned.text);
                assert_eq!(backwards.numbers, turned.numbers);
            }
        }
    }
    #[test]
    fn integers_are_read_as_java_reads_them() {
        for (text, value) in [
            ("5", 5),
            ("+5", 5),
            ("-٥٠", -50),
            ("５", 5),
            ("9223372036854775807", i64::MAX),
            ("9223372036854775808", NOT_A_NUMBER),
            ("-9223372036854775808", NOT_A_NUMBER),
            ("-9223372036854774784", NOT_A_NUMBER),
            ("5.0", NOT_A_NUMBER),
            (" 5", NOT_A_NUMBER),
            ("five", NOT_A_NUMBER),
            ("𝟓", NOT_A_NUMBER),
            ("", NO_NUMBER),
        ] {
            assert_eq!(integer(Some(text)), value, "{text:?}");
        }
        assert_eq!(integer(None), NO_NUMBER);
    }
}
