//! What an expression says.

use std::fmt;

/// One expression. `a <> b` is `NOT (a = b)`, and so are the other pairs whose NULLs agree.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Expr {
    /// Two or more.
    Or(Vec<Self>),
    And(Vec<Self>),
    Not(Box<Self>),
    Equal(Box<Self>, Box<Self>),
    IsNull(Box<Self>),
    Compare(Box<Self>, Comparison, Box<Self>),
    Between {
        value: Box<Self>,
        low: Box<Self>,
        high: Box<Self>,
        not: bool,
    },
    /// A property is one of these texts.
    In {
        property: String,
        texts: Vec<String>,
    },
    /// A text has another one inside.
    Has {
        value: Box<Self>,
        r#where: Where,
        text: String,
        /// Not the opposite: without a text both are false.
        not: bool,
    },
    Negative(Box<Self>),
    Property(String),
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    Null,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Comparison {
    Less,
    LessOrEqual,
    More,
    MoreOrEqual,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Where {
    Anywhere,
    AtStart,
    AtEnd,
}

impl Expr {
    /// Gives true, false or NULL by its form.
    pub(super) fn is_boolean(&self) -> bool {
        match self {
            Self::Or(_)
            | Self::And(_)
            | Self::Not(_)
            | Self::Equal(..)
            | Self::IsNull(_)
            | Self::Compare(..)
            | Self::Between { .. }
            | Self::In { .. }
            | Self::Has { .. }
            | Self::Bool(_)
            | Self::Null => true,
            Self::Negative(_) | Self::Property(_) | Self::Text(_) | Self::Integer(_) | Self::Float(_) => false,
        }
    }

    /// Visits the name of every property in it.
    pub(super) fn properties<'a>(&'a self, visit: &mut impl FnMut(&'a str)) {
        match self {
            Self::Or(parts) | Self::And(parts) => parts.iter().for_each(|part| part.properties(visit)),
            Self::Not(inner) | Self::IsNull(inner) | Self::Negative(inner) => inner.properties(visit),
            Self::Has { value, .. } => value.properties(visit),
            Self::Equal(left, right) | Self::Compare(left, _, right) => {
                left.properties(visit);
                right.properties(visit);
            }
            Self::Between { value, low, high, .. } => [value, low, high].iter().for_each(|part| part.properties(visit)),
            Self::In { property, .. } => visit(property),
            Self::Property(name) => visit(name),
            Self::Text(_) | Self::Integer(_) | Self::Float(_) | Self::Bool(_) | Self::Null => {}
        }
    }
}

/// As text that compiles to the same tree. What rests on an operator stands in parentheses.
impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Or(parts) => joined(f, parts, " OR "),
            Self::And(parts) => joined(f, parts, " AND "),
            Self::Not(inner) => write!(f, "NOT {}", Operand(inner)),
            Self::Equal(left, right) => write!(f, "{} = {}", Operand(left), Operand(right)),
            Self::IsNull(inner) => write!(f, "{} IS NULL", Operand(inner)),
            Self::Compare(left, comparison, right) => {
                write!(f, "{} {} {}", Operand(left), comparison.symbol(), Operand(right))
            }
            Self::Between { value, low, high, not } => {
                let not = if *not { "NOT " } else { "" };
                write!(f, "{} {not}BETWEEN {} AND {}", Operand(value), Operand(low), Operand(high))
            }
            Self::In { property, texts } => {
                let texts: Vec<_> = texts.iter().map(|text| quoted(text)).collect();
                write!(f, "{property} IN ({})", texts.join(", "))
            }
            Self::Has { value, r#where, text, not } => {
                let not = if *not { "NOT " } else { "" };
                write!(f, "{} {not}{} {}", Operand(value), r#where.word(), quoted(text))
            }
            Self::Negative(inner) => write!(f, "-{}", Operand(inner)),
            Self::Property(name) => f.write_str(name),
            Self::Text(text) => f.write_str(&quoted(text)),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Float(number) => write!(f, "{number:?}"),
            Self::Bool(true) => f.write_str("TRUE"),
            Self::Bool(false) => f.write_str("FALSE"),
            Self::Null => f.write_str("NULL"),
        }
    }
}

/// What an operator rests on.
struct Operand<'a>(&'a Expr);

impl fmt::Display for Operand<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare = matches!(
            self.0,
            Expr::Property(_) | Expr::Text(_) | Expr::Integer(_) | Expr::Float(_) | Expr::Bool(_) | Expr::Null
        );
        if bare { self.0.fmt(f) } else { write!(f, "({})", self.0) }
    }
}

fn joined(f: &mut fmt::Formatter<'_>, parts: &[Expr], between: &str) -> fmt::Result {
    for (nth, part) in parts.iter().enumerate() {
        write!(f, "{}{}", if nth > 0 { between } else { "" }, Operand(part))?;
    }
    Ok(())
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

impl Comparison {
    fn symbol(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::More => ">",
            Self::MoreOrEqual => ">=",
        }
    }
}

impl Where {
    fn word(self) -> &'static str {
        match self {
            Self::Anywhere => "CONTAINS",
            Self::AtStart => "STARTSWITH",
            Self::AtEnd => "ENDSWITH",
        }
    }
}
