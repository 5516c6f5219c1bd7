//! Receives that wait, and batches that do not arrive.

use std::time::Duration;

use apogee_proto::v2::receive_message_response::Content;
use apogee_proto::v2::{self, Code};
use apogee_proxy::{ProxySettings, ReadinessLimits};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::support::{World, from, message, receive, world, world_with};

/// Starts a receive of `client` that reads its whole answer: messages, or the code.
pub(crate) fn parked(
    world: &World,
    polls: &mut JoinSet<Result<usize, i32>>,
    client: &str,
    ask: v2::ReceiveMessageRequest,
) {
    let (mut grpc, request) = (world.client.clone(), from(client, ask));
    polls.spawn(async move {
        let mut stream = grpc.receive_message(request).await.unwrap().into_inner();
        let (mut messages, mut code) = (0, 0);
        while let Some(part) = stream.message().await.unwrap() {
            match part.content.unwrap() {
                Content::Status(status) => code = status.code,
                Content::Message(_) => messages += 1,
                Content::DeliveryTimestamp(_) => {}
            }
        }
        if code == i32::from(Code::Ok) { Ok(messages) } else { Err(code) }
    });
}

/// Lets everything run that can, without moving the clock.
pub(crate) async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_an_answer_when_the_poll_ends() {
    let mut world = world().await;
    world.route("orders").await;
    let started = Instant::now();
    let parts = world.receive(receive("orders", "workers")).await;
    let [Content::Status(status), Content::DeliveryTimestamp(_)] = &parts[..] else { panic!("{parts:?}") };
    assert_eq!(status.code, i32::from(Code::MessageNotFound));
    let waited = started.elapsed();
    assert!(waited >= Duration::from_secs(5) && waited < Duration::from_millis(5100), "{waited:?}");
    assert_eq!(world.store.told().pops, 1, "a parked receive does not ask again and again");
}

#[tokio::test(start_paused = true)]
async fn a_topic_deleted_under_a_poll_is_told() {
    let mut world = world().await;
    world.route("orders").await;
    let mut polls = JoinSet::new();
    parked(&world, &mut polls, "c", receive("orders", "workers"));
    settle().await;
    tokio::time::advance(Duration::from_secs(1)).await;
    settle().await;
    assert_eq!(world.store.told().pops, 1);
    world.routes.forget_topic("orders");
    assert_eq!(polls.join_next().await.unwrap().unwrap(), Err(i32::from(Code::TopicNotFound)));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_cannot_be_read_is_neither_confirmed_nor_given_back() {
    let mut world = world().await;
    world.route("orders").await;
    world.send(["a", "b"].map(|id| message("orders", id, "x")).to_vec()).await;
    world.store.spoil_first();
    let mut ask = receive("orders", "workers");
    ask.auto_renew = true;
    let parts = world.receive(ask).await;
    let [Content::Status(_), Content::Message(good), Content::DeliveryTimestamp(_)] = &parts[..] else {
        panic!("{parts:?}")
    };
    assert_eq!(good.system_properties.as_ref().unwrap().message_id, "b");
    settle().await;
    let told = world.store.told();
    assert_eq!((told.confirmed, told.released), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_answer_is_there_before_the_client_gives_up() {
    let mut world = world().await;
    let mut ask = receive("orders", "workers");
    ask.long_polling_timeout = None;
    let mut request = from("c", ask);
    request.set_timeout(Duration::from_secs(6));
    let started = Instant::now();
    let mut stream = world.client.receive_message(request).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
    assert!(started.elapsed() <= Duration::from_millis(5900), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_arrival_wakes_the_first_in_line_and_nobody_else() {
    let mut world = world().await;
    world.route("orders").await;
    let mut polls = JoinSet::new();
    for client in ["first", "second", "third"] {
        parked(&world, &mut polls, client, receive("orders", "workers"));
        settle().await;
    }
    assert_eq!(world.store.told().pops, 1, "the others come a moment later, and nothing was told since");
    world.send(vec![message("orders", "id", "x")]).await;
    let woken = timeout(Duration::from_secs(1), polls.join_next()).await.expect("woken at once");
    assert_eq!(woken.unwrap().unwrap(), Ok(1));
    assert_eq!(world.store.told().pops, 2);
    while let Some(ended) = polls.join_next().await {
        assert_eq!(ended.unwrap(), Err(i32::from(Code::MessageNotFound)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_wake_whose_receive_was_cancelled_goes_to_the_next() {
    let mut world = world().await;
    world.route("orders").await;
    let (mut first, mut second) = (JoinSet::new(), JoinSet::new());
    parked(&world, &mut first, "first", receive("orders", "workers"));
    settle().await;
    parked(&world, &mut second, "second", receive("orders", "workers"));
    settle().await;
    first.shutdown().await;
    world.send(vec![message("orders", "id", "x")]).await;
    let woken = timeout(Duration::from_secs(1), second.join_next()).await.expect("woken at once");
    assert_eq!(woken.unwrap().unwrap(), Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_was_not_read_to_its_end_goes_back() {
    let mut world = world().await;
    world.route("orders").await;
    let body = "x".repeat(1024 * 1024);
    for id in ["a", "b", "c"] {
        world.send(vec![message("orders", id, &body)]).await;
    }
    let mut ask = receive("orders", "workers");
    ask.auto_renew = true;
    let mut stream = world.client.receive_message(from("c", ask.clone())).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
    drop(stream);
    settle().await;
    let told = world.store.told();
    assert_eq!((told.released, told.confirmed), (3, 0));

    assert_eq!(world.receive(ask).await.len(), 5);
    let told = world.store.told();
    assert_eq!((told.released, told.confirmed), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn a_lease_of_the_clients_own_length_is_not_confirmed() {
    let mut world = world().await;
    world.route("orders").await;
    world.send(vec![message("orders", "id", "x")]).await;
    assert_eq!(world.take("orders", "workers").await.len(), 1);
    let told = world.store.told();
    assert_eq!((told.released, told.confirmed), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn too_many_waiting_receives_are_refused() {
    let readiness = ReadinessLimits { waiting_per_line_max: 1, ..ReadinessLimits::default() };
    let world = world_with(ProxySettings { readiness, ..ProxySettings::default() }).await;
    let mut polls = JoinSet::new();
    parked(&world, &mut polls, "first", receive("orders", "workers"));
    settle().await;
    parked(&world, &mut polls, "second", receive("orders", "workers"));
    let refused = timeout(Duration::from_secs(1), polls.join_next()).await.expect("refused at once");
    assert_eq!(refused.unwrap().unwrap(), Err(i32::from(Code::TooManyRequests)));
}
