//! What clients see of a connection that leaves, by age or because the proxy ends.

use std::sync::Arc;
use std::time::Duration;

use apogee_proto::v2::messaging_service_client::MessagingServiceClient;
use apogee_proto::v2::telemetry_command::Command;
use apogee_proto::v2::{self, Code};
use apogee_proxy::listen::{
    AgeSettings, ClosedConnection, DrainSettings, ListenMetrics, ListenSettings, Listener, Stage, Tls, TlsSettings,
};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::long_poll::{parked, settle};
use crate::settings::{Answers, connect, open, producer};
use crate::support::{CONNECTION, World, from, message, receive, world};

const SECOND: Duration = Duration::from_secs(1);
/// Longer than anything takes in real time.
const SOON: Duration = Duration::from_secs(10);

/// The nonce of the one command a stream has, which is to connect again.
async fn asked_to_reconnect(answers: &mut Answers) -> String {
    let asked = timeout(SECOND, answers.message()).await.expect("at once").unwrap().expect("a command");
    let Some(Command::ReconnectEndpointsCommand(reconnect)) = asked.command else { panic!("{asked:?}") };
    reconnect.nonce
}

async fn ends_well(answers: &mut Answers) -> bool {
    timeout(SECOND, answers.message()).await.expect("at once").unwrap().is_none()
}

#[tokio::test(start_paused = true)]
async fn a_client_is_asked_to_connect_again_and_then_its_stream_ends() {
    let mut world = world().await;
    let (_commands, mut answers) = open(&mut world, "c", producer()).await;
    let (_others, mut other) = open(&mut world, "d", producer()).await;
    world.departure.advance(Stage::Announced);
    assert_ne!(asked_to_reconnect(&mut answers).await, asked_to_reconnect(&mut other).await);
    assert!(timeout(SECOND, answers.message()).await.is_err(), "the GOAWAY comes first");
    world.departure.advance(Stage::Left);
    assert!(ends_well(&mut answers).await && ends_well(&mut other).await);
}

