//! The tree of an expression, and what RocketMQ lets stand where.

/// A literal.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Constant {
    Text(String),
    /// A literal within 32 bits: a property beside it is read as one.
    Integer(i32),
    Long(i64),
    Double(f64),
    Boolean(bool),
    Null,
}

/// How two values are compared by size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

impl Size {
    /// The same seen from the other side.
    pub(crate) fn flipped(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::LessEqual => Self::GreaterEqual,
            Self::Greater => Self::Less,
            Self::GreaterEqual => Self::LessEqual,
        }
    }
}

/// Where a text is looked for in a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Anywhere,
    Start,
    End,
}

/// An expression.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Expr {
    Constant(Constant),
    Property(String),
    Negate(Box<Self>),
    /// A property where a truth is wanted: false if present.
    Cast(Box<Self>),
    Not(Box<Self>),
    And(Vec<Self>),
    Or(Vec<Self>),
    Equal(Box<Self>, Box<Self>),
    Compare(Size, Box<Self>, Box<Self>),
    IsNull(Box<Self>),
    In {
        property: String,
        texts: Vec<String>,
        not: bool,
    },
    Has {
        value: Box<Self>,
        part: Part,
        text: String,
        not: bool,
    },
}

impl Expr {
    /// It gives a truth whatever the message.
    pub(crate) fn is_truth(&self) -> bool {
        !matches!(
            self,
            Self::Property(_)
                | Self::Negate(_)
                | Self::Constant(
                    Constant::Text(_)
                        | Constant::Integer(_)
                        | Constant::Long(_)
                        | Constant::Double(_)
                )
        )
    }

    pub(crate) fn negated(self) -> Self {
        Self::Not(Box::new(self))
    }

    /// Levels of the tree, so that nothing that walks it runs out of stack.
    pub(crate) fn depth(&self) -> usize {
        let below = match self {
            Self::Constant(_) | Self::Property(_) | Self::In { .. } => 0,
            Self::Negate(inner) | Self::Cast(inner) | Self::Not(inner) | Self::IsNull(inner) => {
                inner.depth()
            }
            Self::Has { value, .. } => value.depth(),
            Self::And(all) | Self::Or(all) => all.iter().map(Self::depth).max().unwrap_or(0),
            Self::Equal(left, right) | Self::Compare(_, left, right) => {
                left.depth().max(right.depth())
            }
        };
        below + 1
    }
}
