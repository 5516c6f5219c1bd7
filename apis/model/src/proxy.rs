//! The proxies of a cluster, as far as they know of each other.

use crate::NodeName;

/// A proxy as it shows itself to namesrv. Nothing depends on it but answers to people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProxyNode {
    /// The same after every restart, and no other proxy's; by the rules of a store-node's name.
    pub name: NodeName,
    /// `host:port` of its admin API.
    pub admin: String,
    /// Drawn at every start of the process.
    pub incarnation: u64,
}
