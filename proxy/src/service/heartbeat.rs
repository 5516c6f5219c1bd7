//! Heartbeat: the client lives. One we do not know was served by another proxy until now, and is welcome.

use std::sync::Arc;

use super::lite::check_role;
use super::{Call, ServiceError};
use crate::route::Directory;
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
    directory: Directory,
    sessions: Arc<Sessions>,
}

impl Service {
    pub(crate) fn new(directory: Directory, sessions: Arc<Sessions>) -> Self {
        Self { directory, sessions }
    }

    pub(crate) async fn run(&self, call: Call, beat: Beat) -> Result<Alive, ServiceError> {
        match beat.role {
            Some(role) => {
                check_role(&self.directory, &role, &[])?;
                self.sessions.beat(&call, role)?;
            }
            None if self.sessions.heard(&call) => {}
            None => return Err(ServiceError::ClientType { client_type: "CLIENT_TYPE_UNSPECIFIED".to_owned() }),
        }
        Ok(Alive)
    }
}
