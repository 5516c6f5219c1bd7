//! What a request gets that has no room: an answer at once, on a connection that lives on. There is only one here.

use apogee_proto::v2::receive_message_response::Content;
use apogee_proto::v2::{self, Code};
use apogee_proxy::{AdmissionLimits, ProxySettings};

use crate::settings::{command, open, producer};
use crate::support::{World, message, receive, sdk, status, world_with};

const LIMIT: usize = 64 * 1024;

/// A world with topic `orders` and little room.
async fn small_world() -> World {
    let admission = AdmissionLimits { connection_bytes_max: LIMIT, ..AdmissionLimits::default() };
    let mut world = world_with(ProxySettings { admission, ..ProxySettings::default() }).await;
    world.route("orders").await;
    world
}

#[track_caller]
fn check(found: (i32, String)) {
    let words = format!("bytes of requests in progress on this connection: at most {LIMIT}, try again later");
    assert_eq!(found, (i32::from(Code::TooManyRequests), words));
}

#[tokio::test(start_paused = true)]
async fn the_next_send_of_the_connection_works() {
    let mut world = small_world().await;
    let (large, small) = ("x".repeat(1 << 20), "x".repeat(LIMIT / 2));
    for round in 1..=3 {
        check(status(world.send(vec![message("orders", "large", &large)]).await.status));
        for _ in 0..4 {
            let sent = world.send(vec![message("orders", "small", &small)]).await;
            assert_eq!(status(sent.status).0, i32::from(Code::Ok));
        }
        assert_eq!(world.store.told().queues.len(), 4 * round, "the large ones never came to the store");
    }
    let scrape = world.scrape();
    for line in [
        r#"rocketmq_proxy_rejected_total{reason="overload"} 3"#,
        r#"rocketmq_proxy_requests_total{code="42900",method="SendMessage"} 3"#,
        r#"rocketmq_proxy_inflight_requests{method="SendMessage"} 0"#,
    ] {
        assert!(scrape.lines().any(|found| found == line), "no {line} in\n{scrape}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_lives_on_after_many_refusals_at_once() {
    let mut world = small_world().await;
    let large = "x".repeat(1 << 20);
    let send = |_| {
        let mut client = world.client.clone();
        let messages = vec![message("orders", "large", &large)];
        async move { client.send_message(sdk(v2::SendMessageRequest { messages })).await }
    };
    for answer in futures::future::join_all((0..128).map(send)).await {
        check(status(answer.unwrap().into_inner().status));
    }
    let sent = world.send(vec![message("orders", "small", "x")]).await;
    assert_eq!(status(sent.status).0, i32::from(Code::Ok));
}

#[tokio::test(start_paused = true)]
async fn a_receive_is_told_in_its_first_part() {
    let mut world = small_world().await;
    let large = v2::ReceiveMessageRequest { attempt_id: Some("x".repeat(LIMIT)), ..receive("orders", "workers") };
    let parts = world.receive(large).await;
    let [Content::Status(only)] = &parts[..] else { panic!("{parts:?}") };
    check((only.code, only.message.clone()));
}

#[tokio::test(start_paused = true)]
async fn a_telemetry_stream_holds_one_command_at_a_time() {
    let mut world = small_world().await;
    let (commands, mut answers) = open(&mut world, "client-1", producer()).await;
    let named = |bytes| {
        let user_agent = Some(v2::Ua { hostname: "h".repeat(bytes), ..Default::default() });
        command(v2::Settings { user_agent, ..producer() })
    };
    for _ in 0..4 {
        commands.send(named(LIMIT / 2)).await.unwrap();
        assert_eq!(status(answers.message().await.unwrap().unwrap().status).0, i32::from(Code::Ok));
    }
    let sent = world.send(vec![message("orders", "small", &"x".repeat(LIMIT / 2))]).await;
    assert_eq!(status(sent.status).0, i32::from(Code::Ok), "the open stream holds nothing");
    commands.send(named(LIMIT)).await.unwrap();
    check(status(answers.message().await.unwrap().unwrap().status));
    assert_eq!(answers.message().await.unwrap(), None, "the stream ends well");
    assert_eq!(status(world.route("orders").await.status).0, i32::from(Code::Ok));
}
