//! The C# SDK. It sends only the first address of its access point, by name; and once its telemetry stream is lost, it
//! never opens another one and never sends its settings again: everything but transaction checks must go on.

use std::time::Duration;

use apogee_proto::v2::retry_policy::Strategy;
use apogee_proto::v2::settings::PubSub;
use apogee_proto::v2::{self, ClientType, Code};
use apogee_tests::server::{Options, Server};
use tokio::time::Instant;

use crate::wire::{
    REQUEST_TIMEOUT, Session, Wire, check_whole, everything, message, publish, resource, span, subscribe,
};

const HEADERS: &[(&str, &str)] = &[
    ("x-mq-client-id", "host@4711@0@hodsqno345"),
    ("x-mq-language", "DOTNET"),
    ("x-mq-client-version", "5.2.1"),
    ("x-mq-request-id", "1f1c3a52-6f0e-4c8e-9b8b-3a6f8e4d2b10"),
    ("x-mq-date-time", "20260101T000000Z"),
    ("x-mq-namespace", ""),
];
/// Ten years.
const STREAM_MAX: Duration = Duration::from_secs(3650 * 24 * 3600);
/// How long the SDK waits for settings, then it goes on without.
const SETTINGS_MAX: Duration = Duration::from_secs(6);
const AWAIT: Duration = Duration::from_secs(5);
const LEASE: Duration = Duration::from_secs(10);

fn wire(server: &Server) -> Wire {
    let port = server.ports().grpc;
    let addresses = vec![v2::Address { host: "localhost".to_owned(), port: port.into() }];
    Wire::new(port, HEADERS, v2::Endpoints { scheme: v2::AddressScheme::DomainName.into(), addresses })
}

fn settings(wire: &Wire, client_type: ClientType, pub_sub: PubSub) -> v2::Settings {
    let user_agent = v2::Ua {
        language: v2::Language::DotNet.into(),
        version: "5.2.1".to_owned(),
        platform: "Unix".to_owned(),
        hostname: "host".to_owned(),
    };
    v2::Settings {
        client_type: Some(client_type.into()),
        access_point: Some(wire.access_point.clone()),
        request_timeout: span(REQUEST_TIMEOUT),
        pub_sub: Some(pub_sub),
        user_agent: Some(user_agent),
        ..Default::default()
    }
}

/// What a client has after its start.
struct Started {
    /// Its only stream.
    session: Session,
    agreed: v2::Settings,
    queue: v2::MessageQueue,
}

/// Routes first, then the stream.
async fn start(wire: &mut Wire, topic: &str, client_type: ClientType, pub_sub: PubSub) -> Started {
    let queue = wire.route(topic).await.remove(0);
    let mut session = wire.telemetry(STREAM_MAX).await;
    let ours = settings(wire, client_type, pub_sub);
    let agreed = session.agree(ours, SETTINGS_MAX).await;
    assert_eq!(agreed.client_type(), client_type);
    Started { session, agreed, queue }
}

#[tokio::test]
async fn a_producer_goes_on_after_its_stream_is_lost() {
    let mut server = Server::start(Options::default()).await.expect("the server starts");
    let (mut wire, topic) = (wire(&server), "dotnet-producer");
    let publishing = PubSub::Publishing(v2::Publishing { validate_message_type: true, ..publish(topic) });
    let Started { session, agreed, .. } = start(&mut wire, topic, ClientType::Producer, publishing).await;
    // Another strategy than this one ends the task that reads the stream.
    let strategy = agreed.backoff_policy.and_then(|policy| policy.strategy);
    assert!(matches!(strategy, Some(Strategy::ExponentialBackoff(_))), "{strategy:?}");
    wire.heartbeat(ClientType::Producer, None).await;
    let id = |n: u8| format!("01AABBCCDDEEFF00010000000000000{n:03}");
    wire.send(message(topic, &id(1), b"before", v2::Encoding::Identity)).await;

    server.kill().await.expect("it can be killed");
    server.restart().await.expect("the server starts again");
    drop(session);
    wire.heartbeat(ClientType::Producer, None).await;
    let entry = wire.send(message(topic, &id(2), b"after", v2::Encoding::Identity)).await;
    assert!(entry.offset >= 0);
    wire.farewell(None).await;
}

