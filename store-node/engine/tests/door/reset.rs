//! Groups that are let go on elsewhere.

use std::collections::BTreeMap;
use std::time::Duration;

use apogee_host::{Clock as _, ManualClock};
use apogee_model::store::{Pop, QueueReset, ResetTo, Settled};
use apogee_model::{QueueId, QueueOffset};
use bytes::Bytes;
use tokio::time::{sleep, timeout};

use crate::support::{Store, TEN_SECONDS, push};
use crate::words::{group, receive, topic};

fn at(queue: u16, offset: u64) -> ResetTo {
    ResetTo::Offsets(BTreeMap::from([(QueueId(queue), QueueOffset(offset))]))
}

fn row(queue: u16, before: u64, after: u64, in_flight: u64) -> QueueReset {
    QueueReset { queue: QueueId(queue), before: QueueOffset(before), after: QueueOffset(after), in_flight }
}

/// A store with `a`, `b` and `c` in queue 0.
async fn three() -> Store {
    let store = Store::new().await;
    for body in ["a", "b", "c"] {
        store.send(0, "", body).await;
    }
    store
}

#[tokio::test(start_paused = true)]
async fn a_reset_to_the_past_brings_settled_messages_again_as_if_for_the_first_time() {
    let store = three().await;
    let first = store.pop(receive(3)).await;
    store.ack(first[0].2).await;
    store.ack(first[1].2).await;
    assert_eq!(store.reset(ResetTo::Earliest).await, [row(0, 2, 0, 1)]);
    assert_eq!(store.ack(first[0].2).await, Settled::Stale, "it is not settled any more");
    assert_eq!(store.ack(first[2].2).await, Settled::Stale, "its delivery has ended");
    let again = store.pop(receive(9)).await;
    let seen: Vec<_> = again.iter().map(|(body, attempt, _)| (body.as_str(), *attempt)).collect();
    assert_eq!(seen, [("a", 1), ("b", 1), ("c", 1)]);
    assert_eq!(store.ack(first[2].2).await, Settled::Stale, "a later delivery replaced it");
    assert_eq!(store.ack(again[2].2).await, Settled::Done);
    assert_eq!(store.ack(first[2].2).await, Settled::Done, "settled, by whomever");
}

#[tokio::test(start_paused = true)]
async fn a_reset_to_the_end_skips_what_was_sent_and_what_is_held() {
    let store = three().await;
    let held = store.pop(push(1)).await.remove(0);
    store.engine.confirm(vec![held.2]);
    assert_eq!(store.reset(ResetTo::Latest).await, [row(0, 0, 3, 1)]);
    assert_eq!(store.pop(receive(9)).await, []);
    sleep(TEN_SECONDS * 12).await;
    assert_eq!(store.pop(receive(9)).await, [], "nor does the one that was held come again");
    assert_eq!(store.ack(held.2).await, Settled::Done, "there is nothing left to settle");
    store.send(0, "", "d").await;
    assert_eq!(store.bodies(receive(9)).await, ["d"]);
}

#[tokio::test(start_paused = true)]
async fn a_group_goes_on_at_the_first_message_stored_at_a_time_or_later() {
    let clock = ManualClock::default();
    let (store, mut times) = (Store::timed(&clock).await, Vec::new());
    for nth in 0..20 {
        clock.advance(Duration::from_secs(1));
        times.push(clock.wall());
        store.send(nth % 3, "", &format!("{nth:02}")).await;
    }
    for nth in [0, 1, 7, 19] {
        store.reset(ResetTo::Time(times[nth])).await;
        let mut bodies = store.bodies(receive(32)).await;
        bodies.sort_unstable();
        assert_eq!(bodies, (nth..20).map(|nth| format!("{nth:02}")).collect::<Vec<_>>());
    }
    let later = clock.wall().plus(TEN_SECONDS);
    assert_eq!(store.reset(ResetTo::Time(later)).await.last(), Some(&row(2, 6, 6, 0)));
    assert_eq!(store.pop(receive(32)).await, []);
}

