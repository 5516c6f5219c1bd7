//! Tokens to a tree, by descent. From weak to strong: OR; AND; = <> IS; < <= > >= BETWEEN IN CONTAINS STARTSWITH ENDSWITH;
//! NOT, signs; values and parentheses. So NOT and signs take the nearest value: `NOT a = 5` is `(NOT a) = 5`.

use super::lex::{Placed, Token, Word, tokens};
use super::tree::{Comparison, Expr, Where};
use super::{BYTES_MAX, DEPTH_MAX, NODES_MAX, SqlProblem};

type Parsed<T> = Result<T, (usize, SqlProblem)>;

/// A part of the tree under construction.
struct Part {
    expr: Expr,
    /// Levels below it, its own included.
    height: usize,
    /// Where it begins.
    at: usize,
}

struct Parser {
    tokens: Vec<Placed>,
    next: usize,
    end: usize,
    nodes: usize,
}

/// The tree of a whole text.
///
/// # Errors
/// Where the text is wrong, and why.
pub(super) fn parse(text: &str) -> Parsed<Expr> {
    if text.len() > BYTES_MAX {
        return Err((0, SqlProblem::TooLong { bytes: text.len() }));
    }
    let tokens = tokens(text)?;
    if tokens.is_empty() {
        return Err((0, SqlProblem::Empty));
    }
    let mut parser = Parser { tokens, next: 0, end: text.len(), nodes: 0 };
    let whole = parser.or(0)?;
    match parser.peek() {
        None => Ok(boolean(whole)?.expr),
        Some(_) => Err(parser.expected("an operator or the end")),
    }
}

impl Parser {
    fn or(&mut self, depth: usize) -> Parsed<Part> {
        self.chain(depth, Word::Or, Self::and, Expr::Or)
    }

    fn and(&mut self, depth: usize) -> Parsed<Part> {
        self.chain(depth, Word::And, Self::equality, Expr::And)
    }

    /// One part, or several between the same word.
    fn chain(
        &mut self,
        depth: usize,
        word: Word,
        part: impl Fn(&mut Self, usize) -> Parsed<Part>,
        all: impl FnOnce(Vec<Expr>) -> Expr,
    ) -> Parsed<Part> {
        let first = part(self, depth)?;
        if self.peek() != Some(&Token::Word(word)) {
            return Ok(first);
        }
        let (at, mut height) = (first.at, first.height);
        let mut parts = vec![boolean(first)?.expr];
        while self.takes(&Token::Word(word)) {
            let next = boolean(part(self, depth)?)?;
            height = height.max(next.height);
            parts.push(next.expr);
        }
        self.part(all(parts), height, at)
    }

    fn equality(&mut self, depth: usize) -> Parsed<Part> {
        let mut left = self.comparison(depth)?;
        loop {
            left = if self.takes(&Token::Symbol("=")) {
                let right = self.comparison(depth)?;
                self.equal(left, right)?
            } else if self.takes(&Token::Symbol("<>")) {
                let right = self.comparison(depth)?;
                let equal = self.equal(left, right)?;
                self.not(equal)?
            } else if self.takes(&Token::Word(Word::Is)) {
                let not = self.takes(&Token::Word(Word::Not));
                self.wants(&Token::Word(Word::Null), if not { "NULL" } else { "NULL or NOT NULL" })?;
                let is_null = self.over(left, Expr::IsNull)?;
                if not { self.not(is_null)? } else { is_null }
            } else {
                return Ok(left);
            };
        }
    }

    fn equal(&mut self, left: Part, right: Part) -> Parsed<Part> {
        for part in [&left, &right] {
            if part.expr == Expr::Null {
                return Err((part.at, SqlProblem::EqualsNull));
            }
        }
        let constant = matches!(right.expr, Expr::Text(_) | Expr::Integer(_) | Expr::Float(_));
        if constant && matches!(left.expr, Expr::Bool(_)) {
            return Err((left.at, SqlProblem::NeverEqual));
        }
        let (height, at) = (left.height.max(right.height), left.at);
        self.part(Expr::Equal(Box::new(left.expr), Box::new(right.expr)), height, at)
    }

