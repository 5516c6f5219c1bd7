//! Messages are found by what their senders called them, wherever they are; and what became of one is told.

use std::time::Duration;

use apogee_host::{Clock as _, SimDisk, TokioClock};
use apogee_model::store::{
    Append, Appended, Delivered, EndTransaction, Find, FindBy, Found, Half, Progress, Recall, RequestId, Resolution,
    Settlement, Trace, Whereabouts, client_hash,
};
use apogee_model::{InvisibleDuration, QueueId, QueueOffset, StoredMessage, Timestamp, TopicId};
use tokio::time::{Instant, sleep};

use crate::support::{COMMIT, Store, TEN_SECONDS, push};
use crate::words::{client, dead_letters, group, in_order, message, receive, topic};

/// A message with an id of four characters, and keys.
fn called(id: &str, keys: &[&str]) -> StoredMessage {
    let mut properties = Vec::new();
    for (field, text) in keys.iter().map(|key| (0x12, *key)).chain([(0x1a, id)]) {
        properties.extend_from_slice(&[field, u8::try_from(text.len()).expect("a short text")]);
        properties.extend_from_slice(text.as_bytes());
    }
    StoredMessage { properties_part: properties.into(), ..message("", id) }
}

fn append(queue: u16, message: StoredMessage) -> Append {
    let request = RequestId { proxy_incarnation: 0, sequence: 1 };
    let queue = QueueId(queue);
    Append { topic: topic(), queue, message, request, due: None, half: None, lite: None, indexed: true, epoch: 0 }
}

async fn send(store: &Store, append: Append) -> Appended {
    store.engine.append(vec![append]).await.expect("the store takes it")[0]
}

fn by_key(key: &str) -> Find {
    let (from, until) = (Timestamp(0), Timestamp(u64::MAX));
    Find { topic: topic().id, by: FindBy::Key(key.to_owned()), from, until, messages: 64 }
}

fn by_id(id: &str) -> Find {
    Find { by: FindBy::MessageId(id.to_owned()), ..by_key("") }
}

async fn find(store: &Store, find: Find) -> Vec<Found> {
    store.engine.find(find).await.expect("the store answers")
}

/// Each message and where it is.
async fn seen(store: &Store, by: Find) -> Vec<String> {
    let place = |found: &Found| match found.whereabouts {
        Whereabouts::Queued { offset } => {
            format!("{}/{}", found.queue, offset.map_or("?".to_owned(), |at| at.to_string()))
        }
        Whereabouts::Waits { due } => format!("due {}", due.0),
        Whereabouts::Half { checks, .. } => format!("half {checks}"),
    };
    let body = |found: &Found| String::from_utf8_lossy(&found.message.body_part).into_owned();
    find(store, by).await.iter().map(|found| format!("{} {}", body(found), place(found))).collect()
}

async fn trace(store: &Store, queue: u16, offset: u64) -> Vec<Progress> {
    let trace = Trace { topic: topic().id, queue: QueueId(queue), offset: QueueOffset(offset) };
    let groups = store.engine.trace(trace).await.expect("the store answers");
    groups.iter().for_each(|it| assert_eq!((it.group, &it.name), (group().id, &group().name)));
    groups.into_iter().map(|it| it.progress).collect()
}

