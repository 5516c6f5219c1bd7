//! Tags and SQL92: which messages come.

use crate::compat::consumer::{sql, tags};
use crate::compat::draft::Draft;
use crate::compat::script::{Script, list, sorted};

pub(super) async fn filter_tags(s: &mut Script) -> anyhow::Result<()> {
    let topic = s.plain_topic().await?;
    for (name, tag) in [("a", Some("A")), ("b", Some("B")), ("ab", Some("AB")), ("lower-a", Some("a")), ("none", None)]
    {
        let draft = Draft::new(&topic, name);
        let draft = if let Some(tag) = tag { draft.tag(tag) } else { draft };
        s.send(&format!("{name} with tag {tag:?}"), &draft).await;
    }
    check(s, &topic, &["*", "", "A", "A||B", " A || AB ", "A||", "C", "A|B"].map(tags)).await
}

pub(super) async fn filter_sql(s: &mut Script) -> anyhow::Result<()> {
    let topic = s.plain_topic().await?;
    let new = |name: &str| Draft::new(&topic, name);
    for draft in [
        new("five").property("a", "5").property("b", "abc"),
        new("six").property("a", "6").property("b", "abd").tag("T"),
        new("ten").property("a", "10"),
        new("neither"),
        new("text").property("a", "abc").property("b", "it's"),
        new("point").property("a", "5.5").property("flag", "true"),
    ] {
        let name = String::from_utf8_lossy(&draft.message.body).into_owned();
        s.send(&name, &draft).await;
    }
    let expressions = [
        "a > 5",
        "a >= 5.5",
        "a = 5",
        "a <> 5",
        "b = 'abc'",
        "b <> 'abc'",
        "b IN ('abc', 'it''s')",
        "b NOT IN ('abc')",
        "a BETWEEN 5 AND 6",
        "a NOT BETWEEN 5 AND 6",
        "a IS NULL",
        "b IS NOT NULL",
        "a = 5 AND b = 'abc'",
        "b IS NULL OR b = 'abd'",
        "NOT (b = 'abc')",
        "TAGS = 'T'",
        "TAGS IS NULL",
        "b CONTAINS 'b'",
        "b STARTSWITH 'ab'",
        "b ENDSWITH 'd'",
        "flag = TRUE",
        "a > 5 AND a < 7",
        "1 = 1",
        "nobody = 'x'",
    ];
    check(s, &topic, &expressions.map(sql)).await
}

/// Comparisons of what is not of one kind: text with numbers, and names that nobody set.
pub(super) async fn filter_sql_types(s: &mut Script) -> anyhow::Result<()> {
    let topic = s.plain_topic().await?;
    let new = |name: &str| Draft::new(&topic, name);
    for draft in [
        new("text").property("a", "x").property("b", "y"),
        new("number").property("a", "7").property("b", "7"),
        new("spaced").property("a", " 7").property("b", ""),
        new("big").property("a", "9223372036854775808"),
        new("negative").property("a", "-3"),
        new("exponent").property("a", "1e3"),
    ] {
        let name = String::from_utf8_lossy(&draft.message.body).into_owned();
        s.send(&name, &draft).await;
    }
    let expressions = [
        "a > 5 OR b = 'y'",
        "a = '7'",
        "a = b",
        "a < 0",
        "a > 100",
        "a = -3",
        "b = ''",
        "a > 5 OR a IS NOT NULL",
        "nobody > 1 OR a = 7",
    ];
    check(s, &topic, &expressions.map(sql)).await
}

pub(super) async fn filter_refused(s: &mut Script) -> anyhow::Result<()> {
    let topic = s.plain_topic().await?;
    let mut consumer = s.consumer("g", &topic).await?;
    s.send("m1", &Draft::new(&topic, "m1").property("a", "1").tag("A")).await;
    for filter in [
        sql(""),
        sql("a >"),
        sql("a = 'x"),
        sql("a LIKE 'x%'"),
        sql("a = 1;"),
        sql("a + 1 = 2"),
        sql("a = = 1"),
        sql("(a = 1"),
        sql("a BETWEEN 5 AND 1"),
        sql("'x' > 'a'"),
        sql("a IN ()"),
        sql("a IN (1, 2)"),
        tags("||"),
    ] {
        let told = format!("ReceiveMessage filter {:?} {:?}", filter.r#type().as_str_name(), filter.expression);
        consumer.filter = filter;
        let polled = consumer.receive().await;
        s.note(told, format_args!("{}; {}", polled.code, list(&polled.deliveries)));
    }
    Ok(())
}

/// What each filter lets through, each in a group of its own.
async fn check(s: &mut Script, topic: &str, filters: &[apogee_proto::v2::FilterExpression]) -> anyhow::Result<()> {
    let mut consumers = Vec::new();
    for (nth, filter) in filters.iter().enumerate() {
        let mut consumer = s.consumer(&format!("g{nth}"), topic).await?;
        consumer.filter = filter.clone();
        consumers.push(consumer);
    }
    let drained = futures::future::join_all(consumers.iter().map(|consumer| consumer.drain())).await;
    for (filter, deliveries) in filters.iter().zip(drained) {
        let kind = if filter.r#type() == apogee_proto::v2::FilterType::Sql { "SQL" } else { "tags" };
        s.note(format_args!("ReceiveMessage {kind} {:?}", filter.expression), list(&sorted(deliveries)));
    }
    Ok(())
}
