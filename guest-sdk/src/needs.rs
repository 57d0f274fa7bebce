//! What a subscription or a selector reads of each message. The broker extracts only this.

use crate::bindings::types;
use crate::java;

/// A text of a message. An empty one is absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Text {
    Property(String),
    Tag,
    Keys,
    Topic,
    MessageId,
    OrderKey,
    /// The consumer group of a filter, the producer group of a selector.
    Group,
    /// Where the consumer or producer stands.
    Zone,
}

/// A number of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Figure {
    /// A property read as a 64-bit integer.
    Integer(String),
    TagCode,
    QueueId,
    QueueOffset,
    Size,
    BornTimestamp,
    StoreTimestamp,
    ReconsumeTimes,
    /// Counts the messages of this selector, from 0. Selectors only.
    Sequence,
    /// 53 random bits. Selectors only.
    Random,
}

/// What is read of each message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    texts: Vec<Text>,
    figures: Vec<Figure>,
    tag_codes: Option<Vec<i32>>,
}

impl Needs {
    pub fn new() -> Self {
        Self::default()
    }

    /// Read as `batch.text(message, n)`, n counting from 0.
    #[must_use]
    pub fn text(mut self, text: Text) -> Self {
        self.texts.push(text);
        self
    }

    /// Read as `batch.number(message, n)`, n counting from 0.
    #[must_use]
    pub fn figure(mut self, figure: Figure) -> Self {
        self.figures.push(figure);
        self
    }

    /// Nothing outside these tags can match: the broker spares the plugin all other messages.
    #[must_use]
    pub fn only_tags<'a>(mut self, tags: impl IntoIterator<Item = &'a str>) -> Self {
        self.tag_codes = Some(tags.into_iter().map(java::hash_code).collect());
        self
    }

    /// How many texts and figures.
    pub fn width(&self) -> (usize, usize) {
        (self.texts.len(), self.figures.len())
    }
}

impl From<Needs> for types::Needs {
    fn from(needs: Needs) -> Self {
        Self {
            fields: needs.texts.into_iter().map(types::Field::from).collect(),
            numbers: needs.figures.into_iter().map(types::Number::from).collect(),
            tag_codes: needs.tag_codes,
        }
    }
}

impl From<Text> for types::Field {
    fn from(text: Text) -> Self {
        match text {
            Text::Property(name) => Self::Property(name),
            Text::Tag => Self::Tag,
            Text::Keys => Self::Keys,
            Text::Topic => Self::Topic,
            Text::MessageId => Self::MessageId,
            Text::OrderKey => Self::OrderKey,
            Text::Group => Self::Group,
            Text::Zone => Self::Zone,
        }
    }
}

impl From<Figure> for types::Number {
    fn from(figure: Figure) -> Self {
        match figure {
            Figure::Integer(name) => Self::Integer(name),
            Figure::TagCode => Self::TagCode,
            Figure::QueueId => Self::QueueId,
            Figure::QueueOffset => Self::QueueOffset,
            Figure::Size => Self::Size,
            Figure::BornTimestamp => Self::BornTimestamp,
            Figure::StoreTimestamp => Self::StoreTimestamp,
            Figure::ReconsumeTimes => Self::ReconsumeTimes,
            Figure::Sequence => Self::Sequence,
            Figure::Random => Self::Random,
        }
    }
}
