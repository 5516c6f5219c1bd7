use apogee_model::Timestamp;
use apogee_proto::v2::{self, Code};
use prost::Message as _;
use tokio::time::Instant;

use super::*;
use crate::edge::status::code;
use crate::service::Language;
use crate::service::send::Batch;

const NOW: Timestamp = Timestamp(1_700_000_000_123);

fn call() -> Call {
    Call {
        client: apogee_model::ClientId::parse("c").unwrap(),
        language: Language::Java,
        version: "5.0.7".into(),
        namespace: "".into(),
        request_id: "".into(),
        peer: Some("10.1.2.3:4567".parse().unwrap()),
        connection: None,
        departure: crate::listen::Departure::default(),
        received: NOW,
        started: Instant::now(),
        deadline: None,
    }
}

fn message(name: &str) -> v2::Message {
    v2::Message {
        topic: Some(v2::Resource { resource_namespace: String::new(), name: name.to_owned() }),
        system_properties: Some(v2::SystemProperties { message_id: "01AB".into(), ..Default::default() }),
        body: "body".into(),
        ..Default::default()
    }
}

fn parse(messages: Vec<v2::Message>) -> Result<Batch, (Code, String)> {
    Batch::parse(v2::SendMessageRequest { messages }, &call()).map_err(|error| (code(&error), error.to_string()))
}

/// Changes a good message and says which code and words it gets; `OK` if it stays good.
fn check(change: impl FnOnce(&mut v2::Message, &mut v2::SystemProperties), expected: Code, words: &str) {
    let mut message = message("t");
    let mut properties = message.system_properties.take().unwrap();
    change(&mut message, &mut properties);
    message.system_properties = Some(properties);
    match parse(vec![message]) {
        Ok(_) => assert_eq!(expected, Code::Ok, "{words}"),
        Err((code, text)) => {
            assert_eq!(code, expected, "{text}");
            assert!(text.contains(words), "{text:?} has no {words:?}");
        }
    }
}

fn at(ahead_ms: i64) -> Option<prost_types::Timestamp> {
    let millis = i64::try_from(NOW.0).unwrap() + ahead_ms;
    Some(prost_types::Timestamp {
        seconds: millis.div_euclid(1000),
        nanos: i32::try_from(millis.rem_euclid(1000)).unwrap() * 1_000_000,
    })
}

#[test]
fn bodies_and_ids() {
    check(|_, _| {}, Code::Ok, "");
    check(|m, _| m.body = Default::default(), Code::MessageBodyEmpty, "empty");
    check(|m, _| m.body = vec![0; 4_194_304].into(), Code::Ok, "");
    let words = "4194305 bytes, at most 4194304";
    check(|m, _| m.body = vec![0; 4_194_305].into(), Code::MessageBodyTooLarge, words);
    check(|_, p| p.message_id = " ".into(), Code::IllegalMessageId, "blank");
    check(|_, p| p.message_id = "x".repeat(1025), Code::IllegalMessageId, "1025 bytes, at most 1024");
}

#[test]
fn user_properties() {
    let insert = |m: &mut v2::Message, key: &str, value: &str| m.user_properties.insert(key.into(), value.into());
    let fill = |m: &mut v2::Message, n: usize| m.user_properties.extend((0..n).map(|i| (i.to_string(), String::new())));
    check(|m, _| fill(m, 128), Code::Ok, "");
    check(|m, _| fill(m, 129), Code::MessagePropertiesTooLarge, "129 user properties, at most 128");
    for key in ["KEYS", "UNIQ_KEY", "__SHARDINGKEY", "TTL", "_SYS_MSG_PRIORITY_"] {
        check(|m, _| drop(insert(m, key, "x")), Code::IllegalMessagePropertyKey, key);
    }
    check(|m, _| drop(insert(m, "", "x")), Code::IllegalMessagePropertyKey, "empty key");
    check(|m, _| drop(insert(m, "a\u{7f}", "x")), Code::IllegalMessagePropertyKey, "in its key");
    check(|m, _| drop(insert(m, "a", "x\n")), Code::IllegalMessagePropertyKey, "in its value");
    check(|m, _| drop(insert(m, "a", &"x".repeat(16_383))), Code::Ok, "");
    check(
        |m, _| drop(insert(m, "a", &"ü".repeat(8192))),
        Code::MessagePropertiesTooLarge,
        "16385 bytes, at most 16384",
    );
    let tag_counts = |m: &mut v2::Message, p: &mut v2::SystemProperties| {
        insert(m, "a", &"x".repeat(16_000));
        (p.tag, p.keys) = (Some("t".repeat(200)), vec!["k".repeat(184)]);
    };
    check(tag_counts, Code::MessagePropertiesTooLarge, "16385 bytes");
}

