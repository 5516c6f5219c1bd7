//! What bad input gets: a code of the contract with a message that names the value and the limit.
//!
//! Single messages are in `src/edge/convert/tests.rs`; here is what needs a cluster, a store or a transport.

use apogee_model::store::StoreError;
use apogee_model::{DeliveryOrder, Permission, TopicType};
use apogee_proto::v2::receive_message_response::Content;
use apogee_proto::v2::{self, Code};
use apogee_proxy::ProxySettings;
use tonic::Request;
use tonic::metadata::MetadataValue;

use crate::support::{World, endpoints, from, message, receive, resource, sdk, status, world, world_with};

#[track_caller]
fn check(found: (i32, String), code: Code, words: &str) {
    assert_eq!(found.0, i32::from(code), "{}", found.1);
    assert!(found.1.contains(words), "{:?} has no {words:?}", found.1);
}

/// The status a receive gets after a change to a good request.
async fn refused(world: &mut World, change: impl FnOnce(&mut v2::ReceiveMessageRequest)) -> (i32, String) {
    let mut ask = receive("orders", "workers");
    change(&mut ask);
    let parts = world.receive(ask).await;
    let [Content::Status(first), Content::DeliveryTimestamp(_)] = &parts[..] else { panic!("{parts:?}") };
    (first.code, first.message.clone())
}

fn span(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

#[tokio::test(start_paused = true)]
async fn client_ids() {
    let mut world = world().await;
    let code = Code::ClientIdRequired;
    let missing = world.client.heartbeat(Request::new(v2::HeartbeatRequest::default())).await.unwrap().into_inner();
    check(status(missing.status), code, "missing");
    let blank = world.client.heartbeat(from(" ", v2::HeartbeatRequest::default())).await.unwrap().into_inner();
    check(status(blank.status), code, "blank");
    let long = "c".repeat(1025);
    let long = world.client.heartbeat(from(&long, v2::HeartbeatRequest::default())).await.unwrap().into_inner();
    check(status(long.status), code, "1025 bytes long, at most 1024");
    let mut broken = from("c", v2::HeartbeatRequest::default());
    let bytes = http::HeaderValue::from_bytes(b"\xff\xfe").unwrap();
    let mut headers = broken.metadata().clone().into_headers();
    headers.insert("x-mq-client-id", bytes);
    *broken.metadata_mut() = tonic::metadata::MetadataMap::from_headers(headers);
    check(status(world.client.heartbeat(broken).await.unwrap().into_inner().status), code, "UTF-8");

    let mut stream = world.client.receive_message(Request::new(receive("t", "g"))).await.unwrap().into_inner();
    let Some(Content::Status(only)) = stream.message().await.unwrap().unwrap().content else {
        panic!("a status first")
    };
    check((only.code, only.message), code, "missing");
    assert_eq!(stream.message().await.unwrap(), None, "nothing follows a refusal at the door");
}

#[tokio::test(start_paused = true)]
async fn broken_headers_break_nothing() {
    let mut world = world().await;
    let mut request = sdk(v2::QueryRouteRequest { topic: resource("orders"), endpoints: endpoints() });
    let mut headers = std::mem::take(request.metadata_mut()).into_headers();
    for name in ["x-mq-language", "x-mq-client-version", "x-mq-request-id", "x-mq-namespace", "authorization"] {
        headers.insert(name, http::HeaderValue::from_bytes(b"\xc3\x28\xff").unwrap());
    }
    headers.insert("grpc-timeout", http::HeaderValue::from_static("99x"));
    *request.metadata_mut() = tonic::metadata::MetadataMap::from_headers(headers);
    check(status(world.client.query_route(request).await.unwrap().into_inner().status), Code::Ok, "");
    let mut odd = sdk(v2::QueryRouteRequest { topic: resource("orders"), endpoints: endpoints() });
    odd.metadata_mut().insert("x-mq-language", MetadataValue::from_static("KLINGON"));
    check(status(world.client.query_route(odd).await.unwrap().into_inner().status), Code::Ok, "");
}

#[tokio::test(start_paused = true)]
async fn routes() {
    let mut world = world().await;
    let long = "t".repeat(128);
    for (topic, words) in
        [("", "blank"), ("a b", "' '"), ("TBW102", "reserved"), (&*long, "128 characters, at most 127")]
    {
        check(status(world.route(topic).await.status), Code::IllegalTopic, words);
    }
    check(status(world.route("%DLQ%workers").await.status), Code::TopicNotFound, "%DLQ%workers");
    let scheme = |scheme: i32, host: &str, port| v2::Endpoints {
        scheme,
        addresses: vec![v2::Address { host: host.into(), port }],
    };
    for (given, words) in [
        (None, "missing"),
        (Some(v2::Endpoints::default()), "no address"),
        (Some(scheme(0, "h", 1)), "scheme 0"),
        (Some(v2::Endpoints { scheme: 3, addresses: vec![] }), "no address"),
        (Some(scheme(77, "h", 1)), "scheme 77"),
        (Some(scheme(1, "not-an-ip", 1)), "not-an-ip"),
        (Some(scheme(3, "h", 70_000)), "70000"),
    ] {
        let query = v2::QueryRouteRequest { topic: resource("orders"), endpoints: given.clone() };
        let route = world.client.query_route(sdk(query)).await.unwrap().into_inner();
        check(status(route.status), Code::IllegalAccessPoint, words);
        let query = v2::QueryAssignmentRequest { topic: resource("orders"), group: resource("g"), endpoints: given };
        let assigned = world.client.query_assignment(sdk(query)).await.unwrap().into_inner();
        check(status(assigned.status), Code::IllegalAccessPoint, words);
    }
}

#[tokio::test(start_paused = true)]
async fn without_auto_create_names_must_exist() {
    let mut world = world_with(ProxySettings { auto_create: false, ..ProxySettings::default() }).await;
    check(status(world.route("orders").await.status), Code::TopicNotFound, "topic orders does not exist");
    check(refused(&mut world, |_| {}).await, Code::TopicNotFound, "orders");
    world.routes.topic("orders", TopicType::Mixed, Permission::ReadWrite);
    check(status(world.route("orders").await.status), Code::Ok, "");
    check(refused(&mut world, |_| {}).await, Code::ConsumerGroupNotFound, "consumer group workers does not exist");
    let query =
        v2::QueryAssignmentRequest { topic: resource("orders"), group: resource("workers"), endpoints: endpoints() };
    let assigned = world.client.query_assignment(sdk(query)).await.unwrap().into_inner();
    check(status(assigned.status), Code::ConsumerGroupNotFound, "workers");
    world.routes.group("workers", DeliveryOrder::Concurrent, 17);
    check(refused(&mut world, |_| {}).await, Code::MessageNotFound, "");
}

#[tokio::test(start_paused = true)]
async fn sends() {
    let mut world = world().await;
    check(status(world.send(vec![]).await.status), Code::MessageCorrupted, "no messages");
    check(status(world.send(vec![message("nowhere", "id", "x")]).await.status), Code::TopicNotFound, "nowhere");
    check(status(world.send(vec![message("a b", "id", "x")]).await.status), Code::IllegalTopic, "a b");
    world.routes.topic("full", TopicType::Mixed, Permission::Read);
    check(status(world.send(vec![message("full", "id", "x")]).await.status), Code::Forbidden, "no writable queue");
    world.route("orders").await;
    let large = world.send(vec![message("orders", "id", &"x".repeat(4_194_305))]).await;
    check(status(large.status), Code::MessageBodyTooLarge, "4194305 bytes, at most 4194304");
    check(status(world.send(vec![message("orders", "id", "")]).await.status), Code::MessageBodyEmpty, "");
    let huge = v2::SendMessageRequest { messages: vec![message("orders", "id", &"x".repeat(32 * 1024 * 1024))] };
    let refused = world.client.send_message(sdk(huge)).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused}");
}

