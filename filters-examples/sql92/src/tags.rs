//! Which tags can an expression deliver at all? What it says lets the broker skip the others by
//! their hash, without reading them and without asking us.

use crate::syntax::{Constant, Expr};

/// The property that holds the tag.
const TAGS: &str = "TAGS";
/// More are not worth a list.
const MOST: usize = 256;

/// Only messages with one of these can be delivered; `None` = cannot tell. Right because an
/// expression delivers only when it is true: an AND needs each part true, an OR one of them.
pub(crate) fn possible(expr: &Expr) -> Option<Vec<&str>> {
    let tags = match expr {
        Expr::Equal(left, right) => match (&**left, &**right) {
            (Expr::Property(name), Expr::Constant(Constant::Text(tag)))
            | (Expr::Constant(Constant::Text(tag)), Expr::Property(name))
                if name == TAGS =>
            {
                vec![tag.as_str()]
            }
            _ => return None,
        },
        Expr::In {
            property,
            texts,
            not: false,
        } if property == TAGS => texts.iter().map(String::as_str).collect(),
        Expr::And(all) => {
            let mut parts = all.iter().filter_map(possible);
            let first = parts.next()?;
            parts.fold(first, |mut tags, part| {
                tags.retain(|tag| part.contains(tag));
                tags
            })
        }
        Expr::Or(all) => {
            let parts: Option<Vec<_>> = all.iter().map(possible).collect();
            parts?.concat()
        }
        _ => return None,
    };
    (tags.len() <= MOST).then_some(tags)
}
