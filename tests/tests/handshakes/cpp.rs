//! The C++ SDK. It opens a stream to the access point before it asks for any route, and another one for the endpoints of
//! the route; it reads the steps, sizes and times of the settings as they are; its push consumer sends a duration that
//! means nothing and leaves the time of the long poll to the deadline.

use std::time::Duration;

use apogee_proto::v2::retry_policy::Strategy;
use apogee_proto::v2::settings::PubSub;
use apogee_proto::v2::{self, ClientType, Code};
use apogee_tests::server::{Options, Server};
use tokio::time::Instant;

use crate::wire::{
    REQUEST_TIMEOUT, Session, Wire, check_whole, everything, message, ok, publish, resource, span, subscribe,
};

const HEADERS: &[(&str, &str)] = &[
    ("x-mq-client-id", "host@4711@0@hodsqno345"),
    ("x-mq-language", "CPP"),
    ("x-mq-client-version", "5.0.0"),
    ("x-mq-protocol-version", "v2"),
    ("x-mq-date-time", "20260101T000000Z"),
    ("x-mq-namespace", ""),
];
/// Deadline of a telemetry stream; afterwards the SDK opens a new one.
const STREAM_MAX: Duration = Duration::from_secs(3600);
/// How long the SDK waits for settings before it tries again.
const SETTINGS_MAX: Duration = Duration::from_secs(3);

/// Two addresses, as `ipv4:127.0.0.1:P,127.0.0.1:P` gives them.
fn wire(server: &Server) -> Wire {
    let port = server.ports().grpc;
    let address = v2::Address { host: "127.0.0.1".to_owned(), port: port.into() };
    let addresses = vec![address.clone(), address];
    Wire::new(port, HEADERS, v2::Endpoints { scheme: v2::AddressScheme::IPv4.into(), addresses })
}

fn settings(wire: &Wire, client_type: ClientType, pub_sub: PubSub) -> v2::Settings {
    let user_agent = v2::Ua { language: v2::Language::Cpp.into(), version: "5.0.0".to_owned(), ..Default::default() };
    v2::Settings {
        client_type: Some(client_type.into()),
        access_point: Some(wire.access_point.clone()),
        request_timeout: span(REQUEST_TIMEOUT),
        pub_sub: Some(pub_sub),
        user_agent: Some(user_agent),
        ..Default::default()
    }
}

async fn server() -> Server {
    Server::start(Options { ephemeral: true, ..Options::default() }).await.expect("the server starts")
}

/// The stream to the access point, before anything else.
async fn open(wire: &mut Wire, settings: &v2::Settings) -> (Session, v2::Settings) {
    let mut session = wire.telemetry(STREAM_MAX).await;
    let agreed = session.agree(settings.clone(), SETTINGS_MAX).await;
    assert_eq!((agreed.client_type, &agreed.access_point), (settings.client_type, &settings.access_point));
    (session, agreed)
}

#[tokio::test]
async fn a_producer_sends_what_it_calls_gzip() {
    let server = server().await;
    let mut wire = wire(&server);
    let ours = settings(&wire, ClientType::Producer, PubSub::Publishing(publish("cpp-producer")));
    let (_first, agreed) = open(&mut wire, &ours).await;
    let policy = agreed.backoff_policy.expect("a back-off");
    assert!(policy.max_attempts > 0 && matches!(policy.strategy, Some(Strategy::ExponentialBackoff(_))));
    let Some(PubSub::Publishing(publishing)) = agreed.pub_sub else { panic!("publishing") };
    assert!(publishing.max_body_size > 0 && publishing.validate_message_type);

    wire.route("cpp-producer").await;
    // A stream of the same client beside the first, for the endpoints of the route.
    let mut second = wire.telemetry(STREAM_MAX).await;
    second.agree(ours, SETTINGS_MAX).await;
    wire.heartbeat(ClientType::Producer, None).await;
    // A zlib stream: the SDK reads nothing else under this label, so it must come out as it went in.
    let body = b"\x78\x9c\xcbH\xcd\xc9\xc9\x07\x00\x06,\x02\x15";
    let sent = message("cpp-producer", "01AABBCCDDEEFF00010000000000000001", body, v2::Encoding::Gzip);
    assert_eq!(wire.send(sent.clone()).await.offset, 0);
    wire.farewell(None).await;

    let mut ask = receive("cpp-producer", "cpp-readers");
    (ask.auto_renew, ask.long_polling_timeout) = (false, span(Duration::from_secs(5)));
    let (code, received) = wire.receive(ask, Duration::from_secs(8)).await;
    assert_eq!((code, received.len()), (Code::Ok, 1));
    check_whole(&sent, &received[0], 1);
}

