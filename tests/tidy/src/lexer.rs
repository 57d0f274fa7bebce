//! Just enough of Rust's lexical grammar to look at code without its strings and comments.
//!
//! Guarantees: every view has the same lines as the original, so a line number found in a view is
//! the line number in the file; text between the quotes of a string is never taken for code.

/// One Rust file in the views the rules ask for.
pub struct RustText {
    pub path: String,
    pub raw: String,
    /// Strings and comments blanked.
    pub code: String,
    /// Strings blanked, comments kept.
    pub prose: String,
    test_lines: Vec<bool>,
}

impl RustText {
    pub fn new(path: &str, raw: &str) -> Self {
        let spans = spans(raw.as_bytes());
        let code = blank(raw, &spans, |_| true);
        let prose = blank(raw, &spans, |kind| kind == Kind::Literal);
        let test_lines = test_lines(&code);
        Self {
            path: path.to_owned(),
            raw: raw.to_owned(),
            code,
            prose,
            test_lines,
        }
    }

    /// Whether the whole file is a test: an integration test, a bench, or the body of a test module.
    pub fn is_test_file(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or(&self.path);
        let folder = |name: &str| {
            self.path.starts_with(&format!("{name}/")) || self.path.contains(&format!("/{name}/"))
        };
        folder("tests") || folder("benches") || name == "tests.rs" || name.ends_with("_tests.rs")
    }

    /// Whether the line, counted from 1, belongs to a `#[cfg(test)]` item.
    pub fn is_test_line(&self, line: usize) -> bool {
        line.checked_sub(1)
            .and_then(|i| self.test_lines.get(i))
            .copied()
            .unwrap_or(false)
    }

    /// Lines that are not part of a `#[cfg(test)]` item.
    pub fn lines_without_tests(&self) -> usize {
        let lines = self.raw.lines().count();
        lines - self.test_lines.iter().take(lines).filter(|t| **t).count()
    }
}

/// Numbers the lines of a view from 1.
pub fn numbered(view: &str) -> impl Iterator<Item = (usize, &str)> {
    view.lines().enumerate().map(|(i, line)| (i + 1, line))
}

/// Where `word` stands as a whole word, that is not inside a longer name.
pub fn has_word(line: &str, word: &str) -> bool {
    word_starts(line, word).next().is_some()
}

/// The byte positions at which `word` stands as a whole word.
pub fn word_starts<'a>(line: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let in_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).filter_map(move |(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let whole = !before.is_some_and(in_name) && !after.is_some_and(in_name);
        whole.then_some(at)
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Comment,
    Literal,
}

struct Span {
    kind: Kind,
    start: usize,
    end: usize,
}

fn spans(text: &[u8]) -> Vec<Span> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let (kind, len) = match rest[0] {
            b'/' if rest.starts_with(b"//") => (Kind::Comment, line_comment(rest)),
            b'/' if rest.starts_with(b"/*") => (Kind::Comment, block_comment(rest)),
            b'"' => (Kind::Literal, quoted(rest)),
            b'r' | b'b' | b'c' if !follows_name(text, at) => match prefixed(rest) {
                Some(len) => (Kind::Literal, len),
                None => {
                    at += 1;
                    continue;
                }
            },
            b'\'' => match character(rest) {
                Some(len) => (Kind::Literal, len),
                None => {
                    at += 1;
                    continue;
                }
            },
            _ => {
                at += 1;
                continue;
            }
        };
        let end = (at + len).min(text.len());
        found.push(Span {
            kind,
            start: at,
            end,
        });
        at = end;
    }
    found
}

fn follows_name(text: &[u8], at: usize) -> bool {
    at.checked_sub(1)
        .and_then(|i| text.get(i))
        .is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_')
}

fn line_comment(rest: &[u8]) -> usize {
    rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len())
}

/// Block comments nest in Rust.
fn block_comment(rest: &[u8]) -> usize {
    let mut depth = 0usize;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// `rest` starts at the opening quote.
fn quoted(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// A string or byte literal with a prefix (`r`, `b`, `c`, `br`, `cr`), or nothing if it is a name.
fn prefixed(rest: &[u8]) -> Option<usize> {
    let letters = rest
        .iter()
        .take(2)
        .take_while(|b| matches!(b, b'r' | b'b' | b'c'))
        .count();
    let raw = rest[..letters].contains(&b'r');
    let hashes = rest[letters..].iter().take_while(|b| **b == b'#').count();
    let quote = letters + hashes;
    match rest.get(quote) {
        Some(b'"') if raw => {
            let mut close = vec![b'"'];
            close.extend(std::iter::repeat_n(b'#', hashes));
            let body = &rest[quote + 1..];
            let end = body
                .windows(close.len())
                .position(|w| w == close.as_slice())
                .unwrap_or(body.len());
            Some(quote + 1 + end + close.len())
        }
        Some(b'"') if hashes == 0 => Some(letters + quoted(&rest[letters..])),
        Some(b'\'') if hashes == 0 && rest[0] == b'b' => {
            character(&rest[letters..]).map(|len| letters + len)
        }
        _ => None,
    }
}

/// A character literal, or nothing if the quote opens a lifetime.
fn character(rest: &[u8]) -> Option<usize> {
    match rest.get(1)? {
        b'\\' => {
            let close = rest.iter().skip(3).position(|b| *b == b'\'')?;
            Some(close + 4)
        }
        first => {
            let width = match first {
                0x00..=0x7f => 1,
                0xc0..=0xdf => 2,
                0xe0..=0xef => 3,
                _ => 4,
            };
            (rest.get(1 + width) == Some(&b'\'')).then_some(width + 2)
        }
    }
}

fn blank(raw: &str, spans: &[Span], hide: impl Fn(Kind) -> bool) -> String {
    let mut view = String::with_capacity(raw.len());
    let mut at = 0;
    for span in spans.iter().filter(|s| hide(s.kind)) {
        view.push_str(&raw[at..span.start]);
        for c in raw[span.start..span.end].chars() {
            view.push(if c == '\n' { '\n' } else { ' ' });
        }
        at = span.end;
    }
    view.push_str(&raw[at..]);
    view
}

fn test_lines(code: &str) -> Vec<bool> {
    let mut marks = vec![false; code.lines().count()];
    for (start, _) in code.match_indices("#[cfg(test)]") {
        let end = item_end(code, start);
        let first = code[..start].matches('\n').count();
        let last = code[..end].matches('\n').count();
        for mark in marks.iter_mut().take(last + 1).skip(first) {
            *mark = true;
        }
    }
    marks
}

/// The end of the item an attribute at `start` belongs to: its closing brace, or its semicolon.
fn item_end(code: &str, start: usize) -> usize {
    let mut depth = 0usize;
    for (i, c) in code[start..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return start + i;
                }
            }
            ';' if depth == 0 => return start + i,
            _ => {}
        }
    }
    code.len()
}