#[tokio::test]
async fn a_simple_consumer_goes_on_after_its_stream_is_lost() {
    let mut server = Server::start(Options::default()).await.expect("the server starts");
    let (mut wire, topic, group) = (wire(&server), "dotnet-simple", "dotnet-simple-group");
    let subscription = v2::Subscription { long_polling_timeout: span(AWAIT), ..subscribe(topic, group) };
    let Started { session, agreed, queue } =
        start(&mut wire, topic, ClientType::SimpleConsumer, PubSub::Subscription(subscription)).await;
    assert!(matches!(agreed.pub_sub, Some(PubSub::Subscription(_))));
    wire.heartbeat(ClientType::SimpleConsumer, Some(group)).await;
    let ids = ["01AABBCCDDEEFF00010000000000000011", "01AABBCCDDEEFF00010000000000000012"];
    let sent = ids.map(|id| message(topic, id, id.as_bytes(), v2::Encoding::Identity));
    for message in &sent {
        wire.send(message.clone()).await;
    }
    let mut held = receive_all(&mut wire, simple(&queue, group), AWAIT, sent.len()).await;
    for (sent, held) in sent.iter().zip(&held) {
        check_whole(sent, held, 1);
    }

    server.kill().await.expect("it can be killed");
    server.restart().await.expect("the server starts again");
    drop(session);
    // What it holds it can still settle, and what it does not comes again.
    wire.heartbeat(ClientType::SimpleConsumer, Some(group)).await;
    assert_eq!(wire.ack(topic, group, &held[0]).await, Code::Ok);
    wire.change(topic, group, &mut held[1], Duration::ZERO).await;
    let again = receive_all(&mut wire, simple(&queue, group), AWAIT, 1).await;
    check_whole(&sent[1], &again[0], 2);
    assert_eq!(wire.ack(topic, group, &held[1]).await, Code::InvalidReceiptHandle, "a later delivery replaced it");
    assert_eq!(wire.ack(topic, group, &again[0]).await, Code::Ok);
    wire.farewell(Some(group)).await;
}

#[tokio::test]
async fn a_push_consumer_goes_on_after_its_stream_is_lost() {
    let server = Server::start(Options { ephemeral: true, ..Options::default() }).await.expect("the server starts");
    let (mut wire, topic, group) = (wire(&server), "dotnet-push", "dotnet-push-group");
    let subscription = PubSub::Subscription(subscribe(topic, group));
    let Started { session, agreed, queue } = start(&mut wire, topic, ClientType::PushConsumer, subscription).await;
    let policy = agreed.backoff_policy.expect("a back-off");
    assert!(policy.max_attempts > 0 && policy.strategy.is_some());
    let Some(PubSub::Subscription(subscription)) = agreed.pub_sub else { panic!("a subscription") };
    let polling = subscription.long_polling_timeout.and_then(|span| Duration::try_from(span).ok()).expect("a span");
    assert!(!subscription.fifo() && subscription.receive_batch_size() > 0 && !polling.is_zero());
    drop(session);

    wire.heartbeat(ClientType::PushConsumer, Some(group)).await;
    let sent = message(topic, "01AABBCCDDEEFF00010000000000000021", b"hello", v2::Encoding::Identity);
    wire.send(sent.clone()).await;
    let ask = v2::ReceiveMessageRequest {
        auto_renew: true,
        invisible_duration: None,
        attempt_id: Some("5e8e1b58-7f4f-4d8a-9f0c-0d5b0f2a9d12".to_owned()),
        ..simple(&queue, group)
    };
    let mut received = receive_all(&mut wire, ask.clone(), polling, 1).await;
    check_whole(&sent, &received[0], 1);
    let (failed, step) = (Instant::now(), Duration::from_secs(1));
    wire.change(topic, group, &mut received[0], step).await;
    let again = v2::ReceiveMessageRequest { attempt_id: Some("another".to_owned()), ..ask };
    let received = receive_all(&mut wire, again, polling, 1).await;
    assert!(failed.elapsed() >= step, "too early");
    check_whole(&sent, &received[0], 2);
    assert_eq!(wire.ack(topic, group, &received[0]).await, Code::Ok);
    wire.farewell(Some(group)).await;
}

fn simple(queue: &v2::MessageQueue, group: &str) -> v2::ReceiveMessageRequest {
    v2::ReceiveMessageRequest {
        group: resource(group),
        message_queue: Some(queue.clone()),
        filter_expression: everything(),
        batch_size: 16,
        invisible_duration: span(LEASE * 6),
        ..Default::default()
    }
}

/// Polls until `count` messages are there; in the order of their ids.
async fn receive_all(
    wire: &mut Wire,
    mut ask: v2::ReceiveMessageRequest,
    polling: Duration,
    count: usize,
) -> Vec<v2::Message> {
    ask.long_polling_timeout = span(polling);
    let (start, mut all) = (Instant::now(), Vec::new());
    while all.len() < count {
        assert!(start.elapsed() < LEASE * 3, "{} of {count} messages", all.len());
        let (code, messages) = wire.receive(ask.clone(), polling + REQUEST_TIMEOUT).await;
        assert!(matches!(code, Code::Ok | Code::MessageNotFound), "{code:?}");
        all.extend(messages);
    }
    all.sort_by_key(|message| crate::wire::system(message).message_id.clone());
    all
}
