//! The telemetry stream: settings in, settings out.

use std::time::Duration;

use apogee_model::DeliveryOrder;
use apogee_proto::v2::retry_policy::Strategy;
use apogee_proto::v2::settings::PubSub;
use apogee_proto::v2::telemetry_command::Command;
use apogee_proto::v2::{self, ClientType, Code};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tonic::{Request, Streaming};

use crate::support::{World, endpoints, from, resource, status, world};

pub(crate) type Commands = mpsc::Sender<v2::TelemetryCommand>;
pub(crate) type Answers = Streaming<v2::TelemetryCommand>;

pub(crate) fn producer() -> v2::Settings {
    v2::Settings {
        client_type: Some(ClientType::Producer.into()),
        access_point: endpoints(),
        request_timeout: Some(prost_types::Duration { seconds: 3, nanos: 0 }),
        pub_sub: Some(PubSub::Publishing(v2::Publishing {
            topics: vec![resource("orders").unwrap()],
            ..Default::default()
        })),
        user_agent: Some(v2::Ua { version: "5.0.7".into(), ..Default::default() }),
        ..Default::default()
    }
}

pub(crate) fn consumer(client_type: ClientType, group: &str) -> v2::Settings {
    let entry = v2::SubscriptionEntry {
        topic: resource("orders"),
        expression: Some(v2::FilterExpression { r#type: 1, expression: "*".into() }),
    };
    let subscription = v2::Subscription { group: resource(group), subscriptions: vec![entry], ..Default::default() };
    v2::Settings {
        client_type: Some(client_type.into()),
        pub_sub: Some(PubSub::Subscription(subscription)),
        ..producer()
    }
}

/// A consumer that filters by SQL92.
fn subscribed(expression: &str) -> v2::Settings {
    let mut settings = consumer(ClientType::PushConsumer, "g");
    if let Some(PubSub::Subscription(subscription)) = &mut settings.pub_sub {
        let expression = Some(v2::FilterExpression { r#type: 2, expression: expression.to_owned() });
        subscription.subscriptions[0].expression = expression;
    }
    settings
}

pub(crate) fn command(settings: v2::Settings) -> v2::TelemetryCommand {
    v2::TelemetryCommand { status: None, command: Some(Command::Settings(settings)) }
}

/// Opens a stream; the answer's headers must be there before the first command is sent.
pub(crate) async fn connect(world: &mut World, change: impl FnOnce(&mut Request<()>)) -> (Commands, Answers) {
    let (commands, inbound) = mpsc::channel(32);
    let mut request = from("c", ());
    change(&mut request);
    let stream = futures::stream::unfold(inbound, |mut inbound| async move { Some((inbound.recv().await?, inbound)) });
    let request = request.map(|()| stream);
    let open = timeout(Duration::from_secs(1), world.client.telemetry(request));
    let answers = open.await.expect("headers come at once").unwrap().into_inner();
    (commands, answers)
}

/// Opens a stream of `client` and agrees on settings.
pub(crate) async fn open(world: &mut World, client: &str, settings: v2::Settings) -> (Commands, Answers) {
    let (commands, mut answers) = connect(world, |request| *request = from(client, ())).await;
    commands.send(command(settings)).await.unwrap();
    assert_eq!(status(answers.message().await.unwrap().unwrap().status).0, i32::from(Code::Ok));
    (commands, answers)
}

async fn merged(world: &mut World, language: &'static str, settings: v2::Settings) -> v2::Settings {
    let (commands, mut answers) = connect(world, |request| {
        request.metadata_mut().insert("x-mq-language", language.parse().unwrap());
    })
    .await;
    commands.send(command(settings)).await.unwrap();
    let answer = answers.message().await.unwrap().unwrap();
    assert_eq!(status(answer.status).0, i32::from(Code::Ok));
    let Some(Command::Settings(settings)) = answer.command else { panic!("settings, not {:?}", answer.command) };
    settings
}

pub(crate) fn backoff(settings: &v2::Settings) -> (i32, Vec<i64>) {
    let policy = settings.backoff_policy.as_ref().unwrap();
    let millis = |span: &prost_types::Duration| span.seconds * 1000 + i64::from(span.nanos) / 1_000_000;
    let steps = match policy.strategy.as_ref().unwrap() {
        Strategy::ExponentialBackoff(policy) => {
            assert_eq!(policy.multiplier, 2.0);
            vec![millis(policy.initial.as_ref().unwrap()), millis(policy.max.as_ref().unwrap())]
        }
        Strategy::CustomizedBackoff(policy) => policy.next.iter().map(millis).collect(),
    };
    (policy.max_attempts, steps)
}

#[tokio::test(start_paused = true)]
async fn a_producer_is_told_limits_and_retries() {
    let mut world = world().await;
    let settings = merged(&mut world, "JAVA", producer()).await;
    assert_eq!(backoff(&settings), (3, vec![10, 1000]));
    let Some(PubSub::Publishing(publishing)) = &settings.pub_sub else { panic!("publishing") };
    assert_eq!((publishing.max_body_size, publishing.validate_message_type), (4_194_304, true));
    assert_eq!(publishing.topics, [resource("orders").unwrap()]);
    assert_eq!(settings.metric, Some(v2::Metric { on: false, endpoints: None }));
    assert_eq!((settings.access_point, settings.user_agent), (endpoints(), producer().user_agent));
}

/// As a producer of the Java SDK does that meets many topics at once.
#[tokio::test(start_paused = true)]
async fn a_burst_of_settings_is_answered_to_the_last() {
    let mut world = world().await;
    let (commands, mut answers) = open(&mut world, "c", producer()).await;
    let started = Instant::now();
    for _ in 0..29 {
        commands.send(command(producer())).await.unwrap();
    }
    for _ in 0..29 {
        assert_eq!(status(answers.message().await.unwrap().unwrap().status).0, i32::from(Code::Ok));
    }
    let took = started.elapsed();
    assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(3), "10 in a second, not {took:?}");
}

#[tokio::test(start_paused = true)]
async fn consumers_are_told_what_their_group_wants() {
    let mut world = world().await;
    world.routes.group("ordered", DeliveryOrder::Fifo, 5);
    for (client_type, language, group, attempts, fifo, steps) in [
        (ClientType::PushConsumer, "JAVA", "workers", 17, false, 18),
        (ClientType::SimpleConsumer, "PYTHON", "workers", 17, false, 18),
        (ClientType::PushConsumer, "GO", "ordered", 5, true, 18),
        (ClientType::PushConsumer, "HTTP", "workers", 17, false, 2),
    ] {
        let settings = merged(&mut world, language, consumer(client_type, group)).await;
        let (max_attempts, delays) = backoff(&settings);
        assert_eq!((max_attempts, delays.len()), (attempts, steps), "{language}");
        let (first, last) = if steps == 18 { (1000, 7_200_000) } else { (5000, 900_000) };
        assert_eq!((delays[0], *delays.last().unwrap()), (first, last), "{language}");
        let Some(PubSub::Subscription(subscription)) = &settings.pub_sub else { panic!("subscription") };
        assert_eq!((subscription.fifo, subscription.receive_batch_size), (Some(fifo), Some(32)));
        assert_eq!(subscription.long_polling_timeout.unwrap().seconds, 20);
        assert_eq!((subscription.lite_subscription_quota, subscription.max_lite_topic_size), (Some(2000), Some(64)));
        assert_eq!(subscription.subscriptions.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn settings_can_be_sent_again_on_the_same_stream() {
    let mut world = world().await;
    let (commands, mut answers) = open(&mut world, "c", producer()).await;
    commands.send(v2::TelemetryCommand::default()).await.unwrap(); // not a command: ignored
    commands.send(command(producer())).await.unwrap();
    assert_eq!(status(answers.message().await.unwrap().unwrap().status).0, i32::from(Code::Ok));
    drop(commands);
    assert!(answers.message().await.unwrap().is_none(), "half-closed by the client: we close, too");
}

#[tokio::test(start_paused = true)]
async fn settings_nobody_can_agree_on_fail_the_stream() {
    let mut world = world().await;
    let topics = |name: &str| {
        Some(PubSub::Publishing(v2::Publishing { topics: resource(name).into_iter().collect(), ..Default::default() }))
    };
    for (settings, expected, words) in [
        (v2::Settings { pub_sub: None, ..producer() }, tonic::Code::InvalidArgument, "neither"),
        (v2::Settings { pub_sub: topics("a b"), ..producer() }, tonic::Code::InvalidArgument, "a b"),
        (consumer(ClientType::PushConsumer, "a b"), tonic::Code::InvalidArgument, "a b"),
        (consumer(ClientType::PullConsumer, "g"), tonic::Code::Internal, "PULL_CONSUMER"),
        (consumer(ClientType::Producer, "g"), tonic::Code::InvalidArgument, "PRODUCER, but carry a subscription"),
        (
            v2::Settings { pub_sub: topics("orders"), ..consumer(ClientType::PushConsumer, "g") },
            tonic::Code::InvalidArgument,
            "PUSH_CONSUMER, but carry a publishing",
        ),
        (
            subscribed("a = 1 AND (b > "),
            tonic::Code::InvalidArgument,
            "SQL92 filter, character 16: expected a property",
        ),
    ] {
        let (commands, mut answers) = connect(&mut world, |_| {}).await;
        commands.send(command(settings)).await.unwrap();
        let failed = answers.message().await.unwrap_err();
        assert_eq!(failed.code(), expected, "{failed}");
        assert!(failed.message().contains(words), "{failed}");
    }
}

/// One command with only a status, then a good end.
async fn refused(mut answers: Answers) -> (i32, String) {
    let only = answers.message().await.unwrap().unwrap();
    assert_eq!(only.command, None);
    assert!(answers.message().await.unwrap().is_none());
    status(only.status)
}

#[tokio::test(start_paused = true)]
async fn who_has_no_name_gets_a_status_and_a_good_end() {
    let mut world = world().await;
    let (_commands, answers) = connect(&mut world, |request| *request = Request::new(())).await;
    assert_eq!(refused(answers).await.0, i32::from(Code::ClientIdRequired));
}
