//! Offsets that groups commit themselves, because they read queues by offset. What was popped is no business of theirs.

use crate::{GroupId, QueueId, QueueOffset, TopicId};

use super::{GroupRef, TopicRef};

/// Asks to remember where a group goes on in a queue, by its own word.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommitOffset {
    pub group: GroupRef,
    pub topic: TopicRef,
    pub queue: QueueId,
    /// The first message that the group has not seen to. It may be before what was committed last.
    pub offset: QueueOffset,
}

/// What became of a [`CommitOffset`].
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum OffsetCommitted {
    Done,
    /// The queue never had this offset, and nothing has changed; the next message gets `max`.
    Beyond {
        max: QueueOffset,
    },
}

/// One queue of one group, of which somebody wants to know what was committed.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct GroupQueue {
    pub group: GroupId,
    pub topic: TopicId,
    pub queue: QueueId,
}
