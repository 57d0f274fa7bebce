//! A body filter: delivers by one field of a JSON body, `customer.country = "DE"`.
//!
//! The expression is a path, one of `= != < <= > >=`, and a JSON value. Steps of a path are names, or
//! numbers for places in a list. Texts compare with texts and numbers with numbers; what is not there,
//! or is not JSON, is not delivered.

use std::cmp::Ordering;

use quern_plugin::{Batch, BodyFilter, Description, Needs, Params, Refusal};
use serde_json::Value;

pub struct JsonField {
    path: Vec<String>,
    operator: &'static str,
    wanted: Value,
}

/// The longer ones first, or `<` would be found in `<=`.
const OPERATORS: [&str; 6] = ["!=", "<=", ">=", "=", "<", ">"];

impl BodyFilter for JsonField {
    fn describe() -> Description {
        let summary = "messages by a field of their JSON body";
        Description::new("json-field", env!("CARGO_PKG_VERSION"), summary).language("JSON")
    }

    fn compile(expression: &str, _: &Params) -> Result<Self, Refusal> {
        let help = "write for instance: customer.country = \"DE\"";
        let found = OPERATORS
            .iter()
            .filter_map(|it| Some((expression.find(it)?, *it)));
        // The first in the text; of two at one place, the longer.
        let found = found.min_by_key(|(at, it)| (*at, 2 - it.len()));
        let Some((at, operator)) = found else {
            let missing = "a comparison is missing";
            return Err(Refusal::syntax(expression.len(), 0, missing).help(help));
        };
        let path: Vec<String> = expression[..at]
            .trim()
            .split('.')
            .map(str::to_owned)
            .collect();
        if path.iter().any(String::is_empty) {
            return Err(Refusal::syntax(0, at, "a step of the path has no name").help(help));
        }
        let after = at + operator.len();
        let value = &expression[after..];
        let wanted = serde_json::from_str(value).map_err(|error| {
            let reason = format!("this is no JSON value: {error}");
            Refusal::syntax(after, value.len(), reason).help(help)
        })?;
        Ok(Self {
            path,
            operator,
            wanted,
        })
    }

    fn needs(&self) -> Needs {
        Needs::new()
    }

    fn matches(&self, _: &Batch, _: usize, body: &[u8]) -> Result<bool, String> {
        let Ok(body) = serde_json::from_slice::<Value>(body) else {
            return Ok(false);
        };
        let mut field = &body;
        for step in &self.path {
            let next = match field {
                Value::Array(list) => step.parse().ok().and_then(|at: usize| list.get(at)),
                other => other.get(step),
            };
            match next {
                Some(next) => field = next,
                None => return Ok(false),
            }
        }
        let order = match (field, &self.wanted) {
            (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
            (Value::Number(left), Value::Number(right)) => {
                let (left, right) = (left.as_f64(), right.as_f64());
                left.zip(right)
                    .and_then(|(left, right)| left.partial_cmp(&right))
            }
            (left, right) if left == right => Some(Ordering::Equal),
            _ => None,
        };
        Ok(match self.operator {
            "=" => order == Some(Ordering::Equal),
            "!=" => order != Some(Ordering::Equal),
            "<" => order == Some(Ordering::Less),
            "<=" => order.is_some_and(Ordering::is_le),
            ">" => order == Some(Ordering::Greater),
            _ => order.is_some_and(Ordering::is_ge),
        })
    }
}

quern_plugin::export_body_filter!(JsonField);
