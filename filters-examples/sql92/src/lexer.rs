//! Text to tokens, as RocketMQ's grammar cuts them: the longest match wins, keywords ignore case,
//! names are ASCII. A `--` comment needs the end of its line; without one it is two minus signs.

use quern_plugin::Refusal;

/// What a piece of the text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Not,
    And,
    Or,
    Between,
    In,
    True,
    False,
    Null,
    Is,
    Contains,
    StartsWith,
    EndsWith,
    Name,
    Integer,
    Decimal,
    Text,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Open,
    Close,
    Comma,
    Plus,
    Minus,
    End,
}

/// A piece of the text, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) at: usize,
    pub(crate) len: usize,
}

const KEYWORDS: [(&str, Kind); 12] = [
    ("NOT", Kind::Not),
    ("AND", Kind::And),
    ("OR", Kind::Or),
    ("BETWEEN", Kind::Between),
    ("IN", Kind::In),
    ("TRUE", Kind::True),
    ("FALSE", Kind::False),
    ("NULL", Kind::Null),
    ("IS", Kind::Is),
    ("CONTAINS", Kind::Contains),
    ("STARTSWITH", Kind::StartsWith),
    ("ENDSWITH", Kind::EndsWith),
];

/// Cuts the whole text; the last token is [`Kind::End`].
pub(crate) fn tokens(text: &str) -> Result<Vec<Token>, Refusal> {
    let mut tokens = Vec::new();
    let mut at = 0;
    loop {
        at += skipped(&text[at..]);
        if at == text.len() {
            tokens.push(Token {
                kind: Kind::End,
                at,
                len: 0,
            });
            return Ok(tokens);
        }
        let (kind, len) = token(text, at)?;
        tokens.push(Token { kind, at, len });
        at += len;
    }
}

/// White space and comments at the beginning.
fn skipped(text: &str) -> usize {
    let mut rest = text;
    loop {
        let trimmed = rest.trim_start_matches([' ', '\t', '\n', '\r', '\x0c']);
        let comment = if trimmed.starts_with("--") {
            trimmed.find(['\n', '\r']).map(|end| end + 1)
        } else {
            let body = trimmed.strip_prefix("/*");
            body.and_then(|body| body.find("*/")).map(|end| end + 4)
        };
        match comment {
            Some(len) => rest = &trimmed[len..],
            None => return text.len() - trimmed.len(),
        }
    }
}

fn token(text: &str, at: usize) -> Result<(Kind, usize), Refusal> {
    let rest = &text[at..];
    let bytes = rest.as_bytes();
    let second = bytes.get(1).copied();
    Ok(match bytes[0] {
        b'=' => (Kind::Equal, 1),
        b'<' if second == Some(b'>') => (Kind::NotEqual, 2),
        b'<' if second == Some(b'=') => (Kind::LessEqual, 2),
        b'<' => (Kind::Less, 1),
        b'>' if second == Some(b'=') => (Kind::GreaterEqual, 2),
        b'>' => (Kind::Greater, 1),
        b'(' => (Kind::Open, 1),
        b')' => (Kind::Close, 1),
        b',' => (Kind::Comma, 1),
        b'+' => (Kind::Plus, 1),
        b'-' => (Kind::Minus, 1),
        b'\'' => (Kind::Text, quoted(rest, at)?),
        b'0'..=b'9' => number(rest),
        b'.' if second.is_some_and(|byte| byte.is_ascii_digit()) => number(rest),
        b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'$' => name(rest),
        _ => return Err(stranger(rest, at)),
    })
}

/// A text in quotes; two quotes within stand for one.
fn quoted(rest: &str, at: usize) -> Result<usize, Refusal> {
    let bytes = rest.as_bytes();
    let mut index = 1;
    while index < bytes.len() {
        if bytes[index] != b'\'' {
            index += 1;
        } else if bytes.get(index + 1) == Some(&b'\'') {
            index += 2;
        } else {
            return Ok(index + 1);
        }
    }
    Err(Refusal::syntax(at, 1, "this text has no closing quote")
        .help("write two quotes for one within a text: 'it''s'"))
}

fn digits(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count()
}

/// The longest of `0`, `17`, `17L`, `17.`, `17.5e3`, `.5`, `17e3`. `007` alone is the number 0 and
/// then another; with a point or an exponent it is one.
fn number(rest: &str) -> (Kind, usize) {
    let bytes = rest.as_bytes();
    let whole = digits(bytes);
    let mut end = whole;
    let mut decimal = false;
    if bytes.get(end) == Some(&b'.') {
        end += 1 + digits(&bytes[end + 1..]);
        decimal = true;
    }
    if let Some(b'e' | b'E') = bytes.get(end) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits(&bytes[end + 1 + sign..]);
        if exponent > 0 {
            end += 1 + sign + exponent;
            decimal = true;
        }
    }
    if decimal {
        return (Kind::Decimal, end);
    }
    if bytes[0] == b'0' {
        return (Kind::Integer, 1);
    }
    let suffix = usize::from(matches!(bytes.get(whole), Some(b'l' | b'L')));
    (Kind::Integer, whole + suffix)
}

fn name(rest: &str) -> (Kind, usize) {
    let part = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$');
    let len = rest.as_bytes().iter().take_while(part).count();
    let word = &rest[..len];
    let keyword = KEYWORDS
        .iter()
        .find(|(it, _)| it.eq_ignore_ascii_case(word));
    (keyword.map_or(Kind::Name, |(_, kind)| *kind), len)
}

fn stranger(rest: &str, at: usize) -> Refusal {
    let c = rest.chars().next().unwrap_or(' ');
    let refusal = Refusal::syntax(at, c.len_utf8(), format!("{c:?} has no meaning here"));
    match c {
        '"' => refusal.help("texts stand in single quotes: 'eu'"),
        '!' => refusal.help("not equal is written <>"),
        '&' => refusal.help("write AND"),
        '|' => refusal.help("write OR"),
        '/' => refusal.help("a comment /* ends with */"),
        '.' | ':' | '@' => refusal.help("names have letters, digits, _ and $"),
        _ => refusal,
    }
}
