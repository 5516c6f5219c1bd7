//! AckMessage: the end of deliveries. Idempotent: what was settled before is OK again.

use std::sync::Arc;

use apogee_model::store::Settlement;
use apogee_model::{ConsumerGroup, Topic};
use futures::StreamExt as _;

use super::receipt::{self, Claim};
use super::{Call, ServiceError};
use crate::route::Directory;
use crate::session::Sessions;
use crate::store::Stores;

/// Entries of one request that wait for the store at the same time.
const AT_ONCE: usize = 64;

/// Ends deliveries of one topic to one group.
#[derive(Clone, Debug)]
pub(crate) struct Ack {
    pub group: ConsumerGroup,
    pub topic: Topic,
    /// At least one.
    pub entries: Vec<AckEntry>,
}

#[derive(Clone, Debug)]
pub(crate) struct AckEntry {
    pub message_id: String,
    pub receipt_handle: String,
}

/// The fate of each entry, in the order of the request.
#[derive(Debug)]
pub(crate) struct Acked {
    pub entries: Vec<(AckEntry, Result<(), ServiceError>)>,
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

    pub(crate) async fn run(&self, call: Call, ack: Ack) -> Result<Acked, ServiceError> {
        self.sessions.heard(&call);
        let claim = &Claim::new(self.directory.routes().cluster(), &ack.topic, &ack.group);
        let settle = |entry: AckEntry| async move {
            let fate = self.settle(claim, &entry.receipt_handle).await;
            (entry, fate)
        };
        let entries = futures::stream::iter(ack.entries).map(settle).buffered(AT_ONCE).collect().await;
        Ok(Acked { entries })
    }

    async fn settle(&self, claim: &Claim, handle: &str) -> Result<(), ServiceError> {
        receipt::settle(&self.stores, claim.delivery(handle)?, Settlement::Ack, handle).await
    }
}
