//! Tables of what matches and what is refused, and properties of all expressions.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::tree::{Comparison, Expr, Where};
use super::{BYTES_MAX, DEPTH_MAX, NODES_MAX, Sql, parse};
use crate::StoredMessage;

/// `TRUE`, `FALSE` or `NULL` of properties written as `a=1 b=x`.
fn truth(expression: &str, properties: &str) -> &'static str {
    let sql = Sql::parse(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
    let properties: BTreeMap<_, _> = properties.split_whitespace().filter_map(|pair| pair.split_once('=')).collect();
    match sql.truth(|name| properties.get(name).copied()) {
        Some(true) => "TRUE",
        Some(false) => "FALSE",
        None => "NULL",
    }
}

#[test]
fn what_matches() {
    for (expression, properties, expected) in [
        // Equality: texts exactly, numbers by value, and NULL.
        ("a = 'x'", "a=x", "TRUE"),
        ("a = 'x'", "a=X", "FALSE"),
        ("A = 'x'", "a=x", "NULL"),
        ("a <> 'x'", "a=y", "TRUE"),
        ("a = 5", "a=5", "TRUE"),
        ("a = 5", "a=+5", "TRUE"),
        ("a = 5", "a=5.0", "NULL"),
        ("a = 5.0", "a=5", "TRUE"),
        ("a = 5e0", "a=5.", "TRUE"),
        ("5 = 5.0", "", "TRUE"),
        ("a = 5", "a=five", "NULL"),
        ("a <> 5", "a=five", "NULL"),
        ("a = 'x'", "", "NULL"),
        ("'x' = a", "", "FALSE"),
        ("a <> 5", "", "NULL"),
        ("5 <> a", "", "TRUE"),
        ("a = b", "", "TRUE"),
        ("a = b", "a=1", "FALSE"),
        ("a = b", "b=1", "NULL"),
        ("a = TRUE", "a=tRuE", "TRUE"),
        ("a = FALSE", "a=anything", "TRUE"),
        ("(a > 1) = TRUE", "a=2", "TRUE"),
        ("(a > 1) = 5", "a=2", "FALSE"),
        ("a IS NULL", "", "TRUE"),
        ("a IS NULL", "a=1", "FALSE"),
        ("a IS NOT NULL", "a=1", "TRUE"),
        ("NULL IS NULL", "", "TRUE"),
        // Order: by number, of the kind on the other side.
        ("a > 5", "a=6", "TRUE"),
        ("a > 5", "a=5.5", "NULL"),
        ("a > 5.0", "a=5.5", "TRUE"),
        ("a >= 5 AND a <= 5", "a=5", "TRUE"),
        ("5 < a", "a=6", "TRUE"),
        ("a > b", "a=10 b=9", "TRUE"),
        ("a > b", "a=ten b=9", "NULL"),
        ("a > 3000000000", "a=3000000001", "TRUE"),
        ("a > 5", "a=3000000001", "TRUE"),
        ("a < -3", "a=-4", "TRUE"),
        ("-a < 3", "a=4", "NULL"),
        ("+a = 4", "a=4", "TRUE"),
        ("- -5 = 5", "", "TRUE"),
        ("a > 1.5", "a=infinity", "NULL"),
        // A comparison that cannot be made is NULL, and only that one.
        ("a > 5 OR b = 'x'", "a=abc b=x", "TRUE"),
        ("a > 5 AND b = 'x'", "a=abc b=x", "NULL"),
        ("NOT (a > 5)", "a=abc", "NULL"),
        // Ranges.
        ("a BETWEEN 1 AND 3", "a=3", "TRUE"),
        ("a BETWEEN 1 AND 3", "a=4", "FALSE"),
        ("a NOT BETWEEN 1 AND 3", "a=4", "TRUE"),
        ("a NOT BETWEEN 1 AND 3", "a=x", "NULL"),
        ("a NOT BETWEEN b AND 3", "a=4", "TRUE"),
        ("a BETWEEN 1 AND 3", "", "NULL"),
        ("a NOT BETWEEN 5 AND 1", "a=3", "TRUE"),
        ("2 BETWEEN a AND b", "a=1 b=3", "TRUE"),
        // Lists.
        ("a IN ('x', 'y')", "a=y", "TRUE"),
        ("a IN ('x')", "a=y", "FALSE"),
        ("a NOT IN ('x')", "a=y", "TRUE"),
        ("a NOT IN ('x')", "", "NULL"),
        // Parts of texts: false without a text, negated or not.
        ("a CONTAINS 'bc'", "a=abcd", "TRUE"),
        ("a STARTSWITH 'ab' AND a ENDSWITH 'cd'", "a=abcd", "TRUE"),
        ("a NOT CONTAINS 'x'", "a=abcd", "TRUE"),
        ("a CONTAINS 'x'", "", "FALSE"),
        ("a NOT CONTAINS 'x'", "", "FALSE"),
        ("a CONTAINS ''", "a=x", "FALSE"),
        ("a NOT STARTSWITH ''", "a=x", "FALSE"),
        ("5 CONTAINS '5'", "", "FALSE"),
        ("'it''s' CONTAINS ''''", "", "TRUE"),
        // Logic.
        ("TRUE", "", "TRUE"),
        ("NULL", "", "NULL"),
        ("NOT NULL", "", "NULL"),
        ("FALSE AND NULL", "", "FALSE"),
        ("NULL AND FALSE", "", "FALSE"),
        ("TRUE AND NULL", "", "NULL"),
        ("NULL OR TRUE", "", "TRUE"),
        ("FALSE OR NULL", "", "NULL"),
        ("a", "a=true", "FALSE"),
        ("a", "", "NULL"),
        ("NOT a", "a=true", "TRUE"),
        ("NOT a = 5", "a=4", "FALSE"),
        ("TRUE OR FALSE AND FALSE", "", "TRUE"),
        // Words in any case, comments, suffixes, names.
        ("a is Null oR b bEtween 1 aNd 2", "a=1 b=2", "TRUE"),
        ("/* first */ a = 1 -- last", "a=1", "TRUE"),
        ("-- first\n\t a=1L", "a=1", "TRUE"),
        ("_a$1 = 'ä' OR $ = '-- no comment'", "_a$1=ä", "TRUE"),
    ] {
        assert_eq!(truth(expression, properties), expected, "{expression} of {properties:?}");
    }
}