#[tokio::test(start_paused = true)]
async fn a_client_is_asked_once_in_half_a_minute() {
    let mut world = world().await;
    let (_commands, mut answers) = open(&mut world, "c", producer()).await;
    let (_more, mut second) = open(&mut world, "c", producer()).await;
    world.departure.advance(Stage::Announced);
    let asked = tokio::select! {
        first = asked_to_reconnect(&mut answers) => first,
        second = asked_to_reconnect(&mut second) => second,
    };
    assert!(!asked.is_empty());
    world.departure.advance(Stage::Left);
    assert!(ends_well(&mut answers).await && ends_well(&mut second).await);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_comes_late_is_answered_before_it_ends() {
    let mut world = world().await;
    world.departure.advance(Stage::Ends);
    let (_commands, mut answers) = open(&mut world, "c", producer()).await;
    assert!(ends_well(&mut answers).await);
    let (_silent, mut answers) = connect(&mut world, |_| {}).await;
    assert!(timeout(SECOND * 2, answers.message()).await.expect("one second of patience").unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn an_old_connection_still_receives() {
    let mut world = world().await;
    world.route("orders").await;
    let mut polls = JoinSet::new();
    parked(&world, &mut polls, "c", receive("orders", "workers"));
    settle().await;
    world.departure.advance(Stage::Left);
    assert!(timeout(SECOND, polls.join_next()).await.is_err(), "it waits on");
    world.send(vec![message("orders", "id", "x")]).await;
    assert_eq!(timeout(SECOND, polls.join_next()).await.expect("woken").unwrap().unwrap(), Ok(1));
    world.send(vec![message("orders", "id", "x")]).await;
    assert_eq!(world.take("orders", "workers").await.len(), 1, "and one more may begin");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_proxy_ends_long_polls_now_and_lets_none_begin() {
    let mut world = world().await;
    world.route("orders").await;
    let mut polls = JoinSet::new();
    parked(&world, &mut polls, "c", receive("orders", "workers"));
    settle().await;
    world.departure.advance(Stage::Ends);
    let ended = timeout(SECOND, polls.join_next()).await.expect("ended at once");
    assert_eq!(ended.unwrap().unwrap(), Err(i32::from(Code::MessageNotFound)));
    let pops = world.store.told().pops;
    assert!(timeout(SECOND, world.take("orders", "workers")).await.expect("at once").is_empty());
    assert_eq!(world.store.told().pops, pops);
    let answer = world.send(vec![message("orders", "id", "x")]).await;
    assert_eq!(answer.status.unwrap().code, i32::from(Code::Ok), "other calls go on");
}

#[tokio::test(start_paused = true)]
async fn who_was_sent_away_is_not_lost() {
    let mut world = world().await;
    drop(open(&mut world, "c", producer()).await);
    world.proxy.connection_closed(ClosedConnection { id: CONNECTION, sent_away: true });
    tokio::time::sleep(Duration::from_secs(60)).await;
    let told = world.store.told();
    assert_eq!((told.heard, told.lost), (vec!["c".to_owned()], vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_drained_proxy_tells_whom_it_heard() {
    let mut world = world().await;
    drop(open(&mut world, "c", producer()).await);
    world.proxy.drain();
    assert_eq!(world.store.told().heard, ["c"]);
}

/// A listener for the proxy of a world, whose connections grow as old as this.
async fn listen(world: &World, age: AgeSettings, stop: CancellationToken) -> (String, JoinSet<usize>) {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", tcp.local_addr().unwrap());
    let grace = Duration::from_secs(20);
    let drain = DrainSettings { lame_duck: Duration::ZERO, spread: Duration::from_millis(50), grace };
    let settings = ListenSettings { age, drain, ..ListenSettings::default() };
    let services = tonic::service::Routes::new(world.proxy.service()).prepare();
    let tls = Tls::open(&TlsSettings::default()).await.unwrap();
    let metrics = ListenMetrics::new(&world.meter());
    let watched = world.proxy.clone();
    let listener = Listener::new(tcp, services, settings, tls, metrics)
        .on_closed(Arc::new(move |connection| watched.connection_closed(connection)));
    let mut run = JoinSet::new();
    run.spawn(async move { listener.run(stop).await.cut });
    (address, run)
}

/// All of it over a real connection, in real time: an old one is left, and nothing fails.
#[tokio::test]
async fn a_client_moves_without_a_failed_call() {
    let (mut world, stop) = (world().await, CancellationToken::new());
    world.route("orders").await;
    let age = AgeSettings { max: Duration::from_millis(800), ..AgeSettings::default() };
    let (address, mut run) = listen(&world, age, stop.clone()).await;
    world.client = MessagingServiceClient::connect(address.clone()).await.unwrap();
    let (_commands, mut answers) = open(&mut world, "c", producer()).await;
    let mut polls = JoinSet::new();
    let ask = v2::ReceiveMessageRequest {
        long_polling_timeout: Some(prost_types::Duration { seconds: 20, nanos: 0 }),
        ..receive("orders", "workers")
    };
    parked(&world, &mut polls, "c", ask.clone());

    timeout(SOON, asked_to_reconnect(&mut answers)).await.expect("it grows old");
    assert!(timeout(SOON, answers.message()).await.expect("and leaves").unwrap().is_none());
    // As the libraries of most SDKs do; that of this test (tonic) would fail its next call on the old connection.
    world.client = MessagingServiceClient::connect(address).await.unwrap();
    let (_commands, mut answers) = open(&mut world, "c", producer()).await;
    world.send(vec![message("orders", "id", "x")]).await;
    let polled = timeout(SOON, polls.join_next()).await.expect("the poll was not cut").unwrap();
    assert_eq!(polled.unwrap(), Ok(1));

    parked(&world, &mut polls, "c", ask);
    stop.cancel();
    let ended = timeout(SOON, polls.join_next()).await.expect("ended by the drain").unwrap();
    assert_eq!(ended.unwrap(), Err(i32::from(Code::MessageNotFound)));
    while timeout(SOON, answers.message()).await.expect("the stream ends").unwrap().is_some() {}
    assert_eq!(timeout(SOON, run.join_next()).await.expect("the port closes").unwrap().unwrap(), 0, "cut");
    let scrape = world.scrape();
    for line in [
        r#"rocketmq_proxy_connections_closed_total{reason="age"} 1"#,
        r#"rocketmq_proxy_connections_closed_total{reason="drain"} 1"#,
        "rocketmq_proxy_drain_state 2",
    ] {
        assert!(scrape.lines().any(|found| found == line), "no {line} in\n{scrape}");
    }
}

/// The library of the Rust SDK needs its old connection closed before it makes another call.
#[tokio::test]
async fn a_client_that_takes_no_notice_of_goaway_moves_too() {
    let (mut world, stop) = (world().await, CancellationToken::new());
    world.route("orders").await;
    let age = AgeSettings { max: Duration::from_millis(800), ..AgeSettings::default() };
    let (address, _run) = listen(&world, age, stop).await;
    world.client = MessagingServiceClient::connect(address).await.unwrap();
    let mut request = from("c", receive("orders", "workers"));
    request.metadata_mut().insert("x-mq-language", "RUST".parse().unwrap());
    let mut poll = world.client.receive_message(request).await.unwrap().into_inner();
    let first = timeout(SOON, poll.message()).await.expect("its connection grows old").unwrap().expect("a status");
    let Some(v2::receive_message_response::Content::Status(status)) = first.content else { panic!("{first:?}") };
    assert_eq!(status.code, i32::from(Code::MessageNotFound));
    while timeout(SOON, poll.message()).await.expect("it ends").unwrap().is_some() {}
    while !world.scrape().contains(r#"rocketmq_proxy_connections_closed_total{reason="age"} 1"#) {
        tokio::task::yield_now().await;
    }
    let answer = world.send(vec![message("orders", "id", "x")]).await;
    assert_eq!(answer.status.unwrap().code, i32::from(Code::Ok));
}
