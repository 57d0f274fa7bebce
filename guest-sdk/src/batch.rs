//! Messages as the broker hands them over: a few flat lists, however many messages there are.
//!
//! With F texts and N numbers a message, text j belongs to message j / F and ends at `ends[j]`,
//! whose top bit marks it absent; number k of message i is `numbers[i * N + k]`.

use crate::bindings::types;

const ABSENT: u32 = 1 << 31;

/// Some messages, each with the texts and numbers that [`crate::Needs`] named, in that order.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    messages: usize,
    ends: Vec<u32>,
    text: String,
    numbers: Vec<i64>,
}

impl Batch {
    /// What [`Batch::numbers`] holds where a message has no such number.
    pub const NO_NUMBER: i64 = i64::MIN;
    /// What it holds where a property is there and is no 64-bit integer.
    pub const NOT_A_NUMBER: i64 = i64::MIN + 1024;

    /// How many messages.
    pub fn len(&self) -> usize {
        self.messages
    }

    pub fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// The text that was needed as number `field`; `None` where the message has none.
    pub fn text(&self, message: usize, field: usize) -> Option<&str> {
        let column = self.texts(field)?;
        let range = column.range(message)?;
        self.text.get(range)
    }

    /// The number that was needed as number `figure`; `None` where the message has none.
    pub fn number(&self, message: usize, figure: usize) -> Option<i64> {
        let figures = self.numbers.len().checked_div(self.messages)?;
        let value = *self.numbers.get(message * figures + figure)?;
        (figure < figures && value != Self::NO_NUMBER).then_some(value)
    }

    /// All texts that were needed as number `field`; `None` if so many were not needed.
    pub fn texts(&self, field: usize) -> Option<Texts<'_>> {
        let fields = self.ends.len().checked_div(self.messages)?;
        (field < fields).then_some(Texts {
            ends: &self.ends,
            text: self.text.as_bytes(),
            fields,
            field,
        })
    }

    /// All numbers that were needed as number `figure`, marks included; `None` if so many were not
    /// needed.
    pub fn numbers(&self, figure: usize) -> Option<Numbers<'_>> {
        let figures = self.numbers.len().checked_div(self.messages)?;
        (figure < figures).then_some(Numbers {
            values: &self.numbers,
            figures,
            figure,
        })
    }
}

/// One text of every message.
#[derive(Debug, Clone, Copy)]
pub struct Texts<'a> {
    ends: &'a [u32],
    text: &'a [u8],
    fields: usize,
    field: usize,
}

impl<'a> Texts<'a> {
    fn range(&self, message: usize) -> Option<std::ops::Range<usize>> {
        let index = message * self.fields + self.field;
        let end = *self.ends.get(index)?;
        if end & ABSENT != 0 {
            return None;
        }
        let start = match index.checked_sub(1) {
            None => 0,
            Some(before) => self.ends[before] & !ABSENT,
        };
        Some(start as usize..end as usize)
    }

    /// The text of one message as UTF-8 bytes; `None` where it has none.
    #[inline]
    pub fn bytes(&self, message: usize) -> Option<&'a [u8]> {
        self.text.get(self.range(message)?)
    }

    /// Which of up to 32 messages, from one on, have exactly this text: a bit each, that message's the lowest. Made
    /// for [`Verdicts::word`].
    #[inline]
    pub fn equal(&self, from: usize, wanted: &Exact) -> u32 {
        let first = from * self.fields + self.field;
        let mut start = match first.checked_sub(1) {
            None => 0,
            Some(before) => self.ends.get(before).map_or(0, |end| end & !ABSENT),
        };
        let ends = self.ends.get(first..).unwrap_or(&[]);
        let mut bits = 0;
        if self.fields == 1
            && let Some(ends) = ends.first_chunk::<32>()
        {
            for (bit, end) in ends.iter().enumerate() {
                bits |= u32::from(wanted.is(self.text, start, *end)) << bit;
                start = end & !ABSENT;
            }
            return bits;
        }
        for (bit, of_message) in ends.chunks(self.fields).take(32).enumerate() {
            bits |= u32::from(wanted.is(self.text, start, of_message[0])) << bit;
            // The text before the next message's is the last of this chunk.
            start = of_message[of_message.len() - 1] & !ABSENT;
        }
        bits
    }
}