#[tokio::test(start_paused = true)]
async fn message_types() {
    let mut world = world().await;
    let all = [
        TopicType::Normal,
        TopicType::Fifo,
        TopicType::Delay,
        TopicType::Transaction,
        TopicType::Priority,
        TopicType::Lite,
        TopicType::Mixed,
    ];
    for (topic, topic_type) in
        ["normal", "fifo", "delay", "transaction", "priority", "lite", "mixed"].into_iter().zip(all)
    {
        world.routes.topic(topic, topic_type, Permission::ReadWrite);
    }
    type Change = fn(&mut v2::SystemProperties);
    let kinds: [(&str, &str, Change); 6] = [
        ("normal", "NORMAL", |_| {}),
        ("fifo", "FIFO", |p| p.message_group = Some("g".into())),
        ("delay", "DELAY", |p| p.delivery_timestamp = Some(prost_types::Timestamp { seconds: 1, nanos: 0 })),
        ("transaction", "TRANSACTION", |p| p.set_message_type(v2::MessageType::Transaction)),
        ("priority", "PRIORITY", |p| p.priority = Some(1)),
        ("lite", "LITE", |p| p.lite_topic = Some("l".into())),
    ];
    for (own, name, change) in kinds {
        for topic in ["normal", "fifo", "delay", "transaction", "priority", "lite", "mixed"] {
            let mut one = message(topic, "id", "x");
            change(one.system_properties.as_mut().unwrap());
            let found = status(world.send(vec![one]).await.status);
            let accepted = topic == own || topic == "mixed" && own != "lite";
            match accepted {
                true => check(found, Code::Ok, ""),
                false => check(found, Code::MessagePropertyConflictWithType, &format!("but this one is {name}")),
            }
        }
    }
    let found = status(world.send(vec![message("fifo", "id", "x")]).await.status);
    assert_eq!(found.1, "topic fifo takes FIFO messages, but this one is NORMAL");
}

