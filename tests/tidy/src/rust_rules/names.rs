//! Names of types and methods. Guarantees: only definitions are judged, never uses, so that foreign
//! types may be called by their own names.

use crate::finding::Hit;
use crate::lexer::{RustText, numbered, word_starts};

/// Words that say nothing about the thing they name.
const EMPTY_WORDS: &[&str] = &[
    "Manager",
    "Service",
    "Processor",
    "Helper",
    "Util",
    "Utils",
    "Impl",
    "Base",
    "Common",
    "Info",
    "Data",
    "Wrapper",
];
/// Pairs in which such a word is part of the field's own term.
const TERMS: &[[&str; 2]] = &[["Data", "Dir"]];

pub(super) fn types(file: &RustText) -> Vec<Hit> {
    let mut hits = Vec::new();
    for (line, code) in numbered(&file.code) {
        for keyword in ["struct", "enum", "trait", "type", "union"] {
            for name in defined(code, keyword) {
                if let Some(word) = empty_word(name) {
                    hits.push(Hit::new(line, format!("`{name}` contains `{word}`")));
                }
            }
        }
    }
    hits
}

pub(super) fn accessors(file: &RustText) -> Vec<Hit> {
    let mut hits = Vec::new();
    for (line, code) in numbered(&file.code) {
        for name in defined(code, "fn") {
            if name.starts_with("get_") || name.starts_with("set_") {
                hits.push(Hit::new(line, format!("method `{name}`")));
            }
        }
    }
    hits
}

fn defined<'a>(code: &'a str, keyword: &'a str) -> impl Iterator<Item = &'a str> + 'a {
    word_starts(code, keyword).filter_map(move |at| {
        let rest = code[at + keyword.len()..].trim_start();
        let end = rest
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        (end > 0).then(|| &rest[..end])
    })
}

fn empty_word(name: &str) -> Option<&str> {
    let words = camel_words(name);
    if words.len() > 1 && words[0] == "Default" {
        return Some("Default");
    }
    for (i, word) in words.iter().enumerate() {
        let term = words
            .get(i + 1)
            .is_some_and(|next| TERMS.contains(&[*word, *next]));
        if EMPTY_WORDS.contains(word) && !term {
            return Some(word);
        }
    }
    None
}

fn camel_words(name: &str) -> Vec<&str> {
    let mut starts: Vec<usize> = name
        .char_indices()
        .filter(|(_, c)| c.is_uppercase())
        .map(|(i, _)| i)
        .collect();
    starts.push(name.len());
    starts.windows(2).map(|w| &name[w[0]..w[1]]).collect()
}
