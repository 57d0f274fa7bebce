//! A tree made ready to judge 32 messages at a time: the usual conditions have loops of their own
//! over one column each, the rest goes row by row.
//!
//! A property that is only compared with 32-bit literals is needed as a number: the broker reads it
//! once for all. Everything Java would say of its text is still known: absent, an integer, or not
//! one; and an integer beyond 32 bits is an error like any other text.

use quern_plugin::{Batch, Exact, Figure, Needs, Refusal, RefusalCode, Text};

use crate::syntax::{Constant, Expr, Part, Size};
use crate::value::{self, Value};

/// Most properties of each sort that the contract lets an expression read.
const COLUMNS: usize = 16;

/// What 32 messages give, a bit each; a message in none of the three is null.
#[derive(Debug, Clone, Copy, Default)]
struct Truths {
    yes: u32,
    no: u32,
    error: u32,
}

/// What a comparison is when the property is absent: it depends on the side it stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Absent {
    Null,
    False,
}

#[derive(Debug)]
enum Node {
    And(Vec<Self>),
    Or(Vec<Self>),
    Not(Box<Self>),
    /// An integer property within bounds.
    Within {
        figure: usize,
        low: i64,
        high: i64,
        absent: Absent,
    },
    Is {
        field: usize,
        text: Exact,
        absent: Absent,
    },
    /// The texts are sorted.
    OneOf {
        field: usize,
        texts: Vec<Vec<u8>>,
        not: bool,
    },
    IsAbsent {
        field: usize,
    },
    Has {
        field: usize,
        part: Part,
        text: String,
        not: bool,
    },
    Row(Expr),
}

/// An expression ready to judge.
#[derive(Debug)]
pub(crate) struct Plan {
    root: Node,
    /// Properties read as texts, and as integers, in the order of the needs.
    fields: Vec<String>,
    figures: Vec<String>,
}

impl Plan {
    pub(crate) fn new(expr: Expr, text: &str) -> Result<Self, Refusal> {
        let mut plan = Self {
            root: Node::And(Vec::new()),
            fields: Vec::new(),
            figures: Vec::new(),
        };
        plan.root = plan.node(expr);
        if plan.fields.len().max(plan.figures.len()) > COLUMNS {
            let reason = format!("the expression reads more than {COLUMNS} properties");
            return Err(Refusal::new(RefusalCode::TooComplex, 0, text.len(), reason));
        }
        Ok(plan)
    }

    pub(crate) fn needs(&self) -> Needs {
        let mut needs = Needs::new();
        for name in &self.fields {
            needs = needs.text(Text::Property(name.clone()));
        }
        for name in &self.figures {
            needs = needs.figure(Figure::Integer(name.clone()));
        }
        needs
    }

    fn field(&mut self, name: String) -> usize {
        position(&mut self.fields, name)
    }

    fn node(&mut self, expr: Expr) -> Node {
        match expr {
            Expr::And(all) => Node::And(self.merged(all)),
            Expr::Or(all) => Node::Or(all.into_iter().map(|it| self.node(it)).collect()),
            Expr::Not(inner) => Node::Not(Box::new(self.node(*inner))),
            Expr::Equal(left, right) => self.equal(*left, *right),
            Expr::Compare(size, left, right) => self.compare(size, *left, *right),
            Expr::IsNull(inner) => match *inner {
                Expr::Property(name) => Node::IsAbsent {
                    field: self.field(name),
                },
                inner => self.row(Expr::IsNull(Box::new(inner))),
            },
            Expr::In {
                property,
                texts,
                not,
            } => {
                let mut texts: Vec<Vec<u8>> = texts.into_iter().map(String::into_bytes).collect();
                texts.sort_unstable();
                Node::OneOf {
                    field: self.field(property),
                    texts,
                    not,
                }
            }
            Expr::Has {
                value,
                part,
                text,
                not,
            } => match *value {
                Expr::Property(name) if !text.is_empty() => Node::Has {
                    field: self.field(name),
                    part,
                    text,
                    not,
                },
                value => self.row(Expr::Has {
                    value: Box::new(value),
                    part,
                    text,
                    not,
                }),
            },
            other => self.row(other),
        }
    }

    /// The parts of an AND; two bounds of one property, side by side, become one test.
    fn merged(&mut self, all: Vec<Expr>) -> Vec<Node> {
        let mut nodes: Vec<Node> = Vec::with_capacity(all.len());
        for expr in all {
            let node = self.node(expr);
            if let (
                Some(Node::Within {
                    figure,
                    low,
                    high,
                    absent: Absent::Null,
                }),
                Node::Within {
                    figure: same,
                    low: also_low,
                    high: also_high,
                    absent: Absent::Null,
                },
            ) = (nodes.last_mut(), &node)
                && figure == same
            {
                *low = (*low).max(*also_low);
                *high = (*high).min(*also_high);
            } else {
                nodes.push(node);
            }
        }
        nodes
    }