#[test]
fn what_is_refused_and_where() {
    for (expression, expected) in [
        ("", "character 1: the expression is empty"),
        ("  -- nothing", "character 1: the expression is empty"),
        ("a >", "character 4: expected a property, a value or '(', found the end"),
        ("ä = 1", "character 1: 'ä' means nothing here"),
        ("'ä' = ! 1", "character 7: '!' means nothing here"),
        ("a = 'x", "character 5: the text that begins here has no closing quote"),
        ("a = 1 /* x", "character 7: the comment that begins here has no end"),
        ("a = 9223372036854775808", "character 5: 9223372036854775808 is no integer of 64 bits"),
        ("a = 0.0", "character 5: 0.0 is no number that a float can be, which 0.0 is not either"),
        ("a = 1e999", "character 5: 1e999 is no number that a float can be, which 0.0 is not either"),
        ("a = 5x", "character 6: expected an operator or the end, found property x"),
        ("a = 1 b = 2", "character 7: expected an operator or the end, found property b"),
        ("a = 1 AND", "character 10: expected a property, a value or '(', found the end"),
        ("(a = 1", "character 7: expected an operator or ')', found the end"),
        ("a IS 5", "character 6: expected NULL or NOT NULL, found 5"),
        ("5", "character 1: this is neither true nor false"),
        ("a = 1 OR 'x'", "character 10: this is neither true nor false"),
        ("NOT 5", "character 5: this is neither true nor false"),
        ("a = NULL", "character 5: nothing equals NULL: use IS NULL or IS NOT NULL"),
        ("TRUE = 5", "character 1: TRUE or FALSE never equals a number or a text"),
        ("a BETWEEN 5 AND 1", "character 11: the lower end of BETWEEN is above the upper one"),
        ("a BETWEEN 5 OR 1", "character 13: expected AND and the upper end of BETWEEN, found OR"),
        ("5 IN ('x')", "character 1: IN asks for a property on its left"),
        ("a IN ()", "character 7: expected a text in single quotes, found ')'"),
        ("a IN (5)", "character 7: expected a text in single quotes, found 5"),
        ("a IN ('x'", "character 10: expected ',' or ')', found the end"),
        ("a CONTAINS b", "character 12: expected a text in single quotes, found property b"),
        ("a LIKE 'x'", "character 3: expected an operator or the end, found property LIKE"),
    ] {
        let error = Sql::parse(expression).expect_err(expression);
        assert_eq!(error.to_string(), expected, "{expression}");
    }
    for expression in ["a > 'x'", "'x' < a", "a > TRUE", "a > NULL", "(a = 1) > 5", "a BETWEEN NULL AND 5", "1 < 2 < 3"]
    {
        let error = Sql::parse(expression).expect_err(expression);
        assert_eq!(error.problem, super::SqlProblem::NoOrder, "{expression}");
    }
}

