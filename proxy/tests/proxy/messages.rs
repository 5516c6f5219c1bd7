//! The main road: route, send, receive, ack.

use apogee_model::store::LeaseTerms;
use apogee_proto::v2::receive_message_response::Content;
use apogee_proto::v2::{self, Code};

use crate::support::{endpoints, message, receive, resource, sdk, status, world};

#[tokio::test(start_paused = true)]
async fn a_route_names_one_broker_the_way_the_client_reached_it() {
    let mut world = world().await;
    let route = world.route("orders").await;
    assert_eq!(status(route.status).0, i32::from(Code::Ok));
    assert_eq!(route.message_queues.iter().map(|queue| queue.id).collect::<Vec<_>>(), (0..8).collect::<Vec<_>>());
    for queue in &route.message_queues {
        let broker = queue.broker.as_ref().unwrap();
        assert_eq!((&*broker.name, broker.id, &broker.endpoints), ("testing", 0, &endpoints()));
        assert_eq!((&queue.topic, queue.permission()), (&resource("orders"), v2::Permission::ReadWrite));
        let accepts: Vec<_> = queue.accept_message_types().map(|accepted| accepted.as_str_name()).collect();
        assert_eq!(accepts, ["NORMAL", "FIFO", "DELAY", "TRANSACTION"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_arrives_whole_and_its_ack_is_idempotent() {
    let mut world = world().await;
    world.route("orders").await;
    let mut sent = message("orders", "01AB", "hello");
    sent.user_properties.insert("colour".into(), "red".into());
    let properties = sent.system_properties.as_mut().unwrap();
    (properties.tag, properties.keys) = (Some("tag".into()), vec!["k1".into(), "k2".into()]);
    properties.trace_context = Some("trace".into());
    properties.born_host = "producer".into();
    properties.queue_id = 3;
    let answer = world.send(vec![sent]).await;
    assert_eq!(status(answer.status).0, i32::from(Code::Ok));
    let entry = &answer.entries[0];
    assert_eq!((&*entry.message_id, &*entry.transaction_id, entry.offset), ("01AB", "01AB", 0));

    let parts = world.receive(receive("orders", "workers")).await;
    let [Content::Status(first), Content::Message(got), Content::DeliveryTimestamp(_)] = &parts[..] else {
        panic!("status, message, time of delivery; not {parts:?}");
    };
    assert_eq!(first.code, i32::from(Code::Ok));
    assert_eq!((&got.topic, &got.body[..]), (&resource("orders"), &b"hello"[..]));
    assert_eq!(got.user_properties["colour"], "red");
    let properties = got.system_properties.as_ref().unwrap();
    assert_eq!((properties.tag(), &properties.keys[..]), ("tag", &["k1".to_owned(), "k2".to_owned()][..]));
    assert_eq!(
        (&*properties.message_id, properties.trace_context(), &*properties.born_host),
        ("01AB", "trace", "producer")
    );
    assert_eq!(properties.body_digest.as_ref().unwrap().checksum, "5D41402ABC4B2A76B9719D911017C592");
    assert_eq!(
        (properties.body_encoding(), properties.message_type()),
        (v2::Encoding::Identity, v2::MessageType::Normal)
    );
    assert!(properties.born_timestamp.is_some());
    assert_eq!(
        properties.store_timestamp.unwrap(),
        prost_types::Timestamp { seconds: 1_700_000_000, nanos: 500_000_000 }
    );
    assert!(!properties.store_host.is_empty());
    assert_eq!((properties.queue_id, properties.queue_offset(), properties.delivery_attempt()), (3, 0, 1));
    assert_eq!(properties.invisible_duration.unwrap().seconds, 30);

    let handle = properties.receipt_handle();
    for _ in 0..2 {
        let acked = world.ack("orders", "workers", &[handle]).await;
        assert_eq!(status(acked.status).0, i32::from(Code::Ok));
        assert_eq!((&*acked.entries[0].message_id, &*acked.entries[0].receipt_handle), ("id-0", handle));
    }
    assert_eq!(world.store.told().queues, [3]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_has_one_entry_per_message_in_one_queue() {
    let mut world = world().await;
    world.route("orders").await;
    let messages = ["a", "b", "c"].map(|id| message("orders", id, id)).to_vec();
    let answer = world.send(messages).await;
    let entries: Vec<_> = answer.entries.iter().map(|entry| (&*entry.message_id, entry.offset)).collect();
    assert_eq!(entries, [("a", 0), ("b", 1), ("c", 2)]);
    assert!(answer.entries.iter().all(|entry| entry.status.as_ref().unwrap().code == i32::from(Code::Ok)));
}

#[tokio::test(start_paused = true)]
async fn queues_take_turns_and_hints_are_kept_in_range() {
    let mut world = world().await;
    world.route("orders").await;
    for hint in [0, 0, 5, 13, -4, 0] {
        let mut hinted = message("orders", "id", "x");
        hinted.system_properties.as_mut().unwrap().queue_id = hint;
        world.send(vec![hinted]).await;
    }
    assert_eq!(world.store.told().queues, [0, 1, 5, 5, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_full_body_passes() {
    let mut world = world().await;
    world.route("orders").await;
    let body = "x".repeat(4 * 1024 * 1024);
    assert_eq!(status(world.send(vec![message("orders", "id", &body)]).await.status).0, i32::from(Code::Ok));
    let got = world.take("orders", "workers").await;
    assert_eq!(got[0].body, body.as_bytes());
}

#[tokio::test(start_paused = true)]
async fn the_store_filters_by_tag_and_hears_what_was_asked() {
    let mut world = world().await;
    world.route("orders").await;
    for tag in ["red", "green", "blue"] {
        let mut tagged = message("orders", tag, tag);
        tagged.system_properties.as_mut().unwrap().tag = Some(tag.into());
        world.send(vec![tagged]).await;
    }
    let mut ask = receive("orders", "workers");
    ask.filter_expression = Some(v2::FilterExpression { r#type: 1, expression: "red || blue".into() });
    (ask.batch_size, ask.attempt_id) = (99, Some("attempt".into()));
    let parts = world.receive(ask).await;
    assert_eq!(parts.len(), 4);
    let told = world.store.told();
    assert_eq!((told.batches, told.attempt_ids), (vec![32], vec![Some("attempt".to_owned())]));
    assert!(matches!(told.leases[0], LeaseTerms::Fixed(lease) if lease.as_millis() == 30_000));
}

#[tokio::test(start_paused = true)]
async fn the_store_filters_by_properties() {
    let mut world = world().await;
    world.route("orders").await;
    for (size, color) in [("5", "red"), ("50", "red"), ("50", "blue"), ("large", "red")] {
        let mut message = message("orders", &format!("{size}{color}"), &format!("{size} {color}"));
        message.user_properties = [("size".to_owned(), size.to_owned()), ("color".to_owned(), color.to_owned())].into();
        world.send(vec![message]).await;
    }
    let mut ask = receive("orders", "workers");
    let expression = "size > 10 AND color IN ('red', 'green') OR UNIQ_KEY = 'largered'".to_owned();
    (ask.filter_expression, ask.batch_size) = (Some(v2::FilterExpression { r#type: 2, expression }), 32);
    let parts = world.receive(ask).await;
    let bodies = parts.into_iter().filter_map(|part| match part {
        v2::receive_message_response::Content::Message(message) => Some(message.body),
        _ => None,
    });
    assert_eq!(bodies.collect::<Vec<_>>(), ["50 red", "large red"]);
}

#[tokio::test(start_paused = true)]
async fn the_handle_survives_a_change_of_its_invisible_duration() {
    let mut world = world().await;
    world.route("orders").await;
    world.send(vec![message("orders", "id", "x")]).await;
    let got = world.take("orders", "workers").await;
    let handle = got[0].system_properties.as_ref().unwrap().receipt_handle().to_owned();
    let change = v2::ChangeInvisibleDurationRequest {
        group: resource("workers"),
        topic: resource("orders"),
        receipt_handle: handle.clone(),
        invisible_duration: Some(prost_types::Duration { seconds: 1, nanos: 500_999_999 }),
        ..Default::default()
    };
    let changed = world.client.change_invisible_duration(sdk(change)).await.unwrap().into_inner();
    assert_eq!((status(changed.status).0, changed.receipt_handle), (i32::from(Code::Ok), handle.clone()));
    assert_eq!(world.store.told().changes, [std::time::Duration::from_millis(1500)]);
    assert_eq!(status(world.ack("orders", "workers", &[&handle]).await.status).0, i32::from(Code::Ok));
}

#[tokio::test(start_paused = true)]
async fn assignments_are_one_for_all_or_one_per_queue() {
    let mut world = world().await;
    world.routes.group("ordered", apogee_model::DeliveryOrder::Fifo, 17);
    for (group, expected) in [("workers", vec![-1]), ("ordered", (0..8).collect())] {
        let query =
            v2::QueryAssignmentRequest { topic: resource("orders"), group: resource(group), endpoints: endpoints() };
        let assigned = world.client.query_assignment(sdk(query)).await.unwrap().into_inner();
        assert_eq!(status(assigned.status).0, i32::from(Code::Ok));
        let queues: Vec<_> = assigned.assignments.into_iter().map(|one| one.message_queue.unwrap()).collect();
        assert_eq!(queues.iter().map(|queue| queue.id).collect::<Vec<_>>(), expected);
        assert_eq!(queues[0].broker.as_ref().unwrap().endpoints, endpoints());
    }
}
