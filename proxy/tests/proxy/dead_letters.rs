//! Messages that consumers give up, and what the store hears about those that were delivered often enough.

use apogee_model::DeliveryOrder;
use apogee_proto::v2::{self, Code};

use crate::support::*;

async fn forward(world: &mut World, topic: &str, group: &str, handle: &str) -> (i32, String) {
    let request = v2::ForwardMessageToDeadLetterQueueRequest {
        group: resource(group),
        topic: resource(topic),
        receipt_handle: handle.to_owned(),
        message_id: "id".to_owned(),
        delivery_attempt: 1,
        max_delivery_attempts: 99,
        lite_topic: None,
    };
    status(world.client.forward_message_to_dead_letter_queue(sdk(request)).await.unwrap().into_inner().status)
}

#[tokio::test(start_paused = true)]
async fn a_consumer_gives_up_by_its_receipt_handle() {
    let mut world = world().await;
    world.routes.group("workers", DeliveryOrder::Concurrent, 3);
    world.route("orders").await;
    world.send(vec![message("orders", "id", "x")]).await;
    let got = world.take("orders", "workers").await;
    let handle = got[0].system_properties.as_ref().unwrap().receipt_handle().to_owned();
    let place = (3, "%DLQ%workers".to_owned(), 0);
    assert_eq!(world.store.told().popped_until, Some(place.clone()));
    for _ in 0..2 {
        assert_eq!(forward(&mut world, "orders", "workers", &handle).await.0, i32::from(Code::Ok));
    }
    assert_eq!(world.store.told().buried, [place.clone(), place]);
    assert_eq!(status(world.ack("orders", "workers", &[&handle]).await.status).0, i32::from(Code::Ok));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_held_cannot_be_given_up() {
    let mut world = world().await;
    world.routes.group("other", DeliveryOrder::Concurrent, 3);
    world.route("orders").await;
    world.send(vec![message("orders", "id", "x")]).await;
    let got = world.take("orders", "workers").await;
    let handle = got[0].system_properties.as_ref().unwrap().receipt_handle().to_owned();
    for (topic, group, handle, expected) in [
        ("a b", "workers", &*handle, Code::IllegalTopic),
        ("orders", "a b", &*handle, Code::IllegalConsumerGroup),
        ("orders", "workers", "rubbish", Code::InvalidReceiptHandle),
        ("orders", "other", &*handle, Code::InvalidReceiptHandle),
        ("orders", "nobody", &*handle, Code::InvalidReceiptHandle),
    ] {
        let (code, told) = forward(&mut world, topic, group, handle).await;
        assert_eq!(code, i32::from(expected), "{topic} {group}: {told}");
    }
    world.store.replace_all();
    assert_eq!(forward(&mut world, "orders", "workers", &handle).await.0, i32::from(Code::InvalidReceiptHandle));
    assert_eq!(world.store.told().buried.len(), 1, "the store decides about a handle of ours");
}

/// What a group reads among its own dead letters stays there, however often it fails.
#[tokio::test(start_paused = true)]
async fn a_dead_letter_does_not_die_again() {
    let mut world = world().await;
    world.routes.group("workers", DeliveryOrder::Concurrent, 3);
    world.routes.group("readers", DeliveryOrder::Concurrent, 3);
    world.route("%DLQ%workers").await;
    world.send(vec![message("%DLQ%workers", "id", "x")]).await;
    let got = world.take("%DLQ%workers", "workers").await;
    assert_eq!(world.store.told().popped_until, None);
    let handle = got[0].system_properties.as_ref().unwrap().receipt_handle().to_owned();
    assert_eq!(forward(&mut world, "%DLQ%workers", "workers", &handle).await.0, i32::from(Code::Ok));
    assert!(world.store.told().buried.is_empty());
    world.take("%DLQ%workers", "readers").await;
    assert_eq!(world.store.told().popped_until, Some((3, "%DLQ%readers".to_owned(), 0)));
}

/// The store gets the rests of the group with a rest that is shorter than all of them.
#[tokio::test(start_paused = true)]
async fn rests_that_are_too_short_come_with_those_of_the_group() {
    let mut world = world().await;
    world.route("orders").await;
    world.send(vec![message("orders", "id", "x")]).await;
    let got = world.take("orders", "workers").await;
    let handle = got[0].system_properties.as_ref().unwrap().receipt_handle().to_owned();
    for millis in [0, 999, 1000] {
        let change = v2::ChangeInvisibleDurationRequest {
            group: resource("workers"),
            topic: resource("orders"),
            receipt_handle: handle.clone(),
            invisible_duration: Some(prost_types::Duration {
                seconds: millis / 1000,
                nanos: i32::try_from(millis % 1000).unwrap() * 1_000_000,
            }),
            ..Default::default()
        };
        let changed = world.client.change_invisible_duration(sdk(change)).await.unwrap().into_inner();
        assert_eq!(status(changed.status).0, i32::from(Code::Ok));
    }
    let told = world.store.told();
    assert_eq!((told.changes.len(), told.rests.len()), (3, 2));
    assert_eq!((told.rests[0].len(), &told.rests[0][..3]), (18, &[1000, 5000, 10_000][..]));
}
