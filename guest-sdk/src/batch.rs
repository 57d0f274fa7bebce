//! Messages as the broker hands them over: a few flat lists, however many messages there are.
//!
//! With F texts and N numbers a message, text j belongs to message j / F and ends at `ends[j]`,
//! whose top bit marks it absent; number k of message i is `numbers[i * N + k]`.

use crate::bindings::quern::plugin::types;

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
    /// How many messages.
    pub fn len(&self) -> usize {
        self.messages
    }

    pub fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// The text that was needed as number `field`; `None` where the message has none.
    pub fn text(&self, message: usize, field: usize) -> Option<&str> {
        let fields = self.ends.len().checked_div(self.messages)?;
        let index = message * fields + field;
        let end = *self.ends.get(index)?;
        if field >= fields || end & ABSENT != 0 {
            return None;
        }
        let start = match index {
            0 => 0,
            _ => self.ends[index - 1] & !ABSENT,
        };
        self.text.get(start as usize..end as usize)
    }

    /// The number that was needed as number `figure`; `None` where the message has none.
    pub fn number(&self, message: usize, figure: usize) -> Option<i64> {
        let figures = self.numbers.len().checked_div(self.messages)?;
        let value = *self.numbers.get(message * figures + figure)?;
        (figure < figures && value != i64::MIN).then_some(value)
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
    }
}
