//! An expression judged for one message, value by value, exactly as RocketMQ's classes do it in Java:
//! whatever has no faster way comes here.

use std::cmp::Ordering;

use quern_plugin::java;

use crate::syntax::{Constant, Expr, Part, Size};

/// What an expression gives for a message.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'a> {
    Null,
    Boolean(bool),
    Integer(i32),
    Long(i64),
    Double(f64),
    Text(&'a str),
}

/// A Java exception: it ends the whole expression.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Error;

type Outcome<T> = Result<T, Error>;

impl<'a> Value<'a> {
    fn truth(truth: Option<bool>) -> Self {
        truth.map_or(Self::Null, Self::Boolean)
    }
}

/// Evaluates; `property` finds the properties of the message.
pub(crate) fn evaluate<'a>(
    expr: &'a Expr,
    property: &impl Fn(&str) -> Option<&'a str>,
) -> Outcome<Value<'a>> {
    Ok(match expr {
        Expr::Constant(constant) => match constant {
            Constant::Text(text) => Value::Text(text),
            Constant::Integer(value) => Value::Integer(*value),
            Constant::Long(value) => Value::Long(*value),
            Constant::Double(value) => Value::Double(*value),
            Constant::Boolean(value) => Value::Boolean(*value),
            Constant::Null => Value::Null,
        },
        Expr::Property(name) => property(name).map_or(Value::Null, Value::Text),
        Expr::Negate(inner) => match evaluate(inner, property)? {
            Value::Integer(value) => Value::Integer(value.wrapping_neg()),
            Value::Long(value) => Value::Long(value.wrapping_neg()),
            Value::Double(value) => Value::Double(-value),
            _ => Value::Null,
        },
        Expr::Equal(left, right) => {
            let left = evaluate(left, property)?;
            let right = evaluate(right, property)?;
            Value::truth(equal(left, right)?)
        }
        Expr::Compare(size, left, right) => {
            let left = evaluate(left, property)?;
            if let Value::Null = left {
                return Ok(Value::Null);
            }
            let right = evaluate(right, property)?;
            Value::truth(compare(*size, left, right)?)
        }
        Expr::IsNull(inner) => Value::Boolean(matches!(evaluate(inner, property)?, Value::Null)),
        Expr::Has {
            value,
            part,
            text,
            not,
        } => {
            if text.is_empty() {
                return Ok(Value::Boolean(false));
            }
            match evaluate(value, property)? {
                Value::Text(value) => Value::Boolean(has(value, *part, text) != *not),
                _ => Value::Boolean(false),
            }
        }
        Expr::In {
            property: name,
            texts,
            not,
        } => {
            let found = property(name).map(|value| texts.iter().any(|text| text == value) != *not);
            Value::truth(found)
        }
        Expr::Cast(inner) => match evaluate(inner, property)? {
            Value::Null => Value::Null,
            _ => Value::Boolean(false),
        },
        Expr::Not(_) | Expr::And(_) | Expr::Or(_) => Value::truth(logic(expr, property)?),
    })
}

fn logic<'a>(expr: &'a Expr, property: &impl Fn(&str) -> Option<&'a str>) -> Outcome<Option<bool>> {
    let truth = |expr| match evaluate(expr, property)? {
        Value::Boolean(truth) => Ok(Some(truth)),
        _ => Ok(None),
    };
    // What ends the chain at once, and what the others make of it.
    let (all, ends) = match expr {
        Expr::Not(inner) => return Ok(truth(inner)?.map(|it| !it)),
        Expr::And(all) => (all, false),
        Expr::Or(all) => (all, true),
        _ => return Ok(None),
    };
    let mut whole = Some(!ends);
    for one in all {
        match truth(one)? {
            Some(it) if it == ends => return Ok(Some(ends)),
            Some(_) => {}
            None => whole = None,
        }
    }
    Ok(whole)
}

pub(crate) fn has(value: &str, part: Part, text: &str) -> bool {
    match part {
        Part::Anywhere => value.contains(text),
        Part::Start => value.starts_with(text),
        Part::End => value.ends_with(text),
    }
}

fn equal(left: Value<'_>, right: Value<'_>) -> Outcome<Option<bool>> {
    Ok(match (left, right) {
        (Value::Null, Value::Null) => Some(true),
        (Value::Null, _) => None,
        (_, Value::Null) => Some(false),
        (left, right) => Some(order(left, right)? == Ordering::Equal),
    })
}

fn compare(size: Size, left: Value<'_>, right: Value<'_>) -> Outcome<Option<bool>> {
    let order = match (left, right) {
        (_, Value::Null) => return Ok(None),
        // Two properties.
        (Value::Text(left), Value::Text(right)) => {
            let left = java::double(left).ok_or(Error)?;
            let right = java::double(right).ok_or(Error)?;
            java::compare_doubles(left, right)
        }
        (left, right) => order(left, right)?,
    };
    Ok(Some(match size {
        Size::Less => order == Ordering::Less,
        Size::LessEqual => order != Ordering::Greater,
        Size::Greater => order == Ordering::Greater,
        Size::GreaterEqual => order != Ordering::Less,
    }))
}

/// Neither is null. A text beside a number is read as that number's type; what has no order in Java
/// is "less".
fn order(left: Value<'_>, right: Value<'_>) -> Outcome<Ordering> {
    use Value::{Boolean, Double, Integer, Long, Text};
    Ok(match (left, right) {
        (Boolean(left), Boolean(right)) => left.cmp(&right),
        (Text(left), Text(right)) => java::compare(left, right),
        (Integer(left), Integer(right)) => left.cmp(&right),
        (Long(left), Long(right)) => left.cmp(&right),
        (Integer(left), Long(right)) => i64::from(left).cmp(&right),
        (Long(left), Integer(right)) => left.cmp(&i64::from(right)),
        (Double(left), Double(right)) => java::compare_doubles(left, right),
        (Integer(left), Double(right)) => java::compare_doubles(left.into(), right),
        (Double(left), Integer(right)) => java::compare_doubles(left, right.into()),
        (Long(left), Double(right)) => java::compare_doubles(left as f64, right),
        (Double(left), Long(right)) => java::compare_doubles(left, right as f64),
        (Text(left), Integer(right)) => java::integer(left).ok_or(Error)?.cmp(&right),
        (Integer(left), Text(right)) => left.cmp(&java::integer(right).ok_or(Error)?),
        (Text(left), Long(right)) => java::long(left).ok_or(Error)?.cmp(&right),
        (Long(left), Text(right)) => left.cmp(&java::long(right).ok_or(Error)?),
        (Text(left), Double(right)) => {
            java::compare_doubles(java::double(left).ok_or(Error)?, right)
        }
        (Double(left), Text(right)) => {
            java::compare_doubles(left, java::double(right).ok_or(Error)?)
        }
        (Text(left), Boolean(right)) => left.eq_ignore_ascii_case("true").cmp(&right),
        // Java casts the truth to a text, and throws.
        (Boolean(_), Text(_)) => return Err(Error),
        (Boolean(_), _) | (_, Boolean(_)) | (Value::Null, _) | (_, Value::Null) => Ordering::Less,
    })
}
