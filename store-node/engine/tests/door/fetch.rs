//! Reading without consuming.

use std::time::Duration;

use apogee_host::{Clock as _, ManualClock};
use apogee_model::store::{Append, Fetch, FetchFrom, Fetched, RequestId};
use apogee_model::{Filter, QueueId, QueueOffset, StoredMessage, TopicId};
use bytes::Bytes;

use crate::support::Store;
use crate::words::{message, receive, topic};

fn fetch(queue: u16, from: FetchFrom) -> Fetch {
    let bytes = Fetch::BYTES_MAX;
    Fetch {
        topic: TopicId(1),
        queue: QueueId(queue),
        from,
        messages: 100,
        bytes,
        message_id: None,
        filter: Filter::default(),
    }
}

fn at(offset: u64) -> FetchFrom {
    FetchFrom::Offset(QueueOffset(offset))
}

/// `min..max`, what was found, and where the next fetch goes on.
fn seen(fetched: &Fetched) -> String {
    let found = fetched.messages.iter().map(|it| {
        format!("{}={}", it.offset, String::from_utf8_lossy(&it.message.body_part).chars().take(3).collect::<String>())
    });
    let found = found.collect::<Vec<_>>().join(" ");
    format!("{}..{}: {found}; next {}", fetched.min, fetched.max, fetched.next)
}

async fn check(store: &Store, fetch: Fetch, expected: &str) {
    assert_eq!(seen(&store.engine.fetch(fetch).await.expect("the store answers")), expected);
}

#[tokio::test(start_paused = true)]
async fn a_queue_is_read_from_any_place_and_nothing_is_consumed() {
    let clock = ManualClock::default();
    let (store, mut times) = (Store::timed(&clock).await, Vec::new());
    for body in ["a", "b", "c", "d"] {
        clock.advance(Duration::from_secs(1));
        times.push(clock.wall());
        store.send(2, "", body).await;
    }
    check(&store, fetch(2, at(0)), "0..4: 0=a 1=b 2=c 3=d; next 4").await;
    check(&store, fetch(2, at(3)), "0..4: 3=d; next 4").await;
    check(&store, fetch(2, at(99)), "0..4: ; next 4").await;
    check(&store, fetch(2, FetchFrom::End), "0..4: ; next 4").await;
    check(&store, fetch(2, FetchFrom::Time(times[1])), "0..4: 1=b 2=c 3=d; next 4").await;
    check(&store, Fetch { messages: 2, ..fetch(2, at(1)) }, "0..4: 1=b 2=c; next 3").await;
    check(&store, fetch(0, at(0)), "0..0: ; next 0").await;
    check(&store, Fetch { topic: TopicId(9), ..fetch(2, at(0)) }, "0..0: ; next 0").await;
    assert_eq!(store.bodies(receive(9)).await, ["a", "b", "c", "d"]);
    let found = store.engine.fetch(fetch(2, at(1))).await.expect("the store answers");
    assert_eq!(found.messages[0].stored_at, times[1]);
    let store = store.restart().await;
    check(&store, fetch(2, at(2)), "0..4: 2=c 3=d; next 4").await;
    store.engine.drop_topic(TopicId(1)).await.expect("the store answers");
    check(&store, fetch(2, at(0)), "4..4: ; next 4").await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_has_no_more_bytes_than_asked_but_always_one_message() {
    let store = Store::new().await;
    for seed in ["x", "y", "z"] {
        store.send(0, "", &seed.repeat(400 << 10)).await;
    }
    check(&store, fetch(0, at(0)), "0..3: 0=xxx 1=yyy; next 2").await;
    check(&store, Fetch { bytes: 1, ..fetch(0, at(1)) }, "0..3: 1=yyy; next 2").await;
    check(&store, Fetch { bytes: usize::MAX, ..fetch(0, at(0)) }, "0..3: 0=xxx 1=yyy; next 2").await;
    store.send(0, "", &"w".repeat(3 << 20)).await;
    check(&store, fetch(0, at(3)), "0..4: 3=www; next 4").await;
}

#[tokio::test(start_paused = true)]
async fn a_message_is_found_by_its_id() {
    let store = Store::new().await;
    for (sequence, id) in ["01AA", "01BB", "01AA"].into_iter().enumerate() {
        let mut properties = vec![0x1a, 4];
        properties.extend_from_slice(id.as_bytes());
        let message = StoredMessage { properties_part: Bytes::from(properties), ..message("", &sequence.to_string()) };
        let request = RequestId { proxy_incarnation: 0, sequence: 1 };
        let append = Append {
            topic: topic(),
            queue: QueueId(0),
            message,
            request,
            due: None,
            half: None,
            lite: None,
            indexed: true,
            epoch: 0,
        };
        store.engine.append(vec![append]).await.expect("the store takes it");
    }
    store.send(0, "01AA", "no id, but a tag").await;
    let wanted = |id: &str| Fetch { message_id: Some(id.to_owned()), ..fetch(0, at(0)) };
    check(&store, wanted("01AA"), "0..4: 0=0 2=2; next 4").await;
    check(&store, wanted("01CC"), "0..4: ; next 4").await;
}