#[test]
fn tags_keys_and_groups() {
    let tag = |p: &mut v2::SystemProperties, tag: &str| p.tag = Some(tag.into());
    check(|_, p| tag(p, ""), Code::Ok, "");
    check(|_, p| tag(p, "a b"), Code::Ok, "");
    check(|_, p| tag(p, "  "), Code::IllegalMessageTag, "only white space");
    check(|_, p| tag(p, "a|b"), Code::IllegalMessageTag, "\"a|b\"");
    check(|_, p| tag(p, "a\u{1}"), Code::IllegalMessageTag, "control");
    check(|_, p| p.keys = vec!["k".into(), "\t".into()], Code::IllegalMessageKey, "white space");
    check(|_, p| p.keys = vec!["k\u{0}".into()], Code::IllegalMessageKey, "control");
    let group = |p: &mut v2::SystemProperties, group: &str| p.message_group = Some(group.into());
    check(|_, p| group(p, &"g".repeat(63)), Code::Ok, "");
    check(|_, p| group(p, &"g".repeat(64)), Code::IllegalMessageGroup, "64 bytes, at most 63");
    check(|_, p| group(p, " "), Code::IllegalMessageGroup, "white space");
    check(|_, p| p.lite_topic = Some("a.b".into()), Code::IllegalLiteTopic, "a.b");
}

#[test]
fn priorities() {
    check(|_, p| p.priority = Some(0), Code::Ok, "");
    check(|_, p| p.priority = Some(i32::MAX), Code::Ok, "");
    check(|_, p| p.priority = Some(-1), Code::BadRequest, "priority is -1, at least 0 is allowed");
}

#[test]
fn times() {
    const DAYS_40: i64 = 40 * 86_400_000;
    check(|_, p| p.delivery_timestamp = at(-1), Code::Ok, "");
    check(|_, p| p.delivery_timestamp = at(DAYS_40), Code::Ok, "");
    check(|_, p| p.delivery_timestamp = at(DAYS_40 + 1), Code::IllegalDeliveryTime, "at most 3456000s");
    let recovery = |p: &mut v2::SystemProperties, seconds| {
        p.set_message_type(v2::MessageType::Transaction);
        p.orphaned_transaction_recovery_duration = Some(prost_types::Duration { seconds, nanos: 0 });
    };
    check(|_, p| recovery(p, 3600), Code::Ok, "");
    check(|_, p| recovery(p, 3601), Code::BadRequest, "3601 s, at most 3600 s");
}

#[test]
fn the_order_of_checks_is_that_of_the_reference() {
    let two_problems = |m: &mut v2::Message, p: &mut v2::SystemProperties| {
        m.body = Default::default();
        p.message_id = String::new();
    };
    check(two_problems, Code::MessageBodyEmpty, "");
    let id_and_group = |_: &mut v2::Message, p: &mut v2::SystemProperties| {
        p.message_id = String::new();
        p.message_group = Some(" ".into());
    };
    check(id_and_group, Code::IllegalMessageId, "");
}

