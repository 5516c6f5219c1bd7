//! Clients in the same process as the engine.

use apogee_engine::Engine;
use apogee_model::GroupId;
use apogee_model::store::{
    Append, Appended, DeliveryKey, Fetch, Fetched, GroupStatus, Pop, Popped, QueueReset, Reset, Settled, Settlement,
};
use apogee_tests::clients::{Door, NoAnswer};

/// See the module.
pub(crate) struct Direct(pub(crate) Engine);

impl Door for Direct {
    async fn append(&self, messages: Vec<Append>) -> Result<Vec<Appended>, NoAnswer> {
        Ok(self.0.append(messages).await?)
    }

    async fn pop(&self, pop: Pop) -> Result<Popped, NoAnswer> {
        Ok(self.0.pop(pop).await?)
    }

    async fn settle(&self, key: DeliveryKey, what: Settlement) -> Result<Settled, NoAnswer> {
        Ok(self.0.settle(key, what).await?)
    }

    fn release(&self, deliveries: Vec<DeliveryKey>) {
        self.0.release(deliveries);
    }

    async fn reset(&self, reset: Reset) -> Result<Vec<QueueReset>, NoAnswer> {
        Ok(self.0.reset_offset(reset).await?)
    }

    async fn fetch(&self, fetch: Fetch) -> Result<Fetched, NoAnswer> {
        Ok(self.0.fetch(fetch).await?)
    }

    async fn group_status(&self, group: GroupId) -> Result<Vec<GroupStatus>, NoAnswer> {
        Ok(self.0.group_status(group).await?)
    }
}
