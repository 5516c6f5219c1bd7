//! A topic that gets more queues: no message of a message group overtakes another one by it.

use apogee_model::store::{Append, RequestId, Seal, Sealed, StoreError};
use apogee_model::{GroupId, QueueId, StoredMessage};

use crate::support::Store;
use crate::words::{group, in_order, message, topic};

async fn seal(store: &Store, epoch: u32, groups: &[u32]) -> bool {
    let groups = groups.iter().map(|group| GroupId(*group)).collect();
    let Sealed { drained } =
        store.engine.seal(Seal { topic: topic(), epoch, groups }).await.expect("the store answers");
    drained
}

fn append(message_group: &str, epoch: u32, sequence: u64) -> Append {
    let mut message = message("", "x");
    if !message_group.is_empty() {
        let len = u8::try_from(message_group.len()).expect("a short name");
        let properties_part = [&[0x8a, 0x01, len], message_group.as_bytes()].concat().into();
        message = StoredMessage { properties_part, ..message };
    }
    let request = RequestId { proxy_incarnation: 1, sequence };
    let (due, half, lite) = (None, None, None);
    Append { topic: topic(), queue: QueueId(0), message, request, due, half, lite, indexed: true, epoch }
}

async fn send(store: &Store, message_group: &str, epoch: u32, sequence: u64) -> Result<u64, StoreError> {
    store.engine.append(vec![append(message_group, epoch, sequence)]).await.map(|all| all[0].offset.0)
}

#[tokio::test(start_paused = true)]
async fn what_was_hashed_over_fewer_queues_is_refused_for_good() {
    let store = Store::new().await;
    assert_eq!(send(&store, "g", 0, 1).await, Ok(0));
    seal(&store, 0, &[]).await;
    let sealed = Err(StoreError::Sealed { topic: topic().name });
    assert_eq!(send(&store, "g", 0, 2).await, sealed);
    assert_eq!(send(&store, "g", 0, 1).await, Ok(0), "it was stored before");
    assert_eq!(send(&store, "", 0, 3).await, Ok(1), "it is in no message group");
    let store = store.restart().await;
    assert_eq!(send(&store, "g", 0, 4).await, sealed);
    assert_eq!(send(&store, "g", 1, 5).await, Ok(2));
    assert_eq!(send(&store, "g", 7, 6).await, Ok(3), "another one was told before this one");
    seal(&store, 1, &[]).await;
    assert_eq!(send(&store, "g", 1, 7).await, sealed);
}

#[tokio::test(start_paused = true)]
async fn two_asks_at_once_are_in_order() {
    let store = Store::new().await;
    let (first, sealed, second) = tokio::join!(send(&store, "g", 0, 1), seal(&store, 0, &[]), send(&store, "g", 0, 2),);
    assert_eq!((first, sealed), (Ok(0), false), "nothing is drained before the seal is committed");
    assert_eq!(second, Err(StoreError::Sealed { topic: topic().name }));
}

#[tokio::test(start_paused = true)]
async fn it_is_drained_when_ordered_groups_have_settled_what_was_there() {
    let store = Store::new().await;
    for sequence in 1..=2 {
        send(&store, "g", 0, sequence).await.expect("the store takes it");
    }
    let (ours, others) = (group().id.0, 99);
    seal(&store, 0, &[ours, others]).await;
    assert!(seal(&store, 0, &[ours, others]).await, "nobody reads it");
    let first = store.pop(in_order(1)).await.remove(0).2;
    assert!(!seal(&store, 0, &[ours]).await);
    assert!(seal(&store, 0, &[others]).await, "those keep no order");
    store.ack(first).await;
    assert!(!seal(&store, 0, &[ours]).await);
    send(&store, "", 0, 3).await.expect("it is in no message group");
    let store = store.restart().await;
    let second = store.pop(in_order(1)).await.remove(0).2;
    store.ack(second).await;
    assert!(seal(&store, 0, &[ours]).await, "what came later is no matter");
}
