//! How a message is written out: a format of one's own, or JSON.

use quern_client::MessageView;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::output;

/// Pieces of a `--format` text.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Field(char),
}

/// What `%x` may be.
pub(crate) const FIELDS: &str = "%t topic, %b broker, %q queue, %o offset, %i id, %h handle (BROKER/POSITION), %g tag, %k keys, %p properties, %s stored at (ms), %a times given back, %v body, %% percent; \\n \\t";

/// A parsed `--format`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Format(Vec<Piece>);

impl Format {
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let next = match c {
                '%' | '\\' => chars.next(),
                _ => None,
            };
            match (c, next) {
                ('%', Some('%')) => plain.push('%'),
                ('%', Some(field)) if "tbqoihgkpsav".contains(field) => {
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                    pieces.push(Piece::Field(field));
                }
                ('\\', Some('n')) => plain.push('\n'),
                ('\\', Some('t')) => plain.push('\t'),
                ('\\', Some('\\')) => plain.push('\\'),
                ('%' | '\\', next) => {
                    let bad: String = std::iter::once(c).chain(next).collect();
                    return Err(Failure::usage(format!(
                        "--format does not know {bad:?}; it knows {FIELDS}"
                    )));
                }
                (c, _) => plain.push(c),
            }
        }
        pieces.push(Piece::Text(plain));
        Ok(Self(pieces))
    }

    pub(crate) fn write(&self, message: &MessageView, out: &mut Vec<u8>) {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Field('v') => out.extend_from_slice(message.body()),
                Piece::Field(field) => out.extend_from_slice(text(*field, message).as_bytes()),
            }
        }
    }
}

fn text(field: char, message: &MessageView) -> String {
    let queue = message.queue();
    match field {
        't' => queue.topic.to_string(),
        'b' => queue.broker.to_string(),
        'q' => queue.queue.to_string(),
        'o' => message.offset().to_string(),
        'i' => message.message_id().to_owned(),
        'h' => message.handle().to_string(),
        'g' => message.tag().to_owned(),
        'k' => message.keys().to_owned(),
        's' => message.stored_at().to_string(),
        'a' => message.attempts().to_string(),
        _ => {
            let pairs = message.properties().chain(message.notes());
            let pairs = pairs.map(|(k, v)| format!("{k}={v}"));
            pairs.collect::<Vec<_>>().join(",")
        }
    }
}

#[derive(Serialize)]
struct Json<'a> {
    topic: &'a str,
    broker: &'a str,
    queue: u32,
    offset: u64,
    id: &'a str,
    handle: String,
    /// Where it is, if it was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'a str>,
    tag: &'a str,
    keys: Vec<&'a str>,
    properties: Map<String, Value>,
    born_at: u64,
    stored_at: u64,
    attempts: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    /// Instead of `body` where that is not text.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_hex: Option<String>,
}

/// One line of JSON, without its end.
pub(crate) fn json(message: &MessageView) -> Result<String, Failure> {
    document(message, None)
}

/// The same of one that was found, with words for where it is.
pub(crate) fn json_of(message: &MessageView, state: &str) -> Result<String, Failure> {
    document(message, Some(state))
}

fn document(message: &MessageView, state: Option<&str>) -> Result<String, Failure> {
    let queue = message.queue();
    let body = str::from_utf8(message.body()).ok();
    output::line(&Json {
        topic: queue.topic.as_str(),
        broker: queue.broker.as_str(),
        queue: queue.queue.0,
        offset: message.offset().0,
        id: message.message_id(),
        handle: message.handle().to_string(),
        state,
        tag: message.tag(),
        keys: message.keys().split_whitespace().collect(),
        properties: message
            .properties()
            .chain(message.notes())
            .map(|(key, value)| (key.to_owned(), Value::from(value)))
            .collect(),
        born_at: message.born_at(),
        stored_at: message.stored_at(),
        attempts: message.attempts(),
        body,
        body_hex: body.is_none().then(|| hex(message.body())),
    })
}

/// Two digits a byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_read_piece_by_piece_and_a_bad_one_is_named() {
        let format = Format::parse("%t:%k\\t100%%\\n").unwrap();
        let text = |text: &str| Piece::Text(text.to_owned());
        assert_eq!(
            format.0,
            [
                text(""),
                Piece::Field('t'),
                text(":"),
                Piece::Field('k'),
                text("\t100%\n")
            ]
        );
        for bad in ["%z", "%", "a\\q"] {
            assert!(Format::parse(bad).is_err(), "{bad}");
        }
    }
}
