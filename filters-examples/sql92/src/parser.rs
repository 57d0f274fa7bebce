//! Tokens to a tree, by binding power: OR, AND, equality and IS, comparison, unary. `NOT` binds
//! tighter than every comparison, as in RocketMQ. What RocketMQ refuses is refused, with the place.

use std::cmp::Ordering;

use quern_plugin::{Refusal, RefusalCode, java};

use crate::lexer::{self, Kind, Token};
use crate::syntax::{Constant, Expr, Part, Size};

/// Deepest nesting of an expression.
const DEPTH: usize = 64;

/// Binding powers, weakest first.
const OR: u8 = 1;
const AND: u8 = 2;
const EQUALITY: u8 = 3;
const COMPARISON: u8 = 4;
const UNARY: u8 = 5;

/// An expression and the bytes it stands in.
struct Spanned {
    expr: Expr,
    at: usize,
    end: usize,
}

/// Understands a whole text.
pub(crate) fn parse(text: &str) -> Result<Expr, Refusal> {
    let mut parser = Parser {
        text,
        tokens: lexer::tokens(text)?,
        next: 0,
        depth: 0,
    };
    if parser.peek().kind == Kind::End {
        return Err(Refusal::syntax(0, text.len(), "the expression is empty")
            .help("write for instance: region = 'eu' AND amount > 100"));
    }
    let whole = parser.expression(OR)?;
    let rest = parser.peek();
    if rest.kind != Kind::End {
        return Err(parser.trailing(rest));
    }
    truth(whole)
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    next: usize,
    depth: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Token {
        self.peek_at(0)
    }

    /// The last token is the end, however far one looks.
    fn peek_at(&self, ahead: usize) -> Token {
        let last = self.tokens.len() - 1;
        self.tokens[(self.next + ahead).min(last)]
    }

    fn take(&mut self) -> Token {
        let token = self.peek();
        self.next += 1;
        token
    }

    fn words(&self, token: Token) -> &str {
        &self.text[token.at..token.at + token.len]
    }

    /// Everything that binds at least so strongly.
    fn expression(&mut self, least: u8) -> Result<Spanned, Refusal> {
        let mut left = self.unary()?;
        loop {
            let operator = self.peek();
            let power = match operator.kind {
                Kind::Or => OR,
                Kind::And => AND,
                Kind::Equal | Kind::NotEqual | Kind::Is => EQUALITY,
                Kind::Less
                | Kind::LessEqual
                | Kind::Greater
                | Kind::GreaterEqual
                | Kind::Contains
                | Kind::StartsWith
                | Kind::EndsWith
                | Kind::Between
                | Kind::In => COMPARISON,
                Kind::Not if self.negates_an_operator() => COMPARISON,
                _ => return Ok(left),
            };
            if power < least {
                return Ok(left);
            }
            left = match power {
                OR | AND => self.logic(left, power)?,
                EQUALITY => self.equality(left)?,
                _ => self.comparison(left)?,
            };
            let depth = left.expr.depth();
            if depth > DEPTH {
                return Err(too_deep(operator));
            }
        }
    }

    fn negates_an_operator(&self) -> bool {
        matches!(
            self.peek_at(1).kind,
            Kind::Contains | Kind::StartsWith | Kind::EndsWith | Kind::Between | Kind::In
        )
    }

    /// A whole chain of ANDs, or of ORs: it is judged from left to right either way.
    fn logic(&mut self, left: Spanned, power: u8) -> Result<Spanned, Refusal> {
        let operator = self.peek().kind;
        let (at, mut end) = (left.at, left.end);
        let mut all = vec![truth(left)?];
        while self.peek().kind == operator {
            self.take();
            let right = self.expression(power + 1)?;
            end = right.end;
            all.push(truth(right)?);
        }
        let expr = match operator {
            Kind::And => Expr::And(all),
            _ => Expr::Or(all),
        };
        Ok(Spanned { expr, at, end })
    }

    fn equality(&mut self, left: Spanned) -> Result<Spanned, Refusal> {
        let operator = self.take();
        let at = left.at;
        if operator.kind == Kind::Is {
            let not = self.peek().kind == Kind::Not;
            if not {
                self.take();
            }
            let null = self.expect(Kind::Null, "NULL")?;
            let expr = Expr::IsNull(Box::new(left.expr));
            return Ok(Spanned {
                expr: if not { expr.negated() } else { expr },
                at,
                end: null.at + null.len,
            });
        }
        let right = self.expression(EQUALITY + 1)?;
        comparable(&left)?;
        comparable(&right)?;
        let end = right.end;
        if let (Expr::Constant(Constant::Boolean(_)), Expr::Constant(constant)) =
            (&left.expr, &right.expr)
            && !matches!(constant, Constant::Boolean(_))
        {
            return Err(Refusal::new(
                RefusalCode::TypeError,
                right.at,
                right.end - right.at,
                "this is never TRUE or FALSE",
            ));
        }
        let expr = Expr::Equal(Box::new(left.expr), Box::new(right.expr));
        let expr = match operator.kind {
            Kind::Equal => expr,
            _ => expr.negated(),
        };
        Ok(Spanned { expr, at, end })
    }

    fn comparison(&mut self, left: Spanned) -> Result<Spanned, Refusal> {
        let not = self.peek().kind == Kind::Not;
        if not {
            self.take();
        }
        let operator = self.take();
        let size = match operator.kind {
            Kind::Less => Size::Less,
            Kind::LessEqual => Size::LessEqual,
            Kind::Greater => Size::Greater,
            Kind::GreaterEqual => Size::GreaterEqual,
            Kind::Between => return self.between(left, not),
            Kind::In => return self.one_of(left, not),
            Kind::StartsWith => return self.has(left, Part::Start, not),
            Kind::EndsWith => return self.has(left, Part::End, not),
            _ => return self.has(left, Part::Anywhere, not),
        };
        let right = self.expression(UNARY)?;
        sizeable(&left)?;
        sizeable(&right)?;
        Ok(Spanned {
            at: left.at,
            end: right.end,
            expr: Expr::Compare(size, Box::new(left.expr), Box::new(right.expr)),
        })
    }

    fn between(&mut self, value: Spanned, not: bool) -> Result<Spanned, Refusal> {
        let low = self.expression(UNARY)?;
        self.expect(Kind::And, "AND, then the upper bound")?;
        let high = self.expression(UNARY)?;
        for bound in [&value, &low, &high] {
            sizeable(bound)?;
        }
        let (at, end) = (value.at, high.end);
        if let (Expr::Constant(from), Expr::Constant(to)) = (&low.expr, &high.expr)
            && !not
            && sizes(to, from) == Ordering::Less
        {
            return Err(Refusal::syntax(low.at, end - low.at, "this range is empty")
                .help("the smaller bound comes first"));
        }
        let compare = |size, bound: Spanned| {
            Expr::Compare(size, Box::new(value.expr.clone()), Box::new(bound.expr))
        };
        let expr = match not {
            false => Expr::And(vec![
                compare(Size::GreaterEqual, low),
                compare(Size::LessEqual, high),
            ]),
            true => Expr::Or(vec![compare(Size::Less, low), compare(Size::Greater, high)]),
        };
        Ok(Spanned { expr, at, end })
    }

    fn one_of(&mut self, left: Spanned, not: bool) -> Result<Spanned, Refusal> {
        let Expr::Property(property) = left.expr else {
            let (at, len) = (left.at, left.end - left.at);
            return Err(Refusal::syntax(at, len, "only a property can be IN a list"));
        };
        self.expect(Kind::Open, "( and a list of texts")?;
        let mut texts = vec![self.quoted()?];
        while self.peek().kind == Kind::Comma {
            self.take();
            texts.push(self.quoted()?);
        }
        let close = self.expect(Kind::Close, ", or )")?;
        Ok(Spanned {
            expr: Expr::In {
                property,
                texts,
                not,
            },
            at: left.at,
            end: close.at + close.len,
        })
    }

    fn has(&mut self, left: Spanned, part: Part, not: bool) -> Result<Spanned, Refusal> {
        let text = self.quoted()?;
        let last = self.tokens[self.next - 1];
        Ok(Spanned {
            expr: Expr::Has {
                value: Box::new(left.expr),
                part,
                text,
                not,
            },
            at: left.at,
            end: last.at + last.len,
        })
    }

    fn unary(&mut self) -> Result<Spanned, Refusal> {
        let token = self.peek();
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(too_deep(token));
        }
        let parsed = match token.kind {
            Kind::Plus => {
                self.take();
                let inner = self.unary()?;
                Ok(Spanned {
                    at: token.at,
                    ..inner
                })
            }
            Kind::Minus => {
                self.take();
                let inner = self.unary()?;
                Ok(Spanned {
                    expr: Expr::Negate(Box::new(inner.expr)),
                    at: token.at,
                    end: inner.end,
                })
            }
            Kind::Not => {
                self.take();
                let inner = self.unary()?;
                let end = inner.end;
                Ok(Spanned {
                    expr: truth(inner)?.negated(),
                    at: token.at,
                    end,
                })
            }
            _ => self.primary(),
        };
        self.depth -= 1;
        parsed
    }

    fn primary(&mut self) -> Result<Spanned, Refusal> {
        let token = self.take();
        let words = self.words(token);
        let constant = match token.kind {
            Kind::Open => {
                let inner = self.expression(OR)?;
                let close = self.expect(Kind::Close, ")")?;
                return Ok(Spanned {
                    expr: inner.expr,
                    at: token.at,
                    end: close.at + close.len,
                });
            }
            Kind::Name => {
                return Ok(Spanned {
                    expr: Expr::Property(words.to_owned()),
                    at: token.at,
                    end: token.at + token.len,
                });
            }
            Kind::Text => Constant::Text(unquoted(words)),
            Kind::Integer => integer(token, words)?,
            Kind::Decimal => decimal(token, words)?,
            Kind::True => Constant::Boolean(true),
            Kind::False => Constant::Boolean(false),
            Kind::Null => Constant::Null,
            _ => {
                self.next -= 1;
                return Err(self.expected("a property, a number, a text or ("));
            }
        };
        Ok(Spanned {
            expr: Expr::Constant(constant),
            at: token.at,
            end: token.at + token.len,
        })
    }

    fn quoted(&mut self) -> Result<String, Refusal> {
        let token = self.expect(Kind::Text, "a text in single quotes")?;
        Ok(unquoted(self.words(token)))
    }

    fn expect(&mut self, kind: Kind, wanted: &str) -> Result<Token, Refusal> {
        if self.peek().kind == kind {
            return Ok(self.take());
        }
        Err(self.expected(wanted))
    }

    fn expected(&self, wanted: &str) -> Refusal {
        let found = self.peek();
        let reason = match found.kind {
            Kind::End => format!("it ends where {wanted} is expected"),
            _ => format!("{wanted} is expected here, not {}", self.words(found)),
        };
        Refusal::syntax(found.at, found.len, reason)
    }

    fn trailing(&self, rest: Token) -> Refusal {
        let words = self.words(rest);
        let reason = format!("the expression is complete before {words}");
        let refusal = Refusal::syntax(rest.at, rest.len, reason);
        match rest.kind {
            Kind::Integer | Kind::Decimal => refusal.help("a number does not begin with a zero"),
            Kind::Not => refusal.help("NOT stands before IN, BETWEEN, CONTAINS and their like"),
            _ => refusal.help("connect conditions with AND or OR"),
        }
    }
}

