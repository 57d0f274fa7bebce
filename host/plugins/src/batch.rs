//! Messages laid out for a guest: a few flat lists, however many messages there are, because a
//! list is one allocation in the guest.

use crate::bindings::quern::plugin::types;
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

/// Messages on their way to a guest. Filled message by message: begin, each text, each number, end.
pub struct Batch {
    fields: usize,
    numbers: usize,
    pub(crate) flat: types::Batch,
}

impl Batch {
    /// For subscriptions with these needs.
    pub fn new(needs: &Needs) -> Self {
        Self {
            fields: needs.fields.len(),
            numbers: needs.numbers.len(),
            flat: empty(),
        }
    }

    pub fn begin_message(&mut self) {
        debug_assert!(self.is_whole(), "the message before was ended");
    }

    /// The next text of this message; `None` = it has none.
    pub fn text(&mut self, text: Option<&str>) {
        self.flat.text.push_str(text.unwrap_or(""));
        let end = self.flat.text.len() as u32;
        self.flat.ends.push(match text {
            Some(_) => end,
            None => end | ABSENT,
        });
    }

    /// The next number of this message.
    pub fn number(&mut self, number: i64) {
        self.flat.numbers.push(number);
    }

    pub fn end_message(&mut self) {
        self.flat.len += 1;
        debug_assert!(self.is_whole(), "every text and number was given");
    }

    fn is_whole(&self) -> bool {
        let messages = self.len();
        self.flat.ends.len() == messages * self.fields
            && self.flat.numbers.len() == messages * self.numbers
    }

    /// How many messages.
    pub fn len(&self) -> usize {
        self.flat.len as usize
    }

    pub fn is_empty(&self) -> bool {
        self.flat.len == 0
    }

    /// Worth judging now: more would not make it cheaper.
    pub fn is_full(&self) -> bool {
        self.len() >= limits::BATCH_MESSAGES || self.flat.text.len() >= limits::BATCH_TEXT
    }

    pub fn clear(&mut self) {
        self.flat.len = 0;
        self.flat.ends.clear();
        self.flat.text.clear();
        self.flat.numbers.clear();
    }

    /// Some of the messages, as a batch of their own.
    pub(crate) fn slice(&self, messages: std::ops::Range<usize>) -> types::Batch {
        let (from, to) = (messages.start, messages.end);
        let ends = &self.flat.ends[from * self.fields..to * self.fields];
        let start = match from * self.fields {
            0 => 0,
            index => self.flat.ends[index - 1] & !ABSENT,
        };
        let end = ends.last().map_or(start, |end| end & !ABSENT);
        types::Batch {
            len: (to - from) as u32,
            ends: ends.iter().map(|end| end - start).collect(),
            text: self.flat.text[start as usize..end as usize].to_owned(),
            numbers: self.flat.numbers[from * self.numbers..to * self.numbers].to_vec(),
        }
    }
}

fn empty() -> types::Batch {
    types::Batch {
        len: 0,
        ends: Vec::new(),
        text: String::new(),
        numbers: Vec::new(),
    }
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
                batch.end_message();
            }
            batch
        };
        let whole = build(messages);
        for from in 0..=messages.len() {
            for to in from..=messages.len() {
                let (slice, alone) = (whole.slice(from..to), build(&messages[from..to]).flat);
                assert_eq!(slice.len, alone.len);
                assert_eq!(slice.ends, alone.ends, "{from}..{to}");
                assert_eq!(slice.text, alone.text);
                assert_eq!(slice.numbers, alone.numbers);
            }
        }
    }
}