    fn equal(&mut self, left: Expr, right: Expr) -> Node {
        let (name, constant, absent) = match (left, right) {
            (Expr::Property(name), right) if constant(&right).is_some() => {
                (name, right, Absent::Null)
            }
            (left, Expr::Property(name)) if constant(&left).is_some() => {
                (name, left, Absent::False)
            }
            (left, right) => return self.row(Expr::Equal(Box::new(left), Box::new(right))),
        };
        match constant_of(constant) {
            Constant::Integer(value) => Node::Within {
                figure: position(&mut self.figures, name),
                low: value.into(),
                high: value.into(),
                absent,
            },
            Constant::Text(text) => Node::Is {
                field: self.field(name),
                text: Exact::new(text),
                absent,
            },
            other => {
                let (property, constant) = (Expr::Property(name), Expr::Constant(other));
                let (left, right) = match absent {
                    Absent::Null => (property, constant),
                    Absent::False => (constant, property),
                };
                self.row(Expr::Equal(Box::new(left), Box::new(right)))
            }
        }
    }

    fn compare(&mut self, size: Size, left: Expr, right: Expr) -> Node {
        let (name, literal, size) = match (left, right) {
            (Expr::Property(name), right) if integer(&right).is_some() => {
                (name, integer(&right), size)
            }
            (left, Expr::Property(name)) if integer(&left).is_some() => {
                (name, integer(&left), size.flipped())
            }
            (left, right) => {
                return self.row(Expr::Compare(size, Box::new(left), Box::new(right)));
            }
        };
        let literal = i64::from(literal.unwrap_or_default());
        let (low, high) = match size {
            Size::Less => (i32::MIN.into(), literal - 1),
            Size::LessEqual => (i32::MIN.into(), literal),
            Size::Greater => (literal + 1, i32::MAX.into()),
            Size::GreaterEqual => (literal, i32::MAX.into()),
        };
        Node::Within {
            figure: position(&mut self.figures, name),
            low,
            high,
            // Either side absent is null.
            absent: Absent::Null,
        }
    }

    fn row(&mut self, expr: Expr) -> Node {
        self.read(&expr);
        Node::Row(expr)
    }

    /// Needs every property of an expression as a text.
    fn read(&mut self, expr: &Expr) {
        match expr {
            Expr::Constant(_) => {}
            Expr::Property(name) | Expr::In { property: name, .. } => {
                self.field(name.clone());
            }
            Expr::Negate(inner)
            | Expr::Cast(inner)
            | Expr::Not(inner)
            | Expr::IsNull(inner)
            | Expr::Has { value: inner, .. } => self.read(inner),
            Expr::And(all) | Expr::Or(all) => all.iter().for_each(|it| self.read(it)),
            Expr::Equal(left, right) | Expr::Compare(_, left, right) => {
                self.read(left);
                self.read(right);
            }
        }
    }

    /// Whether messages `from ..` of the batch are delivered, a bit each.
    pub(crate) fn judge(&self, batch: &Batch, from: usize) -> u32 {
        let count = (batch.len() - from).min(32);
        let rows = Rows {
            plan: self,
            batch,
            from,
        };
        let all = u32::MAX >> (32 - count);
        rows.delivered(&self.root, all)
    }
}

fn position(names: &mut Vec<String>, name: String) -> usize {
    match names.iter().position(|it| *it == name) {
        Some(index) => index,
        None => {
            names.push(name);
            names.len() - 1
        }
    }
}

/// A literal, negated or not.
fn constant(expr: &Expr) -> Option<Constant> {
    match expr {
        Expr::Constant(constant) => Some(constant.clone()),
        Expr::Negate(inner) => match constant(inner)? {
            Constant::Integer(value) => Some(Constant::Integer(value.wrapping_neg())),
            Constant::Long(value) => Some(Constant::Long(value.wrapping_neg())),
            Constant::Double(value) => Some(Constant::Double(-value)),
            _ => None,
        },
        _ => None,
    }
}

fn constant_of(expr: Expr) -> Constant {
    constant(&expr).unwrap_or(Constant::Null)
}

fn integer(expr: &Expr) -> Option<i32> {
    match constant(expr)? {
        Constant::Integer(value) => Some(value),
        _ => None,
    }
}

/// Up to 32 messages of a batch.
struct Rows<'a> {
    plan: &'a Plan,
    batch: &'a Batch,
    from: usize,
}

