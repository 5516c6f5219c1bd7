//! Counters of queues and groups.

use apogee_model::store::{GroupStatus, QueueStatus};
use apogee_model::{QueueId, QueueOffset, TopicId};

use super::{Malformed, narrow, v1};

impl v1::TopicStatus {
    pub fn of(queues: &[QueueStatus]) -> Self {
        let row = |it: &QueueStatus| v1::QueueStatus {
            queue: it.queue.0.into(),
            min: it.min.0,
            max: it.max.0,
            delayed: it.delayed,
        };
        Self { queues: queues.iter().map(row).collect() }
    }

    /// What [`v1::TopicStatus::of`] was made of.
    ///
    /// # Errors
    /// [`Malformed`] for a queue that cannot be.
    pub fn into_status(self) -> Result<Vec<QueueStatus>, Malformed> {
        let row = |it: v1::QueueStatus| {
            let queue = QueueId(narrow(it.queue, "the queue")?);
            Ok(QueueStatus { queue, min: QueueOffset(it.min), max: QueueOffset(it.max), delayed: it.delayed })
        };
        self.queues.into_iter().map(row).collect()
    }
}

impl v1::GroupStatus {
    pub fn of(queues: &[GroupStatus]) -> Self {
        let row = |it: &GroupStatus| v1::GroupQueueStatus {
            topic: it.topic.0,
            queue: it.queue.0.into(),
            floor: it.floor.0,
            cursor: it.cursor.0,
            max: it.max.0,
            in_flight: it.in_flight,
            pulled: it.pulled.map(|offset| offset.0),
        };
        Self { queues: queues.iter().map(row).collect() }
    }

    /// What [`v1::GroupStatus::of`] was made of.
    ///
    /// # Errors
    /// [`Malformed`] for a queue that cannot be.
    pub fn into_status(self) -> Result<Vec<GroupStatus>, Malformed> {
        let row = |it: v1::GroupQueueStatus| {
            Ok(GroupStatus {
                topic: TopicId(it.topic),
                queue: QueueId(narrow(it.queue, "the queue")?),
                floor: QueueOffset(it.floor),
                cursor: QueueOffset(it.cursor),
                max: QueueOffset(it.max),
                in_flight: it.in_flight,
                pulled: it.pulled.map(QueueOffset),
            })
        };
        self.queues.into_iter().map(row).collect()
    }
}