#[test]
fn batches_have_one_topic() {
    assert_eq!(parse(vec![]).unwrap_err().0, Code::MessageCorrupted);
    let (code, text) = parse(vec![message("a"), message("a"), message("b")]).unwrap_err();
    assert_eq!(
        (code, &*text),
        (Code::MessageCorrupted, "message 2 is for topic b, but message 0 is for a; one request has one topic")
    );
    let mut elsewhere = message("a");
    elsewhere.topic.as_mut().unwrap().resource_namespace = "ns".into();
    assert_eq!(parse(vec![message("a"), elsewhere]).unwrap_err().0, Code::MessageCorrupted);
    assert_eq!(parse(vec![message("a"), message("a")]).unwrap().messages.len(), 2);
    let (code, text) = parse(vec![message("a"), v2::Message { body: Default::default(), ..message("a") }]).unwrap_err();
    assert_eq!((code, &*text), (Code::MessageBodyEmpty, "message 1: message body is empty"));
    for name in ["", " ", "a b", "TBW102", "rmq_sys_x", &"t".repeat(128)] {
        assert_eq!(parse(vec![message(name)]).unwrap_err().0, Code::IllegalTopic, "{name}");
    }
    assert_eq!(parse(vec![v2::Message::default()]).unwrap_err().0, Code::IllegalTopic);
}

#[test]
fn resources_without_a_namespace_are_in_that_of_the_call() {
    let resource = v2::Resource { resource_namespace: String::new(), name: "t".into() };
    let call = Call { namespace: "header".into(), ..call() };
    assert_eq!(topic(Some(&resource), &call).unwrap().namespace(), "header");
    let broken = Call { namespace: "a b".into(), ..call.clone() };
    let error = topic(Some(&resource), &broken).unwrap_err().to_string();
    assert!(error.starts_with("header x-mq-namespace: namespace name \"a b\""), "{error}");
    let own = v2::Resource { resource_namespace: "own".into(), ..resource };
    assert_eq!(topic(Some(&own), &call).unwrap().namespace(), "own");
}

/// The stored form is a format: it has golden bytes.
#[tokio::test]
async fn what_is_stored() {
    let mut message = message("t");
    message.user_properties.insert("k".into(), "v".into());
    message.system_properties = Some(v2::SystemProperties {
        message_id: "01AB".into(),
        tag: Some("red".into()),
        keys: vec!["k1".into()],
        born_timestamp: at(0),
        queue_id: 7, // everything from here belongs to a delivery
        store_host: "liar:1".into(),
        receipt_handle: Some("forged".into()),
        queue_offset: Some(1),
        delivery_attempt: Some(9),
        invisible_duration: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        ..Default::default()
    });
    let batch = parse(vec![message]).unwrap();
    assert_eq!(batch.queue_hint, Some(7));
    let stored = batch.messages.into_iter().next().unwrap().seal().await;

    assert_eq!(&stored.body_part[..], b"\x0a\x03\x12\x01t\x12\x06\x0a\x01k\x12\x01v\x22\x04body");
    let mut golden =
        b"\x0a\x03red\x12\x02k1\x1a\x0401AB\x28\x01\x30\x01\x3a\x0b\x08\x80\xe2\xcf\xaa\x06\x10\xc0\xa9\xd3\x3a"
            .to_vec();
    golden.extend_from_slice(b"\x42\x0d10.1.2.3:4567");
    golden.extend_from_slice(b"\x22\x24\x08\x02\x12\x20841A2D689AD86BD1611447453C22C6FC");
    assert_eq!(String::from_utf8_lossy(&stored.properties_part), String::from_utf8_lossy(&golden));
    assert_eq!(stored.properties_part, golden);
    assert_eq!(stored.tag(), Some("red"));
    let fields = apogee_model::wire::fields(&stored.properties_part).map(|field| field.unwrap().number);
    assert_eq!(fields.collect::<Vec<_>>(), [1, 2, 3, 5, 6, 7, 8, 4]);
}

#[test]
fn gzip_stays_gzip_and_everything_else_is_told_as_identity() {
    for (given, expected) in [(2, v2::Encoding::Gzip), (0, v2::Encoding::Identity), (99, v2::Encoding::Identity)] {
        let mut message = message("t");
        message.system_properties.as_mut().unwrap().body_encoding = given;
        let batch = parse(vec![message]).unwrap();
        let properties = v2::SystemProperties::decode(&batch.messages[0].properties[..]).unwrap();
        assert_eq!(properties.body_encoding(), expected);
    }
}