impl Rows<'_> {
    /// Which of the messages in `live` an expression is true for, all that counts at its root; an AND is true where
    /// all its parts are, whatever else they are elsewhere.
    fn delivered(&self, node: &Node, live: u32) -> u32 {
        match node {
            Node::And(all) => all.iter().fold(live, |open, part| match open {
                0 => 0,
                open => open & self.delivered(part, open),
            }),
            Node::Within {
                figure, low, high, ..
            } => {
                let numbers = self.batch.numbers(*figure);
                live & numbers.map_or(0, |it| it.within(self.from, *low, *high))
            }
            Node::Is { field, text, .. } => {
                let texts = self.batch.texts(*field);
                live & texts.map_or(0, |it| it.equal(self.from, text))
            }
            other => live & self.judge(other, live).yes,
        }
    }

    /// Right for the messages in `live`; what it says of others means nothing.
    fn judge(&self, node: &Node, live: u32) -> Truths {
        match node {
            Node::And(all) => self.all_of(all, live),
            Node::Or(all) => self.any_of(all, live),
            Node::Not(inner) => {
                let Truths { yes, no, error } = self.judge(inner, live);
                Truths {
                    yes: no,
                    no: yes,
                    error,
                }
            }
            Node::Within {
                figure,
                low,
                high,
                absent,
            } => self.within(*figure, (*low, *high), *absent),
            Node::Is {
                field,
                text,
                absent,
            } => self.each(*field, live, *absent, |value| value == text.bytes()),
            Node::OneOf { field, texts, not } => self.each(*field, live, Absent::Null, |value| {
                let found = match texts.len() {
                    0..8 => texts.iter().any(|text| text == value),
                    _ => texts.binary_search_by(|text| text[..].cmp(value)).is_ok(),
                };
                found != *not
            }),
            Node::IsAbsent { field } => {
                let present = self.each(*field, live, Absent::Null, |_| true);
                Truths {
                    yes: live & !present.yes,
                    no: present.yes,
                    error: 0,
                }
            }
            Node::Has {
                field,
                part,
                text,
                not,
            } => self.each(*field, live, Absent::False, |value| {
                // The batch's text is UTF-8, and so is every value in it.
                std::str::from_utf8(value).is_ok_and(|it| value::has(it, *part, text) != *not)
            }),
            Node::Row(expr) => self.row(expr, live),
        }
    }

    fn all_of(&self, all: &[Node], live: u32) -> Truths {
        let (mut yes, mut no, mut error) = (live, 0, 0);
        for node in all {
            let open = live & !(no | error);
            if open == 0 {
                break;
            }
            let truths = self.judge(node, open);
            yes &= truths.yes;
            no |= truths.no & open;
            error |= truths.error & open;
        }
        Truths { yes, no, error }
    }

    fn any_of(&self, all: &[Node], live: u32) -> Truths {
        let (mut yes, mut no, mut error) = (0, live, 0);
        for node in all {
            let open = live & !(yes | error);
            if open == 0 {
                break;
            }
            let truths = self.judge(node, open);
            no &= truths.no;
            yes |= truths.yes & open;
            error |= truths.error & open;
        }
        Truths { yes, no, error }
    }

    fn within(&self, figure: usize, (low, high): (i64, i64), absent: Absent) -> Truths {
        let Some(numbers) = self.batch.numbers(figure) else {
            return Truths::default();
        };
        let (mut yes, mut known, mut missing) = (0u32, 0u32, 0u32);
        for (bit, number) in numbers.from(self.from).take(32).enumerate() {
            yes |= u32::from(low <= number && number <= high) << bit;
            known |= u32::from(i64::from(number as i32) == number) << bit;
            missing |= u32::from(number == Batch::NO_NUMBER) << bit;
        }
        let no = known & !yes;
        Truths {
            yes,
            no: match absent {
                Absent::Null => no,
                Absent::False => no | missing,
            },
            error: !known & !missing,
        }
    }

    fn each(
        &self,
        field: usize,
        live: u32,
        absent: Absent,
        test: impl Fn(&[u8]) -> bool,
    ) -> Truths {
        let mut truths = Truths::default();
        let Some(texts) = self.batch.texts(field) else {
            return truths;
        };
        let mut left = live;
        while left != 0 {
            let bit = left.trailing_zeros();
            left &= left - 1;
            match texts.bytes(self.from + bit as usize) {
                Some(value) if test(value) => truths.yes |= 1 << bit,
                Some(_) => truths.no |= 1 << bit,
                None if absent == Absent::False => truths.no |= 1 << bit,
                None => {}
            }
        }
        truths
    }

    fn row(&self, expr: &Expr, live: u32) -> Truths {
        let mut truths = Truths::default();
        let mut left = live;
        while left != 0 {
            let bit = left.trailing_zeros();
            left &= left - 1;
            let message = self.from + bit as usize;
            let property = |name: &str| {
                let field = self.plan.fields.iter().position(|it| it == name)?;
                self.batch.text(message, field)
            };
            match value::evaluate(expr, &property) {
                Ok(Value::Boolean(true)) => truths.yes |= 1 << bit,
                Ok(Value::Boolean(false)) => truths.no |= 1 << bit,
                Ok(_) => {}
                Err(_) => truths.error |= 1 << bit,
            }
        }
        truths
    }
}
