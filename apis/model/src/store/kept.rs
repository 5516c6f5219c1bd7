//! Messages that are in the log and in no queue yet.

use crate::{Timestamp, TopicId};

/// Names a message that is kept back, inside its replica group. Ordered by when it enters its queue.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct KeptId {
    /// When the message enters its queue, never earlier.
    pub due: Timestamp,
    /// Counts the messages a replica group ever kept back.
    pub number: u64,
}

impl KeptId {
    /// Before all others.
    pub const MIN: Self = Self { due: Timestamp(0), number: 0 };
    /// Behind all others.
    pub const MAX: Self = Self { due: Timestamp(u64::MAX), number: u64::MAX };
}

/// Asks for a message that is kept back to enter its queue never.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Recall {
    pub topic: TopicId,
    pub id: KeptId,
}

/// The fate of a recall.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Recalled {
    /// No consumer will ever see the message. It may have been recalled before.
    Done,
    /// The message is in its queue, or there never was one like it.
    TooLate,
}
