//! Text to tokens, each with its place.

use winnow::Parser;
use winnow::ascii::{digit0, digit1, multispace1, till_line_ending};
use winnow::combinator::{alt, delimited, opt, peek, preceded, repeat};
use winnow::error::EmptyError;
use winnow::token::{one_of, take_till, take_until, take_while};

use super::SqlProblem;

/// A token, and the bytes before it.
pub(super) type Placed = (usize, Token);

#[derive(Clone, PartialEq, Debug)]
pub(super) enum Token {
    Word(Word),
    Property(String),
    Text(String),
    Integer(i64),
    Float(f64),
    Symbol(&'static str),
}

/// Words with a meaning, in any case.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Word {
    And,
    Or,
    Not,
    Between,
    In,
    Is,
    Null,
    True,
    False,
    Contains,
    StartsWith,
    EndsWith,
}

const WORDS: [(&str, Word); 12] = [
    ("AND", Word::And),
    ("OR", Word::Or),
    ("NOT", Word::Not),
    ("BETWEEN", Word::Between),
    ("IN", Word::In),
    ("IS", Word::Is),
    ("NULL", Word::Null),
    ("TRUE", Word::True),
    ("FALSE", Word::False),
    ("CONTAINS", Word::Contains),
    ("STARTSWITH", Word::StartsWith),
    ("ENDSWITH", Word::EndsWith),
];

/// Longer ones first.
const SYMBOLS: [&str; 10] = ["<=", ">=", "<>", "<", ">", "=", "(", ")", ",", "-"];

/// All tokens of a text.
///
/// # Errors
/// Where the text stops making sense, and why.
pub(super) fn tokens(text: &str) -> Result<Vec<Placed>, (usize, SqlProblem)> {
    let mut rest = text;
    let mut tokens = Vec::new();
    loop {
        blank(&mut rest);
        let at = text.len() - rest.len();
        if rest.is_empty() {
            return Ok(tokens);
        }
        match raw(&mut rest) {
            Ok(raw) => tokens.push((at, raw.read().map_err(|problem| (at, problem))?)),
            Err(EmptyError) => return Err((at, stray(rest))),
        }
    }
}

/// A token as it stands in the text.
enum Raw<'t> {
    Name(&'t str),
    Integer(&'t str),
    Float(&'t str),
    /// Without its outer quotes.
    Text(&'t str),
    Symbol(&'static str),
}

fn raw<'t>(rest: &mut &'t str) -> Result<Raw<'t>, EmptyError> {
    alt((name.map(Raw::Name), float.map(Raw::Float), integer.map(Raw::Integer), text.map(Raw::Text), symbol))
        .parse_next(rest)
}

/// White space and comments.
fn blank(rest: &mut &str) {
    let line = ("--", till_line_ending::<_, EmptyError>).void();
    let block = ("/*", take_until(0.., "*/"), "*/").void();
    let blanks: Result<(), EmptyError> =
        repeat(0.., alt((multispace1.void(), "\x0c".void(), line, block))).parse_next(rest);
    debug_assert!(blanks.is_ok(), "none is enough");
}

fn name<'t>(rest: &mut &'t str) -> Result<&'t str, EmptyError> {
    let first = |c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '$');
    (one_of(first), take_while(0.., in_name)).take().parse_next(rest)
}

fn in_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '$')
}

fn float<'t>(rest: &mut &'t str) -> Result<&'t str, EmptyError> {
    let exponent = || (one_of(['e', 'E']), opt(one_of(['+', '-'])), digit1).void();
    alt((
        (digit1, '.', digit0, opt(exponent())).void(),
        ('.', digit1, opt(exponent())).void(),
        (digit1, exponent()).void(),
    ))
    .take()
    .parse_next(rest)
}

fn integer<'t>(rest: &mut &'t str) -> Result<&'t str, EmptyError> {
    let digits = digit1.parse_next(rest)?;
    let _long: Option<char> = opt(one_of(['l', 'L'])).parse_next(rest)?;
    Ok(digits)
}

/// A quote inside is doubled.
fn text<'t>(rest: &mut &'t str) -> Result<&'t str, EmptyError> {
    let piece = alt((take_till(1.., '\'').void(), "''".void()));
    delimited('\'', repeat::<_, _, (), _, _>(0.., piece).take(), '\'').parse_next(rest)
}

fn symbol<'t>(rest: &mut &'t str) -> Result<Raw<'t>, EmptyError> {
    // A sign that changes nothing is a symbol of its own.
    let mut found = SYMBOLS.into_iter().chain(["+"]).find(|symbol| rest.starts_with(symbol)).ok_or(EmptyError)?;
    found.parse_next(rest)?;
    Ok(Raw::Symbol(found))
}

impl Raw<'_> {
    fn read(self) -> Result<Token, SqlProblem> {
        Ok(match self {
            Self::Symbol(symbol) => Token::Symbol(symbol),
            Self::Text(text) => Token::Text(text.replace("''", "'")),
            Self::Name(name) => {
                let word = WORDS.iter().find(|(word, _)| word.eq_ignore_ascii_case(name));
                word.map_or_else(|| Token::Property(name.to_owned()), |(_, word)| Token::Word(*word))
            }
            Self::Integer(digits) => {
                let number = digits.parse().map_err(|_| SqlProblem::Integer { number: digits.to_owned() });
                Token::Integer(number?)
            }
            Self::Float(digits) => {
                let number = digits.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0);
                Token::Float(number.ok_or_else(|| SqlProblem::Float { number: digits.to_owned() })?)
            }
        })
    }
}

/// Why no token begins here.
fn stray(rest: &str) -> SqlProblem {
    let comment: Result<&str, EmptyError> = peek(preceded("/", "*")).parse_next(&mut &*rest);
    match rest.chars().next() {
        Some('\'') => SqlProblem::OpenText,
        Some(_) if comment.is_ok() => SqlProblem::OpenComment,
        Some(other) => SqlProblem::Character(other),
        None => SqlProblem::Empty,
    }
}

impl Token {
    /// For people.
    pub(super) fn found(&self) -> String {
        match self {
            Self::Word(word) => WORDS.iter().find(|(_, it)| it == word).map_or("", |(text, _)| text).to_owned(),
            Self::Property(name) => format!("property {}", name.chars().take(64).collect::<String>()),
            Self::Text(text) => format!("text {:?}", text.chars().take(64).collect::<String>()),
            Self::Integer(number) => number.to_string(),
            Self::Float(number) => format!("{number:?}"),
            Self::Symbol(symbol) => format!("'{symbol}'"),
        }
    }
}
