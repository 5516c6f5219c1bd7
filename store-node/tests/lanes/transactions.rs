//! Half messages over lanes: how they end, and what producers are asked.

use std::time::Duration;

use apogee_host::Tasks;
use apogee_model::store::{Append, Checked, EndTransaction, Half, HalfId, Resolution, TransactionEnded};
use apogee_model::{TopicId, store::CheckBack};
use apogee_proxy::{Checks, StoreNode};
use tokio::time::timeout;

use crate::support::{FOLLOWER, SOON, Site, append, bodies, leader, receive, stores, topic};

fn prepared(sequence: u64, body: impl Into<bytes::Bytes>) -> Vec<Append> {
    vec![Append { half: Some(Half { check_after: Duration::from_millis(20) }), ..append(1, sequence, body) }]
}

async fn half(store: &impl StoreNode, sequence: u64, body: impl Into<bytes::Bytes>) -> HalfId {
    let appended = store.append(prepared(sequence, body)).await.expect("it is taken");
    appended[0].half.expect("it is a half message")
}

async fn asked(checks: &mut dyn Checks) -> CheckBack {
    timeout(SOON, checks.next()).await.expect("a producer is asked")
}

#[tokio::test]
async fn transactions_end_and_are_asked_about() {
    let (site, tasks) = (Site::new(1, leader(1)).await, Tasks::new());
    let store = stores(&[&site], &tasks);
    let (yes, no, open) = (half(&store, 1, "yes").await, half(&store, 2, "no").await, half(&store, 3, "open").await);
    let end = |id, resolution| store.end_transaction(EndTransaction { topic: topic().id, id, resolution });
    assert_eq!(end(yes, Resolution::Commit).await, Ok(TransactionEnded::Done));
    assert_eq!(end(no, Resolution::Rollback).await, Ok(TransactionEnded::Done));
    assert_eq!(end(no, Resolution::Commit).await, Ok(TransactionEnded::Otherwise));
    assert_eq!(end(HalfId(99), Resolution::Commit).await, Ok(TransactionEnded::Unknown));
    assert_eq!(bodies(&store.pop(receive(9)).await.unwrap()), ["yes"]);

    let mut checks = store.checks([TopicId(99)].into());
    checks.set_topics([topic().id].into());
    let check = asked(&mut *checks).await;
    assert_eq!((check.id, check.check, &check.message.body_part[..]), (open, 1, &b"open"[..]));
    store.checked(Checked { topic: check.topic, id: check.id, check: check.check });
    let counted = async {
        loop {
            let listed = store.transactions(topic().id, HalfId(0), 9).await.expect("somebody leads");
            if let [one] = &listed[..]
                && one.checks == 1
            {
                break (one.id, one.parked);
            }
            tokio::task::yield_now().await;
        }
    };
    assert_eq!(timeout(SOON, counted).await, Ok((open, false)));
    assert_eq!(store.transactions(topic().id, HalfId(open.0 + 1), 9).await, Ok(Vec::new()));
}

#[tokio::test]
async fn the_next_leader_is_told_which_producers_there_are() {
    let [one, other] = [Site::new(1, leader(1)).await, Site::new(2, FOLLOWER).await];
    let tasks = Tasks::new();
    let store = stores(&[&one, &other], &tasks);
    let mut checks = store.checks([topic().id].into());
    half(&store, 1, "first").await;
    assert_eq!(asked(&mut *checks).await.message.body_part, "first");
    one.role.send_replace(FOLLOWER);
    other.role.send_replace(leader(2));
    // Not through the proxy, which may not have heard yet who leads.
    other.engine.append(prepared(2, "second")).await.expect("it is taken");
    assert_eq!(asked(&mut *checks).await.message.body_part, "second");
}

#[tokio::test]
async fn large_messages_come_as_fast_as_they_are_taken() {
    let (site, tasks) = (Site::new(1, leader(1)).await, Tasks::new());
    let store = stores(&[&site], &tasks);
    for sequence in 0..12 {
        half(&store, sequence + 1, vec![7; 1 << 20]).await;
    }
    let mut checks = store.checks([topic().id].into());
    for _ in 0..12 {
        let check = asked(&mut *checks).await;
        assert_eq!(check.message.body_part.len(), 1 << 20);
        store.checked(Checked { topic: check.topic, id: check.id, check: check.check });
    }
}
