//! Message groups: the proxy chooses their queue, and tells the store what order a group wants.

use apogee_model::store::StoreError;
use apogee_model::{DeliveryOrder, Permission, TopicType, message_group_queue};
use apogee_proto::v2::{self, Code};

use crate::support::{World, message, status, world};

fn in_group(topic: &str, group: &str, queue_id: i32) -> v2::Message {
    let mut one = message(topic, "id", "x");
    let properties = one.system_properties.as_mut().unwrap();
    properties.queue_id = queue_id;
    if !group.is_empty() {
        properties.message_group = Some(group.to_owned());
    }
    one
}

async fn fifo_world() -> World {
    let world = world().await;
    world.routes.topic("fifo", TopicType::Fifo, Permission::ReadWrite);
    world.routes.group("ordered", DeliveryOrder::Fifo, 17);
    world
}

#[tokio::test(start_paused = true)]
async fn a_message_group_has_one_queue_whatever_the_client_says() {
    let mut world = fifo_world().await;
    for (group, queue_id) in [("a", 0), ("a", 3), ("b", 2), ("b", 0), ("c", 1)] {
        let sent = world.send(vec![in_group("fifo", group, queue_id); 2]).await;
        assert_eq!(status(sent.status).0, i32::from(Code::Ok));
    }
    let queues: Vec<_> = ["a", "a", "b", "b", "c"].iter().map(|group| message_group_queue(group, 4).0).collect();
    let twice: Vec<_> = queues.into_iter().flat_map(|queue| [queue, queue]).collect();
    assert_eq!(world.store.told().queues, twice);
}

#[tokio::test(start_paused = true)]
async fn one_request_has_one_message_group() {
    let mut world = fifo_world().await;
    let sent = world.send(vec![in_group("fifo", "a", 0), in_group("fifo", "b", 0)]).await;
    let (code, words) = status(sent.status);
    assert_eq!(code, i32::from(Code::IllegalMessageGroup));
    assert!(words.contains("message 1 is of another message group than message 0"), "{words}");
    assert_eq!(world.store.told().queues, [0; 0], "nothing was stored");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_holds_back_its_message_group_only() {
    let mut world = fifo_world().await;
    world.store.fail(Some(StoreError::LeaderLost));
    let lost = world.send(vec![in_group("fifo", "a", 0)]).await;
    assert_eq!(status(lost.status).0, i32::from(Code::InternalServerError));
    world.store.fail(None);
    let next = world.send(vec![in_group("fifo", "a", 0)]).await;
    assert_eq!(status(next.status).0, i32::from(Code::Ok));
    assert_eq!(world.store.told().queues.len(), 2, "the first one was sent again, and then the next");
}

#[tokio::test(start_paused = true)]
async fn the_store_hears_what_order_a_group_wants() {
    let mut world = fifo_world().await;
    world.send(vec![in_group("fifo", "a", 0)]).await;
    assert_eq!(world.take("fifo", "ordered").await.len(), 1);
    assert_eq!(world.take("fifo", "workers").await.len(), 1);
    assert_eq!(world.take("fifo", "workers").await.len(), 0);
    assert_eq!(world.store.told().orders[..2], [DeliveryOrder::Fifo, DeliveryOrder::Concurrent]);
    let scrape = world.scrape();
    assert!(scrape.contains("rocketmq_proxy_unordered_fifo_subscriptions 1\n"), "{scrape}");
}
