//! What happens at the edges of what fits: blocks, queues in flight, scans.

use std::time::Duration;

use apogee_model::store::{Append, Pop, RequestId, Settled, Settlement};
use apogee_model::{Filter, QueueId, TagFilter};

use crate::support::{COMMIT, Store, TEN_SECONDS, push};
use crate::words::{dead, dead_letters, group, message, receive, topic};

fn appends(count: usize, body: &str, tag: &str) -> Vec<Append> {
    let request = RequestId { proxy_incarnation: 0, sequence: 1 };
    let one = || Append {
        topic: topic(),
        queue: QueueId(0),
        message: message(tag, body),
        request,
        due: None,
        half: None,
        lite: None,
        indexed: true,
        epoch: 0,
    };
    (0..count).map(|_| one()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_block_as_large_as_can_be_takes_no_more_records() {
    let store = Store::new().await;
    for body in ["a", "b"] {
        store.send(1, "", body).await;
    }
    let held = store.pop(receive(2)).await;
    // Headers of block and record, and what its dead letter needs more.
    let large = "x".repeat((8 << 20) - 72 - 48 - 32);
    // All three are decided in one turn, and would share a block if there were room.
    let (sent, ..) =
        tokio::join!(store.engine.append(appends(1, &large, "")), store.ack(held[0].2), store.ack(held[1].2));
    sent.expect("it fits into a block of its own");
    let store = store.restart().await;
    let found = store.pop(receive(32)).await.remove(0);
    assert_eq!(found.0, large, "readable after a restart, and both acks with it");
    let given_up = store.engine.settle(found.2, Settlement::DeadLetter(dead_letters(1))).await;
    assert_eq!((given_up, dead(&store).await), (Ok(Settled::Done), vec![large]));
}

#[tokio::test(start_paused = true)]
async fn many_messages_that_nobody_wants_now_do_not_hide_one_that_somebody_wants() {
    let store = Store::new().await;
    store.engine.append(appends(9_000, "other", "a")).await.expect("the store takes them");
    store.send(0, "b", "wanted").await;
    let mut left = 9_001;
    while left > 0 {
        left -= store.pop(receive(32)).await.len();
    }
    tokio::time::sleep(TEN_SECONDS * 2).await;
    let wanted = Pop { filter: TagFilter::parse("b").expect("a good filter").into(), ..receive(32) };
    assert_eq!(store.bodies(wanted.clone()).await, ["wanted"]);
    let asked = tokio::time::timeout(Duration::from_secs(1), store.pop(wanted)).await;
    assert_eq!(asked, Ok(vec![]), "nothing else is wanted, and that is answered at once");
}

#[tokio::test(start_paused = true)]
async fn a_queue_full_of_unsettled_messages_tells_when_there_is_room_again() {
    let store = Store::new().await;
    store.engine.append(appends(10_001, "m", "")).await.expect("the store takes them");
    let mut held = Vec::new();
    while held.len() < 10_000 {
        held.extend(store.pop(receive(32)).await);
    }
    let mut watch = store.engine.watch(&group(), &topic(), Filter::default());
    assert_eq!(store.pop(receive(1)).await, [], "the queue is full");
    tokio::join!(store.ack(held[0].2), store.ack(held[1].2));
    assert!(tokio::time::timeout(Duration::from_secs(1), watch.ready()).await.is_ok(), "two acks in one block");
    assert_eq!(store.pop(receive(1)).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_receive_that_is_given_up_after_the_store_answered_loses_nothing() {
    let store = Store::new().await;
    store.send(0, "", "a").await;
    {
        let mut lost = Box::pin(store.engine.pop(push(1)));
        // Asked, and dropped when the answer may already be on its way.
        assert!(futures::poll!(&mut lost).is_pending());
        store.engine.topic_status(topic().id).await.expect("the store answers");
        tokio::time::sleep(COMMIT).await;
    }
    tokio::time::sleep(COMMIT).await;
    assert_eq!(store.pop(receive(1)).await.remove(0).1, 1, "visible at once, and the attempt is not counted");
}
