//! PullMessage: what it answers, and how it waits.

use std::time::Duration;

use apogee_model::store::StoreError;
use apogee_model::{Permission, TopicType};
use apogee_proto::v2::pull_message_response::Content;
use apogee_proto::v2::{self, Code};
use apogee_proxy::ProxySettings;
use apogee_proxy::listen::Stage;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::Request;

use crate::long_poll::settle;
use crate::support::{World, message, resource, sdk, world, world_with};

/// Code, bodies of messages, where to go on.
type Seen = (Code, Vec<String>, Option<i64>);

pub(crate) fn queue(topic: &str, id: i32) -> Option<v2::MessageQueue> {
    Some(v2::MessageQueue { topic: resource(topic), id, ..Default::default() })
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

/// Of topic `orders`, and it does not wait.
fn pull(id: i32, offset: i64) -> v2::PullMessageRequest {
    v2::PullMessageRequest {
        group: resource("readers"),
        message_queue: queue("orders", id),
        offset,
        batch_size: 16,
        filter_expression: None,
        long_polling_timeout: seconds(0),
    }
}

fn waiting(id: i32, offset: i64, poll: i64) -> v2::PullMessageRequest {
    v2::PullMessageRequest { long_polling_timeout: seconds(poll), ..pull(id, offset) }
}

fn filtered(filter: v2::FilterType, expression: &str, ask: v2::PullMessageRequest) -> v2::PullMessageRequest {
    let filter_expression = Some(v2::FilterExpression { r#type: filter.into(), expression: expression.into() });
    v2::PullMessageRequest { filter_expression, ..ask }
}

/// Sends messages of one message group, each a tag and a body; says which queue they went to.
pub(crate) async fn sent(world: &mut World, messages: &[(&str, &str)]) -> i32 {
    world.route("orders").await;
    for (tag, body) in messages {
        let mut message = message("orders", body, body);
        let system = message.system_properties.get_or_insert_default();
        system.message_group = Some("g".to_owned());
        system.tag = Some((*tag).to_owned()).filter(|tag| !tag.is_empty());
        assert_eq!(world.send(vec![message]).await.status.map(|status| status.code), Some(Code::Ok.into()));
    }
    i32::from(*world.store.told().queues.last().unwrap())
}

/// The status comes first, then messages, last where to go on, unless the pull was refused.
async fn parts(client: &mut crate::support::Client, ask: Request<v2::PullMessageRequest>) -> Vec<Content> {
    let mut stream = client.pull_message(ask).await.unwrap().into_inner();
    let mut parts = Vec::new();
    while let Some(part) = stream.message().await.unwrap() {
        parts.push(part.content.expect("no part is empty"));
    }
    parts
}

fn seen(parts: Vec<Content>) -> Seen {
    let mut parts = parts.into_iter();
    let Some(Content::Status(status)) = parts.next() else { panic!("the status comes first") };
    let (mut bodies, mut next) = (Vec::new(), None);
    for part in parts {
        match part {
            Content::Message(message) if next.is_none() => {
                bodies.push(String::from_utf8(message.body.to_vec()).unwrap());
            }
            Content::NextOffset(offset) if next.is_none() => next = Some(offset),
            other => panic!("{other:?} is out of place"),
        }
    }
    (Code::try_from(status.code).unwrap(), bodies, next)
}

impl World {
    async fn pull(&mut self, ask: v2::PullMessageRequest) -> Seen {
        seen(parts(&mut self.client, sdk(ask)).await)
    }

    fn pull_beside(&self, pulls: &mut JoinSet<Seen>, ask: v2::PullMessageRequest) {
        let mut client = self.client.clone();
        pulls.spawn(async move { seen(parts(&mut client, sdk(ask)).await) });
    }
}

fn found(bodies: &[&str], next: i64) -> Seen {
    (Code::Ok, bodies.iter().map(|body| (*body).to_owned()).collect(), Some(next))
}

fn nothing(next: i64) -> Seen {
    (Code::MessageNotFound, Vec::new(), Some(next))
}

fn refused(code: Code) -> Seen {
    (code, Vec::new(), None)
}

#[tokio::test(start_paused = true)]
async fn a_queue_is_read_from_an_offset_on() {
    let mut world = world().await;
    let queue = sent(&mut world, &[("", "a"), ("", "b"), ("", "c")]).await;
    assert_eq!(world.pull(pull(queue, 0)).await, found(&["a", "b"], 2));
    assert_eq!(world.pull(pull(queue, 2)).await, found(&["c"], 3));
    assert_eq!(world.pull(v2::PullMessageRequest { batch_size: 1, ..pull(queue, 1) }).await, found(&["b"], 2));
    for batch_size in [0, -1] {
        assert_eq!(world.pull(v2::PullMessageRequest { batch_size, ..pull(queue, 1) }).await, found(&["b"], 2));
    }
    assert_eq!(world.pull(pull(queue, 3)).await, nothing(3));
    assert_eq!(world.pull(pull((queue + 1) % 4, 0)).await, nothing(0), "a queue is no hint here");
    assert_eq!(world.take("orders", "receivers").await.len(), 3, "nobody holds them");
}

#[tokio::test(start_paused = true)]
async fn a_pulled_message_says_where_it_is_and_is_held_by_nobody() {
    let mut world = world().await;
    let id = sent(&mut world, &[("red", "a"), ("red", "b")]).await;
    let parts = parts(&mut world.client, sdk(pull(id, 1))).await;
    let [Content::Status(_), Content::Message(message), Content::NextOffset(2)] = &parts[..] else {
        panic!("{parts:?}")
    };
    assert_eq!(message.topic, resource("orders"));
    let system = message.system_properties.as_ref().unwrap();
    assert_eq!((system.queue_id, system.queue_offset, system.delivery_attempt), (id, Some(1), Some(1)));
    assert_eq!((&*system.message_id, system.tag(), system.message_group()), ("b", "red", "g"));
    assert_eq!(system.store_timestamp, Some(prost_types::Timestamp { seconds: 1, nanos: 0 }));
    assert_eq!((&*system.store_host, &system.receipt_handle), ("127.0.0.1:10911", &None));
    assert_eq!(system.invisible_duration, None);
    assert!(system.born_timestamp.is_some() && system.body_digest.is_some());
}

#[tokio::test(start_paused = true)]
async fn an_offset_that_the_queue_does_not_have_gets_the_nearest_one() {
    let mut world = world().await;
    let queue = sent(&mut world, &[("", "a"), ("", "b"), ("", "c")]).await;
    let illegal = |next| (Code::IllegalOffset, Vec::new(), Some(next));
    assert_eq!(world.pull(waiting(queue, 4, 5)).await, illegal(3), "at once");
    assert_eq!(world.pull(pull(queue, i64::MAX)).await, illegal(3));
    world.store.trim(2);
    assert_eq!(world.pull(pull(queue, 1)).await, illegal(2));
    assert_eq!(world.pull(pull(queue, 2)).await, found(&["c"], 3));
    world.store.trim(3);
    assert_eq!(world.pull(pull(queue, 2)).await, illegal(3));
    assert_eq!(world.pull(pull(queue, -1)).await, refused(Code::IllegalOffset));
}

#[tokio::test(start_paused = true)]
async fn a_filter_moves_on_past_what_it_refuses() {
    let mut world = world().await;
    let queue = sent(&mut world, &[("blue", "a"), ("blue", "b"), ("blue", "c"), ("red", "d"), ("blue", "e")]).await;
    let tag = |expression, ask| filtered(v2::FilterType::Tag, expression, ask);
    let sql = |expression, ask| filtered(v2::FilterType::Sql, expression, ask);
    assert_eq!(world.pull(tag("red", pull(queue, 0))).await, nothing(2), "there was time for one look");
    assert_eq!(world.pull(tag("red", waiting(queue, 0, 1))).await, found(&["d"], 4));
    assert_eq!(world.pull(sql("TAGS = 'red'", waiting(queue, 1, 1))).await, found(&["d"], 5));
    assert_eq!(world.pull(tag("green", waiting(queue, 0, 1))).await, nothing(5), "it is not looked at again");
    for (expression, kind) in [("a ==", v2::FilterType::Sql), ("||", v2::FilterType::Tag)] {
        let bad = filtered(kind, expression, pull(queue, 0));
        assert_eq!(world.pull(bad).await, refused(Code::IllegalFilterExpression), "{expression:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pull_waits_for_its_queue_and_not_for_others() {
    let mut world = world().await;
    let queue = sent(&mut world, &[("", "a")]).await;
    let (mut pulls, started) = (JoinSet::new(), Instant::now());
    let ask = |id, offset| v2::PullMessageRequest { long_polling_timeout: None, ..pull(id, offset) };
    world.pull_beside(&mut pulls, ask(queue, 1));
    world.pull_beside(&mut pulls, ask(queue, 1));
    world.pull_beside(&mut pulls, ask((queue + 1) % 4, 0));
    settle().await;
    sent(&mut world, &[("", "b")]).await;
    for _ in 0..2 {
        assert_eq!(pulls.join_next().await.unwrap().unwrap(), found(&["b"], 2), "both get it");
    }
    assert!(started.elapsed() < Duration::from_millis(100), "{:?}", started.elapsed());
    assert_eq!(pulls.join_next().await.unwrap().unwrap(), nothing(0));
    assert!(started.elapsed() >= Duration::from_secs(20), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_poll_is_as_long_as_asked_and_no_longer_than_the_call() {
    let mut world = world().await;
    let queue = sent(&mut world, &[("", "a")]).await;
    let mut waited = async |poll: Option<i64>, deadline: Option<u64>| {
        let started = Instant::now();
        let ask = v2::PullMessageRequest { long_polling_timeout: poll.and_then(seconds), ..pull(queue, 1) };
        let mut request = sdk(ask);
        if let Some(deadline) = deadline {
            request.set_timeout(Duration::from_secs(deadline));
        }
        assert_eq!(seen(parts(&mut world.client, request).await), nothing(1));
        started.elapsed().as_millis()
    };
    let about = |millis: u128, took: u128| assert!((millis..millis + 50).contains(&took), "{millis}: {took}");
    about(0, waited(Some(0), None).await);
    about(3000, waited(Some(3), None).await);
    about(20_000, waited(Some(3600), None).await);
    about(0, waited(Some(-1), None).await);
    about(20_000, waited(None, None).await);
    about(8500, waited(None, Some(10)).await);
    about(3900, waited(Some(10), Some(4)).await);
}

#[tokio::test(start_paused = true)]
async fn a_topic_deleted_under_a_pull_is_told() {
    let mut world = world().await;
    let queue = sent(&mut world, &[("", "a")]).await;
    let mut pulls = JoinSet::new();
    world.pull_beside(&mut pulls, waiting(queue, 1, 5));
    settle().await;
    world.routes.forget_topic("orders");
    assert_eq!(pulls.join_next().await.unwrap().unwrap(), refused(Code::TopicNotFound));
}

#[tokio::test(start_paused = true)]
async fn a_pull_ends_with_its_connection() {
    let mut world = world().await;
    let queue = sent(&mut world, &[("", "a")]).await;
    let (mut pulls, started) = (JoinSet::new(), Instant::now());
    world.pull_beside(&mut pulls, waiting(queue, 1, 20));
    settle().await;
    world.departure.advance(Stage::Ends);
    assert_eq!(pulls.join_next().await.unwrap().unwrap(), nothing(1));
    assert!(started.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_pulled_is_refused() {
    let mut world = world().await;
    let queue_id = sent(&mut world, &[("", "a")]).await;
    for id in [-1, 8, i32::MAX] {
        assert_eq!(world.pull(pull(id, 0)).await, refused(Code::BadRequest), "{id}");
    }
    let unnamed = v2::PullMessageRequest { message_queue: None, ..pull(0, 0) };
    assert_eq!(world.pull(unnamed).await, refused(Code::IllegalTopic));
    let groupless = v2::PullMessageRequest { group: None, ..pull(0, 0) };
    assert_eq!(world.pull(groupless).await, refused(Code::IllegalConsumerGroup));
    world.routes.topic("shut", TopicType::Normal, Permission::Write);
    let shut = v2::PullMessageRequest { message_queue: queue("shut", 0), ..pull(0, 0) };
    assert_eq!(world.pull(shut).await, refused(Code::Forbidden));
    let nameless = Request::new(pull(0, 0));
    assert_eq!(seen(parts(&mut world.client, nameless).await), refused(Code::ClientIdRequired));
    world.store.fail(Some(StoreError::NotLeader { leader: None }));
    assert_eq!(world.pull(pull(queue_id, 0)).await, refused(Code::HaNotAvailable));
}

#[tokio::test(start_paused = true)]
async fn where_first_use_creates_nothing_names_must_be_known() {
    let mut world = world_with(ProxySettings { auto_create: false, ..ProxySettings::default() }).await;
    assert_eq!(world.pull(pull(0, 0)).await, refused(Code::TopicNotFound));
    world.routes.topic("orders", TopicType::Normal, Permission::ReadWrite);
    assert_eq!(world.pull(pull(0, 0)).await, refused(Code::ConsumerGroupNotFound));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_cannot_be_read_is_passed_over() {
    let mut world = world().await;
    let queue = sent(&mut world, &[("", "a"), ("", "b")]).await;
    world.store.spoil_first();
    assert_eq!(world.pull(pull(queue, 0)).await, found(&["b"], 2));
}
