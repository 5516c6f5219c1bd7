//! NotifyClientTermination: the client ends; what it holds is given back at once.

use std::sync::Arc;

use super::{Call, ServiceError};
use crate::session::Sessions;
use crate::store::StoreNode;

/// The client says good-bye.
#[derive(Debug)]
pub(crate) struct Farewell;

/// Always fine, also for a client nobody knew: some SDKs fail their shutdown otherwise.
#[derive(Debug)]
pub(crate) struct Terminated;

pub(crate) struct Service {
    sessions: Arc<Sessions>,
    store: Arc<dyn StoreNode>,
}

impl Service {
    pub(crate) fn new(sessions: Arc<Sessions>, store: Arc<dyn StoreNode>) -> Self {
        Self { sessions, store }
    }

    pub(crate) async fn run(&self, call: Call, _farewell: Farewell) -> Result<Terminated, ServiceError> {
        self.sessions.remove(&call.client);
        self.store.lost(call.client);
        Ok(Terminated)
    }
}
