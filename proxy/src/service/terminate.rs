//! NotifyClientTermination: the client ends; what it holds is given back at once.

use std::sync::Arc;

use super::{Call, ServiceError};
use crate::session::Sessions;
use crate::store::Stores;

/// The client says good-bye.
#[derive(Debug)]
pub(crate) struct Farewell;

/// Always fine, also for a client nobody knew: some SDKs fail their shutdown otherwise.
#[derive(Debug)]
pub(crate) struct Terminated;

pub(crate) struct Service {
    sessions: Arc<Sessions>,
    stores: Stores,
}

impl Service {
    pub(crate) fn new(sessions: Arc<Sessions>, stores: Stores) -> Self {
        Self { sessions, stores }
    }

    pub(crate) async fn run(&self, call: Call, _farewell: Farewell) -> Result<Terminated, ServiceError> {
        self.sessions.remove(&call.client);
        self.stores.lost(&call.client);
        Ok(Terminated)
    }
}