    fn comparison(&mut self, depth: usize) -> Parsed<Part> {
        let mut left = self.unary(depth)?;
        loop {
            if let Some(comparison) = self.takes_comparison() {
                let right = ordered(self.unary(depth)?)?;
                let left_ = ordered(left)?;
                let (height, at) = (left_.height.max(right.height), left_.at);
                let compare = Expr::Compare(Box::new(left_.expr), comparison, Box::new(right.expr));
                left = self.part(compare, height, at)?;
                continue;
            }
            let not = self.peek() == Some(&Token::Word(Word::Not));
            let Some(Token::Word(word)) = self.tokens.get(self.next + usize::from(not)).map(|(_, token)| token) else {
                return Ok(left);
            };
            let word = *word;
            let asked = match word {
                Word::Between | Word::In | Word::Contains | Word::StartsWith | Word::EndsWith => word,
                Word::And | Word::Or | Word::Not | Word::Is | Word::Null | Word::True | Word::False => return Ok(left),
            };
            self.next += 1 + usize::from(not);
            left = match asked {
                Word::Between => self.between(left, not, depth)?,
                Word::In => self.one_of(left, not)?,
                Word::Contains => self.has(left, Where::Anywhere, not)?,
                Word::StartsWith => self.has(left, Where::AtStart, not)?,
                _ => self.has(left, Where::AtEnd, not)?,
            };
        }
    }

    fn between(&mut self, value: Part, not: bool, depth: usize) -> Parsed<Part> {
        let low = ordered(self.unary(depth)?)?;
        self.wants(&Token::Word(Word::And), "AND and the upper end of BETWEEN")?;
        let high = ordered(self.unary(depth)?)?;
        let value = ordered(value)?;
        if let (Some(least), Some(most)) = (constant(&low.expr), constant(&high.expr))
            && least > most
            && !not
        {
            return Err((low.at, SqlProblem::EmptyRange));
        }
        let (height, at) = (value.height.max(low.height).max(high.height), value.at);
        let (value, low, high) = (Box::new(value.expr), Box::new(low.expr), Box::new(high.expr));
        self.part(Expr::Between { value, low, high, not }, height, at)
    }

    fn one_of(&mut self, left: Part, not: bool) -> Parsed<Part> {
        let Expr::Property(property) = left.expr else { return Err((left.at, SqlProblem::NotAProperty)) };
        self.wants(&Token::Symbol("("), "'('")?;
        let mut texts = Vec::new();
        loop {
            texts.push(self.text()?);
            self.count()?;
            if !self.takes(&Token::Symbol(",")) {
                break;
            }
        }
        self.wants(&Token::Symbol(")"), "',' or ')'")?;
        let one_of = self.part(Expr::In { property, texts }, left.height, left.at)?;
        if not { self.not(one_of) } else { Ok(one_of) }
    }

