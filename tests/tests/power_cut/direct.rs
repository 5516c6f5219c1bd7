//! Clients in the same process as the engine.

use std::sync::Arc;

use apogee_engine::Engine;
use apogee_model::store::{
    Append, Appended, CheckBack, Checked, CommitOffset, DeliveryKey, EndTransaction, Fetch, Fetched, GroupQueue,
    GroupStatus, LiteSubscribed, LiteSubscription, OffsetCommitted, Pop, Popped, QueueReset, Recall, Recalled, Reset,
    Settled, Settlement, StoreError, TransactionEnded,
};
use apogee_model::{GroupId, QueueOffset};
use apogee_tests::clients::{Door, NoAnswer};
use apogee_tests::machine::ProcessDisk;

/// See the module.
pub(crate) struct Direct {
    pub(crate) engine: Engine,
    pub(crate) disk: Arc<ProcessDisk>,
}

impl Direct {
    /// What a process says when its disk is gone, it says to nobody.
    fn heard<T>(&self, answer: Result<T, StoreError>) -> Result<T, NoAnswer> {
        let answer = answer?;
        if self.disk.killed() { Err(NoAnswer::Over) } else { Ok(answer) }
    }
}

impl Door for Direct {
    async fn append(&self, messages: Vec<Append>) -> Result<Vec<Appended>, NoAnswer> {
        self.heard(self.engine.append(messages).await)
    }

    async fn lite_subscribe(&self, subscription: LiteSubscription) -> Result<LiteSubscribed, NoAnswer> {
        self.heard(self.engine.lite_subscribe(subscription).await)
    }

    async fn pop(&self, pop: Pop) -> Result<Popped, NoAnswer> {
        self.heard(self.engine.pop(pop).await)
    }

    async fn settle(&self, key: DeliveryKey, what: Settlement) -> Result<Settled, NoAnswer> {
        self.heard(self.engine.settle(key, what).await)
    }

    fn release(&self, deliveries: Vec<DeliveryKey>) {
        self.engine.release(deliveries);
    }

    async fn recall(&self, recall: Recall) -> Result<Recalled, NoAnswer> {
        self.heard(self.engine.recall(recall).await)
    }

    async fn end_transaction(&self, end: EndTransaction) -> Result<TransactionEnded, NoAnswer> {
        self.heard(self.engine.end_transaction(end).await)
    }

    async fn checks(&self) -> Result<Vec<CheckBack>, NoAnswer> {
        Ok(Vec::new()) // nobody sends half messages
    }

    async fn checked(&self, checked: Checked) -> Result<(), NoAnswer> {
        self.engine.checked(checked);
        Ok(())
    }

    async fn reset(&self, reset: Reset) -> Result<Vec<QueueReset>, NoAnswer> {
        self.heard(self.engine.reset_offset(reset).await)
    }

    async fn fetch(&self, fetch: Fetch) -> Result<Fetched, NoAnswer> {
        self.heard(self.engine.fetch(fetch).await)
    }

    async fn commit_offset(&self, commit: CommitOffset) -> Result<OffsetCommitted, NoAnswer> {
        self.heard(self.engine.commit_offset(commit).await)
    }

    async fn committed_offset(&self, of: GroupQueue) -> Result<Option<QueueOffset>, NoAnswer> {
        self.heard(self.engine.committed_offset(of).await)
    }

    async fn group_status(&self, group: GroupId) -> Result<Vec<GroupStatus>, NoAnswer> {
        self.heard(self.engine.group_status(group).await)
    }
}
