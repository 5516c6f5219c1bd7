//! Heartbeat: the client lives. One we do not know was served by another proxy until now, and is welcome.

use std::sync::Arc;

use super::{Call, ServiceError};
use crate::session::{Role, Sessions};

/// Who says it lives.
#[derive(Clone, Debug)]
pub(crate) struct Beat {
    /// What the client says it is, if it says it; used while nothing of it is known here.
    pub role: Option<Role>,
}

/// Heard.
#[derive(Debug)]
pub(crate) struct Alive;

pub(crate) struct Service {
    sessions: Arc<Sessions>,
}

impl Service {
    pub(crate) fn new(sessions: Arc<Sessions>) -> Self {
        Self { sessions }
    }

    pub(crate) async fn run(&self, call: Call, beat: Beat) -> Result<Alive, ServiceError> {
        match beat.role {
            Some(role) => self.sessions.beat(&call, role)?,
            None if self.sessions.heard(&call) => {}
            None => return Err(ServiceError::ClientType { client_type: "CLIENT_TYPE_UNSPECIFIED".to_owned() }),
        }
        Ok(Alive)
    }
}