    fn has(&mut self, left: Part, r#where: Where, not: bool) -> Parsed<Part> {
        let text = self.text()?;
        self.over(left, |value| Expr::Has { value, r#where, text, not })
    }

    fn unary(&mut self, depth: usize) -> Parsed<Part> {
        let at = self.at();
        let deeper = self.deeper(depth);
        if self.takes(&Token::Symbol("+")) {
            self.unary(deeper?)
        } else if self.takes(&Token::Symbol("-")) {
            let inner = self.unary(deeper?)?;
            self.over(Part { at, ..inner }, Expr::Negative)
        } else if self.takes(&Token::Word(Word::Not)) {
            let inner = boolean(self.unary(deeper?)?)?;
            self.not(Part { at, ..inner })
        } else {
            self.primary(depth)
        }
    }

    fn primary(&mut self, depth: usize) -> Parsed<Part> {
        let at = self.at();
        let expr = match self.tokens.get(self.next).map(|(_, token)| token) {
            Some(Token::Symbol("(")) => {
                let deeper = self.deeper(depth)?;
                self.next += 1;
                let inner = self.or(deeper)?;
                self.wants(&Token::Symbol(")"), "an operator or ')'")?;
                return Ok(Part { at, ..inner });
            }
            Some(Token::Property(name)) => Expr::Property(name.clone()),
            Some(Token::Text(text)) => Expr::Text(text.clone()),
            Some(Token::Integer(number)) => Expr::Integer(*number),
            Some(Token::Float(number)) => Expr::Float(*number),
            Some(Token::Word(Word::True)) => Expr::Bool(true),
            Some(Token::Word(Word::False)) => Expr::Bool(false),
            Some(Token::Word(Word::Null)) => Expr::Null,
            Some(Token::Word(_) | Token::Symbol(_)) | None => {
                return Err(self.expected("a property, a value or '('"));
            }
        };
        self.next += 1;
        self.part(expr, 0, at)
    }

    fn text(&mut self) -> Parsed<String> {
        let Some((_, Token::Text(text))) = self.tokens.get(self.next) else {
            return Err(self.expected("a text in single quotes"));
        };
        let text = text.clone();
        self.next += 1;
        Ok(text)
    }

    fn takes_comparison(&mut self) -> Option<Comparison> {
        let comparison = match self.peek()? {
            Token::Symbol("<") => Comparison::Less,
            Token::Symbol("<=") => Comparison::LessOrEqual,
            Token::Symbol(">") => Comparison::More,
            Token::Symbol(">=") => Comparison::MoreOrEqual,
            _ => return None,
        };
        self.next += 1;
        Some(comparison)
    }

    fn not(&mut self, inner: Part) -> Parsed<Part> {
        self.over(inner, Expr::Not)
    }

    /// One level more, over one part.
    fn over(&mut self, inner: Part, expr: impl FnOnce(Box<Expr>) -> Expr) -> Parsed<Part> {
        self.part(expr(Box::new(inner.expr)), inner.height, inner.at)
    }

    fn part(&mut self, expr: Expr, below: usize, at: usize) -> Parsed<Part> {
        self.count()?;
        if below >= DEPTH_MAX {
            return Err((at, SqlProblem::TooDeep));
        }
        Ok(Part { expr, height: below + 1, at })
    }

    fn count(&mut self) -> Parsed<()> {
        self.nodes += 1;
        if self.nodes > NODES_MAX { Err((self.at(), SqlProblem::TooLarge)) } else { Ok(()) }
    }

    fn deeper(&self, depth: usize) -> Parsed<usize> {
        if depth >= DEPTH_MAX { Err((self.at(), SqlProblem::TooDeep)) } else { Ok(depth + 1) }
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|(_, token)| token)
    }

    fn at(&self) -> usize {
        self.tokens.get(self.next).map_or(self.end, |(at, _)| *at)
    }

    fn takes(&mut self, token: &Token) -> bool {
        let is_next = self.peek() == Some(token);
        self.next += usize::from(is_next);
        is_next
    }

    fn wants(&mut self, token: &Token, expected: &'static str) -> Parsed<()> {
        if self.takes(token) { Ok(()) } else { Err(self.expected(expected)) }
    }

    fn expected(&self, expected: &'static str) -> (usize, SqlProblem) {
        let found = self.peek().map_or_else(|| "the end".to_owned(), Token::found);
        (self.at(), SqlProblem::Expected { expected, found })
    }
}

/// What may stand where true or false is asked for; a property there is false, or NULL.
fn boolean(part: Part) -> Parsed<Part> {
    let is = part.expr.is_boolean() || matches!(part.expr, Expr::Property(_));
    if is { Ok(part) } else { Err((part.at, SqlProblem::NotBoolean)) }
}

/// What may stand where order is asked for.
fn ordered(part: Part) -> Parsed<Part> {
    let has_order = !part.expr.is_boolean() && !matches!(part.expr, Expr::Text(_));
    if has_order { Ok(part) } else { Err((part.at, SqlProblem::NoOrder)) }
}

#[expect(clippy::cast_precision_loss, reason = "as the comparison at run time does")]
fn constant(expr: &Expr) -> Option<f64> {
    match expr {
        Expr::Integer(number) => Some(*number as f64),
        Expr::Float(number) => Some(*number),
        _ => None,
    }
}
