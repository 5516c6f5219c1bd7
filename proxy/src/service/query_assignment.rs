//! QueryAssignment: which queues a push consumer should receive from.

use std::sync::Arc;

use apogee_model::{ConsumerGroup, DeliveryOrder, QueueId};

use super::query_route::{AccessPoint, NamedTopic};
use super::{Call, ServiceError};
use crate::route::Directory;

/// Asks for the share of one consumer of the group.
#[derive(Clone, Debug)]
pub(crate) struct AssignmentQuery {
    pub topic: NamedTopic,
    pub group: ConsumerGroup,
    pub access_point: AccessPoint,
}

/// Queues at the one broker. Every consumer of a group gets all of them; Pop shares the messages out.
#[derive(Clone, Debug)]
pub(crate) struct Assigned {
    pub query: AssignmentQuery,
    pub queues: AssignedQueues,
    pub broker: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AssignedQueues {
    /// One receive serves all queues, written as queue −1.
    Any,
    /// An ordered group receives from each queue by itself.
    Each(Vec<QueueId>),
}

pub(crate) struct Service {
    directory: Directory,
    broker: Arc<str>,
}

impl Service {
    pub(crate) fn new(directory: Directory, broker: Arc<str>) -> Self {
        Self { directory, broker }
    }

    pub(crate) async fn run(&self, _call: Call, query: AssignmentQuery) -> Result<Assigned, ServiceError> {
        let topic = self.directory.topic_on_first_use(&query.topic.topic).await?;
        let group = self.directory.group_on_first_use(&query.group).await?;
        if !topic.permission.readable() {
            return Err(ServiceError::NotReadable { topic: query.topic.topic });
        }
        let queues = match group.order {
            // What a client gets is where its lite topics are, not where it looks.
            _ if group.lite.is_some() => AssignedQueues::Any,
            DeliveryOrder::Concurrent => AssignedQueues::Any,
            DeliveryOrder::Fifo => AssignedQueues::Each((0..topic.queues).map(QueueId).collect()),
        };
        Ok(Assigned { query, queues, broker: Arc::clone(&self.broker) })
    }
}
