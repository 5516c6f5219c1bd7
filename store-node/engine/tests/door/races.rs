//! What the power-cut test found once: requests that meet in one turn of the proposer, and a disk that forgot.

use std::time::Duration;

use apogee_host::SimDisk;
use apogee_model::InvisibleDuration;
use apogee_model::store::{Append, DeliveryKey, Pop, RequestId, Settled, Settlement, StoreError};
use apogee_model::{QueueId, TopicId};
use bytes::Bytes;

use crate::support::{Store, TEN_SECONDS};
use crate::words::{message, receive, topic};

fn attempt(id: &'static str) -> Pop {
    Pop { attempt_id: Some(Bytes::from_static(id.as_bytes())), ..receive(8) }
}

#[tokio::test(start_paused = true)]
async fn a_late_change_keeps_the_message_from_a_pop_beside_it() {
    let store = Store::new().await;
    store.send(0, "", "a").await;
    let first = store.pop(receive(1)).await.remove(0);
    tokio::time::sleep(TEN_SECONDS * 2).await;
    let change = Settlement::Change(InvisibleDuration::for_change(TEN_SECONDS).expect("in range"));
    let (changed, popped) = tokio::join!(store.engine.settle(first.2, change), store.pop(receive(1)));
    assert_eq!((changed, popped), (Ok(Settled::Done), vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_late_replay_keeps_the_batch_from_a_pop_beside_it() {
    let store = Store::new().await;
    store.send(0, "", "a").await;
    let first = store.pop(attempt("one")).await;
    tokio::time::sleep(TEN_SECONDS * 2).await;
    let (again, popped) = tokio::join!(store.pop(attempt("one")), store.pop(receive(1)));
    assert_eq!((again, popped), (first, vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_replayed_batch_is_not_released_because_its_first_answer_may_have_arrived() {
    let store = Store::new().await;
    store.send(0, "", "a").await;
    let first = store.pop(attempt("one")).await;
    assert_eq!(store.pop(attempt("one")).await, first);
    let keys: Vec<DeliveryKey> = first.iter().map(|(_, _, key)| *key).collect();
    store.engine.release(keys);
    store.engine.topic_status(TopicId(1)).await.expect("the store answers");
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(store.pop(receive(1)).await, [], "somebody may work on it");
    tokio::time::sleep(TEN_SECONDS).await;
    assert_eq!(store.pop(receive(1)).await.remove(0).1, 2);
}

/// After a sync that failed, the page cache takes blocks for written that the disk does not have.
#[tokio::test(start_paused = true)]
async fn what_a_restart_found_in_the_page_cache_survives_the_next_power_cut() {
    for seed in 0..16 {
        let store = Store::open(SimDisk::new(seed)).await.expect("an empty disk opens");
        store.send(0, "", "before").await;
        store.disk.fail_next_sync();
        let request = RequestId { proxy_incarnation: 0, sequence: 2 };
        let append = Append {
            topic: topic(),
            queue: QueueId(0),
            message: message("", "doubtful"),
            request,
            due: None,
            half: None,
            lite: None,
            indexed: true,
            epoch: 0,
        };
        assert_eq!(store.engine.append(vec![append]).await, Err(StoreError::Stopped));
        let store = Store::open(store.disk).await.expect("the process starts again on the same machine");
        store.send(0, "", "after").await;
        let store = Store::open(store.disk.power_cut()).await.expect("what was committed is there");
        assert_eq!(store.bodies(receive(8)).await, ["before", "doubtful", "after"], "seed {seed}");
    }
}
