//! Offsets that groups commit themselves, and reading by offset with a filter.

use std::collections::BTreeMap;

use apogee_model::store::{
    CommitOffset, Fetch, FetchFrom, GroupQueue, GroupStatus, OffsetCommitted, ResetTo, StoreError,
};
use apogee_model::{Filter, QueueId, QueueOffset, TagFilter};

use crate::support::Store;
use crate::words::{group, receive, topic};

fn commit(queue: u16, offset: u64) -> CommitOffset {
    CommitOffset { group: group(), topic: topic(), queue: QueueId(queue), offset: QueueOffset(offset) }
}

impl Store {
    async fn commit(&self, queue: u16, offset: u64) -> OffsetCommitted {
        self.engine.commit_offset(commit(queue, offset)).await.expect("the store answers")
    }

    async fn committed(&self, queue: u16) -> Option<u64> {
        let of = GroupQueue { group: group().id, topic: topic().id, queue: QueueId(queue) };
        self.engine.committed_offset(of).await.expect("the store answers").map(|offset| offset.0)
    }

    /// Queue, floor, cursor, and what the group committed.
    async fn progress(&self) -> Vec<(u16, u64, u64, Option<u64>)> {
        let all = self.engine.group_status(group().id).await.expect("the store answers");
        let row = |it: GroupStatus| (it.queue.0, it.floor.0, it.cursor.0, it.pulled.map(|offset| offset.0));
        all.into_iter().map(row).collect()
    }

    async fn sent(self, queue: u16, bodies: &[&str]) -> Self {
        for body in bodies {
            self.send(queue, "", body).await;
        }
        self
    }
}

