//! Lanes between a proxy and store-nodes, over loopback.

mod bad;
mod moves;
mod support;
mod transactions;

use std::time::Duration;

use apogee_host::Tasks;
use apogee_model::store::{
    CommitOffset, Fetch, FetchFrom, GroupQueue, OffsetCommitted, QueueReset, Reset, ResetTo, Settled, Settlement,
    StoreError,
};
use apogee_model::{ClientId, Filter, InvisibleDuration, QueueId, QueueOffset, Timestamp, TopicId};
use apogee_proxy::{ClientHeard, StoreNode as _};
use bytes::Bytes;
use support::{SOON, Site, append, bodies, group, leader, receive, stores, topic};
use tokio::time::timeout;

#[tokio::test]
async fn every_request_finds_its_answer() {
    let (site, tasks) = (Site::new(1, leader(1)).await, Tasks::new());
    let store = stores(&[&site], &tasks);
    let two = store.append(vec![append(1, 1, "a"), append(1, 2, "b")]).await.unwrap();
    assert_eq!(two.iter().map(|at| (at.queue, at.offset.0)).collect::<Vec<_>>(), [(QueueId(1), 0), (QueueId(1), 1)]);
    assert_eq!(store.append(Vec::new()).await, Ok(Vec::new()));
    let refused = store.append(vec![append(9, 3, "c")]).await;
    let expected = StoreError::NoSuchQueue { topic: topic().name, queue: QueueId(9), queues: 4 };
    assert_eq!(refused, Err(expected));

    let popped = store.pop(receive(1)).await.unwrap();
    assert_eq!((bodies(&popped), popped.more), (vec![Bytes::from_static(b"a")], true));
    let first = popped.messages[0].key;
    assert_eq!(store.settle(first, Settlement::Ack).await, Ok(Settled::Done));
    let second = store.pop(receive(1)).await.unwrap().messages[0].key;
    assert_eq!(store.settle(second, Settlement::Change(InvisibleDuration::ZERO)).await, Ok(Settled::Done));
    let again = store.pop(receive(1)).await.unwrap().messages.remove(0);
    assert_eq!((again.attempt.0, &again.message.body_part[..]), (2, &b"b"[..]));
    assert_eq!(store.settle(second, Settlement::Ack).await, Ok(Settled::Stale));

    let queues = store.topic_status(topic().id).await.unwrap();
    assert_eq!(queues.iter().map(|it| (it.queue.0, it.min.0, it.max.0)).collect::<Vec<_>>(), [(1, 0, 2)]);
    let groups = store.group_status(group().id).await.unwrap();
    let of_queue = groups.iter().find(|it| it.queue == QueueId(1)).unwrap();
    assert_eq!((of_queue.floor, of_queue.max, of_queue.in_flight), (QueueOffset(1), QueueOffset(2), 1));
    assert_eq!(store.topic_status(TopicId(99)).await, Ok(Vec::new()));
    assert_eq!(store.drop_group(group().id).await, Ok(()));
    assert_eq!(store.drop_topic(topic().id).await, Ok(()));
    assert_eq!(store.topic_status(topic().id).await.unwrap()[0].min, QueueOffset(2));
}

#[tokio::test]
async fn resets_and_fetches_find_their_answers() {
    let (site, tasks) = (Site::new(1, leader(1)).await, Tasks::new());
    let store = stores(&[&site], &tasks);
    store.append(vec![append(1, 1, "a"), append(1, 2, "b")]).await.unwrap();
    store.pop(receive(2)).await.unwrap();
    let reset = |to, dry_run| store.reset_offset(Reset { group: group(), topic: topic(), to, dry_run });
    let row = |after, in_flight| {
        let (before, after) = (QueueOffset(0), QueueOffset(after));
        Ok(vec![QueueReset { queue: QueueId(1), before, after, in_flight }])
    };
    assert_eq!(reset(ResetTo::Latest, true).await, row(2, 2));
    assert_eq!(reset(ResetTo::Offsets([(QueueId(1), QueueOffset(0))].into()), false).await, row(0, 2));
    assert_eq!(reset(ResetTo::Time(Timestamp(0)), true).await, row(0, 0));
    assert_eq!(bodies(&store.pop(receive(9)).await.unwrap()), ["a", "b"]);

    let (topic, queue, from) = (topic().id, QueueId(1), FetchFrom::Offset(QueueOffset(1)));
    let fetch = Fetch { topic, queue, from, messages: 9, bytes: 1 << 20, message_id: None, filter: Filter::default() };
    let fetched = store.fetch(fetch.clone()).await.unwrap();
    assert_eq!((fetched.min, fetched.max, fetched.next), (QueueOffset(0), QueueOffset(2), QueueOffset(2)));
    let found: Vec<_> = fetched.messages.iter().map(|it| (it.offset.0, &it.message.body_part[..])).collect();
    assert_eq!(found, [(1, &b"b"[..])]);
    let large = Bytes::from(vec![7; 4 << 20]);
    store.append(vec![append(1, 3, large.clone())]).await.unwrap();
    let fetched = store.fetch(Fetch { from: FetchFrom::Offset(QueueOffset(2)), ..fetch }).await.unwrap();
    assert!(fetched.messages.len() == 1 && fetched.messages[0].message.body_part == large);
}

