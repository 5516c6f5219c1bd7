//! Delayed messages, and taking them back.

use apogee_model::{Permission, TopicType};
use apogee_proto::v2::{self, Code};

use crate::support::{World, message, resource, sdk, status, world};

/// When a message is due that the store keeps back; its clock shows 1,700,000,000.5 seconds.
const LATER: i64 = 1_700_000_100;

fn delayed(topic: &str, id: &str, seconds: i64) -> v2::Message {
    let mut message = message(topic, id, "x");
    let properties = message.system_properties.as_mut().unwrap();
    properties.delivery_timestamp = Some(prost_types::Timestamp { seconds, nanos: 0 });
    message
}

async fn recall(world: &mut World, topic: &str, handle: &str) -> (i32, String, String) {
    let ask = v2::RecallMessageRequest { topic: resource(topic), recall_handle: handle.to_owned() };
    let answer = world.client.recall_message(sdk(ask)).await.unwrap().into_inner();
    let (code, words) = status(answer.status);
    (code, words, answer.message_id)
}

#[tokio::test(start_paused = true)]
async fn a_delayed_message_can_be_recalled_by_its_handle_again_and_again() {
    let mut world = world().await;
    world.routes.topic("later", TopicType::Delay, Permission::ReadWrite);
    let sent = world.send(vec![delayed("later", "01AB", LATER), delayed("later", "01AC", 1)]).await;
    assert_eq!(status(sent.status).0, i32::from(Code::Ok));
    let handle = sent.entries[0].recall_handle.clone();
    assert!(!handle.is_empty());
    assert_eq!(sent.entries[1].recall_handle, "", "its time has come: it is a message like any other");
    for _ in 0..2 {
        let (code, _, message_id) = recall(&mut world, "later", &handle).await;
        assert_eq!((code, &*message_id), (i32::from(Code::Ok), "01AB"));
    }
}

#[tokio::test(start_paused = true)]
async fn handles_are_checked_before_anybody_is_asked() {
    let mut world = world().await;
    for (topic, topic_type) in [("later", TopicType::Delay), ("any", TopicType::Mixed), ("now", TopicType::Normal)] {
        world.routes.topic(topic, topic_type, Permission::ReadWrite);
    }
    let sent = world.send(vec![delayed("later", "01AB", LATER)]).await;
    let handle = sent.entries[0].recall_handle.clone();
    let cases = [
        ("a b", &*handle, Code::IllegalTopic, "topic"),
        ("nowhere", &handle, Code::TopicNotFound, "does not exist"),
        ("now", &handle, Code::MessagePropertyConflictWithType, "takes NORMAL messages"),
        ("any", &handle, Code::BadRequest, "not for topic any"),
        ("later", "", Code::BadRequest, "corrupt"),
        ("later", "bm9uc2Vuc2U", Code::BadRequest, "corrupt"),
        ("later", &handle[1..], Code::BadRequest, "corrupt"),
    ];
    for (topic, handle, code, words) in cases {
        let found = recall(&mut world, topic, handle).await;
        assert_eq!((found.0, &*found.2), (i32::from(code), ""), "{topic} {handle}: {}", found.1);
        assert!(found.1.contains(words), "{}", found.1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_whose_time_has_come_is_not_found() {
    let mut world = world().await;
    world.routes.topic("later", TopicType::Delay, Permission::ReadWrite);
    let sent = world.send(vec![delayed("later", "01AB", LATER)]).await;
    world.store.let_all_go();
    let (code, words, _) = recall(&mut world, "later", &sent.entries[0].recall_handle).await;
    assert_eq!(code, i32::from(Code::MessageNotFound));
    assert!(words.contains("01AB") && words.contains("its time has come"), "{words}");
}
