//! What groups commit themselves is known to every leader that comes after.

use apogee_model::store::{CommitOffset, GroupQueue, GroupRef, OffsetCommitted};
use apogee_model::{ConsumerGroup, GroupId, QueueOffset};

use crate::group::{Group, append};

#[tokio::test(start_paused = true)]
async fn the_next_leader_knows_what_was_committed() {
    let mut group = Group::founded(7).await;
    group.send(20, 100).await;
    let (topic, queue) = (append(0, 1).topic, append(0, 1).queue);
    let name = ConsumerGroup::parse("", "readers").expect("a good name");
    let of = GroupQueue { group: GroupId(1), topic: topic.id, queue };
    let mut last = None;
    for offset in [3, 9, 5] {
        let leader = group.leader().await;
        let engine = group.open(leader).await;
        assert_eq!(engine.committed_offset(of).await, Ok(last));
        let (topic, offset) = (topic.clone(), QueueOffset(offset));
        let commit = CommitOffset { group: GroupRef { id: GroupId(1), name: name.clone() }, topic, queue, offset };
        assert_eq!(engine.commit_offset(commit).await, Ok(OffsetCommitted::Done));
        last = Some(offset);
        group.lose_power(leader).await;
        let next = group.leader().await;
        assert_eq!(group.open(next).await.committed_offset(of).await, Ok(last), "after {leader} came {next}");
        group.start(leader);
        group.all_open().await;
        group.agree().await;
    }
}