#[tokio::test]
async fn offsets_that_groups_commit_find_their_answers() {
    let (site, tasks) = (Site::new(1, leader(1)).await, Tasks::new());
    let store = stores(&[&site], &tasks);
    store.append(vec![append(1, 1, "a"), append(1, 2, "b")]).await.unwrap();
    let commit = |offset| {
        let (queue, offset) = (QueueId(1), QueueOffset(offset));
        store.commit_offset(CommitOffset { group: group(), topic: topic(), queue, offset })
    };
    let of = GroupQueue { group: group().id, topic: topic().id, queue: QueueId(1) };
    assert_eq!(store.committed_offset(of).await, Ok(None));
    assert_eq!(commit(0).await, Ok(OffsetCommitted::Done));
    assert_eq!(store.committed_offset(of).await, Ok(Some(QueueOffset(0))));
    assert_eq!(commit(3).await, Ok(OffsetCommitted::Beyond { max: QueueOffset(2) }));
    assert_eq!(commit(2).await, Ok(OffsetCommitted::Done));
    assert_eq!(store.group_status(group().id).await.unwrap()[0].pulled, Some(QueueOffset(2)));
}

#[tokio::test]
async fn large_batches_arrive_whole_and_in_order() {
    let (site, tasks) = (Site::new(1, leader(1)).await, Tasks::new());
    let store = stores(&[&site], &tasks);
    let body = |seed: u8| Bytes::from(vec![seed; 200_000 + usize::from(seed)]);
    for seed in 0..32 {
        store.append(vec![append(0, seed.into(), body(seed))]).await.unwrap();
    }
    let popped = store.pop(receive(32)).await.unwrap();
    assert_eq!(bodies(&popped), (0..32).map(body).collect::<Vec<_>>());
}

#[tokio::test]
async fn notes_reach_the_leader() {
    let (site, tasks) = (Site::new(1, leader(1)).await, Tasks::new());
    let store = stores(&[&site], &tasks);
    store.append(vec![append(0, 1, "a")]).await.unwrap();
    let mut watch = store.watch(group(), topic(), Filter::default());
    let first = store.pop(receive(1)).await.unwrap().messages.remove(0);
    store.confirm(vec![first.key]);
    store.heard(vec![ClientHeard { client: ClientId::parse("c1").unwrap(), at: tokio::time::Instant::now() }]);
    store.lost(ClientId::parse("c1").unwrap());
    store.release(vec![first.key]);
    let again = popped_soon(&store, &mut *watch).await;
    assert_eq!((again.attempt, again.key.offset), (first.attempt, first.key.offset), "the attempt was not counted");
}

/// Pops whenever the watch says so.
async fn popped_soon(
    store: &impl apogee_proxy::StoreNode,
    watch: &mut dyn apogee_proxy::Watch,
) -> apogee_model::store::Delivery {
    let found = async {
        loop {
            watch.ready().await;
            if let Some(found) = store.pop(receive(1)).await.expect("somebody leads").messages.pop() {
                return found;
            }
        }
    };
    timeout(SOON, found).await.expect("the watch tells")
}

#[tokio::test]
async fn a_watch_tells_what_becomes_ready_and_what_was() {
    let (site, tasks) = (Site::new(1, leader(1)).await, Tasks::new());
    let store = stores(&[&site], &tasks);
    let mut watch = store.watch(group(), topic(), Filter::default());
    assert!(timeout(SOON, watch.ready()).await.unwrap() >= 1, "a new watch tells once, for what came before");
    store.pop(receive(1)).await.unwrap(); // opens the group
    store.append(vec![append(0, 1, "a")]).await.unwrap();
    assert!(timeout(SOON, watch.ready()).await.unwrap() >= 1);
    drop(watch);
}

#[tokio::test]
async fn a_dropped_pop_gives_its_batch_back() {
    let (site, tasks) = (Site::new(1, leader(1)).await, Tasks::new());
    let store = stores(&[&site], &tasks);
    store.append(vec![append(0, 1, "a")]).await.unwrap();
    let mut watch = store.watch(group(), topic(), Filter::default());
    for _ in 0..20 {
        let _cut_somewhere = timeout(Duration::from_micros(300), store.pop(receive(1))).await.map(|popped| {
            let key = popped.unwrap().messages.first().map(|delivery| delivery.key);
            store.release(key.into_iter().collect());
        });
    }
    assert_eq!(popped_soon(&store, &mut *watch).await.attempt.0, 1);
}

#[tokio::test]
async fn many_callers_share_a_lane() {
    let (site, tasks) = (Site::new(1, leader(1)).await, Tasks::new());
    let store = stores(&[&site], &tasks);
    let one = |sequence: u64| store.append(vec![append(0, sequence, sequence.to_be_bytes().to_vec())]);
    let places = futures::future::try_join_all((0..2000).map(one)).await.unwrap();
    let mut offsets: Vec<_> = places.iter().map(|at| at[0].offset.0).collect();
    offsets.sort_unstable();
    assert_eq!(offsets, (0..2000).collect::<Vec<_>>());
}
