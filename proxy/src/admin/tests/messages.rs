//! Looking at messages without consuming them.

use std::sync::Arc;
use std::time::Duration;

use apogee_model::store::{Fetch, FetchFrom, Fetched, FetchedMessage, QueueStatus};
use apogee_model::{QueueId, QueueOffset, StoredMessage, Timestamp};
use apogee_proto::admin::v1;
use apogee_proto::admin::v1::get_message_request::By;
use apogee_proto::v2;
use prost::Message as _;
use tokio::time::timeout;
use tonic::Code;

use super::{Client, FakeStore, client, new_topic, refused};

/// Born at the second 100,000 of the ids.
const BORN: &str = "01ABCDEF0123450001000186A0";
const BORN_MILLIS: u64 = (1_609_459_200 + 100_000) * 1000;

fn id(number: u8) -> String {
    format!("{BORN}{number:08X}")
}

fn message(id: &str, tag: Option<&str>, body: &str) -> StoredMessage {
    let content = v2::Message {
        topic: Some(v2::Resource { resource_namespace: String::new(), name: "orders".to_owned() }),
        user_properties: [("colour".to_owned(), "red".to_owned())].into(),
        body: body.as_bytes().to_vec().into(),
        ..v2::Message::default()
    };
    let system = v2::SystemProperties {
        message_id: id.to_owned(),
        tag: tag.map(str::to_owned),
        keys: vec!["k1".to_owned()],
        body_encoding: v2::Encoding::Identity.into(),
        ..v2::SystemProperties::default()
    };
    StoredMessage { body_part: content.encode_to_vec().into(), properties_part: system.encode_to_vec().into() }
}

impl FakeStore {
    fn send(&self, queue: u16, stored_at: u64, message: StoredMessage) {
        let mut stored = self.stored.lock().expect("no test panics inside");
        let queue = stored.entry(QueueId(queue)).or_default();
        let offset = QueueOffset(u64::try_from(queue.len()).expect("a few"));
        queue.push(FetchedMessage { offset, stored_at: Timestamp(stored_at), message });
    }
}

pub(super) fn status((queue, stored): (&QueueId, &Vec<FetchedMessage>)) -> QueueStatus {
    let max = QueueOffset(u64::try_from(stored.len()).expect("a few"));
    QueueStatus { queue: *queue, min: QueueOffset(0), max, delayed: 0 }
}

/// What a store answers that has these messages.
pub(super) fn fetched(stored: &[FetchedMessage], fetch: &Fetch) -> Fetched {
    let len = u64::try_from(stored.len()).expect("a few");
    let from = match fetch.from {
        FetchFrom::Offset(offset) => offset.0.min(len),
        FetchFrom::Time(at) => stored.iter().find(|it| it.stored_at >= at).map_or(len, |it| it.offset.0),
        FetchFrom::End => len,
    };
    let looked: Vec<_> = stored.iter().filter(|it| it.offset.0 >= from).take(fetch.messages).collect();
    let (min, max) = (QueueOffset(0), QueueOffset(len));
    let next = looked.last().map_or(QueueOffset(from), |it| it.offset.next());
    let reached = looked.last().map(|it| it.stored_at);
    let wanted =
        |it: &&FetchedMessage| fetch.message_id.as_deref().is_none_or(|id| it.message.message_id() == Some(id));
    Fetched { min, max, next, reached, messages: looked.into_iter().filter(wanted).cloned().collect() }
}

async fn with_topic(store: &Arc<FakeStore>) -> Client {
    let mut admin = client(store);
    admin.create_topic(new_topic("orders")).await.expect("a fair wish");
    admin
}

fn get(by: Option<By>) -> v1::GetMessageRequest {
    v1::GetMessageRequest { namespace: String::new(), topic: "orders".to_owned(), by }
}

fn place(queue_id: Option<u32>, offset: u64) -> Option<By> {
    Some(By::Place(v1::QueueOffset { queue_id, offset }))
}

#[tokio::test]
async fn a_message_is_found_by_place_and_by_id() {
    let store = Arc::<FakeStore>::default();
    let mut admin = with_topic(&store).await;
    for number in 0..3 {
        store.send(number % 2, BORN_MILLIS, message(&id(u8::try_from(number).expect("small")), Some("red"), "hello"));
    }
    for by in [place(Some(0), 1), Some(By::MessageId(id(2)))] {
        let found = admin.get_message(get(by)).await.expect("it is there").into_inner().message.expect("a message");
        assert_eq!((found.message_id.clone(), found.queue_id, found.offset), (id(2), 0, 1));
        assert_eq!(
            (found.topic.as_str(), found.tag(), found.keys.as_slice()),
            ("orders", "red", &["k1".to_owned()][..])
        );
        assert_eq!((&found.body[..], found.properties["colour"].as_str()), (&b"hello"[..], "red"));
        assert_eq!(found.stored.expect("a time").seconds, 1_609_559_200);
    }
    for by in [place(Some(1), 1), Some(By::MessageId(id(3)))] {
        assert_eq!(refused(admin.get_message(get(by)).await).0, Code::NotFound);
    }
    let wishes = [
        (None, "the request does not say which message"),
        (place(None, 1), "the request does not say the queue of the message"),
        (place(Some(2), 1), "topic orders has 2 queues, and no queue 2"),
        (
            Some(By::MessageId("x".to_owned())),
            "message id \"x\" does not say when its message was born; only a place can find that message",
        ),
    ];
    for (by, told) in wishes {
        assert_eq!(refused(admin.get_message(get(by)).await), (Code::InvalidArgument, told.to_owned()));
    }
}

