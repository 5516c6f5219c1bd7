//! Ordered groups: a message group is worked on one after the other, and others go on beside it.

use std::time::Duration;

use apogee_model::store::{DeliveryKey, LeaseTerms, Pop, ResetTo, Settled, Settlement};
use apogee_model::{Filter, InvisibleDuration, TagFilter, TopicId};
use bytes::Bytes;

use crate::support::{COMMIT, Store, TEN_SECONDS};
use crate::words::{group, in_order, receive, topic};

fn bodies(got: &[(String, u32, DeliveryKey)]) -> Vec<&str> {
    got.iter().map(|(body, _, _)| body.as_str()).collect()
}

fn push_in_order(batch: usize) -> Pop {
    Pop { lease: LeaseTerms::AutoRenew, ..in_order(batch) }
}

fn after(seconds: u64) -> Settlement {
    Settlement::Change(InvisibleDuration::for_change(Duration::from_secs(seconds)).expect("in range"))
}

async fn store_with(messages: &[(&str, &str)]) -> Store {
    let store = Store::new().await;
    for (group, body) in messages {
        store.send_in(0, group, body).await;
    }
    store
}

#[tokio::test(start_paused = true)]
async fn the_next_message_comes_when_the_one_before_is_settled() {
    let store = store_with(&[("a", "a1"), ("a", "a2"), ("b", "b1")]).await;
    let first = store.pop(in_order(1)).await;
    assert_eq!(bodies(&first), ["a1"]);
    let other = store.pop(in_order(1)).await;
    assert_eq!(bodies(&other), ["b1"], "another message group goes on");
    assert_eq!(store.bodies(in_order(8)).await, [""; 0]);
    assert_eq!(store.ack(first[0].2).await, Settled::Done);
    let next = store.pop(in_order(8)).await;
    assert_eq!((bodies(&next), next[0].1), (vec!["a2"], 1));
}