#[tokio::test(start_paused = true)]
async fn receives() {
    let mut world = world().await;
    check(refused(&mut world, |ask| ask.message_queue = None).await, Code::IllegalTopic, "blank");
    check(refused(&mut world, |ask| ask.group = None).await, Code::IllegalConsumerGroup, "blank");
    let long = "g".repeat(121);
    check(
        refused(&mut world, |ask| ask.group = resource(&long)).await,
        Code::IllegalConsumerGroup,
        "121 characters, at most 120",
    );
    for (invisible, words) in [
        (span(9), "is 9 s, allowed are 10 s to 12 h"),
        (span(43_201), "is 43201 s, allowed are 10 s to 12 h"),
        (span(-1), "-1 s 0 ns is negative, allowed are 10 s to 12 h"),
        (None, "is missing, allowed are 10 s to 12 h"),
    ] {
        check(refused(&mut world, |ask| ask.invisible_duration = invisible).await, Code::IllegalInvisibleTime, words);
    }
    let filter = |kind, expression: &str| Some(v2::FilterExpression { r#type: kind, expression: expression.into() });
    check(
        refused(&mut world, |ask| ask.filter_expression = filter(1, "||")).await,
        Code::IllegalFilterExpression,
        "||",
    );
    for (expression, place) in [
        (" ", "SQL92 filter, character 1: the expression is empty"),
        ("a > 1 AND", "SQL92 filter, character 10: expected a property, a value or '(', found the end"),
        ("a > 'x'", "SQL92 filter, character 5: this has no order"),
    ] {
        let answer = refused(&mut world, |ask| ask.filter_expression = filter(2, expression)).await;
        check(answer, Code::IllegalFilterExpression, place);
    }
    check(
        refused(&mut world, |ask| ask.filter_expression = filter(9, "a")).await,
        Code::IllegalFilterExpression,
        "type 9",
    );
    let long = "x".repeat(4097);
    check(
        refused(&mut world, |ask| ask.filter_expression = filter(1, &long)).await,
        Code::IllegalFilterExpression,
        "4097 bytes, at most 4096",
    );
    check(
        refused(&mut world, |ask| ask.attempt_id = Some("x".repeat(257))).await,
        Code::BadRequest,
        "257 bytes, at most 256",
    );
    world.routes.topic("locked", TopicType::Normal, Permission::Write);
    let locked = |ask: &mut v2::ReceiveMessageRequest| ask.message_queue.as_mut().unwrap().topic = resource("locked");
    check(refused(&mut world, locked).await, Code::Forbidden, "no readable queue");

    let mut hurried = sdk(receive("orders", "workers"));
    hurried.set_timeout(std::time::Duration::from_secs(4));
    let mut stream = world.client.receive_message(hurried).await.unwrap().into_inner();
    let Some(Content::Status(first)) = stream.message().await.unwrap().unwrap().content else {
        panic!("a status first")
    };
    check((first.code, first.message), Code::IllegalPollingTime, "at least 5s");
}

#[tokio::test(start_paused = true)]
async fn receipt_handles() {
    let mut world = world().await;
    world.route("orders").await;
    world.route("others").await;
    for id in ["a", "b"] {
        world.send(vec![message("orders", id, "x")]).await;
    }
    let got = world.take("orders", "workers").await;
    world.take("orders", "strangers").await;
    let handles: Vec<_> =
        got.iter().map(|one| one.system_properties.as_ref().unwrap().receipt_handle().to_owned()).collect();
    let invalid = Code::InvalidReceiptHandle;

    check(status(world.ack("orders", "workers", &["rubbish"]).await.status), invalid, "\"rubbish\" is corrupt");
    check(status(world.ack("orders", "workers", &[&"A".repeat(72)]).await.status), invalid, "corrupt");
    check(
        status(world.ack("orders", "strangers", &[&handles[0]]).await.status),
        invalid,
        "not for consumer group strangers",
    );
    check(status(world.ack("others", "workers", &[&handles[0]]).await.status), invalid, "not for topic others");
    check(status(world.ack("gone", "workers", &[&handles[0]]).await.status), invalid, "topic gone does not exist");
    check(
        status(world.ack("orders", "gone", &[&handles[0]]).await.status),
        invalid,
        "consumer group gone does not exist",
    );
    check(status(world.ack("orders", "workers", &[]).await.status), Code::BadRequest, "no entries");
    check(status(world.ack("a b", "workers", &["x"]).await.status), Code::IllegalTopic, "a b");
    check(status(world.ack("orders", "a b", &["x"]).await.status), Code::IllegalConsumerGroup, "a b");

    let mixed = world.ack("orders", "workers", &[&handles[0], "rubbish"]).await;
    check(status(mixed.status), Code::MultipleResults, "");
    let entries: Vec<_> =
        mixed.entries.into_iter().map(|entry| (entry.message_id, entry.status.unwrap().code)).collect();
    assert_eq!(entries, [("id-0".to_owned(), i32::from(Code::Ok)), ("id-1".to_owned(), i32::from(invalid))]);

    world.store.replace_all();
    check(status(world.ack("orders", "workers", &[&handles[1]]).await.status), invalid, "replaced by a later delivery");
    world.routes.forget_topic("orders");
    check(status(world.ack("orders", "workers", &[&handles[1]]).await.status), invalid, "topic orders does not exist");
}

#[tokio::test(start_paused = true)]
async fn changes_of_the_invisible_duration() {
    let mut world = world().await;
    world.route("orders").await;
    world.send(vec![message("orders", "id", "x")]).await;
    let got = world.take("orders", "workers").await;
    let handle = got[0].system_properties.as_ref().unwrap().receipt_handle().to_owned();
    for (handle, after, code, words) in [
        (&*handle, span(0), Code::Ok, ""),
        (&*handle, span(43_200), Code::Ok, ""),
        (&*handle, span(43_201), Code::IllegalInvisibleTime, "is 43201 s, allowed are 0 s to 12 h"),
        (&*handle, span(-1), Code::IllegalInvisibleTime, "negative, allowed are 0 s to 12 h"),
        ("rubbish", span(1), Code::InvalidReceiptHandle, "rubbish"),
    ] {
        let change = v2::ChangeInvisibleDurationRequest {
            group: resource("workers"),
            topic: resource("orders"),
            receipt_handle: handle.into(),
            invisible_duration: after,
            ..Default::default()
        };
        let changed = world.client.change_invisible_duration(sdk(change)).await.unwrap().into_inner();
        assert_eq!(changed.receipt_handle, handle, "a client may overwrite its handle with this one");
        check(status(changed.status), code, words);
    }
    let change = v2::ChangeInvisibleDurationRequest { receipt_handle: handle.clone(), ..Default::default() };
    let nobody = world.client.change_invisible_duration(Request::new(change)).await.unwrap().into_inner();
    assert_eq!(nobody.receipt_handle, handle);
    check(status(nobody.status), Code::ClientIdRequired, "missing");
}

#[tokio::test(start_paused = true)]
async fn heartbeats() {
    let mut world = world().await;
    let unknown = v2::HeartbeatRequest { client_type: 77, group: None };
    let beat = world.client.heartbeat(sdk(unknown)).await.unwrap().into_inner();
    check(status(beat.status), Code::UnrecognizedClientType, "77");
}

#[tokio::test(start_paused = true)]
async fn what_the_store_cannot_do() {
    let mut world = world().await;
    world.route("orders").await;
    world.store.fail(Some(StoreError::TooLarge { bytes: 9, max: 8 }));
    let words = "the messages of this request take 9 bytes together, at most 8 are allowed in one request";
    check(status(world.send(vec![message("orders", "id", "x")]).await.status), Code::PayloadTooLarge, words);
    world.store.fail(None);
    world.send(vec![message("orders", "id", "x")]).await;
    let got = world.take("orders", "workers").await;
    let handle = got[0].system_properties.as_ref().unwrap().receipt_handle().to_owned();
    for (error, code, words) in [
        (StoreError::Busy { what: "the inbox" }, Code::TooManyRequests, "the inbox is full"),
        (StoreError::Timeout { waited: std::time::Duration::from_secs(3) }, Code::ProxyTimeout, "3s"),
        (StoreError::Stopped, Code::InternalServerError, "stopped"),
    ] {
        world.store.fail(Some(error));
        check(status(world.send(vec![message("orders", "id", "x")]).await.status), code, words);
        // What may be another try asks the store, whoever asked a moment ago.
        check(refused(&mut world, |ask| ask.attempt_id = Some(format!("{code:?}"))).await, code, words);
        let acked = world.ack("orders", "workers", &[&handle]).await;
        check(status(acked.entries[0].status.clone()), code, words);
        let change = v2::ChangeInvisibleDurationRequest {
            group: resource("workers"),
            topic: resource("orders"),
            receipt_handle: handle.clone(),
            ..Default::default()
        };
        let changed = world.client.change_invisible_duration(sdk(change)).await.unwrap().into_inner();
        assert_eq!(changed.receipt_handle, handle, "a client may overwrite its handle with this one");
        check(status(changed.status), code, words);
    }
}
