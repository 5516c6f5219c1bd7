//! The replica groups as namesrv places them: lanes to every replica of every group, and only there.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use apogee_host::Tasks;
use apogee_model::{Cluster, ReplicaGroup, ReplicaGroupId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Connections, RemoteGroup, RemoteGroupParts, StoreMetrics, Stores};

/// What keeps [`Stores`] as the cluster says.
pub struct Follower {
    pub stores: Stores,
    /// The number under which the store-nodes know this proxy, drawn at its start.
    pub incarnation: u64,
    /// Owns the tasks of every replica group.
    pub tasks: Tasks,
    pub metrics: Arc<StoreMetrics>,
}

impl Follower {
    /// Follows the cluster until `stop`. A replica group stays for as long as the process, whatever a snapshot says.
    pub async fn run(
        self,
        mut cluster: watch::Receiver<Arc<Cluster>>,
        stop: CancellationToken,
    ) -> Result<(), Infallible> {
        let (connections, mut groups) = (Arc::new(Connections::default()), BTreeMap::new());
        let follow = async {
            loop {
                let now = Arc::clone(&cluster.borrow_and_update());
                for group in now.replica_groups.values() {
                    let known = groups.entry(group.id).or_insert_with(|| self.begin(group.id, &connections, &stop));
                    if let Err(bad) = known.at(&addresses(&now, group)) {
                        tracing::error!(event = "bad_store_address", group = %group.id, %bad, "lanes stay where they were");
                    }
                }
                if cluster.changed().await.is_err() {
                    return;
                }
            }
        };
        stop.run_until_cancelled(follow).await;
        Ok(())
    }

    fn begin(
        &self,
        group: ReplicaGroupId,
        connections: &Arc<Connections>,
        stop: &CancellationToken,
    ) -> Arc<RemoteGroup> {
        let parts = RemoteGroupParts {
            group,
            connections: Arc::clone(connections),
            incarnation: self.incarnation,
            tasks: self.tasks.clone(),
            stop: stop.clone(),
            metrics: Arc::clone(&self.metrics),
        };
        let remote = Arc::new(RemoteGroup::new(parts));
        self.stores.insert(group, Arc::clone(&remote) as Arc<_>);
        remote
    }
}

/// Where the lanes of its replicas are. One whose store-node is not known has none yet.
fn addresses(cluster: &Cluster, group: &ReplicaGroup) -> Vec<String> {
    let nodes = group.replicas.values().filter_map(|name| cluster.nodes.get(name));
    nodes.map(|node| node.lanes.clone()).filter(|lanes| !lanes.is_empty()).collect()
}