/// A text that many are compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exact {
    text: Vec<u8>,
    /// Its first eight bytes, as far as it has them.
    head: u64,
    mask: u64,
}

impl Exact {
    pub fn new(text: impl Into<Vec<u8>>) -> Self {
        let text = text.into();
        let known = text.len().min(8);
        let mut head = [0; 8];
        head[..known].copy_from_slice(&text[..known]);
        Self {
            head: u64::from_le_bytes(head),
            mask: u64::MAX.checked_shr(64 - 8 * known as u32).unwrap_or(0),
            text,
        }
    }

    /// The text itself, UTF-8.
    pub fn bytes(&self) -> &[u8] {
        &self.text
    }

    /// Whether it is what stands there. An end that is marked absent makes a length nothing has.
    #[inline]
    fn is(&self, all: &[u8], start: u32, end: u32) -> bool {
        let is_as_long = end.wrapping_sub(start) as usize == self.text.len();
        let rest = all.get(start as usize..).unwrap_or(&[]);
        match rest.first_chunk() {
            Some(head) => {
                let is_head = u64::from_le_bytes(*head) & self.mask == self.head;
                is_as_long & is_head && (self.text.len() <= 8 || rest.starts_with(&self.text))
            }
            None => is_as_long && rest.starts_with(&self.text),
        }
    }
}

/// One number of every message.
#[derive(Debug, Clone, Copy)]
pub struct Numbers<'a> {
    values: &'a [i64],
    figures: usize,
    figure: usize,
}

impl<'a> Numbers<'a> {
    /// From one message on: its number and those after it.
    #[inline]
    pub fn from(&self, message: usize) -> impl Iterator<Item = i64> + 'a {
        let start = message * self.figures + self.figure;
        let values = self.values.get(start..).unwrap_or(&[]);
        values.iter().step_by(self.figures).copied()
    }

    /// Which of up to 32 messages, from one on, have a number within these bounds, both included: a bit each, that
    /// message's the lowest. The marks of [`Batch::NO_NUMBER`] and [`Batch::NOT_A_NUMBER`] are numbers here.
    #[inline]
    pub fn within(&self, from: usize, low: i64, high: i64) -> u32 {
        if low > high {
            return 0;
        }
        let width = high.wrapping_sub(low) as u64;
        let is_within = |value: i64| u32::from(value.wrapping_sub(low) as u64 <= width);
        let start = from * self.figures + self.figure;
        let values = self.values.get(start..).unwrap_or(&[]);
        let mut bits = 0;
        if self.figures == 1
            && let Some(values) = values.first_chunk::<32>()
        {
            for (bit, value) in values.iter().enumerate() {
                bits |= is_within(*value) << bit;
            }
            return bits;
        }
        for (bit, value) in self.from(from).take(32).enumerate() {
            bits |= is_within(value) << bit;
        }
        bits
    }
}

impl From<types::Batch> for Batch {
    fn from(batch: types::Batch) -> Self {
        Self {
            messages: batch.len as usize,
            ends: batch.ends,
            text: batch.text,
            numbers: batch.numbers,
        }
    }
}

/// A verdict for each message of a batch, as bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdicts {
    words: Vec<u32>,
    len: usize,
}

impl Verdicts {
    /// Rejects every message of the batch.
    pub fn none(batch: &Batch) -> Self {
        Self {
            words: vec![0; batch.len().div_ceil(32)],
            len: batch.len(),
        }
    }

    /// Delivers this message.
    pub fn deliver(&mut self, message: usize) {
        self.words[message / 32] |= 1 << (message % 32);
    }

    /// The verdicts of messages `32 * index ..`, lowest bit first; bits beyond the last message
    /// are ignored.
    pub fn word(&mut self, index: usize, bits: u32) {
        let left = self.len - index * 32;
        self.words[index] = match left {
            0..32 => bits & ((1 << left) - 1),
            _ => bits,
        };
    }

    pub fn is_delivered(&self, message: usize) -> bool {
        self.words[message / 32] >> (message % 32) & 1 == 1
    }

