//! Transactions: half messages that wait for the decision of their producer.

use std::time::Duration;

use crate::{QueueId, StoredMessage, Timestamp, TopicId};

/// Names a half message inside its replica group, for ever.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HalfId(pub u64);

/// Makes a message a half one: nobody sees it until its transaction is committed.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Half {
    /// A producer is asked for its decision when none came for so long.
    pub check_after: Duration,
}

/// How a transaction ends.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Resolution {
    /// The message enters its queue.
    Commit,
    /// Nobody will ever see it.
    Rollback,
}

/// Asks to end a transaction.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct EndTransaction {
    pub topic: TopicId,
    pub id: HalfId,
    pub resolution: Resolution,
}

/// What became of an [`EndTransaction`].
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum TransactionEnded {
    /// It ended so, now or before.
    Done,
    /// It had ended otherwise.
    Otherwise,
    /// There is no such half message, or its end is so long ago that it is forgotten.
    Unknown,
}

/// A producer is to be asked what became of its transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CheckBack {
    pub topic: TopicId,
    pub queue: QueueId,
    pub id: HalfId,
    /// 1 for the first that reaches a producer.
    pub check: u32,
    pub stored_at: Timestamp,
    pub message: StoredMessage,
}

/// A producer was asked: this check counts, and the next one comes later.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Checked {
    pub topic: TopicId,
    pub id: HalfId,
    pub check: u32,
}

/// A half message as operators see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenTransaction {
    pub queue: QueueId,
    pub id: HalfId,
    /// Checks that reached a producer.
    pub checks: u32,
    /// Nobody is asked any more: an operator decides.
    pub parked: bool,
    pub stored_at: Timestamp,
    pub message: StoredMessage,
}
