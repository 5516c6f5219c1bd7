//! UpdateOffset, GetOffset, QueryOffset: what somebody needs who reads a queue by offset.
//!
//! What a group commits here is its own word. It settles nothing that the group receives, and receiving moves none of it.

use std::sync::Arc;

use apogee_model::store::{CommitOffset, Fetch, FetchFrom, GroupQueue, OffsetCommitted};
use apogee_model::{ConsumerGroup, Filter, QueueId, QueueOffset, ReplicaGroupId, Timestamp, Topic, TopicConfig};

use super::{Call, ServiceError};
use crate::route::{Directory, group_ref, topic_ref};
use crate::session::Sessions;
use crate::store::Stores;

/// Stores the progress of a group in one queue.
#[derive(Clone, Debug)]
pub(crate) struct Update {
    pub group: ConsumerGroup,
    pub topic: Topic,
    /// As the client says it.
    pub queue: i32,
    pub offset: QueueOffset,
}

/// The progress is stored.
#[derive(Debug)]
pub(crate) struct Updated;

/// Asks for the progress of a group in one queue.
#[derive(Clone, Debug)]
pub(crate) struct Get {
    pub group: ConsumerGroup,
    pub topic: Topic,
    pub queue: i32,
}

/// Asks for an offset of one queue.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    pub topic: Topic,
    pub queue: i32,
    pub of: Point,
}

/// Of what an offset is wanted.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Point {
    /// Of the first message that the queue holds.
    Beginning,
    /// Of the next message that the queue gets.
    End,
    /// Of the first message that was stored then or later; of the next one, when there is none.
    Time(Timestamp),
}

/// The offset that was asked for.
#[derive(Debug)]
pub(crate) struct Offset(pub QueueOffset);

pub(crate) struct Service {
    directory: Directory,
    stores: Stores,
    sessions: Arc<Sessions>,
}

impl Service {
    pub(crate) fn new(directory: Directory, stores: Stores, sessions: Arc<Sessions>) -> Self {
        Self { directory, stores, sessions }
    }

    /// Answered when it is durable. The first commit of a group creates it, where that is allowed.
    pub(crate) async fn update(&self, call: Call, ask: Update) -> Result<Updated, ServiceError> {
        self.sessions.greet(&call)?;
        let topic = self.directory.topic(&ask.topic)?;
        let group = self.directory.group_on_first_use(&ask.group).await?;
        let (queue, replica_group) = queue_of(&topic, ask.queue)?;
        let (group, topic, offset) = (group_ref(&group), topic_ref(&topic), ask.offset);
        let commit = CommitOffset { group, topic, queue, offset };
        match self.stores.of(replica_group)?.commit_offset(commit).await? {
            OffsetCommitted::Done => Ok(Updated),
            OffsetCommitted::Beyond { max } => Err(ServiceError::OffsetBeyond { offset, max }),
        }
    }

    /// A group that nobody knows yet has no progress, where its first use would create it.
    pub(crate) async fn get(&self, call: Call, ask: Get) -> Result<Offset, ServiceError> {
        self.sessions.greet(&call)?;
        let topic = self.directory.topic(&ask.topic)?;
        let (queue, replica_group) = queue_of(&topic, ask.queue)?;
        let offset = match self.directory.group(&ask.group) {
            Some(group) => {
                let of = GroupQueue { group: group.id, topic: topic.id, queue };
                self.stores.of(replica_group)?.committed_offset(of).await?
            }
            None if self.directory.creates() => None,
            None => return Err(ServiceError::GroupNotFound { group: ask.group }),
        };
        let missing = || ServiceError::NoOffset { group: ask.group, topic: ask.topic, queue };
        offset.map(Offset).ok_or_else(missing)
    }

    pub(crate) async fn query(&self, call: Call, ask: Query) -> Result<Offset, ServiceError> {
        self.sessions.greet(&call)?;
        let topic = self.directory.topic(&ask.topic)?;
        let (queue, replica_group) = queue_of(&topic, ask.queue)?;
        let from = match ask.of {
            Point::Beginning => FetchFrom::Offset(QueueOffset(0)),
            Point::End => FetchFrom::End,
            Point::Time(at) => FetchFrom::Time(at),
        };
        let fetch =
            Fetch { topic: topic.id, queue, from, messages: 0, bytes: 0, message_id: None, filter: Filter::default() };
        Ok(Offset(self.stores.of(replica_group)?.fetch(fetch).await?.next))
    }
}

/// The queue that a client means, and where it is. Unlike those of sends and receives, it is no hint.
///
/// # Errors
/// [`ServiceError::NoSuchQueue`].
pub(crate) fn queue_of(topic: &TopicConfig, queue: i32) -> Result<(QueueId, ReplicaGroupId), ServiceError> {
    let missing = || ServiceError::NoSuchQueue { topic: topic.topic.clone(), queue, queues: topic.queues };
    let id = u16::try_from(queue).ok().filter(|id| *id < topic.queues).map(QueueId).ok_or_else(missing)?;
    Ok((id, topic.replica_group(id).ok_or_else(missing)?))
}