    pub(crate) fn into_words(self) -> Vec<u32> {
        self.words
    }
}

/// Makes batches for a plugin's own tests.
#[derive(Debug, Default)]
pub struct BatchBuilder(Batch);

impl BatchBuilder {
    /// Adds a message with its texts and numbers, in the order of the needs.
    #[must_use]
    pub fn message(mut self, texts: &[Option<&str>], numbers: &[i64]) -> Self {
        for text in texts {
            self.0.text.push_str(text.unwrap_or(""));
            let end = self.0.text.len() as u32;
            self.0.ends.push(match text {
                Some(_) => end,
                None => end | ABSENT,
            });
        }
        self.0.numbers.extend_from_slice(numbers);
        self.0.messages += 1;
        self
    }

    pub fn build(self) -> Batch {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_numbers_are_found_by_message_and_place() {
        let batch = BatchBuilder::default()
            .message(&[Some("a"), None], &[7])
            .message(&[None, Some("bc")], &[i64::MIN])
            .build();
        assert_eq!(batch.len(), 2);
        assert_eq!((batch.text(0, 0), batch.text(0, 1)), (Some("a"), None));
        assert_eq!((batch.text(1, 0), batch.text(1, 1)), (None, Some("bc")));
        assert_eq!((batch.number(0, 0), batch.number(1, 0)), (Some(7), None));
        assert_eq!((batch.text(0, 2), batch.text(2, 0)), (None, None));
        assert_eq!(Batch::default().text(0, 0), None);
        let column = batch.texts(1).unwrap();
        assert_eq!((column.bytes(0), column.bytes(1)), (None, Some(&b"bc"[..])));
        let numbers: Vec<i64> = batch.numbers(0).unwrap().from(0).collect();
        assert_eq!(numbers, [7, Batch::NO_NUMBER]);
        assert!(batch.texts(2).is_none() && batch.numbers(1).is_none());
    }

    #[test]
    fn words_are_what_their_messages_are_one_by_one() {
        let texts = ["", "eu", "us", "eu-west", "eu-west-1", "refunded", "é"];
        for fields in 1..=3 {
            let mut batch = BatchBuilder::default();
            for n in 0..70usize {
                let text = |field: usize| match (n + 3 * field) % 8 {
                    7 => None,
                    n => Some(texts[n]),
                };
                let row: Vec<_> = (0..fields).map(text).collect();
                let numbers: Vec<_> = (0..fields).map(|it| (n + it) as i64 - 35).collect();
                batch = batch.message(&row, &numbers);
            }
            let batch = batch.build();
            let cases = texts
                .iter()
                .flat_map(|it| (0..fields).map(move |field| (it, field)));
            for (text, field) in cases {
                let (wanted, column) = (Exact::new(*text), batch.texts(field).unwrap());
                assert_eq!(wanted.bytes(), text.as_bytes());
                for from in 0..70 {
                    let each = (from..70.min(from + 32)).enumerate();
                    let each = each.filter(|(_, it)| batch.text(*it, field) == Some(*text));
                    let right = each.fold(0, |bits, (bit, _)| bits | 1 << bit);
                    assert_eq!(
                        column.equal(from, &wanted),
                        right,
                        "{text:?} {field} {from}"
                    );
                }
                let numbers = batch.numbers(field).unwrap();
                for (from, low, high) in
                    [(0, -3, 3), (40, i64::MIN, 9), (38, 3, 2), (39, 0, i64::MAX)]
                {
                    let each = numbers.from(from).take(32).enumerate();
                    let each = each.filter(|(_, it)| (low..=high).contains(it));
                    let right = each.fold(0, |bits, (bit, _)| bits | 1 << bit);
                    assert_eq!(numbers.within(from, low, high), right);
                }
            }
        }
    }

    #[test]
    fn bits_beyond_the_last_message_are_dropped() {
        let mut batch = BatchBuilder::default();
        for _ in 0..33 {
            batch = batch.message(&[], &[]);
        }
        let mut verdicts = Verdicts::none(&batch.build());
        verdicts.word(1, u32::MAX);
        verdicts.deliver(3);
        assert_eq!(verdicts.into_words(), [8, 1]);
    }
}
