//! Letting a topic with message groups have more queues: first it takes no more of them, then what it has is consumed.

use std::collections::BTreeSet;

use super::TopicRef;
use crate::GroupId;

/// From now on no message of a message group is taken that was hashed over the queues of this epoch, or an older one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seal {
    pub topic: TopicRef,
    pub epoch: u32,
    /// The groups that keep message groups in order.
    pub groups: BTreeSet<GroupId>,
}

/// The seal is committed.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Sealed {
    /// The groups that read the topic here have settled everything that was there when it was sealed.
    pub drained: bool,
}