/// What a push consumer asks of a queue that was assigned to it.
fn receive(topic: &str, group: &str) -> v2::ReceiveMessageRequest {
    v2::ReceiveMessageRequest {
        group: resource(group),
        message_queue: Some(v2::MessageQueue { topic: resource(topic), ..Default::default() }),
        filter_expression: everything(),
        batch_size: 32,
        invisible_duration: span(Duration::from_secs(30)),
        auto_renew: true,
        long_polling_timeout: None,
        attempt_id: Some("5e8e1b58-7f4f-4d8a-9f0c-0d5b0f2a9d11".to_owned()),
    }
}

#[tokio::test]
async fn a_push_consumer_leaves_the_long_poll_to_the_deadline() {
    let (server, topic, group) = (server().await, "cpp-push", "cpp-push-group");
    let mut wire = wire(&server);
    let ours = settings(&wire, ClientType::PushConsumer, PubSub::Subscription(subscribe(topic, group)));
    let (_first, agreed) = open(&mut wire, &ours).await;
    let policy = agreed.backoff_policy.expect("a back-off");
    let Some(Strategy::CustomizedBackoff(steps)) = policy.strategy else { panic!("a list of steps") };
    assert!(policy.max_attempts > 0 && steps.next.iter().all(|step| step.seconds > 0));
    let Some(PubSub::Subscription(subscription)) = agreed.pub_sub else { panic!("a subscription") };
    assert_eq!((subscription.fifo(), subscription.receive_batch_size()), (false, 32));
    assert_eq!(subscription.group, resource(group), "the SDK takes over the namespace it finds here");
    let polling = subscription.long_polling_timeout.expect("a time for long polls");
    let deadline = Duration::try_from(polling).expect("a span") + REQUEST_TIMEOUT;

    wire.route(topic).await;
    let mut second = wire.telemetry(STREAM_MAX).await;
    second.agree(ours.clone(), SETTINGS_MAX).await;
    wire.heartbeat(ClientType::PushConsumer, Some(group)).await;
    let queue = assignment(&mut wire, topic, group).await;
    let ask = v2::ReceiveMessageRequest { message_queue: Some(queue), ..receive(topic, group) };
    let start = Instant::now();
    assert_eq!(wire.receive(ask.clone(), deadline).await, (Code::MessageNotFound, vec![]));
    assert!(start.elapsed() > REQUEST_TIMEOUT, "that was no long poll");

    let sent = message(topic, "01AABBCCDDEEFF00010000000000000002", b"hello", v2::Encoding::Identity);
    wire.send(sent.clone()).await;
    let (code, mut received) = wire.receive(ask.clone(), deadline).await;
    assert_eq!((code, received.len()), (Code::Ok, 1));
    check_whole(&sent, &received[0], 1);
    // A listener that failed: the first of the steps. The stream is lost in the meantime, and comes back.
    wire.change(topic, group, &mut received[0], Duration::from_secs(1)).await;
    drop(second);
    wire.telemetry(STREAM_MAX).await.agree(ours, SETTINGS_MAX).await;
    let ask = v2::ReceiveMessageRequest { attempt_id: Some("another".to_owned()), ..ask };
    let (code, received) = wire.receive(ask, deadline).await;
    assert_eq!((code, received.len()), (Code::Ok, 1));
    check_whole(&sent, &received[0], 2);
    assert_eq!(wire.ack(topic, group, &received[0]).await, Code::Ok);
    wire.farewell(Some(group)).await;
}

/// The one queue that stands for all of them.
async fn assignment(wire: &mut Wire, topic: &str, group: &str) -> v2::MessageQueue {
    let query = v2::QueryAssignmentRequest {
        topic: resource(topic),
        group: resource(group),
        endpoints: Some(wire.access_point.clone()),
    };
    let request = wire.request(query, REQUEST_TIMEOUT);
    let mut answer = wire.stub.query_assignment(request).await.expect("QueryAssignment").into_inner();
    ok(answer.status);
    assert_eq!(answer.assignments.len(), 1, "one for each replica group");
    let queue = answer.assignments.remove(0).message_queue.expect("a queue");
    let broker = queue.broker.as_ref().expect("a broker");
    assert_eq!((queue.id, broker.endpoints.as_ref()), (-1, Some(&wire.access_point)));
    queue
}