#[tokio::test(start_paused = true)]
async fn offsets_are_per_queue_and_kept_within_what_the_queue_holds() {
    let store = three().await;
    store.send(1, "", "x").await;
    store.send(1, "", "y").await;
    for (_, _, key) in store.pop(receive(9)).await {
        store.ack(key).await;
    }
    assert_eq!(store.reset(at(1, 1)).await, [row(1, 2, 1, 0)]);
    assert_eq!(store.bodies(receive(9)).await, ["y"]);
    assert_eq!(store.reset(at(1, 99)).await, [row(1, 1, 2, 1)]);
    assert_eq!(store.reset(at(3, 0)).await, [], "a queue that never held anything");
    assert_eq!(store.pop(receive(9)).await, []);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_says_the_same_and_changes_nothing() {
    let store = three().await;
    let held = store.pop(receive(2)).await;
    store.ack(held[0].2).await;
    for to in [ResetTo::Earliest, ResetTo::Latest, at(0, 2)] {
        store.try_reset(to, true).await;
    }
    assert_eq!(store.ack(held[1].2).await, Settled::Done);
    assert_eq!(store.bodies(receive(9)).await, ["c"]);
    let would = store.try_reset(ResetTo::Earliest, true).await;
    assert_eq!(would, [row(0, 2, 0, 1)]);
    assert_eq!(store.reset(ResetTo::Earliest).await, would);
}

#[tokio::test(start_paused = true)]
async fn a_group_that_never_received_begins_where_it_was_put() {
    let store = three().await;
    store.send(1, "", "x").await;
    assert_eq!(store.try_reset(at(0, 2), true).await, [row(0, 0, 2, 0)]);
    assert_eq!(store.reset(at(0, 2)).await, [row(0, 0, 2, 0)]);
    let mut bodies = store.bodies(receive(9)).await;
    bodies.sort_unstable();
    assert_eq!(bodies, ["c", "x"], "the other queue begins where it would have");
}

#[tokio::test(start_paused = true)]
async fn a_reset_outlives_a_restart() {
    let store = three().await;
    let held = store.pop(receive(3)).await;
    store.ack(held[0].2).await;
    store.reset(at(0, 1)).await;
    let store = store.restart().await;
    assert_eq!(store.ack(held[1].2).await, Settled::Stale);
    let again = store.pop(receive(9)).await;
    assert_eq!(
        again.iter().map(|(body, attempt, _)| (body.as_str(), *attempt)).collect::<Vec<_>>(),
        [("b", 1), ("c", 1)]
    );
    let store = store.restart().await;
    assert_eq!(store.ack(again[0].2).await, Settled::Done);
}

#[tokio::test(start_paused = true)]
async fn who_waits_hears_of_it() {
    let store = three().await;
    for (_, _, key) in store.pop(receive(9)).await {
        store.ack(key).await;
    }
    let mut watch = store.engine.watch(&group(), &topic(), apogee_model::Filter::default());
    assert!(timeout(TEN_SECONDS, watch.ready()).await.is_err(), "nothing is there");
    store.reset(ResetTo::Earliest).await;
    assert!(timeout(TEN_SECONDS, watch.ready()).await.is_ok());
}

/// What is on its way to the log when a reset is decided ends with it.
#[tokio::test(start_paused = true)]
async fn a_batch_that_is_granted_beside_a_reset_has_ended_when_it_arrives() {
    let store = three().await;
    let attempt = || Pop { attempt_id: Some(Bytes::from_static(b"one")), ..receive(2) };
    let (popped, _) = tokio::join!(store.pop(attempt()), store.reset(ResetTo::Earliest));
    assert_eq!(popped.len(), 2, "decided before");
    let again = store.pop(attempt()).await;
    assert_eq!(
        again.iter().map(|(body, attempt, _)| (body.as_str(), *attempt)).collect::<Vec<_>>(),
        [("a", 1), ("b", 1)]
    );
    assert_eq!(store.ack(popped[0].2).await, Settled::Stale);
    let (settled, _) = tokio::join!(store.ack(again[0].2), store.reset(ResetTo::Earliest));
    assert_eq!(settled, Settled::Done);
    assert_eq!(store.bodies(receive(9)).await, ["a", "b", "c"]);
}
