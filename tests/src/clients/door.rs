//! What clients can ask of a replica group, however they reach it.

use std::future::Future;

use apogee_model::store::{
    Append, Appended, CheckBack, Checked, CommitOffset, DeliveryKey, EndTransaction, Fetch, Fetched, GroupQueue,
    GroupStatus, LiteSubscribed, LiteSubscription, OffsetCommitted, Pop, Popped, QueueReset, Recall, Recalled, Reset,
    Settled, Settlement, StoreError, TransactionEnded,
};
use apogee_model::{GroupId, QueueOffset};

/// The way to a replica group.
pub trait Door {
    /// Appends messages to one queue.
    fn append(&self, messages: Vec<Append>) -> impl Future<Output = Result<Vec<Appended>, NoAnswer>>;
    /// Changes what a client is subscribed to.
    fn lite_subscribe(&self, subscription: LiteSubscription) -> impl Future<Output = Result<LiteSubscribed, NoAnswer>>;
    /// Leases messages.
    fn pop(&self, pop: Pop) -> impl Future<Output = Result<Popped, NoAnswer>>;
    /// Ends a delivery, or moves the end of its lease.
    fn settle(&self, key: DeliveryKey, what: Settlement) -> impl Future<Output = Result<Settled, NoAnswer>>;
    /// Gives deliveries back; nobody answers.
    fn release(&self, deliveries: Vec<DeliveryKey>);
    /// Takes a delayed message back.
    fn recall(&self, recall: Recall) -> impl Future<Output = Result<Recalled, NoAnswer>>;
    /// Ends a transaction.
    fn end_transaction(&self, end: EndTransaction) -> impl Future<Output = Result<TransactionEnded, NoAnswer>>;
    /// What producers are asked in a moment to come; none of it was asked before it is said so.
    fn checks(&self) -> impl Future<Output = Result<Vec<CheckBack>, NoAnswer>>;
    /// Producers were asked.
    fn checked(&self, checked: Checked) -> impl Future<Output = Result<(), NoAnswer>>;
    /// Lets a group go on elsewhere.
    fn reset(&self, reset: Reset) -> impl Future<Output = Result<Vec<QueueReset>, NoAnswer>>;
    /// Reads a queue.
    fn fetch(&self, fetch: Fetch) -> impl Future<Output = Result<Fetched, NoAnswer>>;
    /// Says how far a group came that reads by offset.
    fn commit_offset(&self, commit: CommitOffset) -> impl Future<Output = Result<OffsetCommitted, NoAnswer>>;
    /// What it said last.
    fn committed_offset(&self, of: GroupQueue) -> impl Future<Output = Result<Option<QueueOffset>, NoAnswer>>;
    /// How far a group is.
    fn group_status(&self, group: GroupId) -> impl Future<Output = Result<Vec<GroupStatus>, NoAnswer>>;
}

/// Why a client got no good answer.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum NoAnswer {
    /// It was certainly not carried out.
    Refused,
    /// Whether it was carried out is unknown.
    Unknown,
    /// Unknown, and there will be no more answers.
    Over,
}

impl From<StoreError> for NoAnswer {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Busy { .. }
            | StoreError::TooLarge { .. }
            | StoreError::TooManyLiteTopics { .. }
            | StoreError::Sealed { .. }
            | StoreError::NoSuchQueue { .. }
            | StoreError::NotLeader { .. }
            | StoreError::CannotLead { .. } => NoAnswer::Refused,
            StoreError::Timeout { .. } | StoreError::Unreadable { .. } | StoreError::LeaderLost => NoAnswer::Unknown,
            StoreError::Stopped => NoAnswer::Over,
        }
    }
}
