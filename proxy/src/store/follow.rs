//! The replica groups as namesrv places them: lanes to every replica of every group, and only there.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use apogee_host::{OnError, Tasks};
use apogee_model::{Cluster, ReplicaGroup, ReplicaGroupId};
use apogee_proto::token::ClusterToken;
use tokio::sync::watch;

use super::{Connections, RemoteGroup, RemoteGroupParts, StoreMetrics, Stores};

/// What keeps [`Stores`] as the cluster says.
pub struct Follower {
    pub stores: Stores,
    /// The number under which the store-nodes know this proxy, drawn at its start.
    pub incarnation: u64,
    /// Owns the tasks of every replica group; closing it ends them.
    pub tasks: Tasks,
    pub metrics: Arc<StoreMetrics>,
    /// Shown to every store-node.
    pub token: Option<ClusterToken>,
}

/// The replica groups there have been.
struct Followed {
    follower: Follower,
    connections: Arc<Connections>,
    groups: BTreeMap<ReplicaGroupId, Arc<RemoteGroup>>,
}

impl Follower {
    /// Follows the cluster from now on; what is known of it already is in [`Stores`] when this returns. A replica group
    /// stays for as long as the process, whatever a snapshot says.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn begin(self, mut cluster: watch::Receiver<Option<Arc<Cluster>>>) {
        let (tasks, stop) = (self.tasks.clone(), self.tasks.token());
        let connections = Arc::new(Connections::new(self.token.as_ref()));
        let mut followed = Followed { follower: self, connections, groups: BTreeMap::new() };
        followed.look(&mut cluster);
        let follow = async move {
            while cluster.changed().await.is_ok() {
                followed.look(&mut cluster);
            }
        };
        tasks.spawn("stores", OnError::StopProcess, async move {
            stop.run_until_cancelled(follow).await;
            Ok::<_, Infallible>(())
        });
    }
}

impl Followed {
    fn look(&mut self, cluster: &mut watch::Receiver<Option<Arc<Cluster>>>) {
        let now = cluster.borrow_and_update().clone();
        let Some(now) = now else { return };
        for group in now.replica_groups.values() {
            if let Err(bad) = self.group(group.id).at(&addresses(&now, group)) {
                tracing::error!(event = "bad_store_address", group = %group.id, %bad, "lanes stay where they were");
            }
        }
    }

    fn group(&mut self, group: ReplicaGroupId) -> Arc<RemoteGroup> {
        let Followed { follower, connections, groups } = self;
        let known = groups.entry(group).or_insert_with(|| {
            let Follower { stores, incarnation, tasks, metrics, .. } = &*follower;
            let remote = Arc::new(RemoteGroup::new(RemoteGroupParts {
                group,
                connections: Arc::clone(connections),
                incarnation: *incarnation,
                tasks: tasks.clone(),
                stop: tasks.token(),
                metrics: Arc::clone(metrics),
            }));
            stores.insert(group, Arc::clone(&remote) as Arc<_>);
            remote
        });
        Arc::clone(known)
    }
}

/// Where the lanes of its replicas are. One whose store-node is not known has none yet.
fn addresses(cluster: &Cluster, group: &ReplicaGroup) -> Vec<String> {
    let nodes = group.replicas.values().filter_map(|name| cluster.nodes.get(name));
    nodes.map(|node| node.lanes.clone()).filter(|lanes| !lanes.is_empty()).collect()
}