#[test]
fn size_and_depth_are_bounded() {
    let refused = |text: String| Sql::parse(&text).expect_err("too much").problem;
    let fits = |text: String| drop(Sql::parse(&text).expect("just enough"));
    let nested = |depth| format!("{}a{}", "(".repeat(depth), ")".repeat(depth));
    fits(nested(DEPTH_MAX));
    assert_eq!(refused(nested(DEPTH_MAX + 1)), super::SqlProblem::TooDeep);
    assert_eq!(refused(nested(2000)), super::SqlProblem::TooDeep);
    for deep in ["NOT ", "- ", "+"] {
        assert_eq!(refused(format!("{}a", deep.repeat(BYTES_MAX / 5))), super::SqlProblem::TooDeep, "{deep}");
    }
    let tall = |count| format!("a{}", " IS NULL".repeat(count));
    fits(tall(DEPTH_MAX - 1));
    assert_eq!(refused(tall(DEPTH_MAX)), super::SqlProblem::TooDeep);
    let chain = Sql::parse(&format!("a{}", " <> b".repeat(DEPTH_MAX / 2 - 1))).expect("just enough");
    assert!(chain.reads_back(), "printed, it has more levels than are allowed");
    let wide = |count| vec!["a"; count].join(" OR ");
    fits(wide(800));
    let list = |count| format!("a IN ({})", vec!["''"; count].join(","));
    fits(list(NODES_MAX - 2));
    assert_eq!(refused(list(NODES_MAX - 1)), super::SqlProblem::TooLarge);
    assert_eq!(refused(" ".repeat(BYTES_MAX + 1)), super::SqlProblem::TooLong { bytes: BYTES_MAX + 1 });
}

#[test]
fn a_message_is_asked_for_its_properties() {
    let field = |number: u8, bytes: &[u8]| [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat();
    let user = |key: &str, value: &str| field(2, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat());
    let born = field(7, &[0x08, 5, 0x10, 0x80, 0x89, 0x7a]); // 5 s and 2 ms
    let body = field(4, b"\x12\x04body");
    let body_part = [field(1, b"\x12\x01t"), user("color", "red"), user("size", "5"), user("empty", ""), body].concat();
    let properties = [field(1, b"tag"), field(2, b"k1"), field(2, b"k2"), field(3, b"id"), born].concat();
    let message = StoredMessage { body_part: body_part.into(), properties_part: properties.into() };
    for wanted in [
        "color = 'red' AND size BETWEEN 4 AND 6",
        "empty = '' AND missing IS NULL",
        "TAGS = 'tag' AND KEYS = 'k1 k2' AND UNIQ_KEY = 'id'",
        "BORN_TIMESTAMP = 5002",
        "__SHARDINGKEY IS NULL",
    ] {
        assert!(Sql::compile(wanted).unwrap().wants(&message), "{wanted}");
    }
    assert!(!Sql::compile("KEYS IS NULL").unwrap().wants(&message));
    assert!(Sql::compile("KEYS IS NULL").unwrap().wants(&StoredMessage::default()));
}

#[test]
fn filters_are_known_by_their_text() {
    let (one, again, other) =
        (Sql::compile("a=1").unwrap(), Sql::compile("a=1").unwrap(), Sql::compile("a = 1").unwrap());
    assert_eq!(one, again);
    assert!(one != other && one > other);
    for nth in 0..2 * super::KEPT_MAX {
        Sql::compile(&format!("a = {nth}")).unwrap();
    }
    assert_eq!(Sql::compile("a=1").unwrap(), one);
}

/// Trees that an expression can have.
fn booleans() -> impl Strategy<Value = Expr> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Expr::Bool),
        Just(Expr::Null),
        "[a-c]".prop_map(|name| Expr::IsNull(Box::new(Expr::Property(name)))),
        ("[a-c]", proptest::collection::vec("[a'é ]{0,3}", 1..4))
            .prop_map(|(property, texts)| Expr::In { property, texts }),
        (
            values(),
            prop_oneof![Just(Where::Anywhere), Just(Where::AtStart), Just(Where::AtEnd)],
            "[a']{0,2}",
            any::<bool>()
        )
            .prop_map(|(value, r#where, text, not)| Expr::Has { value: Box::new(value), r#where, text, not }),
        (values(), values()).prop_map(|(left, right)| Expr::Equal(Box::new(left), Box::new(right))),
        (numbers(), comparisons(), numbers()).prop_map(|(left, how, right)| Expr::Compare(
            Box::new(left),
            how,
            Box::new(right)
        )),
        (numbers(), "[a-c]", numbers(), any::<bool>()).prop_map(|(value, low, high, not)| Expr::Between {
            value: Box::new(value),
            low: Box::new(Expr::Property(low)),
            high: Box::new(high),
            not,
        }),
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 2..5).prop_map(Expr::Or),
            proptest::collection::vec(inner.clone(), 2..5).prop_map(Expr::And),
            inner.prop_map(|inner| Expr::Not(Box::new(inner))),
        ]
    })
}

