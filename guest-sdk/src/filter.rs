//! The filter world: which messages does a subscription want?

use crate::batch::Batch;
use crate::bindings::exports::quern::plugin::about;
use crate::bindings::quern::plugin::types;

/// Parameters of a subscription, by name.
#[derive(Debug, Clone, Default)]
pub struct Params(pub(crate) Vec<(String, String)>);

impl Params {
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// A filter: one value per subscription.
pub trait Filter: Sized + 'static {
    fn describe() -> Description;

    /// Understands an expression, or says where it does not.
    fn compile(expression: &str, params: &Params) -> Result<Self, Refusal>;

    /// What [`Filter::matches`] reads. The broker extracts only this.
    fn needs(&self) -> Needs;

    /// True delivers. An error means "this batch cannot be judged"; the broker then asks again.
    fn matches(&self, batch: &Batch, message: usize) -> Result<bool, String>;
}

/// What a plugin says of itself.
#[derive(Debug, Clone)]
pub struct Description {
    name: &'static str,
    version: &'static str,
    summary: &'static str,
    language: Option<&'static str>,
}

impl Description {
    pub fn new(name: &'static str, version: &'static str, summary: &'static str) -> Self {
        Self {
            name,
            version,
            summary,
            language: None,
        }
    }

    /// The expression language consumers name to get this filter.
    #[must_use]
    pub fn language(mut self, language: &'static str) -> Self {
        self.language = Some(language);
        self
    }
}

impl From<Description> for about::Description {
    fn from(it: Description) -> Self {
        Self {
            name: it.name.to_owned(),
            version: it.version.to_owned(),
            summary: it.summary.to_owned(),
            language: it.language.map(str::to_owned),
            params: Vec::new(),
        }
    }
}

/// A text of a message. An empty one is absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Text {
    Property(String),
    Tag,
    Keys,
    Topic,
    MessageId,
    OrderKey,
    Group,
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
}

/// What a subscription reads of each message.
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
        self.tag_codes = Some(tags.into_iter().map(tag_code).collect());
        self
    }
}

/// Java's `String.hashCode`, which consume queues keep beside each message.
fn tag_code(tag: &str) -> i32 {
    tag.encode_utf16().fold(0i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    })
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
        }
    }
}

/// Why an expression is not accepted, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    at: usize,
    len: usize,
    reason: String,
    help: Option<String>,
}

impl Refusal {
    /// `len` bytes from byte `at` of the expression are the reason.
    pub fn syntax(at: usize, len: usize, reason: impl Into<String>) -> Self {
        Self {
            at,
            len,
            reason: reason.into(),
            help: None,
        }
    }

    /// What to write instead.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl From<Refusal> for types::Refusal {
    fn from(refusal: Refusal) -> Self {
        Self {
            code: types::RefusalCode::Syntax,
            param: None,
            at: refusal.at as u32,
            len: refusal.len as u32,
            reason: refusal.reason,
            help: refusal.help,
        }
    }
}