fn too_deep(token: Token) -> Refusal {
    let reason = format!("the expression is nested more than {DEPTH} deep");
    Refusal::new(RefusalCode::TooComplex, token.at, token.len, reason)
}

fn unquoted(words: &str) -> String {
    words[1..words.len() - 1].replace("''", "'")
}

fn integer(token: Token, words: &str) -> Result<Constant, Refusal> {
    match words.trim_end_matches(['l', 'L']).parse::<i64>() {
        Ok(value) => Ok(match i32::try_from(value) {
            Ok(value) => Constant::Integer(value),
            Err(_) => Constant::Long(value),
        }),
        Err(_) => Err(Refusal::syntax(
            token.at,
            token.len,
            "this number is beyond 64 bits",
        )),
    }
}

fn decimal(token: Token, words: &str) -> Result<Constant, Refusal> {
    match java::double(words) {
        Some(value) if value.is_finite() => Ok(Constant::Double(value)),
        _ => Err(Refusal::syntax(
            token.at,
            token.len,
            "this number is beyond what a double holds",
        )),
    }
}

/// Where a condition must stand.
fn truth(it: Spanned) -> Result<Expr, Refusal> {
    match it.expr {
        property @ Expr::Property(_) => Ok(Expr::Cast(Box::new(property))),
        expr if expr.is_truth() => Ok(expr),
        _ => Err(Refusal::new(
            RefusalCode::TypeError,
            it.at,
            it.end - it.at,
            "this is a value, and a condition is expected",
        )
        .help("compare it with something")),
    }
}

