//! The ports of `apogee dev`.

use crate::process::ports::{Bound, PortError, bind};

use super::config::Config;

/// The bound ports.
#[derive(Debug)]
pub(super) struct Ports {
    pub(super) grpc: Bound,
    pub(super) admin: Bound,
    pub(super) metrics: Bound,
    pub(super) health: Bound,
}

impl Ports {
    /// Binds all of them, or none.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(super) fn bind(config: &Config) -> Result<Ports, PortError> {
        let [grpc, admin, metrics, health] = config.ports().map(|(key, port)| bind(key, config.listen, port));
        Ok(Ports { grpc: grpc?, admin: admin?, metrics: metrics?, health: health? })
    }
}
