//! Messages that wait for their time, while everything around them goes.

use std::sync::Arc;
use std::time::Duration;

use apogee_engine::{Retention, RocksSettings, RocksViewStore};
use apogee_host::{Clock as _, RealClock, RealDisk};
use apogee_model::store::{
    Append, Appended, EndTransaction, Half, HalfId, KeptId, Recall, Recalled, RequestId, Resolution, TransactionEnded,
};
use apogee_model::{QueueId, StoredMessage, Timestamp};
use bytes::Bytes;
use tokio::time::Instant;

use crate::site::{SEGMENT, Site, body, everything, topic};

/// Longest time until segments go.
const GO_MAX: Duration = Duration::from_secs(60);

async fn open(folder: &std::path::Path) -> Site {
    let retention = Retention { bytes: Some(2 * SEGMENT), every: Duration::from_millis(50), ..everything() };
    let disk = RealDisk::open(folder).expect("the folder is ours");
    let views = RocksViewStore::new(folder, RocksSettings { views_bytes: 16 << 20 }).expect("a thread");
    let site = Site::open(Arc::new(disk), Arc::new(views), Arc::new(RealClock), retention).await;
    site.unwrap_or_else(|why| panic!("it does not open: {why}"))
}

async fn append(site: &Site, nth: u64, due: Option<Timestamp>, half: Option<Half>) -> Appended {
    let append = Append {
        topic: topic(),
        queue: QueueId(1),
        message: StoredMessage { body_part: body(nth, 1000), properties_part: Bytes::new() },
        request: RequestId { proxy_incarnation: 0, sequence: 0 },
        due,
        half,
        lite: None,
        indexed: true,
        epoch: 0,
    };
    site.engine.append(vec![append]).await.expect("the store takes it")[0]
}

async fn delayed(site: &Site, nth: u64) -> KeptId {
    let due = RealClock.wall().plus(Duration::from_secs(3600));
    append(site, nth, Some(due), None).await.kept.expect("it waits")
}

async fn half(site: &Site, nth: u64) -> HalfId {
    let half = Half { check_after: Duration::from_secs(3600) };
    append(site, nth, None, Some(half)).await.half.expect("it is a half message")
}

#[tokio::test]
async fn half_messages_are_carried_forward_and_read_where_they_are() {
    let folder = tempfile::tempdir().expect("a folder");
    let site = open(folder.path()).await;
    let ids = [half(&site, 1).await, half(&site, 2).await];
    let begun = Instant::now();
    let mut number = 10;
    while site.first_block().await < 20 {
        number += 1;
        site.send(0, body(number, 16 << 10)).await.expect("the store takes it");
        assert!(begun.elapsed() < GO_MAX, "no segment went");
    }
    site.close().await;
    let site = open(folder.path()).await;
    let open = site.engine.transactions(topic().id, HalfId(0), 9).await.expect("both can be read");
    assert_eq!(open.iter().map(|it| it.id).collect::<Vec<_>>(), ids);
    assert_eq!(open[1].message.body_part, body(2, 1000));
    let end = |id, resolution| EndTransaction { topic: topic().id, id, resolution };
    let done = Ok(TransactionEnded::Done);
    assert_eq!(site.engine.end_transaction(end(ids[0], Resolution::Rollback)).await, done);
    assert_eq!(site.engine.end_transaction(end(ids[1], Resolution::Commit)).await, done);
    let status = site.engine.topic_status(topic().id).await.expect("the store answers");
    assert_eq!(status.iter().filter(|queue| queue.queue == QueueId(1)).map(|queue| queue.max.0).sum::<u64>(), 1);
    site.close().await;
}

#[tokio::test]
async fn what_waits_is_carried_forward_and_does_not_hold_the_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let site = open(folder.path()).await;
    let first = delayed(&site, 1).await;
    let other = delayed(&site, 2).await;
    let begun = Instant::now();
    let mut number = 10;
    while site.first_block().await < 20 {
        number += 1;
        site.send(0, body(number, 16 << 10)).await.expect("the store takes it");
        assert!(begun.elapsed() < GO_MAX, "no segment went");
    }
    let recall = |id| Recall { topic: topic().id, id };
    assert_eq!(site.engine.recall(recall(first)).await, Ok(Recalled::Done));
    site.close().await;
    let site = open(folder.path()).await;
    let dump = site.dump().await;
    let waiting: Vec<_> = dump.views.lines().filter(|line| line.starts_with("kept KeptId")).collect();
    assert_eq!(waiting.len(), 1, "{waiting:?}");
    assert!(waiting[0].contains(&format!("number: {}", other.number)), "{waiting:?}");
    assert_eq!(site.engine.recall(recall(other)).await, Ok(Recalled::Done));
    site.close().await;
}
