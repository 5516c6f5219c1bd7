//! SQL92 filters: text to tree, and a tree over the properties of a message.
//!
//! A filter is compiled once and evaluated often. Whatever compiles is bounded: in bytes, in nodes, in depth; so is what
//! it costs to evaluate.
//!
//! Where we differ from Apache RocketMQ, on purpose: a comparison with a value that is no number of the kind asked for is
//! NULL, that comparison alone. There it ends the whole expression without a match, so that `a > 5 OR b = 'x'` misses a
//! message with `b = 'x'` when its `a` is no number. Everything that matches there matches here, and a refused message
//! would be gone for the group. For the same reason an integer property may have 64 bits, whatever the literal beside it.
//! And text behind a whole expression is refused; there it is passed over, so that `a LIKE 'x'` means `a`.
//!
//! Reading order: `tree`, `lex`, `parse`, `evaluate`, `property`.
//!
//! Source: apache/rocketmq `filter/src/main/javacc/SelectorParser.jj`, `filter/.../expression/*.java`.

mod evaluate;
mod lex;
mod parse;
mod property;
mod tree;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use tree::Expr;

use crate::StoredMessage;

/// Longest expression in bytes.
const BYTES_MAX: usize = 4096;
/// Most levels, of parentheses and of operators that rest on each other.
const DEPTH_MAX: usize = 64;
/// Most operators, values and entries of lists together.
const NODES_MAX: usize = 1024;
/// Compiled expressions that are kept.
const KEPT_MAX: usize = 256;

/// Why an expression does not compile, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("character {column}: {problem}")]
pub struct SqlError {
    /// Bytes before the place.
    pub at: usize,
    /// The place in characters, from 1.
    pub column: usize,
    pub problem: SqlProblem,
}

/// What is wrong there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SqlProblem {
    #[error("the expression is empty")]
    Empty,
    #[error("the expression has {bytes} bytes, at most {BYTES_MAX} are allowed")]
    TooLong { bytes: usize },
    #[error("the expression is nested more than {DEPTH_MAX} levels deep")]
    TooDeep,
    #[error("the expression has more than {NODES_MAX} operators and values")]
    TooLarge,
    #[error("{0:?} means nothing here")]
    Character(char),
    #[error("the text that begins here has no closing quote")]
    OpenText,
    #[error("the comment that begins here has no end")]
    OpenComment,
    #[error("{number} is no integer of 64 bits")]
    Integer { number: String },
    #[error("{number} is no number that a float can be, which 0.0 is not either")]
    Float { number: String },
    #[error("expected {expected}, found {found}")]
    Expected { expected: &'static str, found: String },
    #[error("this is neither true nor false")]
    NotBoolean,
    #[error("this has no order: only properties and numbers can be compared with <, <=, >, >= and BETWEEN")]
    NoOrder,
    #[error("nothing equals NULL: use IS NULL or IS NOT NULL")]
    EqualsNull,
    #[error("TRUE or FALSE never equals a number or a text")]
    NeverEqual,
    #[error("the lower end of BETWEEN is above the upper one")]
    EmptyRange,
    #[error("IN asks for a property on its left")]
    NotAProperty,
}

/// A compiled expression. Equal, ordered and hashed by its text.
pub struct Sql {
    text: String,
    expr: Expr,
    /// The properties it looks at, sorted.
    names: Vec<String>,
}

impl Sql {
    /// Compiles an expression, or finds it among those that were compiled lately.
    ///
    /// # Errors
    /// [`SqlError`] says where the expression is wrong, and why.
    pub fn compile(text: &str) -> Result<Arc<Self>, SqlError> {
        /// What a pure function gave: nobody can tell whether it was kept.
        static KEPT: LazyLock<Mutex<BTreeMap<String, Arc<Sql>>>> = LazyLock::new(Mutex::default);
        let kept = || KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = kept().get(text) {
            return Ok(Arc::clone(known));
        }
        let compiled = Arc::new(Self::parse(text)?);
        let mut kept = kept();
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(text.to_owned(), Arc::clone(&compiled));
        Ok(compiled)
    }

    fn parse(text: &str) -> Result<Self, SqlError> {
        let error = |(at, problem): (usize, SqlProblem)| {
            let column = text.get(..at).map_or(1, |before| before.chars().count() + 1);
            SqlError { at, column, problem }
        };
        let expr = parse::parse(text).map_err(error)?;
        let mut names = Vec::new();
        expr.properties(&mut |name| names.push(name.to_owned()));
        names.sort_unstable();
        names.dedup();
        Ok(Self { text: text.to_owned(), expr, names })
    }

    /// The expression as its consumer wrote it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether a message is wanted: only if the expression is true of it, not if it is NULL.
    pub fn wants(&self, message: &StoredMessage) -> bool {
        let mut values: Vec<Option<Cow<'_, str>>> = vec![None; self.names.len()];
        property::fill(message, &self.names, &mut values);
        self.matches(|name| {
            let at = self.names.binary_search_by(|known| known.as_str().cmp(name)).ok()?;
            values[at].as_deref()
        })
    }

    /// Whether the expression is true of these properties; `None` is NULL.
    pub fn matches<'a>(&'a self, lookup: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.truth(lookup) == Some(true)
    }

    /// Whether its tree, printed, compiles to the same tree, or is too long or too deep for that: what was a chain is printed
    /// as parentheses in parentheses, and those count twice with a `NOT` before them.
    pub(crate) fn reads_back(&self) -> bool {
        let printed = self.expr.to_string();
        match parse::parse(&printed) {
            Ok(again) => again == self.expr,
            Err((_, SqlProblem::TooDeep)) => true,
            Err(_) => printed.len() > BYTES_MAX,
        }
    }

    /// True, false, or NULL.
    fn truth<'a>(&'a self, lookup: impl Fn(&str) -> Option<&'a str>) -> Option<bool> {
        self.expr.evaluate(&lookup).truth()
    }
}

impl fmt::Debug for Sql {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sql({:?})", self.text)
    }
}

impl PartialEq for Sql {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Sql {}

impl PartialOrd for Sql {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Sql {
    fn cmp(&self, other: &Self) -> Ordering {
        self.text.cmp(&other.text)
    }
}

impl Hash for Sql {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

#[cfg(test)]
mod tests;
