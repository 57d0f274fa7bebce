//! What a plugin says of itself, and the parameters it takes.

use std::fmt::Display;
use std::str::FromStr;

use crate::refusal::Refusal;

/// A plugin's own words about itself.
#[derive(Debug, Clone)]
pub struct Description {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) language: Option<&'static str>,
    pub(crate) params: Vec<Param>,
    /// What names besides are, if they are allowed.
    pub(crate) any: Option<&'static str>,
}

impl Description {
    pub fn new(name: &'static str, version: &'static str, summary: &'static str) -> Self {
        Self {
            name,
            version,
            summary,
            language: None,
            params: Vec::new(),
            any: None,
        }
    }

    /// The expression language consumers name to get this filter.
    #[must_use]
    pub fn language(mut self, language: &'static str) -> Self {
        self.language = Some(language);
        self
    }

    /// A parameter it takes. One that is not described here is refused; a value that does not fit
    /// its kind is refused; a default is filled in.
    #[must_use]
    pub fn param(mut self, param: Param) -> Self {
        self.params.push(param);
        self
    }

    /// It takes parameters of any other name, too; says what they are.
    #[must_use]
    pub fn any_param(mut self, help: &'static str) -> Self {
        self.any = Some(help);
        self
    }
}

/// What values a parameter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParamKind {
    Text,
    Integer,
    Number,
    Boolean,
    Choice,
}

/// A parameter of a plugin. Required, unless it has a default.
#[derive(Debug, Clone)]
pub struct Param {
    pub(crate) name: &'static str,
    pub(crate) kind: ParamKind,
    pub(crate) default: Option<String>,
    pub(crate) choices: &'static [&'static str],
    pub(crate) help: &'static str,
}

impl Param {
    fn new(name: &'static str, kind: ParamKind, help: &'static str) -> Self {
        Self {
            name,
            kind,
            default: None,
            choices: &[],
            help,
        }
    }

    pub fn text(name: &'static str, help: &'static str) -> Self {
        Self::new(name, ParamKind::Text, help)
    }

    pub fn integer(name: &'static str, help: &'static str) -> Self {
        Self::new(name, ParamKind::Integer, help)
    }

    pub fn number(name: &'static str, help: &'static str) -> Self {
        Self::new(name, ParamKind::Number, help)
    }

    pub fn boolean(name: &'static str, help: &'static str) -> Self {
        Self::new(name, ParamKind::Boolean, help)
    }

    pub fn choice(
        name: &'static str,
        choices: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self {
            choices,
            ..Self::new(name, ParamKind::Choice, help)
        }
    }

    #[must_use]
    pub fn default(mut self, value: impl Display) -> Self {
        self.default = Some(value.to_string());
        self
    }

    fn check(&self, value: &str) -> Result<(), Refusal> {
        let (fits, wanted) = match self.kind {
            ParamKind::Text => (true, "a text".to_owned()),
            ParamKind::Integer => (value.parse::<i64>().is_ok(), "a whole number".to_owned()),
            ParamKind::Number => (value.parse::<f64>().is_ok(), "a number".to_owned()),
            ParamKind::Boolean => (value.parse::<bool>().is_ok(), "true or false".to_owned()),
            ParamKind::Choice => (self.choices.contains(&value), self.choices.join(" or ")),
        };
        if fits {
            return Ok(());
        }
        Err(Refusal::param(
            self.name,
            value.len(),
            format!("{value:?} is not {wanted}"),
        ))
    }
}

/// Parameters by name, checked against the [`Description`].
#[derive(Debug, Clone, Default)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Checks what was given, and adds the defaults of what was not.
    pub fn check(description: &Description, given: Vec<(String, String)>) -> Result<Self, Refusal> {
        for (name, value) in &given {
            let known = description.params.iter().find(|param| param.name == name);
            let Some(param) = known else {
                if description.any.is_some() {
                    continue;
                }
                let names: Vec<&str> = description.params.iter().map(|it| it.name).collect();
                let help = match names.is_empty() {
                    true => format!("{} takes no parameters", description.name),
                    false => format!("{} takes {}", description.name, names.join(", ")),
                };
                let unknown = "there is no such parameter";
                return Err(Refusal::param(name, value.len(), unknown).help(help));
            };
            param.check(value)?;
        }
        let mut params = Self(given);
        for param in &description.params {
            match (&param.default, params.get(param.name)) {
                (_, Some(_)) => {}
                (Some(value), None) => params.0.push((param.name.to_owned(), value.clone())),
                (None, None) => {
                    let missing = "the parameter is required";
                    return Err(Refusal::param(param.name, 0, missing).help(param.help));
                }
            }
        }
        Ok(params)
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// All of them, in the order given.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The value of a described parameter; empty if it is not described.
    pub fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or("")
    }

    /// The value of a described integer parameter; 0 if it is not described as one.
    pub fn integer(&self, name: &str) -> i64 {
        self.parsed(name)
    }

    /// The value of a described number parameter; 0 if it is not described as one.
    pub fn number(&self, name: &str) -> f64 {
        self.parsed(name)
    }

    /// The value of a described boolean parameter; false if it is not described as one.
    pub fn boolean(&self, name: &str) -> bool {
        self.parsed(name)
    }

    fn parsed<T: FromStr + Default>(&self, name: &str) -> T {
        let parsed = self.get(name).and_then(|value| value.parse().ok());
        parsed.unwrap_or_default()
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Params {
    fn from(pairs: [(&str, &str); N]) -> Self {
        let owned = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self(owned.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description() -> Description {
        Description::new("t", "1", "")
            .param(Param::integer("min", "least amount"))
            .param(Param::choice("mode", &["fast", "slow"], "").default("fast"))
    }

    fn check(pairs: &[(&str, &str)]) -> Result<Params, Refusal> {
        let owned = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Params::check(&description(), owned.collect())
    }

    #[test]
    fn parameters_are_checked_and_completed() {
        let params = check(&[("min", "7")]).unwrap();
        assert_eq!((params.integer("min"), params.text("mode")), (7, "fast"));
        for bad in [
            &[][..],
            &[("min", "x")],
            &[("min", "1"), ("max", "2")],
            &[("min", "1"), ("mode", "warp")],
        ] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }
}