/// What may be compared by size: properties and numbers.
fn sizeable(it: &Spanned) -> Result<(), Refusal> {
    let reason = match &it.expr {
        Expr::Constant(Constant::Text(_)) => "a text is not compared by size",
        Expr::Constant(Constant::Boolean(_) | Constant::Null) => {
            "TRUE, FALSE and NULL are not compared by size"
        }
        expr if expr.is_truth() => "a condition is not compared by size",
        _ => return Ok(()),
    };
    let refusal = Refusal::new(RefusalCode::TypeError, it.at, it.end - it.at, reason);
    Err(match &it.expr {
        Expr::Not(_) => refusal.help("NOT binds tighter than a comparison: write NOT (a > 5)"),
        Expr::Constant(Constant::Text(_)) => refusal.help("write the number without quotes"),
        _ => refusal,
    })
}

/// What may be compared at all.
fn comparable(it: &Spanned) -> Result<(), Refusal> {
    match it.expr {
        Expr::Constant(Constant::Null) => Err(Refusal::new(
            RefusalCode::TypeError,
            it.at,
            it.end - it.at,
            "nothing equals NULL",
        )
        .help("write IS NULL or IS NOT NULL")),
        _ => Ok(()),
    }
}

/// Of two numbers.
fn sizes(left: &Constant, right: &Constant) -> Ordering {
    match (whole(left), whole(right)) {
        (Some(left), Some(right)) => left.cmp(&right),
        _ => java::compare_doubles(double(left), double(right)),
    }
}

fn whole(constant: &Constant) -> Option<i64> {
    match constant {
        Constant::Integer(value) => Some((*value).into()),
        Constant::Long(value) => Some(*value),
        _ => None,
    }
}

fn double(constant: &Constant) -> f64 {
    match constant {
        Constant::Double(value) => *value,
        other => whole(other).unwrap_or(0) as f64,
    }
}
