//! Why the store did not do it.

use std::time::Duration;

use apogee_model::store::StoreError;
use apogee_model::{QueueId, ReplicaId};

use super::v1::lane_error::Reason;
use super::{Malformed, narrow, required, v1};

/// What a lane says of a queue that has no room, whatever the store-node called it: a [`StoreError`] names a constant.
const BUSY: &str = "a queue of the store-node";

impl From<&StoreError> for v1::LaneError {
    fn from(error: &StoreError) -> Self {
        let wide = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let reason = match error {
            StoreError::Busy { what } => Reason::Busy((*what).to_owned()),
            StoreError::TooLarge { bytes, max } => {
                Reason::TooLarge(v1::TooLarge { bytes: wide(*bytes), max: wide(*max) })
            }
            StoreError::NoSuchQueue { topic, queue, queues } => Reason::NoSuchQueue(v1::NoSuchQueue {
                topic: Some(topic.into()),
                queue: queue.0.into(),
                queues: (*queues).into(),
            }),
            StoreError::Timeout { waited } => Reason::TimeoutMs(u64::try_from(waited.as_millis()).unwrap_or(u64::MAX)),
            StoreError::Unreadable { why } => Reason::Unreadable(why.clone()),
            StoreError::Stopped => Reason::Stopped(v1::Done {}),
            StoreError::NotLeader { leader } => {
                Reason::NotLeader(v1::NotLeader { leader: leader.map(|replica| replica.0) })
            }
            StoreError::LeaderLost => Reason::LeaderLost(v1::Done {}),
            StoreError::TooManyLiteTopics { max } => Reason::TooManyLiteTopics(wide(*max)),
            StoreError::Sealed { topic } => Reason::Sealed(topic.into()),
            // No proxy asks for what this answers.
            StoreError::CannotLead { .. } => Reason::Refused(error.to_string()),
        };
        Self { reason: Some(reason) }
    }
}

impl From<Malformed> for v1::LaneError {
    fn from(malformed: Malformed) -> Self {
        Self { reason: Some(Reason::Refused(malformed.to_string())) }
    }
}

impl TryFrom<v1::LaneError> for StoreError {
    type Error = Malformed;

    fn try_from(error: v1::LaneError) -> Result<Self, Malformed> {
        let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        Ok(match required(error.reason, "the reason of a failure")? {
            Reason::Busy(_) => Self::Busy { what: BUSY },
            Reason::TooLarge(it) => Self::TooLarge { bytes: size(it.bytes), max: size(it.max) },
            Reason::NoSuchQueue(it) => Self::NoSuchQueue {
                topic: required(it.topic, "the topic")?.try_into()?,
                queue: QueueId(narrow(it.queue, "the queue")?),
                queues: narrow(it.queues, "the number of queues")?,
            },
            Reason::TimeoutMs(millis) => Self::Timeout { waited: Duration::from_millis(millis) },
            Reason::Unreadable(why) => Self::Unreadable { why },
            Reason::Stopped(_) => Self::Stopped,
            Reason::NotLeader(it) => Self::NotLeader { leader: it.leader.map(ReplicaId) },
            Reason::LeaderLost(_) => Self::LeaderLost,
            Reason::TooManyLiteTopics(max) => Self::TooManyLiteTopics { max: size(max) },
            Reason::Sealed(topic) => Self::Sealed { topic: topic.try_into()? },
            Reason::Refused(why) => Self::Unreadable { why: format!("the store-node refused the request: {why}") },
        })
    }
}
