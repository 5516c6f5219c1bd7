//! When a message is dead to a group.

use crate::QueueId;
use crate::store::TopicRef;

/// Where the dead letters of a group go in one replica group, and when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeadLetters {
    /// Deliveries of a message before it is dead.
    pub max_attempts: u32,
    /// Has a queue in every replica group.
    pub topic: TopicRef,
    /// The queue of the replica group that is asked.
    pub queue: QueueId,
}