/// The wanted message is behind many others, which were stored within its time or after it.
#[tokio::test]
async fn a_search_ends_where_the_message_cannot_be_any_more() {
    for (late, found) in [(600_000, true), (600_001, false)] {
        let store = Arc::<FakeStore>::default();
        let mut admin = with_topic(&store).await;
        for _ in 0..Fetch::MESSAGES_MAX {
            store.send(1, BORN_MILLIS + late, message(&id(1), None, "another"));
        }
        store.send(1, BORN_MILLIS + late, message(&id(9), None, "the one"));
        assert_eq!(admin.get_message(get(Some(By::MessageId(id(9))))).await.is_ok(), found, "{late} ms");
    }
}

#[tokio::test]
async fn a_search_that_looks_at_too_much_says_so() {
    let store = Arc::<FakeStore>::default();
    let mut admin = with_topic(&store).await;
    let other = message(&id(1), None, "another");
    for _ in 0..210_000 {
        store.send(0, BORN_MILLIS, other.clone());
    }
    let (code, told) = refused(admin.get_message(get(Some(By::MessageId(id(8))))).await);
    assert_eq!(code, Code::ResourceExhausted, "{told}");
}

async fn next(parts: &mut tonic::Streaming<v1::TailMessagesResponse>) -> Vec<String> {
    let part = timeout(Duration::from_secs(30), parts.message()).await.expect("it comes soon");
    let part = part.expect("the stream is sound").expect("it has not ended");
    part.messages
        .iter()
        .map(|it| format!("{}/{} {}", it.queue_id, it.offset, String::from_utf8_lossy(&it.body)))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_tail_tells_what_is_stored_after_it_began() {
    let store = Arc::<FakeStore>::default();
    let mut admin = with_topic(&store).await;
    store.send(0, 1, message(&id(0), None, "before"));
    let ask = v1::TailMessagesRequest { namespace: String::new(), topic: "orders".to_owned(), tag: String::new() };
    let mut all = admin.tail_messages(ask.clone()).await.expect("it is there").into_inner();
    let mut red = admin
        .tail_messages(v1::TailMessagesRequest { tag: "red||green".to_owned(), ..ask.clone() })
        .await
        .expect("it is there")
        .into_inner();
    assert!(timeout(Duration::from_secs(5), all.message()).await.is_err(), "nothing new");
    store.send(0, 2, message(&id(1), None, "a"));
    store.send(0, 3, message(&id(2), Some("red"), "b"));
    assert_eq!(next(&mut all).await, ["0/1 a", "0/2 b"]);
    store.send(1, 4, message(&id(3), Some("blue"), "c"));
    assert_eq!(next(&mut all).await, ["1/0 c"], "a queue that was empty");
    assert_eq!(next(&mut red).await, ["0/2 b"]);
    for number in 0..100 {
        store.send(0, 5, message(&id(4), Some("blue"), &number.to_string()));
    }
    store.send(1, 6, message(&id(5), Some("green"), "d"));
    assert_eq!(next(&mut red).await, ["1/1 d"]);
    let (first, second) = (next(&mut all).await, next(&mut all).await);
    assert_eq!((first.len(), second, next(&mut all).await.len()), (64, vec!["1/1 d".to_owned()], 36), "queues in turn");

    let ask = v1::DeleteTopicRequest { namespace: String::new(), name: "orders".to_owned() };
    admin.delete_topic(ask).await.expect("it is there");
    let ended = timeout(Duration::from_secs(5), all.message()).await.expect("it ends soon");
    assert_eq!(ended.expect_err("the topic is gone").code(), Code::NotFound);
}

#[tokio::test]
async fn a_tail_ends_with_the_process_and_begins_with_a_topic() {
    let store = Arc::<FakeStore>::default();
    let mut admin = with_topic(&store).await;
    let ask = v1::TailMessagesRequest { namespace: String::new(), topic: "nowhere".to_owned(), tag: String::new() };
    assert_eq!(refused(admin.tail_messages(ask.clone()).await).0, Code::NotFound);
    let ask = v1::TailMessagesRequest { topic: "orders".to_owned(), tag: "||".to_owned(), ..ask };
    assert_eq!(refused(admin.tail_messages(ask.clone()).await).0, Code::InvalidArgument);
    let ask = v1::TailMessagesRequest { tag: String::new(), ..ask };
    let mut parts = admin.tail_messages(ask).await.expect("it is there").into_inner();
    store.stop.cancel();
    assert_eq!(parts.message().await.expect("no error"), None);
}
