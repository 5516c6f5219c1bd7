//! The engine through its door, on a simulated disk.

mod back_off;
mod dead_letters;
mod delay;
mod fetch;
mod fifo;
mod fifo_model;
mod find;
mod full;
mod lite;
mod metrics;
mod model;
mod offsets;
mod priority;
mod races;
mod reset;
mod seal;
mod sql;
mod support;
mod transactions;
mod words;

use std::time::Duration;

use apogee_model::store::{Append, GroupRef, Pop, RequestId, Settled, Settlement, StoreError};
use apogee_model::{GroupId, InvisibleDuration, QueueId, QueueOffset, TagFilter, TopicId};
use bytes::Bytes;
use support::{COMMIT, Store, TEN_SECONDS, push};
use words::{client, group, message, receive, topic};

#[tokio::test(start_paused = true)]
async fn what_is_sent_is_received_once_and_gone_when_acked() {
    let store = Store::new().await;
    assert_eq!(store.send(0, "", "a").await, QueueOffset(0));
    assert_eq!(store.send(0, "", "b").await, QueueOffset(1));
    let got = store.pop(receive(32)).await;
    assert_eq!(
        got.iter().map(|(body, attempt, _)| (body.as_str(), *attempt)).collect::<Vec<_>>(),
        [("a", 1), ("b", 1)]
    );
    assert_eq!(store.pop(receive(32)).await, [], "both are held");
    for (_, _, key) in &got {
        assert_eq!(store.ack(*key).await, Settled::Done);
        assert_eq!(store.ack(*key).await, Settled::Done, "an ack may be repeated");
    }
    tokio::time::sleep(TEN_SECONDS * 2).await;
    assert_eq!(store.pop(receive(32)).await, []);
}

#[tokio::test(start_paused = true)]
async fn an_expired_lease_comes_again_and_replaces_the_delivery() {
    let store = Store::new().await;
    store.send(0, "", "a").await;
    let first = store.pop(receive(1)).await.remove(0);
    tokio::time::sleep(TEN_SECONDS).await;
    let second = store.pop(receive(1)).await.remove(0);
    assert_eq!((second.0.as_str(), second.1), ("a", 2));
    assert_eq!(store.ack(first.2).await, Settled::Stale, "a later delivery replaced it");
    assert_eq!(store.ack(second.2).await, Settled::Done);
    assert_eq!(store.ack(first.2).await, Settled::Done, "the message is settled, by whomever");
}

#[tokio::test(start_paused = true)]
async fn a_late_ack_still_counts_until_the_message_is_delivered_again() {
    let store = Store::new().await;
    store.send(0, "", "a").await;
    let first = store.pop(receive(1)).await.remove(0);
    tokio::time::sleep(TEN_SECONDS * 3).await;
    assert_eq!(store.ack(first.2).await, Settled::Done);
    assert_eq!(store.pop(receive(1)).await, []);
}

#[tokio::test(start_paused = true)]
async fn a_changed_duration_moves_the_end_of_the_lease() {
    let store = Store::new().await;
    store.send(0, "", "a").await;
    let first = store.pop(receive(1)).await.remove(0);
    let change =
        |seconds| Settlement::Change(InvisibleDuration::for_change(Duration::from_secs(seconds)).expect("in range"));
    assert_eq!(store.engine.settle(first.2, change(30)).await, Ok(Settled::Done));
    tokio::time::sleep(TEN_SECONDS * 2).await;
    assert_eq!(store.pop(receive(1)).await, []);
    assert_eq!(store.engine.settle(first.2, change(0)).await, Ok(Settled::Done));
    tokio::time::sleep(COMMIT).await;
    assert_eq!(store.pop(receive(1)).await.remove(0).1, 2, "visible at once, one attempt more");
}

#[tokio::test(start_paused = true)]
async fn a_released_batch_is_visible_at_once_and_costs_no_attempt() {
    let store = Store::new().await;
    for body in ["a", "b", "c"] {
        store.send(0, "", body).await;
    }
    let first = store.pop(receive(3)).await;
    store.engine.release(first.iter().map(|(_, _, key)| *key).collect());
    store.engine.topic_status(TopicId(1)).await.expect("the store answers");
    tokio::time::sleep(COMMIT).await;
    let again = store.pop(receive(3)).await;
    assert_eq!(
        again.iter().map(|(body, attempt, _)| (body.as_str(), *attempt)).collect::<Vec<_>>(),
        [("a", 1), ("b", 1), ("c", 1)]
    );
}

