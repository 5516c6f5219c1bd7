//! Who lives: heartbeats, farewells, and what the leaders are told.

use std::time::Duration;

use apogee_proto::v2::{self, Code};
use apogee_proxy::listen::ClosedConnection;

use crate::settings::{open, producer};
use crate::support::{CONNECTION, World, from, resource, status, world};

async fn beat(world: &mut World, client: &str, client_type: v2::ClientType, group: Option<&str>) -> (i32, String) {
    let request = v2::HeartbeatRequest { group: group.and_then(resource), client_type: client_type.into() };
    status(world.client.heartbeat(from(client, request)).await.unwrap().into_inner().status)
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_of_an_unknown_client_is_welcome() {
    let mut world = world().await;
    use v2::ClientType::{LitePushConsumer, Producer, PullConsumer, PushConsumer, SimpleConsumer, Unspecified};
    for (client_type, group, expected) in [
        (Producer, None, Code::Ok),
        (PushConsumer, Some("workers"), Code::Ok),
        (SimpleConsumer, Some("workers"), Code::Ok),
        (SimpleConsumer, Some("a b"), Code::IllegalConsumerGroup),
        (PushConsumer, None, Code::IllegalConsumerGroup),
        (PullConsumer, Some("workers"), Code::UnrecognizedClientType),
        (LitePushConsumer, Some("workers"), Code::IllegalConsumerGroup),
        (Unspecified, None, Code::UnrecognizedClientType),
    ] {
        let found = beat(&mut world, "c", client_type, group).await;
        assert_eq!(found.0, i32::from(expected), "{client_type:?}: {}", found.1);
        world.client.notify_client_termination(from("c", Default::default())).await.unwrap();
    }
    beat(&mut world, "c", Producer, None).await;
    let known = beat(&mut world, "c", Unspecified, None).await;
    assert_eq!(known.0, i32::from(Code::Ok), "who is known need not say what it is");
}

#[tokio::test(start_paused = true)]
async fn leaders_hear_every_five_seconds_who_was_heard() {
    let mut world = world().await;
    beat(&mut world, "c", v2::ClientType::Producer, None).await;
    tokio::time::sleep(Duration::from_millis(5100)).await;
    assert_eq!(world.store.told().heard, ["c"]);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.store.told().heard, ["c"], "silence is not a sign of life");
    assert_eq!(world.store.told().lost, [""; 0], "and no loss as long as nobody hung up");
}

#[tokio::test(start_paused = true)]
async fn a_client_is_lost_ten_seconds_after_its_last_connection() {
    let mut world = world().await;
    let (commands, stream) = open(&mut world, "c", producer()).await;
    drop((commands, stream));
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(world.store.told().lost, [""; 0], "its connection still lives");
    world.proxy.connection_closed(ClosedConnection { id: CONNECTION, sent_away: false });
    tokio::time::sleep(Duration::from_millis(9900)).await;
    assert_eq!(world.store.told().lost, [""; 0]);
    tokio::time::sleep(Duration::from_millis(5200)).await;
    assert_eq!(world.store.told().lost, ["c"]);
}

#[tokio::test(start_paused = true)]
async fn a_farewell_is_always_fine() {
    let mut world = world().await;
    for (client, group) in [("unknown", None), ("c", resource("a b")), ("c", resource(""))] {
        let farewell = v2::NotifyClientTerminationRequest { group };
        let answer = world.client.notify_client_termination(from(client, farewell)).await.unwrap().into_inner();
        assert_eq!(status(answer.status).0, i32::from(Code::Ok));
    }
    assert_eq!(world.store.told().lost, ["unknown", "c", "c"]);
}

#[tokio::test(start_paused = true)]
async fn closing_tells_the_leaders_what_was_heard_last() {
    let mut world = world().await;
    beat(&mut world, "c", v2::ClientType::Producer, None).await;
    let late = world.tasks.close(Duration::from_secs(1)).await;
    assert!(!late.contains(&"sessions"), "{late:?}");
    assert_eq!(world.store.told().heard, ["c"]);
}
