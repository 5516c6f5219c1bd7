//! Offsets that groups commit themselves, and how far a group is by what it popped and what it committed.
//!
//! An offset is what a group says, not what it did: it may go back, and it stays when retention takes the message it names.
//! Only one that the queue never had is refused.
//!
//! Source: apache/rocketmq `broker/.../offset/ConsumerOffsetManager.java` (commitOffset takes a smaller offset with a warning).

use apogee_model::store::{CommitOffset, GroupStatus, OffsetCommitted};
use apogee_model::{GroupId, TopicId};
use tokio::sync::oneshot::Sender;

use super::{Answer, Leader, Now};
use crate::pop::PopQueue;
use crate::record::{self, ForgetOffsets, QueueOf, Record};
use crate::state::QueueState;

impl Leader {
    /// Answered when the offset is committed; an offset that the queue never had is refused.
    pub(super) fn commit_offset(
        &mut self,
        ask: &CommitOffset,
        reply: Sender<OffsetCommitted>,
        now: Now,
    ) -> Option<Answer> {
        // A caller that gave up before its turn goes on with another offset, which this one must not undo.
        if reply.is_closed() {
            return None;
        }
        let (queue, offset) = (QueueOf { group: ask.group.id, topic: ask.topic.id, queue: ask.queue }, ask.offset);
        let max = self.state.queue(queue.topic, queue.queue).next;
        if offset > max {
            return Some(Answer::OffsetCommitted(reply, OffsetCommitted::Beyond { max }));
        }
        // Of a group that is gone, what it commits is gone, too.
        if !self.dropped.contains(&queue.group) {
            self.name_topic(&ask.topic, now);
            self.name_group(&ask.group, now);
            self.propose(Record::CommitOffset(record::CommitOffset { queue, offset }), now);
        }
        self.blocks.answer(Answer::OffsetCommitted(reply, OffsetCommitted::Done))
    }

    /// A topic goes, and with it what groups committed there.
    pub(super) fn forget_offsets(&mut self, topic: TopicId, now: Now) {
        if self.state.has_pull_offsets(topic) {
            self.propose(Record::ForgetOffsets(ForgetOffsets { topic }), now);
        }
    }

    /// Whether a group reads a topic by offset, and never popped from it.
    pub(super) fn only_pulls(&self, group: GroupId, topic: TopicId) -> bool {
        !self.is_open(group, topic) && self.state.pull_offsets(group).any(|(of, ..)| of == topic)
    }

    pub(super) fn group_status(&self, group: GroupId) -> Vec<GroupStatus> {
        let mut all = Vec::new();
        for (topic, state) in self.state.topics_of(group) {
            for (queue, QueueState { min, next: max, .. }) in self.state.queues_of(topic) {
                let pop = state.queues.get(&queue);
                // A group that never read a queue has nothing to do with what was trimmed.
                let (floor, cursor) = pop.map_or((min, min), |pop| (pop.floor().max(min), pop.cursor.max(min)));
                let delivered = |pop: &PopQueue| pop.entries.values().filter(|entry| !entry.is_waiting()).count();
                let in_flight = pop.map_or(0, |pop| u64::try_from(delivered(pop)).unwrap_or(u64::MAX));
                let pulled = self.state.pull_offset(QueueOf { group, topic, queue });
                all.push(GroupStatus { topic, queue, floor, cursor, max, in_flight, pulled });
            }
        }
        let popped = |topic| self.state.pops.get(&(group, topic)).is_some();
        for (topic, queue, offset) in self.state.pull_offsets(group).filter(|(topic, ..)| !popped(*topic)) {
            let QueueState { min, next: max, .. } = self.state.queue(topic, queue);
            let floor = offset.max(min);
            all.push(GroupStatus { topic, queue, floor, cursor: floor, max, in_flight: 0, pulled: Some(offset) });
        }
        all
    }
}
