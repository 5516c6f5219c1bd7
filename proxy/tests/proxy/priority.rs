//! PRIORITY messages: their queue is their level, and the store hears how often a group begins at the highest.

use apogee_model::{ConsumerGroup, GroupChanges, Permission, PriorityFactor, TopicType};
use apogee_proto::v2::{self, Code};
use apogee_proxy::Routes as _;

use crate::support::{World, message, status, world};

fn urgent(topic: &str, priority: i32) -> v2::Message {
    let mut one = message(topic, "id", "x");
    one.system_properties.as_mut().unwrap().priority = Some(priority);
    one
}

/// With four levels.
async fn priority_world() -> World {
    let world = world().await;
    world.routes.topic("urgent", TopicType::Priority, Permission::ReadWrite);
    world
}

#[tokio::test(start_paused = true)]
async fn the_queue_of_a_message_is_its_level() {
    let mut world = priority_world().await;
    for (priority, queue_id) in [(0, 3), (1, 0), (2, 1), (3, 0), (4, 1), (i32::MAX, 0)] {
        let mut one = urgent("urgent", priority);
        one.system_properties.as_mut().unwrap().queue_id = queue_id;
        assert_eq!(status(world.send(vec![one]).await.status).0, i32::from(Code::Ok));
    }
    assert_eq!(world.store.told().queues, [0, 1, 2, 3, 3, 3]);
}

#[tokio::test(start_paused = true)]
async fn one_request_has_one_priority() {
    let mut world = priority_world().await;
    let sent = world.send(vec![urgent("urgent", 2), urgent("urgent", 2), urgent("urgent", 1)]).await;
    let words = "message 2 has another priority than message 0; one request has one priority, or none";
    assert_eq!(status(sent.status), (i32::from(Code::BadRequest), words.to_owned()));
    assert_eq!(world.store.told().queues, [0; 0], "nothing was stored");
    let sent = world.send(vec![urgent("urgent", 2), urgent("urgent", 2)]).await;
    assert_eq!((status(sent.status).0, world.store.told().queues), (i32::from(Code::Ok), vec![2, 2]));
}

#[tokio::test(start_paused = true)]
async fn consumers_see_the_priority_of_a_priority_message_only() {
    let mut world = priority_world().await;
    world.routes.topic("any", TopicType::Mixed, Permission::ReadWrite);
    let mut grouped = urgent("any", 5);
    grouped.system_properties.as_mut().unwrap().message_group = Some("g".to_owned());
    for one in [urgent("urgent", 7), urgent("any", 5), grouped] {
        assert_eq!(status(world.send(vec![one]).await.status).0, i32::from(Code::Ok));
    }
    let mut seen = world.take("urgent", "workers").await;
    seen.extend(world.take("any", "workers").await);
    let told = |message: &v2::Message| {
        let properties = message.system_properties.as_ref().unwrap();
        (properties.message_type(), properties.priority)
    };
    let priority = v2::MessageType::Priority;
    let told: Vec<_> = seen.iter().map(told).collect();
    assert_eq!(told, [(priority, Some(7)), (priority, Some(5)), (v2::MessageType::Fifo, None)]);
}

#[tokio::test(start_paused = true)]
async fn the_store_hears_the_factor_of_the_group_for_priority_topics() {
    let mut world = priority_world().await;
    world.take("urgent", "workers").await;
    world.take("orders", "workers").await;
    let (group, factor) = (ConsumerGroup::parse("", "workers").unwrap(), PriorityFactor::new(80).unwrap());
    let changes = GroupChanges { group, max_attempts: None, retry: None, priority_factor: Some(factor) };
    world.routes.alter_group(changes).await.unwrap();
    world.take("urgent", "workers").await;
    assert_eq!(world.store.told().priorities, [Some(100), None, Some(80)]);
}

#[tokio::test(start_paused = true)]
async fn routes_of_priority_topics_take_priority_messages() {
    let mut world = priority_world().await;
    let route = world.route("urgent").await;
    let types: Vec<_> = route.message_queues.iter().map(|queue| queue.accept_message_types.clone()).collect();
    assert_eq!(types, vec![vec![i32::from(v2::MessageType::Priority)]; 4]);
}
