//! From what the leader grants to what a consumer gets: the batch is read, and given back when it does not arrive.

use std::collections::BTreeSet;

use apogee_model::store::{Delivery, DeliveryKey, Pop, Popped, Settlement, StoreError};
use apogee_model::{DeliveryOrder, Filter};
use tokio::sync::oneshot;

use crate::engine::Engine;
use crate::leader::{Ask, Grant, Granted};
use crate::look::LOOKS_MAX;

impl Engine {
    /// Leases messages that no consumer of the group holds, oldest first; never waits for messages to come.
    ///
    /// # Errors
    /// [`StoreError::Busy`], [`StoreError::Stopped`], [`StoreError::Unreadable`] when the disk gives none of
    /// the messages back; what cannot be read comes again when its lease ends.
    pub async fn pop(&self, pop: Pop) -> Result<Popped, StoreError> {
        let mut granted = self.granted(&pop).await?;
        let mut unread = Unread { engine: self, keys: granted.grants.iter().map(|grant| grant.key).collect() };
        let batch = self.batch(&pop, &granted.grants).await?;
        self.bury(std::mem::take(&mut granted.burials)).await;
        unread.keys = batch.overtaking;
        match batch.unreadable.filter(|_| batch.messages.is_empty()) {
            Some(error) => Err(error),
            None => {
                let Granted { more, unsettled, evicted, .. } = granted;
                Ok(Popped { messages: batch.messages, more, unsettled, evicted })
            }
        }
    }

    /// What the leader grants, once it knows enough of the messages that it meets.
    async fn granted(&self, pop: &Pop) -> Result<Granted, StoreError> {
        for _ in 0..LOOKS_MAX {
            let (reply, answer) = oneshot::channel();
            let mut coming = Coming { engine: self, answer };
            self.try_ask(Ask::Pop { pop: pop.clone(), reply })?;
            let granted = (&mut coming.answer).await.map_err(|_| self.unanswered())?;
            match &pop.filter {
                Filter::Sql(sql)
                    if granted.grants.is_empty() && granted.burials.is_empty() && !granted.look.is_empty() =>
                {
                    let verdicts = self.look(pop, sql, granted.look).await;
                    self.send(Ask::Looked(verdicts))?;
                }
                Filter::Sql(_) | Filter::Tags(_) => return Ok(granted),
            }
        }
        // The group is past what was looked at; the caller may go on from there.
        Ok(Granted { more: true, ..Granted::default() })
    }

    /// Reads what was granted.
    async fn batch(&self, pop: &Pop, grants: &[Grant]) -> Result<Batch, StoreError> {
        let mut batch = Batch::default();
        let mut broken = BTreeSet::new();
        for grant in grants {
            let line = (grant.key.queue, grant.place.group_hash);
            if broken.contains(&line) {
                batch.overtaking.push(grant.key);
                continue;
            }
            match self.delivery(grant).await {
                Ok(delivery) if pop.filter.wants(&delivery.message) => batch.messages.push(delivery),
                // Another tag with the same hash: this consumer did not ask for it, and the group is past it.
                Ok(_) => drop(self.settle(grant.key, Settlement::Ack).await?),
                // Retention by size took it meanwhile, and its delivery with it.
                Err(error) if self.is_gone(&grant.place) => {
                    tracing::warn!(event = "message_gone", %error, "a message went before it could be delivered");
                }
                // It stays leased, so that the rest of the queue is not held up by it.
                Err(error) => {
                    tracing::error!(event = "message_unreadable", %error, "a stored message cannot be read");
                    batch.unreadable = Some(error);
                    if pop.order == DeliveryOrder::Fifo {
                        broken.insert(line);
                    }
                }
            }
        }
        Ok(batch)
    }

    async fn delivery(&self, grant: &Grant) -> Result<Delivery, StoreError> {
        let message = self.read(&grant.place).await?;
        let Grant { key, attempt, invisible, .. } = *grant;
        Ok(Delivery { key, attempt, stored_at: grant.place.stored_at, invisible, message })
    }
}

/// A granted batch, read.
#[derive(Default)]
struct Batch {
    messages: Vec<Delivery>,
    /// Behind a message of their message group that cannot be read, where that group is kept in order.
    overtaking: Vec<DeliveryKey>,
    unreadable: Option<StoreError>,
}

/// A batch that may be granted while nobody looks any more; released when it was.
struct Coming<'a> {
    engine: &'a Engine,
    answer: oneshot::Receiver<Granted>,
}

impl Drop for Coming<'_> {
    fn drop(&mut self) {
        self.answer.close();
        if let Ok(granted) = self.answer.try_recv() {
            self.engine.release(granted.grants.into_iter().map(|grant| grant.key).collect());
        }
    }
}

/// A granted batch on its way to the caller; released when it does not get there.
struct Unread<'a> {
    engine: &'a Engine,
    keys: Vec<DeliveryKey>,
}

impl Drop for Unread<'_> {
    fn drop(&mut self) {
        if !self.keys.is_empty() {
            self.engine.release(std::mem::take(&mut self.keys));
        }
    }
}
