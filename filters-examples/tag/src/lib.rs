//! The built-in tag filter: `paid`, `paid || refunded`, `*`.
//!
//! The broker has compared the tags' hashes before it asks; here the texts themselves decide, so
//! that two tags with one hash are told apart. As in RocketMQ only the exact text `*` (or none at
//! all) means every message; unlike there, an expression that names no tag is refused.

use quern_plugin::{
    Batch, ColumnFilter, Description, Exact, Needs, Params, Refusal, Text, Verdicts,
};

/// The tags wanted; `None` = every message.
pub struct Tags(Option<Wanted>);

struct Wanted {
    tags: Vec<String>,
    exact: Vec<Exact>,
}

const SEPARATOR: &str = "||";

impl ColumnFilter for Tags {
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
        let exact = tags.iter().map(|it| Exact::new(it.as_str())).collect();
        Ok(Self(Some(Wanted { tags, exact })))
    }

    fn needs(&self) -> Needs {
        match &self.0 {
            None => Needs::new(),
            Some(Wanted { tags, .. }) => Needs::new()
                .text(Text::Tag)
                .only_tags(tags.iter().map(String::as_str)),
        }
    }

    fn judge(&self, batch: &Batch) -> Result<Verdicts, String> {
        let mut verdicts = Verdicts::none(batch);
        let tags = batch.texts(0);
        for (word, from) in (0..batch.len()).step_by(32).enumerate() {
            let bits = match (&self.0, tags) {
                (None, _) => u32::MAX,
                (Some(wanted), Some(tags)) => {
                    let each = wanted.exact.iter().map(|it| tags.equal(from, it));
                    each.fold(0, |bits, one| bits | one)
                }
                (Some(_), None) => 0,
            };
            verdicts.word(word, bits);
        }
        Ok(verdicts)
    }
}

quern_plugin::export_filter!(Tags);
