//! Transactions through changes of the leader: what was decided stays so, and what was not is asked about again.

use std::time::Duration;

use apogee_engine::Engine;
use apogee_model::TopicId;
use apogee_model::store::{Append, Checked, EndTransaction, Half, HalfId, Resolution, StoreError, TransactionEnded};
use tokio::time::timeout;

use crate::group::{Group, LONG, append};

const TOPIC: TopicId = TopicId(1);

async fn leader(group: &mut Group) -> Engine {
    let leader = group.leader().await;
    group.open(leader).await
}

async fn half(engine: &Engine, sequence: u64) -> HalfId {
    let half = Some(Half { check_after: Duration::from_secs(6) });
    let appended = engine.append(vec![Append { half, ..append(sequence, 100) }]).await.expect("the leader takes it");
    appended[0].half.expect("it is a half message")
}

async fn end(engine: &Engine, id: HalfId, resolution: Resolution) -> Result<TransactionEnded, StoreError> {
    engine.end_transaction(EndTransaction { topic: TOPIC, id, resolution }).await
}

#[tokio::test(start_paused = true)]
async fn transactions_survive_their_leader() {
    let mut group = Group::founded(5).await;
    let first = leader(&mut group).await;
    let mut ids = Vec::new();
    for sequence in 1..=4 {
        ids.push(half(&first, 1000 + sequence).await);
    }
    assert_eq!(end(&first, ids[0], Resolution::Commit).await, Ok(TransactionEnded::Done));
    assert_eq!(end(&first, ids[1], Resolution::Rollback).await, Ok(TransactionEnded::Done));
    let mut checks = first.checks([TOPIC].into());
    let check = timeout(LONG, checks.next()).await.expect("a producer is asked");
    first.checked(Checked { topic: check.topic, id: check.id, check: check.check });
    while first.transactions(TOPIC, check.id, 1).await.expect("it leads")[0].checks == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(checks);

    let lost = group.leader().await;
    group.stop(lost).await;
    let next = leader(&mut group).await;
    assert_eq!(end(&next, ids[0], Resolution::Rollback).await, Ok(TransactionEnded::Otherwise));
    assert_eq!(end(&next, ids[1], Resolution::Rollback).await, Ok(TransactionEnded::Done));
    let mut checks = next.checks([TOPIC].into());
    let mut again = Vec::new();
    for _ in 0..2 {
        let check = timeout(LONG, checks.next()).await.expect("a producer is asked");
        next.checked(Checked { topic: check.topic, id: check.id, check: check.check });
        again.push((check.id, check.check));
    }
    again.sort_unstable();
    let count = |id| if id == check.id { 2 } else { 1 };
    assert_eq!(again, [(ids[2], count(ids[2])), (ids[3], count(ids[3]))]);
    assert_eq!(end(&next, ids[2], Resolution::Commit).await, Ok(TransactionEnded::Done));
    assert_eq!(group.messages().await, 2);
    group.start(lost);
    group.all_open().await;
    group.agree().await;
}
