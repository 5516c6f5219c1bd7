//! Offsets that groups commit themselves.

use apogee_model::store::{CommitOffset, GroupQueue, OffsetCommitted};
use apogee_model::{GroupId, QueueId, QueueOffset, TopicId};

use super::{Malformed, narrow, required, v1};

impl From<&CommitOffset> for v1::CommitOffsetAsk {
    fn from(commit: &CommitOffset) -> Self {
        Self {
            group: Some((&commit.group).into()),
            topic: Some((&commit.topic).into()),
            queue: commit.queue.0.into(),
            offset: commit.offset.0,
        }
    }
}

impl TryFrom<v1::CommitOffsetAsk> for CommitOffset {
    type Error = Malformed;

    fn try_from(ask: v1::CommitOffsetAsk) -> Result<Self, Malformed> {
        Ok(Self {
            group: required(ask.group, "the group")?.try_into()?,
            topic: required(ask.topic, "the topic")?.try_into()?,
            queue: QueueId(narrow(ask.queue, "the queue")?),
            offset: QueueOffset(ask.offset),
        })
    }
}

impl From<OffsetCommitted> for v1::OffsetCommitted {
    fn from(committed: OffsetCommitted) -> Self {
        match committed {
            OffsetCommitted::Done => Self { max: None },
            OffsetCommitted::Beyond { max } => Self { max: Some(max.0) },
        }
    }
}

impl From<v1::OffsetCommitted> for OffsetCommitted {
    fn from(committed: v1::OffsetCommitted) -> Self {
        committed.max.map_or(Self::Done, |max| Self::Beyond { max: QueueOffset(max) })
    }
}

impl From<GroupQueue> for v1::CommittedOffsetAsk {
    fn from(of: GroupQueue) -> Self {
        Self { group: of.group.0, topic: of.topic.0, queue: of.queue.0.into() }
    }
}

impl TryFrom<v1::CommittedOffsetAsk> for GroupQueue {
    type Error = Malformed;

    fn try_from(ask: v1::CommittedOffsetAsk) -> Result<Self, Malformed> {
        let queue = QueueId(narrow(ask.queue, "the queue")?);
        Ok(Self { group: GroupId(ask.group), topic: TopicId(ask.topic), queue })
    }
}

impl From<Option<QueueOffset>> for v1::CommittedOffset {
    fn from(offset: Option<QueueOffset>) -> Self {
        Self { offset: offset.map(|offset| offset.0) }
    }
}

impl From<v1::CommittedOffset> for Option<QueueOffset> {
    fn from(committed: v1::CommittedOffset) -> Self {
        committed.offset.map(QueueOffset)
    }
}
