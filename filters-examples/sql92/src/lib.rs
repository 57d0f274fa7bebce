//! The built-in SQL92 filter: `region = 'eu' AND amount > 100`.
//!
//! RocketMQ's language with its exact answers, odd ones included: each was recorded from its own
//! classes and is compared in `tests/golden/plugins`. On purpose we refuse what RocketMQ ignores
//! (text after a complete expression) and accept what it refuses (`0.0`).
//!
//! `lexer.rs` cuts the text, `parser.rs` makes a tree of it (`syntax.rs`), `plan.rs` judges 32
//! messages at a time, `value.rs` one, `tags.rs` tells the broker what it may skip.

mod lexer;
mod parser;
mod plan;
mod syntax;
mod tags;
mod value;

use quern_plugin::{Batch, ColumnFilter, Description, Needs, Params, Refusal, Verdicts};

use crate::plan::Plan;

/// A compiled expression.
#[derive(Debug)]
pub struct Sql {
    plan: Plan,
    tags: Option<Vec<String>>,
}

impl ColumnFilter for Sql {
    fn describe() -> Description {
        let summary = "messages by their properties";
        Description::new("sql92", env!("CARGO_PKG_VERSION"), summary).language("SQL92")
    }

    fn compile(expression: &str, _: &Params) -> Result<Self, Refusal> {
        let expr = parser::parse(expression)?;
        let tags = tags::possible(&expr);
        let tags = tags.map(|tags| tags.into_iter().map(str::to_owned).collect());
        let plan = Plan::new(expr, expression)?;
        Ok(Self { plan, tags })
    }

    fn needs(&self) -> Needs {
        let needs = self.plan.needs();
        match &self.tags {
            None => needs,
            Some(tags) => needs.only_tags(tags.iter().map(String::as_str)),
        }
    }

    fn judge(&self, batch: &Batch) -> Result<Verdicts, String> {
        let mut verdicts = Verdicts::none(batch);
        for (word, from) in (0..batch.len()).step_by(32).enumerate() {
            verdicts.word(word, self.plan.judge(batch, from));
        }
        Ok(verdicts)
    }
}

/// The same expression judged row by row, outside WebAssembly: what tests compare the component with.
#[doc(hidden)]
pub mod twin {
    use quern_plugin::Refusal;

    use crate::syntax::Expr;
    use crate::value::{Value, evaluate};

    pub struct Twin(Expr);

    pub fn compile(expression: &str) -> Result<Twin, Refusal> {
        crate::parser::parse(expression).map(Twin)
    }

    impl Twin {
        /// `t` true, `f` false, `n` null, `e` error.
        pub fn outcome<'a>(&'a self, property: impl Fn(&str) -> Option<&'a str>) -> char {
            match evaluate(&self.0, &property) {
                Ok(Value::Boolean(true)) => 't',
                Ok(Value::Boolean(false)) => 'f',
                Ok(_) => 'n',
                Err(_) => 'e',
            }
        }
    }
}

#[cfg(target_family = "wasm")]
quern_plugin::export_filter!(Sql);
