//! Offsets that groups commit themselves.

use apogee_model::{GroupId, QueueId, QueueOffset, TopicId};

use super::{Head, QueueOf, Record, kind};
use crate::codec::Reader;

/// A group goes on here in a queue, by its own word. What it popped is no business of this.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct CommitOffset {
    pub(crate) queue: QueueOf,
    pub(crate) offset: QueueOffset,
}

/// A topic is gone: so is what groups committed there.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct ForgetOffsets {
    pub(crate) topic: TopicId,
}

impl CommitOffset {
    pub(super) fn put(&self, out: &mut Vec<u8>) -> Head {
        out.extend_from_slice(&self.queue.group.0.to_le_bytes());
        Head::of(kind::COMMIT_OFFSET, self.queue.topic, self.queue.queue, self.offset)
    }

    pub(super) fn read(head: &Head, body: &mut Reader<'_>) -> Option<Record> {
        let queue = head.queue_of(GroupId(body.u32()?));
        Some(Record::CommitOffset(Self { queue, offset: head.offset }))
    }
}

impl ForgetOffsets {
    pub(super) fn put(&self) -> Head {
        Head::of(kind::FORGET_OFFSETS, self.topic, QueueId(0), QueueOffset(0))
    }

    pub(super) fn read(head: &Head) -> Record {
        Record::ForgetOffsets(Self { topic: head.topic })
    }
}
