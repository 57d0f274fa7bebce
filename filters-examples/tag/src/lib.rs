//! The built-in tag filter: `paid`, `paid || refunded`, `*`.
//!
//! The broker has compared the tags' hashes before it asks; here the texts themselves decide, so
//! that two tags with one hash are told apart. As in RocketMQ only the exact text `*` (or none at
//! all) means every message; unlike there, an expression that names no tag is refused.

use quern_plugin::{Batch, Description, Filter, Needs, Params, Refusal, Text};

/// The tags wanted; `None` = every message.
pub struct Tags(Option<Vec<String>>);

const SEPARATOR: &str = "||";

impl Filter for Tags {
    fn describe() -> Description {
        Description::new("tag", env!("CARGO_PKG_VERSION"), "messages by their tag").language("TAG")
    }

    fn compile(expression: &str, _: &Params) -> Result<Self, Refusal> {
        if matches!(expression, "" | "*") {
            return Ok(Self(None));
        }
        let tags: Vec<String> = expression
            .split(SEPARATOR)
            .map(|tag| tag.trim_matches(|c| c <= ' '))
            .filter(|tag| !tag.is_empty())
            .map(str::to_owned)
            .collect();
        if tags.is_empty() {
            return Err(
                Refusal::syntax(0, expression.len(), "the expression names no tag")
                    .help("write `A || B`, or `*` for every message"),
            );
        }
        Ok(Self(Some(tags)))
    }

    fn needs(&self) -> Needs {
        match &self.0 {
            None => Needs::new(),
            Some(tags) => Needs::new()
                .text(Text::Tag)
                .only_tags(tags.iter().map(String::as_str)),
        }
    }

    fn matches(&self, batch: &Batch, message: usize) -> Result<bool, String> {
        let Some(tags) = &self.0 else {
            return Ok(true);
        };
        let tag = batch.text(message, 0);
        Ok(tag.is_some_and(|tag| tags.iter().any(|wanted| wanted == tag)))
    }
}

quern_plugin::export_filter!(Tags);