#[tokio::test(start_paused = true)]
async fn an_offset_is_what_the_group_said_last() {
    let store = Store::new().await.sent(0, &["a", "b", "c"]).await;
    assert_eq!(store.committed(0).await, None);
    assert_eq!(store.commit(0, 2).await, OffsetCommitted::Done);
    assert_eq!((store.committed(0).await, store.committed(1).await), (Some(2), None));
    assert_eq!(store.commit(0, 1).await, OffsetCommitted::Done, "it may go back when the group says so");
    assert_eq!(store.committed(0).await, Some(1));
    assert_eq!(store.commit(0, 3).await, OffsetCommitted::Done, "behind the last message");
    assert_eq!(store.commit(0, 4).await, OffsetCommitted::Beyond { max: QueueOffset(3) });
    assert_eq!(store.commit(1, 0).await, OffsetCommitted::Done, "a queue without messages has a beginning");
    assert_eq!(store.commit(1, 1).await, OffsetCommitted::Beyond { max: QueueOffset(0) });
    assert_eq!((store.committed(0).await, store.committed(1).await), (Some(3), Some(0)));
    let refused = store.engine.commit_offset(commit(4, 0)).await;
    assert!(matches!(refused, Err(StoreError::NoSuchQueue { queues: 4, .. })), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn committed_offsets_outlive_restarts() {
    let store = Store::new().await.sent(0, &["a", "b"]).await;
    store.commit(0, 2).await;
    let store = store.restart().await;
    assert_eq!(store.committed(0).await, Some(2));
    store.commit(0, 1).await;
    let store = store.restart().await.restart().await;
    assert_eq!((store.committed(0).await, store.progress().await), (Some(1), vec![(0, 1, 1, Some(1))]));
}

#[tokio::test(start_paused = true)]
async fn popping_and_committing_leave_one_another_alone() {
    let store = Store::new().await.sent(0, &["a", "b", "c"]).await;
    store.commit(0, 2).await;
    assert_eq!(store.progress().await, [(0, 2, 2, Some(2))], "it never popped");
    let popped = store.pop(receive(1)).await;
    assert_eq!(popped[0].0, "a");
    assert_eq!(store.progress().await, [(0, 0, 1, Some(2))]);
    store.ack(popped[0].2).await;
    store.commit(0, 3).await;
    assert_eq!(store.progress().await, [(0, 1, 1, Some(3))]);
    assert_eq!(store.bodies(receive(9)).await, ["b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn a_reset_moves_what_was_committed() {
    let store = Store::new().await.sent(0, &["a", "b", "c"]).await.sent(1, &["x", "y"]).await;
    store.commit(0, 3).await;
    let rows = store.try_reset(ResetTo::Offsets(BTreeMap::from([(QueueId(0), QueueOffset(1))])), true).await;
    assert_eq!((rows[0].before.0, rows[0].after.0, store.committed(0).await), (3, 1, Some(3)), "a dry run");
    let rows = store.reset(ResetTo::Offsets(BTreeMap::from([(QueueId(0), QueueOffset(1))]))).await;
    assert_eq!((rows.len(), rows[0].before.0, rows[0].after.0), (1, 3, 1));
    assert_eq!((store.committed(0).await, store.committed(1).await), (Some(1), None));
    assert_eq!(store.progress().await, [(0, 1, 1, Some(1))], "a group that pulls does not begin to pop");
    store.reset(ResetTo::Latest).await;
    assert_eq!((store.committed(0).await, store.committed(1).await), (Some(3), None));
    let (_, committed) = tokio::join!(store.reset(ResetTo::Earliest), store.commit(0, 3));
    assert_eq!((committed, store.committed(0).await), (OffsetCommitted::Done, Some(3)), "decided behind the reset");
}

#[tokio::test(start_paused = true)]
async fn a_group_that_pops_and_pulls_is_reset_in_both() {
    let store = Store::new().await.sent(0, &["a", "b", "c"]).await;
    for (_, _, key) in store.pop(receive(9)).await {
        store.ack(key).await;
    }
    store.commit(0, 2).await;
    store.reset(ResetTo::Earliest).await;
    assert_eq!(store.progress().await, [(0, 0, 0, Some(0))]);
    assert_eq!(store.bodies(receive(9)).await, ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn committed_offsets_go_with_their_topic_and_their_group() {
    let store = Store::new().await.sent(0, &["a", "b", "c"]).await;
    store.commit(0, 1).await;
    store.engine.drop_topic(topic().id).await.expect("the store answers");
    assert_eq!((store.committed(0).await, store.progress().await), (None, vec![]));
    store.commit(0, 3).await;
    store.engine.drop_group(group().id).await.expect("the store answers");
    assert_eq!(store.committed(0).await, None);
    assert_eq!(store.commit(0, 2).await, OffsetCommitted::Done, "as if it had been before the end of the group");
    let store = store.restart().await;
    assert_eq!((store.committed(0).await, store.progress().await), (None, vec![]));
}

/// Retention takes messages, and no offset: who pulls from there hears that it is too late.
#[tokio::test(start_paused = true)]
async fn an_offset_stays_when_its_message_goes() {
    let store = Store::new().await.sent(0, &["a", "b", "c"]).await;
    store.commit(0, 1).await;
    store.engine.drop_topic(topic().id).await.expect("the store answers");
    store.commit(0, 1).await;
    assert_eq!((store.committed(0).await, store.progress().await), (Some(1), vec![(0, 3, 3, Some(1))]));
}

async fn found(store: &Store, filter: Filter, from: u64, messages: usize) -> (String, u64) {
    let (topic, queue, from, bytes) = (topic().id, QueueId(0), FetchFrom::Offset(QueueOffset(from)), Fetch::BYTES_MAX);
    let fetch = Fetch { topic, queue, from, messages, bytes, message_id: None, filter };
    let fetched = store.engine.fetch(fetch).await.expect("the store answers");
    let bodies = fetched.messages.iter().map(|it| String::from_utf8_lossy(&it.message.body_part).into_owned());
    (bodies.collect::<Vec<_>>().join(" "), fetched.next.0)
}

#[tokio::test(start_paused = true)]
async fn a_fetch_passes_over_what_its_filter_refuses() {
    let store = Store::new().await;
    for (tag, body) in [("red", "a"), ("blue", "b"), ("red", "c"), ("", "d"), ("red", "e"), ("blue", "f")] {
        store.send(0, tag, body).await;
    }
    let tags = |expression: &str| Filter::from(TagFilter::parse(expression).expect("tags"));
    let seen = async |filter, from, messages| found(&store, filter, from, messages).await;
    assert_eq!(seen(Filter::default(), 0, 2).await, ("a b".to_owned(), 2));
    assert_eq!(seen(tags("red"), 0, 2).await, ("a c".to_owned(), 4), "it goes on at the next one of its kind");
    assert_eq!(seen(tags("red"), 3, 2).await, ("e".to_owned(), 6));
    assert_eq!(seen(tags("blue || red"), 1, 9).await, ("b c e f".to_owned(), 6));
    assert_eq!(seen(tags("green"), 0, 9).await, (String::new(), 6));
    let sql = |expression: &str| Filter::sql(expression).expect("SQL92");
    assert_eq!(seen(sql("TAGS = 'blue'"), 0, 1).await, ("b".to_owned(), 2));
    assert_eq!(seen(sql("TAGS = 'blue'"), 2, 9).await, ("f".to_owned(), 6));
    assert_eq!(seen(sql("TAGS IS NULL"), 0, 9).await, ("d".to_owned(), 6));
    assert_eq!(seen(sql("a IS NOT NULL"), 0, 0).await, (String::new(), 0), "only where it would begin");
}

/// Tags are looked up in the index, so that a fetch comes far; what has to be read is bounded.
#[tokio::test(start_paused = true)]
async fn one_fetch_looks_at_so_many_messages() {
    let store = Store::new().await;
    for nth in 0..600 {
        store.send(0, if nth == 599 { "red" } else { "blue" }, "x").await;
    }
    let red = Filter::from(TagFilter::parse("red").expect("tags"));
    assert_eq!(found(&store, red, 0, 9).await, ("x".to_owned(), 600));
    let red = || Filter::sql("TAGS = 'red'").expect("SQL92");
    assert_eq!(found(&store, red(), 0, 9).await, (String::new(), 512));
    assert_eq!(found(&store, red(), 512, 9).await, ("x".to_owned(), 600));
}