#[tokio::test(start_paused = true)]
async fn an_attempt_id_gets_the_unsettled_rest_of_its_batch_again() {
    let store = Store::new().await;
    for body in ["a", "b", "c"] {
        store.send(0, "", body).await;
    }
    let attempt = |id: &'static str| Pop { attempt_id: Some(Bytes::from_static(id.as_bytes())), ..receive(2) };
    let first = store.pop(attempt("one")).await;
    store.ack(first[0].2).await;
    assert_eq!(store.pop(attempt("one")).await, [first[1].clone()], "same delivery, same attempt");
    assert_eq!(store.bodies(attempt("two")).await, ["c"]);
}

#[tokio::test(start_paused = true)]
async fn a_filter_skips_for_the_whole_group() {
    let store = Store::new().await;
    for (tag, body) in [("x", "1"), ("y", "2"), ("", "3"), ("x", "4")] {
        store.send(0, tag, body).await;
    }
    let filter = TagFilter::parse("x").expect("a good filter").into();
    assert_eq!(store.bodies(Pop { filter, ..receive(32) }).await, ["1", "4"]);
    assert_eq!(store.pop(receive(32)).await, []);
}

#[tokio::test(start_paused = true)]
async fn auto_renewed_deliveries_live_as_long_as_their_client() {
    let store = Store::new().await;
    store.send(0, "", "a").await;
    let first = store.pop(push(1)).await.remove(0);
    store.engine.confirm(vec![first.2]);
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_secs(5)).await;
        store.engine.heard(&[(client(), Duration::ZERO)]);
    }
    assert_eq!(store.pop(push(1)).await, [], "five minutes later it is still held");
    store.engine.lost(&client());
    store.engine.topic_status(TopicId(1)).await.expect("the store answers");
    tokio::time::sleep(COMMIT).await;
    assert_eq!(store.pop(push(1)).await.remove(0).1, 2);
}

#[tokio::test(start_paused = true)]
async fn renewal_ends_three_hours_after_the_delivery() {
    let store = Store::new().await;
    store.send(0, "", "a").await;
    let first = store.pop(push(1)).await.remove(0);
    store.engine.confirm(vec![first.2]);
    let begun = tokio::time::Instant::now();
    while store.pop(push(1)).await.is_empty() {
        tokio::time::sleep(Duration::from_secs(5)).await;
        store.engine.heard(&[(client(), Duration::ZERO)]);
    }
    let held = begun.elapsed();
    assert!((Duration::from_secs(3 * 3600 - 5)..=Duration::from_secs(3 * 3600 + 10)).contains(&held), "{held:?}");
}