#[tokio::test(start_paused = true)]
async fn a_batch_holds_consecutive_messages_and_a_push_consumer_gets_one_message_group() {
    let messages = [("a", "a1"), ("a", "a2"), ("b", "b1"), ("a", "a3"), ("", "x1"), ("", "x2")];
    let store = store_with(&messages).await;
    assert_eq!(store.bodies(in_order(8)).await, ["a1", "a2", "b1", "a3", "x1", "x2"]);

    let store = store_with(&messages).await;
    let first = store.pop(push_in_order(8)).await;
    assert_eq!(bodies(&first), ["a1", "a2", "a3"], "past those of others");
    assert_eq!(store.bodies(push_in_order(8)).await, ["b1"]);
    assert_eq!(store.bodies(push_in_order(8)).await, ["x1", "x2"], "messages without a message group share one");
    for (_, _, key) in &first {
        store.ack(*key).await;
    }
    assert_eq!(store.bodies(push_in_order(8)).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn message_groups_that_take_turns_come_in_whole_batches() {
    let lines = ["a", "b", "c", "d"];
    let messages: Vec<_> = (0..12).map(|nth| (lines[nth % 4], lines[nth % 4])).collect();
    let store = store_with(&messages).await;
    for line in lines {
        assert_eq!(store.bodies(push_in_order(8)).await, [line; 3]);
    }
    assert_eq!(store.bodies(push_in_order(8)).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_message_holds_back_those_behind_it_and_comes_first() {
    let store = store_with(&[("a", "a1"), ("a", "a2"), ("a", "a3")]).await;
    let batch = store.pop(in_order(2)).await;
    assert_eq!(store.engine.settle(batch[0].2, after(4)).await, Ok(Settled::Done));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(store.bodies(in_order(8)).await, [""; 0], "its sister is still with a consumer");
    assert_eq!(store.ack(batch[1].2).await, Settled::Done);
    let again = store.pop(in_order(8)).await;
    assert_eq!(
        again.iter().map(|(body, attempt, _)| (body.as_str(), *attempt)).collect::<Vec<_>>(),
        [("a1", 2), ("a3", 1)]
    );
}

#[tokio::test(start_paused = true)]
async fn an_expired_batch_comes_again_in_order_without_what_was_acked() {
    let store = store_with(&[("a", "a1"), ("a", "a2"), ("a", "a3")]).await;
    let batch = store.pop(in_order(3)).await;
    store.ack(batch[1].2).await;
    store.send_in(0, "a", "a4").await;
    assert_eq!(store.bodies(in_order(8)).await, [""; 0]);
    tokio::time::sleep(TEN_SECONDS).await;
    assert_eq!(store.bodies(in_order(8)).await, ["a1", "a3", "a4"]);
}

#[tokio::test(start_paused = true)]
async fn a_released_batch_keeps_its_place() {
    let store = store_with(&[("a", "a1"), ("a", "a2"), ("a", "a3")]).await;
    let batch = store.pop(in_order(2)).await;
    store.engine.release(batch.iter().map(|(_, _, key)| *key).collect());
    store.engine.topic_status(TopicId(1)).await.expect("the store answers");
    tokio::time::sleep(COMMIT).await;
    let again = store.pop(in_order(8)).await;
    assert_eq!(bodies(&again), ["a1", "a2", "a3"]);
    assert!(again.iter().all(|(_, attempt, _)| *attempt == 1));
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_given_again_before_any_lock_but_never_behind_somebody_else() {
    let store = store_with(&[("a", "a1"), ("a", "a2")]).await;
    let attempt =
        |id: &'static str, batch| Pop { attempt_id: Some(Bytes::from_static(id.as_bytes())), ..in_order(batch) };
    let first = store.pop(attempt("one", 2)).await;
    assert_eq!(store.pop(attempt("one", 2)).await, first, "the same deliveries");
    tokio::time::sleep(TEN_SECONDS).await;
    assert_eq!(store.bodies(attempt("two", 1)).await, ["a1"]);
    assert_eq!(store.bodies(attempt("one", 2)).await, [""; 0], "a2 alone would overtake a1");
}

#[tokio::test(start_paused = true)]
async fn waiting_messages_survive_a_restart_and_nothing_overtakes_them() {
    let store = store_with(&[("a", "a1"), ("a", "a2"), ("b", "b1"), ("a", "a3")]).await;
    let first = store.pop(in_order(1)).await;
    assert_eq!(store.bodies(in_order(1)).await, ["b1"]);
    let status = store.engine.group_status(group().id).await.expect("the store answers");
    assert_eq!((status[0].floor.0, status[0].cursor.0, status[0].in_flight), (0, 3, 2), "a2 was never delivered");
    let store = store.restart().await;
    assert_eq!(store.bodies(in_order(8)).await, [""; 0]);
    assert_eq!(store.ack(first[0].2).await, Settled::Done);
    assert_eq!(store.bodies(in_order(8)).await, ["a2", "a3"]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_cannot_be_read_holds_back_those_behind_it() {
    let large = "a1".repeat(32 << 10);
    let store = store_with(&[("a", &large), ("b", "b1"), ("a", "a2")]).await.restart().await;
    store.disk.flip_bit("store/log/00000000000000000000.seg", 32 << 10);
    for attempt in 1..4 {
        let batch = store.pop(in_order(8)).await;
        let batch: Vec<_> = batch.iter().map(|(body, attempt, _)| (body.as_str(), *attempt)).collect();
        assert_eq!(batch, [("b1", attempt)]);
        assert_eq!(store.bodies(in_order(8)).await, [""; 0], "a2 stays behind a1 while that is out");
        tokio::time::sleep(TEN_SECONDS).await;
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_hears_of_a_message_group_that_became_free() {
    let store = store_with(&[("a", "a1"), ("a", "a2")]).await;
    let mut watch = store.engine.watch(&group(), &topic(), Filter::default());
    let first = store.pop(in_order(1)).await;
    assert_eq!(store.bodies(in_order(1)).await, [""; 0]);
    let acked = store.engine.settle(first[0].2, Settlement::Ack);
    let (told, acked) = tokio::join!(tokio::time::timeout(COMMIT, watch.ready()), acked);
    assert_eq!((told, acked), (Ok(1), Ok(Settled::Done)));

    let second = store.pop(in_order(1)).await;
    assert_eq!(bodies(&second), ["a2"]);
    assert_eq!(tokio::time::timeout(TEN_SECONDS * 2, watch.ready()).await, Ok(1), "when the lease ends");
    assert_eq!(store.bodies(in_order(1)).await, ["a2"]);
}

#[tokio::test(start_paused = true)]
async fn a_reset_unlocks_everything() {
    let store = store_with(&[("a", "a1"), ("a", "a2"), ("a", "a3")]).await;
    let first = store.pop(in_order(1)).await;
    assert_eq!(store.bodies(in_order(1)).await, [""; 0]);
    store.reset(ResetTo::Earliest).await;
    assert_eq!(store.bodies(in_order(2)).await, ["a1", "a2"]);
    assert_eq!(store.ack(first[0].2).await, Settled::Stale);
    assert_eq!(store.bodies(in_order(2)).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_a_changed_filter_does_not_want_blocks_nobody() {
    let store = Store::new().await;
    for (tag, body) in [("x", "1"), ("x", "2"), ("y", "3")] {
        store.send(0, tag, body).await;
    }
    let first = store.pop(in_order(1)).await;
    assert_eq!(store.bodies(in_order(1)).await, [""; 0]);
    store.ack(first[0].2).await;
    let wanted = Pop { filter: Filter::Tags(TagFilter::parse("y").expect("a good filter")), ..in_order(8) };
    assert_eq!(store.bodies(wanted).await, ["3"], "2 is settled");
}

#[tokio::test(start_paused = true)]
async fn a_group_that_is_ordered_no_more_gets_what_waits() {
    let store = store_with(&[("a", "a1"), ("a", "a2")]).await;
    assert_eq!(store.bodies(in_order(1)).await, ["a1"]);
    assert_eq!(store.bodies(in_order(1)).await, [""; 0]);
    assert_eq!(store.bodies(receive(8)).await, ["a2"]);
    tokio::time::sleep(TEN_SECONDS).await;
    assert_eq!(store.bodies(in_order(8)).await, ["a1", "a2"]);
}
