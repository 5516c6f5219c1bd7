//! A tree over the properties of a message, in three-valued logic.

use std::cmp::Ordering;

use super::tree::{Comparison, Expr, Where};

/// What a part of a tree is.
#[derive(Copy, Clone, PartialEq, Debug)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(&'a str),
}

impl Value<'_> {
    fn of(truth: Option<bool>) -> Self {
        truth.map_or(Self::Null, Self::Bool)
    }

    /// As part of a condition: what is there and no truth value is false.
    pub(super) fn truth(self) -> Option<bool> {
        match self {
            Self::Null => None,
            Self::Bool(truth) => Some(truth),
            Self::Integer(_) | Self::Float(_) | Self::Text(_) => Some(false),
        }
    }
}

impl Expr {
    pub(super) fn evaluate<'a>(&'a self, lookup: &impl Fn(&str) -> Option<&'a str>) -> Value<'a> {
        match self {
            Self::Or(parts) => Value::of(dominated(parts, true, lookup)),
            Self::And(parts) => Value::of(dominated(parts, false, lookup)),
            Self::Not(inner) => Value::of(inner.evaluate(lookup).truth().map(|truth| !truth)),
            Self::Equal(left, right) => Value::of(equal(left.evaluate(lookup), right.evaluate(lookup))),
            Self::IsNull(inner) => Value::Bool(inner.evaluate(lookup) == Value::Null),
            Self::Compare(left, comparison, right) => {
                Value::of(compare(left.evaluate(lookup), *comparison, right.evaluate(lookup)))
            }
            Self::Between { value, low, high, not } => {
                let value = value.evaluate(lookup);
                let above = compare(value, Comparison::MoreOrEqual, low.evaluate(lookup));
                let below = compare(value, Comparison::LessOrEqual, high.evaluate(lookup));
                Value::of(both(above, below).map(|truth| truth != *not))
            }
            Self::In { property, texts } => {
                Value::of(lookup(property).map(|value| texts.iter().any(|text| text == value)))
            }
            Self::Has { value, r#where, text, not } => match value.evaluate(lookup) {
                Value::Text(value) if !text.is_empty() => Value::Bool(has(value, *r#where, text) != *not),
                _ => Value::Bool(false),
            },
            Self::Negative(inner) => match inner.evaluate(lookup) {
                Value::Integer(number) => Value::Integer(number.wrapping_neg()),
                Value::Float(number) => Value::Float(-number),
                Value::Null | Value::Bool(_) | Value::Text(_) => Value::Null,
            },
            Self::Property(name) => lookup(name).map_or(Value::Null, Value::Text),
            Self::Text(text) => Value::Text(text),
            Self::Integer(number) => Value::Integer(*number),
            Self::Float(number) => Value::Float(*number),
            Self::Bool(truth) => Value::Bool(*truth),
            Self::Null => Value::Null,
        }
    }
}

/// OR is true with one true part, AND false with one false part; else NULL with a NULL part, else the opposite.
fn dominated<'a>(parts: &'a [Expr], by: bool, lookup: &impl Fn(&str) -> Option<&'a str>) -> Option<bool> {
    let mut all = Some(!by);
    for part in parts {
        match part.evaluate(lookup).truth() {
            Some(truth) if truth == by => return Some(by),
            Some(_) => {}
            None => all = None,
        }
    }
    all
}

fn both(left: Option<bool>, right: Option<bool>) -> Option<bool> {
    match (left, right) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        (None, _) | (_, None) => None,
    }
}

/// NULL on one side is NULL on the left and false on the right; two of them are equal.
fn equal(left: Value<'_>, right: Value<'_>) -> Option<bool> {
    use Value::{Bool, Float, Integer, Null, Text};
    match (left, right) {
        (Null, Null) => Some(true),
        (Null, _) => None,
        (_, Null) => Some(false),
        (Text(left), Text(right)) => Some(left == right),
        (Bool(left), Bool(right)) => Some(left == right),
        (Text(text), Bool(truth)) | (Bool(truth), Text(text)) => Some(text.eq_ignore_ascii_case("true") == truth),
        (Bool(_), Integer(_) | Float(_)) | (Integer(_) | Float(_), Bool(_)) => Some(false),
        (Integer(_) | Float(_), Integer(_) | Float(_) | Text(_)) | (Text(_), Integer(_) | Float(_)) => {
            order(left, right).map(Ordering::is_eq)
        }
    }
}

fn compare(left: Value<'_>, comparison: Comparison, right: Value<'_>) -> Option<bool> {
    let order = order(left, right)?;
    Some(match comparison {
        Comparison::Less => order.is_lt(),
        Comparison::LessOrEqual => order.is_le(),
        Comparison::More => order.is_gt(),
        Comparison::MoreOrEqual => order.is_ge(),
    })
}

/// By number: a text becomes one of the kind on the other side, two texts become floats. `None` when they do not.
fn order(left: Value<'_>, right: Value<'_>) -> Option<Ordering> {
    use Value::{Bool, Float, Integer, Null, Text};
    match (left, right) {
        (Integer(left), Integer(right)) => Some(left.cmp(&right)),
        (Integer(left), Text(right)) => Some(left.cmp(&right.parse().ok()?)),
        (Text(left), Integer(right)) => Some(left.parse::<i64>().ok()?.cmp(&right)),
        (Integer(_) | Float(_), Float(_)) | (Float(_), Integer(_) | Text(_)) | (Text(_), Float(_) | Text(_)) => {
            float(left)?.partial_cmp(&float(right)?)
        }
        (Null | Bool(_), _) | (_, Null | Bool(_)) => None,
    }
}

#[expect(clippy::cast_precision_loss, reason = "as Java does when one side is a float")]
fn float(value: Value<'_>) -> Option<f64> {
    match value {
        Value::Integer(number) => Some(number as f64),
        Value::Float(number) => Some(number),
        Value::Text(text) => {
            let decimal = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E');
            let text = text.trim();
            // Words such as "infinity" are no numbers here.
            text.bytes().all(decimal).then(|| text.parse().ok()).flatten()
        }
        Value::Null | Value::Bool(_) => None,
    }
}

fn has(value: &str, r#where: Where, text: &str) -> bool {
    match r#where {
        Where::Anywhere => value.contains(text),
        Where::AtStart => value.starts_with(text),
        Where::AtEnd => value.ends_with(text),
    }
}
