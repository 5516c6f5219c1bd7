//! ChangeInvisibleDuration: when a delivered message may come again.

use std::sync::Arc;

use apogee_model::store::Settlement;
use apogee_model::{ConsumerGroup, InvisibleDuration, Topic};

use super::receipt::{self, Claim};
use super::{Call, ServiceError};
use crate::route::Directory;
use crate::session::Sessions;
use crate::store::Stores;

/// Moves the end of one delivery's lease to now + `after`.
#[derive(Clone, Debug)]
pub(crate) struct ChangeInvisible {
    pub group: ConsumerGroup,
    pub topic: Topic,
    pub receipt_handle: String,
    pub after: InvisibleDuration,
    /// The attempt does not count.
    pub suspend: bool,
}

/// What became of it. The handle stays the same and is told in any case: a client may overwrite its own with it.
#[derive(Debug)]
pub(crate) struct Changed {
    pub receipt_handle: String,
    pub outcome: Result<(), ServiceError>,
}

pub(crate) struct Service {
    directory: Directory,
    stores: Stores,
    sessions: Arc<Sessions>,
}

impl Service {
    pub(crate) fn new(directory: Directory, stores: Stores, sessions: Arc<Sessions>) -> Self {
        Self { directory, stores, sessions }
    }

    pub(crate) async fn run(&self, call: Call, change: ChangeInvisible) -> Result<Changed, ServiceError> {
        self.sessions.heard(&call);
        let outcome = self.change(&change).await;
        Ok(Changed { receipt_handle: change.receipt_handle, outcome })
    }

    async fn change(&self, change: &ChangeInvisible) -> Result<(), ServiceError> {
        let claim = Claim::new(self.directory.routes().cluster(), &change.topic, &change.group);
        let delivery = claim.delivery(&change.receipt_handle)?;
        let (.., config) = claim.parties()?;
        let (asked, rests) = (change.after, config.retry.rests());
        let what = match asked {
            asked if change.suspend => Settlement::Suspend(asked),
            asked if asked.get() < rests.shortest() => Settlement::Rest { asked, rests },
            asked => Settlement::Change(asked),
        };
        receipt::settle(&self.stores, delivery, what, &change.receipt_handle).await
    }
}