fn values() -> impl Strategy<Value = Expr> {
    prop_oneof![numbers(), "[a'-]{0,3}".prop_map(Expr::Text)]
}

fn numbers() -> impl Strategy<Value = Expr> {
    let leaf = prop_oneof![
        "[a-c]".prop_map(Expr::Property),
        (0..=i64::MAX).prop_map(Expr::Integer),
        (f64::MIN_POSITIVE..f64::MAX).prop_map(Expr::Float),
        (0.001..1000.0).prop_map(Expr::Float),
    ];
    leaf.prop_recursive(3, 3, 1, |inner| inner.prop_map(|inner| Expr::Negative(Box::new(inner))))
}

fn comparisons() -> impl Strategy<Value = Comparison> {
    prop_oneof![
        Just(Comparison::Less),
        Just(Comparison::LessOrEqual),
        Just(Comparison::More),
        Just(Comparison::MoreOrEqual)
    ]
}

/// AND, OR and NOT by their tables, of parts whose truth is known.
fn modelled(expr: &Expr) -> Option<bool> {
    let rank = |truth: Option<bool>| match truth {
        Some(false) => 0,
        None => 1,
        Some(true) => 2,
    };
    match expr {
        Expr::Or(parts) => parts.iter().map(modelled).max_by_key(|truth| rank(*truth)).unwrap(),
        Expr::And(parts) => parts.iter().map(modelled).min_by_key(|truth| rank(*truth)).unwrap(),
        Expr::Not(inner) => modelled(inner).map(|truth| !truth),
        Expr::Bool(truth) => Some(*truth),
        _ => None,
    }
}

fn constants() -> impl Strategy<Value = Expr> {
    let leaf = prop_oneof![any::<bool>().prop_map(Expr::Bool), Just(Expr::Null)];
    leaf.prop_recursive(6, 60, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 2..5).prop_map(Expr::Or),
            proptest::collection::vec(inner.clone(), 2..5).prop_map(Expr::And),
            inner.prop_map(|inner| Expr::Not(Box::new(inner))),
        ]
    })
}

/// Pieces that expressions are made of, in any order.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[a-c_$]",
        "'[a']{0,2}'?",
        "[0-9]{1,20}(\\.[0-9]*)?(e[0-9]+)?l?",
        "[ -~]",
        "\\PC",
        proptest::sample::select(vec![
            " AND ",
            " OR ",
            " NOT ",
            " BETWEEN ",
            " IN ",
            " IS ",
            " NULL ",
            "TRUE",
            " CONTAINS ",
            " STARTSWITH ",
            "(",
            ")",
            ",",
            "=",
            "<>",
            "<",
            ">=",
            "-",
            "--",
            "/*",
            "*/",
            "+",
            "\n",
            "("
        ])
        .prop_map(str::to_owned),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn hostile_text_never_panics(text in prop_oneof![pieces(), "\\PC{0,200}"], value in "\\PC{0,20}") {
        match Sql::parse(&text) {
            Ok(sql) => {
                sql.matches(|name| (name != "a").then_some(value.as_str()));
                prop_assert_eq!(parse::parse(&sql.expr.to_string()).unwrap(), sql.expr);
            }
            Err(error) => prop_assert!(error.at <= text.len() && text.is_char_boundary(error.at), "{error}"),
        }
    }

    #[test]
    fn hostile_messages_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let bytes = Bytes::from(bytes);
        let message = StoredMessage { body_part: bytes.clone(), properties_part: bytes };
        Sql::compile("a = 1 OR TAGS = 'x' OR KEYS = 'y' OR BORN_TIMESTAMP > 5").unwrap().wants(&message);
    }

    #[test]
    fn what_is_printed_reads_the_same(expr in booleans()) {
        let text = expr.to_string();
        prop_assume!(text.len() <= BYTES_MAX);
        prop_assert_eq!(parse::parse(&text), Ok(expr), "{}", text);
    }

    #[test]
    fn logic_is_three_valued(expr in constants()) {
        prop_assert_eq!(expr.evaluate(&|_| None).truth(), modelled(&expr), "{}", expr);
    }
}
