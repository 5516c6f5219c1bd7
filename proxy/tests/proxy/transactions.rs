//! Half messages, how their transactions end, and what producers are asked.

use std::time::Duration;

use apogee_model::store::{Checked, HalfId};
use apogee_model::{Permission, TopicType};
use apogee_proto::v2::settings::PubSub;
use apogee_proto::v2::telemetry_command::Command;
use apogee_proto::v2::{self, Code, TransactionResolution, TransactionSource};
use tokio::time::timeout;

use crate::settings::{Answers, open, producer};
use crate::support::{World, message, resource, sdk, status, world};

const COMMIT: TransactionResolution = TransactionResolution::Commit;
const ROLLBACK: TransactionResolution = TransactionResolution::Rollback;
const UNSPECIFIED: TransactionResolution = TransactionResolution::Unspecified;

fn half(topic: &str, id: &str) -> v2::Message {
    let mut message = message(topic, id, "x");
    message.system_properties.as_mut().unwrap().set_message_type(v2::MessageType::Transaction);
    message
}

/// Sends a half message and returns its transaction id.
async fn begin(world: &mut World, topic: &str, id: &str) -> String {
    let sent = world.send(vec![half(topic, id)]).await;
    assert_eq!(status(sent.status).0, i32::from(Code::Ok));
    sent.entries[0].transaction_id.clone()
}

async fn end(world: &mut World, topic: &str, id: &str, resolution: TransactionResolution) -> (i32, String) {
    let ask = v2::EndTransactionRequest {
        topic: resource(topic),
        message_id: "01AB".into(),
        transaction_id: id.to_owned(),
        resolution: resolution.into(),
        source: TransactionSource::SourceClient.into(),
        trace_context: String::new(),
    };
    status(world.client.end_transaction(sdk(ask)).await.unwrap().into_inner().status)
}

async fn transactional() -> World {
    let world = world().await;
    world.routes.topic("pay", TopicType::Transaction, Permission::ReadWrite);
    world
}

#[tokio::test(start_paused = true)]
async fn a_half_message_is_seen_once_committed_and_never_once_rolled_back() {
    let mut world = transactional().await;
    let (kept, dropped) = (begin(&mut world, "pay", "01AB").await, begin(&mut world, "pay", "01AC").await);
    assert_eq!(world.take("pay", "g").await, []);
    for _ in 0..2 {
        assert_eq!(end(&mut world, "pay", &kept, COMMIT).await.0, i32::from(Code::Ok));
        assert_eq!(end(&mut world, "pay", &dropped, ROLLBACK).await.0, i32::from(Code::Ok));
    }
    let seen = world.take("pay", "g").await;
    let [seen] = &seen[..] else { panic!("{seen:?}") };
    let properties = seen.system_properties.as_ref().unwrap();
    assert_eq!((&*properties.message_id, properties.message_type()), ("01AB", v2::MessageType::Transaction));

    let (code, words) = end(&mut world, "pay", &kept, ROLLBACK).await;
    assert_eq!(code, i32::from(Code::BadRequest));
    assert!(words.contains("01AB was committed before and cannot be rolled back"), "{words}");
    let (code, words) = end(&mut world, "pay", &dropped, COMMIT).await;
    assert_eq!(code, i32::from(Code::BadRequest));
    assert!(words.contains("01AC was rolled back before and cannot be committed"), "{words}");
}

#[tokio::test(start_paused = true)]
async fn ids_are_checked_before_anybody_is_asked() {
    let mut world = transactional().await;
    world.routes.topic("any", TopicType::Mixed, Permission::ReadWrite);
    let id = begin(&mut world, "pay", "01AB").await;
    let ordinary = world.send(vec![message("any", "01AC", "x")]).await.entries[0].transaction_id.clone();
    assert_eq!(ordinary, "01AC", "as upstream, every message has one");
    let cases = [
        ("a b", &*id, Code::IllegalTopic, "topic"),
        ("pay", "", Code::InvalidTransactionId, "blank"),
        ("pay", " \t", Code::InvalidTransactionId, "blank"),
        ("nowhere", &id, Code::TopicNotFound, "does not exist"),
        ("any", &id, Code::InvalidTransactionId, "not for topic any"),
        ("any", &ordinary, Code::InvalidTransactionId, "corrupt"),
        ("pay", "bm9uc2Vuc2U", Code::InvalidTransactionId, "corrupt"),
        ("pay", &id[1..], Code::InvalidTransactionId, "corrupt"),
    ];
    for (topic, id, code, words) in cases {
        for resolution in [COMMIT, UNSPECIFIED] {
            let found = end(&mut world, topic, id, resolution).await;
            assert_eq!(found.0, i32::from(code), "{topic} {id}: {}", found.1);
            assert!(found.1.contains(words), "{}", found.1);
        }
    }
    assert_eq!(end(&mut world, "pay", &id, UNSPECIFIED).await.0, i32::from(Code::Ok));
    assert_eq!(end(&mut world, "pay", &id, ROLLBACK).await.0, i32::from(Code::Ok), "it was not ended");
}

