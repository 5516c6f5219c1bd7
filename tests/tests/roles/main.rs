//! The roles apart, as `make cluster` starts them: three namesrv, three store-nodes, two proxies behind one address.
//! Processes die and come back, and clients go on.

mod moves;
mod refused;
mod restarts;
mod sdks;

use apogee_tests::cluster::Cluster;
use tokio::sync::Mutex;

/// Eight processes and their clients are enough for one machine.
static ALONE: Mutex<()> = Mutex::const_new(());

/// The ports of the proxies.
fn ports(cluster: &Cluster) -> Vec<u16> {
    cluster.proxies.iter().map(|proxy| proxy.ports().first).collect()
}

/// No log has an ERROR.
fn no_errors(cluster: &Cluster) {
    assert_eq!(cluster.errors().expect("logs"), Vec::<String>::new(), "errors in the logs");
}
