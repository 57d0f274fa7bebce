//! Error codes: the table is in order, and papers mention only codes that exist.

use crate::finding::{Finding, Hit};
use crate::lexer::{RustText, numbered};

const TABLE: &str = "transport/protocol/src/error.rs";

struct Line<'a> {
    line: usize,
    number: u16,
    name: &'a str,
}

/// Lines of the form `2001 NOT_FOUND Never`.
fn table(code: &str) -> Vec<Line<'_>> {
    numbered(code)
        .filter_map(|(line, text)| {
            let mut words = text.split_whitespace();
            let (number, name) = (words.next()?, words.next()?);
            let upper = name
                .chars()
                .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
            let number = number.parse().ok().filter(|_| number.len() == 4 && upper)?;
            Some(Line { line, number, name })
        })
        .collect()
}

/// Numbers ascend (so none is there twice), names are unique, every number is in a block in use.
pub fn error_codes(source: &str) -> Vec<Finding> {
    let file = RustText::new(TABLE, source);
    let lines = table(&file.code);
    let mut hits = Vec::new();
    if lines.is_empty() {
        hits.push(Hit::new(0, "no line of the table was understood"));
    }
    for pair in lines.windows(2) {
        if pair[1].number <= pair[0].number {
            let what = format!("{} does not follow {}", pair[1].number, pair[0].number);
            hits.push(Hit::new(pair[1].line, what));
        }
    }
    for (i, line) in lines.iter().enumerate() {
        if lines[..i].iter().any(|l| l.name == line.name) {
            hits.push(Hit::new(
                line.line,
                format!("`{}` is there twice", line.name),
            ));
        }
        if !matches!(line.number, 1000..=3999 | 4000..=4499 | 5000..=5999 | 9000..=9999) {
            hits.push(Hit::new(
                line.line,
                format!("{} is in no block", line.number),
            ));
        }
    }
    hits.into_iter()
        .map(|hit| Finding {
            file: TABLE.to_owned(),
            hit,
            rule: "error-codes",
            fix: "give it the next free number of its block; a number never changes its meaning",
        })
        .collect()
}

/// `Q-nnnn` in a paper stands in the table.
pub fn mentioned_codes(path: &str, text: &str, source: &str) -> Vec<Finding> {
    let file = RustText::new(TABLE, source);
    let known: Vec<u16> = table(&file.code).iter().map(|l| l.number).collect();
    let mut findings = Vec::new();
    for (line, text) in numbered(text) {
        for (at, _) in text.match_indices("Q-") {
            let digits: String = text[at + 2..]
                .chars()
                .take_while(char::is_ascii_digit)
                .collect();
            let unknown = digits.len() == 4 && digits.parse().is_ok_and(|n| !known.contains(&n));
            if unknown {
                findings.push(Finding {
                    file: path.to_owned(),
                    hit: Hit::new(line, format!("Q-{digits} is not in the table")),
                    rule: "error-codes",
                    fix: "mention a code of transport/protocol/src/error.rs",
                });
            }
        }
    }
    findings
}
