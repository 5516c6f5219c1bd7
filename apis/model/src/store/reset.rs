//! Letting a group begin elsewhere.

use std::collections::BTreeMap;

use crate::{QueueId, QueueOffset, Timestamp};

use super::{GroupRef, TopicRef};

/// Asks for another place of a group in the queues of a topic. Messages before it are settled, those from there on are as
/// if they had never been delivered; every delivery of the group in these queues ends.
///
/// A group that has not received from the topic yet begins there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reset {
    pub group: GroupRef,
    pub topic: TopicRef,
    pub to: ResetTo,
    /// Nothing changes; the answer says what would.
    pub dry_run: bool,
}

/// Where a group is to go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ResetTo {
    /// At the first message that each queue still holds.
    Earliest,
    /// Behind the last message of each queue.
    Latest,
    /// At the first message of each queue that was stored then or later.
    Time(Timestamp),
    /// At these offsets, or at the nearest ones that their queues have. Queues that are not named stay as they are.
    Offsets(BTreeMap<QueueId, QueueOffset>),
}

/// What became of one queue.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct QueueReset {
    pub queue: QueueId,
    /// Everything below was settled.
    pub before: QueueOffset,
    /// Everything below is settled now, and nothing else.
    pub after: QueueOffset,
    /// Deliveries that ended.
    pub in_flight: u64,
}