#[tokio::test(start_paused = true)]
async fn the_newest_message_of_a_key_comes_first_also_after_a_restart() {
    let store = Store::new().await;
    for (queue, id, keys) in [(0, "a", &["k"][..]), (1, "b", &["x y", "k"]), (0, "c", &["z"]), (1, "d", &["k"])] {
        send(&store, append(queue, called(id, keys))).await;
    }
    let all = ["d 1/1", "b 1/0", "a 0/0"];
    assert_eq!(seen(&store, by_key("k")).await, all);
    assert_eq!(seen(&store, Find { messages: 2, ..by_key("k") }).await, all[..2]);
    assert_eq!(seen(&store, by_key("y")).await, ["b 1/0"], "a key with a space is two");
    assert_eq!(seen(&store, by_key("x y")).await, Vec::<String>::new());
    assert_eq!(seen(&store, Find { topic: TopicId(9), ..by_key("k") }).await, Vec::<String>::new());
    assert_eq!(seen(&store, by_id("a")).await, Vec::<String>::new(), "its id tells when it was born");
    let store = store.restart().await;
    assert_eq!(seen(&store, by_key("k")).await, all);
    store.engine.drop_topic(topic().id).await.expect("the store answers");
    assert_eq!(seen(&store, by_key("k")).await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn only_what_was_stored_in_a_time_is_found() {
    let began = Instant::now();
    let (store, clock) = (Store::since(began, SimDisk::new(1)).await, TokioClock::since(began));
    let mut times = Vec::new();
    for id in ["a", "b", "c"] {
        sleep(Duration::from_secs(1)).await;
        times.push(clock.wall());
        send(&store, append(0, called(id, &["k"]))).await;
    }
    let stored: Vec<_> = find(&store, by_key("k")).await.iter().map(|found| found.stored_at).collect();
    assert_eq!(stored, [times[2], times[1], times[0]]);
    assert_eq!(seen(&store, Find { from: times[1], ..by_key("k") }).await, ["c 0/2", "b 0/1"]);
    assert_eq!(seen(&store, Find { until: times[1], ..by_key("k") }).await, ["b 0/1", "a 0/0"]);
}

#[tokio::test(start_paused = true)]
async fn a_topic_may_do_without() {
    let store = Store::new().await;
    for (id, indexed) in [("a", true), ("b", false), ("c", false)] {
        send(&store, Append { indexed, ..append(0, called(id, &["k"])) }).await;
    }
    let mut store = store.restart().await;
    send(&store, Append { indexed: false, ..append(0, called("d", &["k"])) }).await;
    assert_eq!(seen(&store, by_key("k")).await, ["a 0/0"]);
    send(&store, append(0, called("e", &["k"]))).await;
    store = store.restart().await;
    assert_eq!(seen(&store, by_key("k")).await, ["e 0/4", "a 0/0"]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_its_time_is_found_before_and_after() {
    let began = Instant::now();
    let store = Store::since(began, SimDisk::new(1)).await;
    let due = TokioClock::since(began).wall().plus(TEN_SECONDS);
    let late = |id, number| {
        let request = RequestId { proxy_incarnation: 1, sequence: number };
        Append { due: Some(due), request, ..append(2, called(id, &["k"])) }
    };
    send(&store, late("soon", 1)).await;
    let id = send(&store, late("gone", 2)).await.kept.expect("it waits");
    send(&store, append(2, called("here", &["k"]))).await;
    let waits = format!("due {}", due.0);
    let all = ["here 2/0".to_owned(), format!("gone {waits}"), format!("soon {waits}")];
    assert_eq!(seen(&store, by_key("k")).await, all);
    assert_eq!(seen(&store, by_id("soon")).await, all[2..]);
    store.engine.recall(Recall { topic: topic().id, id }).await.expect("the store answers");
    assert_eq!(seen(&store, by_key("k")).await, ["here 2/0".to_owned(), format!("soon {waits}")]);
    sleep(TEN_SECONDS + COMMIT * 10).await;
    assert_eq!(seen(&store, by_key("k")).await, ["here 2/0", "soon 2/1"]);
    assert_eq!(seen(&store, by_id("soon")).await, ["soon 2/1"]);
}

#[tokio::test(start_paused = true)]
async fn half_messages_are_found_until_they_are_rolled_back() {
    let store = Store::new().await;
    let mut ids = Vec::new();
    for (id, sequence) in [("yes", 1), ("no", 2), ("open", 3)] {
        let request = RequestId { proxy_incarnation: 1, sequence };
        let half = Some(Half { check_after: Duration::from_secs(3600) });
        let sent = send(&store, Append { half, request, ..append(0, called(id, &["k"])) }).await;
        ids.push(sent.half.expect("it is a half message"));
    }
    assert_eq!(seen(&store, by_key("k")).await, ["open half 0", "no half 0", "yes half 0"]);
    for (id, resolution) in [(ids[0], Resolution::Commit), (ids[1], Resolution::Rollback)] {
        let end = EndTransaction { topic: topic().id, id, resolution };
        store.engine.end_transaction(end).await.expect("the store answers");
    }
    assert_eq!(seen(&store, by_key("k")).await, ["open half 0", "yes 0/0"]);
    assert_eq!(seen(&store, by_id("yes")).await, ["yes 0/0"]);
}

#[tokio::test(start_paused = true)]
async fn a_message_is_followed_through_a_group() {
    let store = Store::new().await;
    for id in ["a", "b"] {
        send(&store, append(0, called(id, &[]))).await;
    }
    assert_eq!(trace(&store, 0, 0).await, [], "no group has come");
    let (_, _, key) = store.pop(receive(1)).await.remove(0);
    let [Progress::Delivered(first)] = trace(&store, 0, 0).await[..] else { panic!("it was delivered") };
    let Delivered { attempt, at, until, .. } = first;
    assert_eq!((attempt, until, first.ready, first.auto_renew), (1, at.plus(TEN_SECONDS), false, false));
    assert_eq!(first.client, client_hash(client().as_str()));
    assert_eq!(trace(&store, 0, 1).await, [Progress::Ahead]);
    assert_eq!((trace(&store, 0, 2).await, trace(&store, 1, 0).await), (vec![], vec![]), "there is nothing");
    let longer = Settlement::Change(InvisibleDuration::for_change(TEN_SECONDS * 2).expect("in range"));
    store.engine.settle(key, longer).await.expect("the store answers");
    let [Progress::Delivered(later)] = trace(&store, 0, 0).await[..] else { panic!("it was delivered") };
    assert!(later.until > until, "{later:?}");
    store.ack(key).await;
    assert_eq!(trace(&store, 0, 0).await, [Progress::Settled]);
    store.pop(push(1)).await;
    let [Progress::Delivered(held)] = trace(&store, 0, 1).await[..] else { panic!("it was delivered") };
    assert!(held.auto_renew, "{held:?}");
}

#[tokio::test(start_paused = true)]
async fn what_comes_again_and_what_waits_in_line_is_told() {
    let began = Instant::now();
    let store = Store::since(began, SimDisk::new(1)).await;
    for body in ["a", "b"] {
        store.send_in(0, "g", body).await;
    }
    store.pop(in_order(1)).await;
    store.send_in(0, "h", "c").await;
    store.pop(in_order(8)).await;
    assert_eq!(trace(&store, 0, 1).await, [Progress::Waits]);
    sleep(TEN_SECONDS + COMMIT).await;
    let [Progress::Delivered(it)] = trace(&store, 0, 0).await[..] else { panic!("it was delivered") };
    assert!(it.ready, "{it:?}");
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_is_found_by_its_id() {
    let store = Store::new().await;
    send(&store, append(0, called("dead", &["k"]))).await;
    let (_, _, key) = store.pop(receive(1)).await.remove(0);
    store.engine.settle(key, Settlement::DeadLetter(dead_letters(1))).await.expect("the store answers");
    assert_eq!(trace(&store, 0, 0).await, [Progress::Settled]);
    let graves = |find: Find| Find { topic: dead_letters(1).topic.id, ..find };
    assert_eq!(seen(&store, graves(by_id("dead"))).await, ["dead 2/0"]);
    assert_eq!(seen(&store, graves(by_key("k"))).await, ["dead 2/0"]);
    assert_eq!(seen(&store, by_key("k")).await, ["dead 0/0"]);
}