#[tokio::test(start_paused = true)]
async fn a_restart_changes_nothing_but_time() {
    let store = Store::new().await;
    for queue in 0..4 {
        store.send(queue, "", &format!("m{queue}")).await;
    }
    let held = store.pop(receive(2)).await;
    store.ack(held[0].2).await;
    let store = store.restart().await;
    let rest = store.pop(receive(32)).await;
    assert_eq!(rest.len(), 2, "two were never delivered, one is held, one is settled");
    assert_eq!(store.ack(held[0].2).await, Settled::Done);
    assert_eq!(store.ack(held[1].2).await, Settled::Done, "its lease still runs");
    tokio::time::sleep(TEN_SECONDS * 2).await;
    let again = store.pop(receive(32)).await;
    assert_eq!(again.iter().map(|(_, attempt, _)| *attempt).collect::<Vec<_>>(), [2, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_hears_of_arrivals_that_pass_its_filter_and_of_expiry() {
    let store = Store::new().await;
    let filter = TagFilter::parse("x").expect("a good filter").into();
    let mut watch = store.engine.watch(&group(), &topic(), filter);
    store.send(0, "y", "no").await;
    assert!(tokio::time::timeout(TEN_SECONDS, watch.ready()).await.is_err());
    store.send(0, "x", "yes").await;
    assert_eq!(watch.ready().await, 1);
    assert_eq!(store.pop(receive(1)).await.len(), 1);
    assert_eq!(store.pop(receive(1)).await.len(), 1);
    let begun = tokio::time::Instant::now();
    assert_eq!(watch.ready().await, 1, "the lease of the matching message ended");
    assert!(begun.elapsed() >= Duration::from_secs(9), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn segments_roll_and_large_messages_come_back_whole() {
    let store = Store::new().await;
    let body = "x".repeat(4 << 20);
    for _ in 0..9 {
        store.send(0, "", &body).await;
    }
    let store = store.restart().await;
    for _ in 0..9 {
        let got = store.pop(receive(1)).await.remove(0);
        assert!(got.0 == body);
        store.ack(got.2).await;
    }
    assert_eq!(store.pop(receive(1)).await, []);
}

#[tokio::test(start_paused = true)]
async fn limits_are_refused_by_name() {
    let store = Store::new().await;
    let request = RequestId { proxy_incarnation: 0, sequence: 1 };
    let append = |queue, message| Append {
        topic: topic(),
        queue: QueueId(queue),
        message,
        request,
        due: None,
        half: None,
        lite: None,
        indexed: true,
        epoch: 0,
    };
    let missing = store.engine.append(vec![append(4, message("", "a"))]).await;
    assert!(matches!(missing, Err(StoreError::NoSuchQueue { queues: 4, .. })), "{missing:?}");
    let large = store.engine.append(vec![append(0, message("", &"x".repeat(9 << 20)))]).await;
    assert!(matches!(large, Err(StoreError::TooLarge { .. })), "{large:?}");
}

#[tokio::test(start_paused = true)]
async fn a_failed_sync_stops_the_process_with_74_and_answers_nobody() {
    let store = Store::new().await;
    store.send(0, "", "before").await;
    store.disk.fail_next_sync();
    let request = RequestId { proxy_incarnation: 0, sequence: 2 };
    let append = Append {
        topic: topic(),
        queue: QueueId(0),
        message: message("", "lost"),
        request,
        due: None,
        half: None,
        lite: None,
        indexed: true,
        epoch: 0,
    };
    assert_eq!(store.engine.append(vec![append]).await, Err(StoreError::Stopped));
    assert_eq!(store.tasks.failed().await.stop.exit, apogee_host::Exit::Io);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_group_starts_anew_and_a_dropped_topic_is_empty() {
    let store = Store::new().await;
    store.send(0, "", "a").await;
    store.pop(receive(1)).await;
    store.engine.drop_group(GroupId(1)).await.expect("the store answers");
    assert_eq!(store.pop(receive(1)).await, [], "a late receive of the dropped group");
    let anew = || Pop { group: GroupRef { id: GroupId(2), ..group() }, ..receive(1) };
    assert_eq!(store.bodies(anew()).await, ["a"], "the next group of that name has another id");
    store.engine.drop_topic(TopicId(1)).await.expect("the store answers");
    tokio::time::sleep(TEN_SECONDS).await;
    assert_eq!(store.pop(anew()).await, []);
}

#[tokio::test(start_paused = true)]
async fn a_send_that_is_sent_again_is_stored_once() {
    let store = Store::new().await;
    let append = |sequence, body| Append {
        topic: topic(),
        queue: QueueId(0),
        message: message("", body),
        request: RequestId { proxy_incarnation: 7, sequence },
        due: None,
        half: None,
        lite: None,
        indexed: true,
        epoch: 0,
    };
    let send = |engine: apogee_engine::Engine, sequence| async move {
        engine.append(vec![append(sequence, "a"), append(sequence, "b")]).await.unwrap()
    };
    // Both are on their way at the same time.
    let (first, again) = tokio::join!(send(store.engine.clone(), 1), send(store.engine.clone(), 1));
    assert_eq!(first, again);
    assert_eq!(send(store.engine.clone(), 1).await, first, "applied by now");
    let store = store.restart().await;
    assert_eq!(send(store.engine.clone(), 1).await, first, "the log remembers");
    assert_eq!(send(store.engine.clone(), 2).await[0].offset, QueueOffset(2), "another one");
}