#[tokio::test(start_paused = true)]
async fn a_producer_says_after_which_time_it_is_asked() {
    let mut world = transactional().await;
    for (seconds, nanos) in [(None, 0), (Some(0), 0), (Some(-1), 0), (Some(1), 500_000_000), (Some(3600), 0)] {
        let mut message = half("pay", "01AB");
        let asked = seconds.map(|seconds| prost_types::Duration { seconds, nanos });
        message.system_properties.as_mut().unwrap().orphaned_transaction_recovery_duration = asked;
        assert_eq!(status(world.send(vec![message]).await.status).0, i32::from(Code::Ok));
    }
    assert_eq!(world.store.told().check_after, [6000, 6000, 6000, 1500, 3_600_000].map(Duration::from_millis));
}

#[tokio::test(start_paused = true)]
async fn what_a_half_message_cannot_be() {
    let mut world = transactional().await;
    world.routes.topic("plain", TopicType::Normal, Permission::ReadWrite);
    let late = |topic, seconds| {
        let mut message = half(topic, "01AB");
        let properties = message.system_properties.as_mut().unwrap();
        properties.delivery_timestamp = Some(prost_types::Timestamp { seconds, nanos: 0 });
        message
    };
    let mut forgotten = half("pay", "01AB");
    let properties = forgotten.system_properties.as_mut().unwrap();
    properties.orphaned_transaction_recovery_duration = Some(prost_types::Duration { seconds: 3601, nanos: 0 });
    let cases = [
        (half("plain", "01AB"), Code::MessagePropertyConflictWithType, "takes NORMAL messages"),
        (message("pay", "01AB", "x"), Code::MessagePropertyConflictWithType, "takes TRANSACTION messages"),
        (late("pay", 1_700_000_100), Code::MessagePropertyConflictWithType, "no delivery timestamp"),
        (late("pay", 1), Code::MessagePropertyConflictWithType, "no delivery timestamp"),
        (forgotten, Code::BadRequest, "at most 3600 s"),
    ];
    for (message, code, words) in cases {
        let (found, told) = status(world.send(vec![message]).await.status);
        assert_eq!(found, i32::from(code), "{told}");
        assert!(told.contains(words), "{told}");
    }
}

fn producer_of(topics: &[&str]) -> v2::Settings {
    let mut settings = producer();
    let topics = topics.iter().filter_map(|name| resource(name)).collect();
    settings.pub_sub = Some(PubSub::Publishing(v2::Publishing { topics, ..v2::Publishing::default() }));
    settings
}

/// The next check-back on a stream.
async fn asked(answers: &mut Answers) -> (v2::Message, String) {
    let next = timeout(Duration::from_secs(1), answers.message()).await;
    match next.expect("it is asked").unwrap().unwrap().command {
        Some(Command::RecoverOrphanedTransactionCommand(ask)) => (ask.message.unwrap(), ask.transaction_id),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn producers_of_the_topic_are_asked_in_turn_and_each_may_answer() {
    let mut world = transactional().await;
    world.routes.topic("plain", TopicType::Normal, Permission::ReadWrite);
    let id = begin(&mut world, "pay", "01AB").await;
    let (_one, mut of_one) = open(&mut world, "one", producer_of(&["pay", "plain"])).await;
    let (_two, mut of_two) = open(&mut world, "two", producer_of(&["pay", "nowhere"])).await;
    let (_other, mut of_other) = open(&mut world, "other", producer_of(&["plain"])).await;
    told(&mut world, 1).await;

    world.store.check_back(0, 1);
    let (message, transaction_id) = asked(&mut of_one).await;
    assert_eq!((&*message.topic.unwrap().name, &message.body[..]), ("pay", &b"x"[..]));
    let properties = message.system_properties.unwrap();
    assert_eq!((&*properties.message_id, properties.message_type()), ("01AB", v2::MessageType::Transaction));
    assert_eq!((properties.body_encoding(), properties.body_digest.is_some()), (v2::Encoding::Identity, true));
    assert_eq!(transaction_id, id);
    world.store.check_back(0, 2);
    assert_eq!(asked(&mut of_two).await.1, id);
    assert!(timeout(Duration::from_secs(1), of_other.message()).await.is_err(), "it produces to another topic");

    let topic = world.store.told().produced.first().copied().unwrap();
    let checked = |check| Checked { topic, id: HalfId(0), check };
    assert_eq!(world.store.told().checked, [checked(1), checked(2)]);
    assert_eq!(end(&mut world, "pay", &transaction_id, COMMIT).await.0, i32::from(Code::Ok));
    assert_eq!(world.take("pay", "g").await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_check_counts_only_when_somebody_was_asked() {
    let mut world = transactional().await;
    begin(&mut world, "pay", "01AB").await;
    let (commands, answers) = open(&mut world, "one", producer_of(&["pay"])).await;
    told(&mut world, 1).await;
    drop((commands, answers));
    told(&mut world, 0).await;
    world.store.check_back(0, 1);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.store.told().checked, []);
}

/// Waits until the store knows of so many topics with producers.
async fn told(world: &mut World, topics: usize) {
    let known = async {
        while world.store.told().produced.len() != topics {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(10), known).await.expect("the store is told");
}
