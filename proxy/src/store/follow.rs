//! The replica groups as namesrv places them: lanes to every replica of every group, and only there.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use apogee_host::{OnError, Tasks};
use apogee_model::{Cluster, MoveStage, ReplicaGroup, ReplicaGroupId};
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

/// Where the lanes of its replicas are, and of the one that comes as soon as it may lead. One whose store-node is not known
/// has none yet.
fn addresses(cluster: &Cluster, group: &ReplicaGroup) -> Vec<String> {
    let comes = group.moving.iter().filter(|moving| moving.stage == MoveStage::Swaps).map(|moving| &moving.to);
    let nodes = group.replicas.values().chain(comes).filter_map(|name| cluster.nodes.get(name));
    nodes.map(|node| node.lanes.clone()).filter(|lanes| !lanes.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use apogee_model::{MacKey, MacKeys, NodeName, NodeStanding, ReplicaId, ReplicaMove, StoreNodeConfig};

    use super::*;

    fn name(replica: u64) -> NodeName {
        NodeName::parse(&format!("s{replica}")).expect("a good name")
    }

    /// Replica `n` is on store-node `n`, and 4 comes for 1 if it is said how far that is. Nobody knows store-node 3 yet.
    fn led_by(stage: Option<MoveStage>) -> Vec<String> {
        let mac_keys = Arc::new(MacKeys { current: MacKey { generation: 0, secret: [0; 32] }, previous: None });
        let mut cluster = Cluster::born(1, 3, mac_keys);
        for replica in [1, 2, 4] {
            let node = StoreNodeConfig {
                name: name(replica),
                lanes: format!("s{replica}:1"),
                replication: format!("s{replica}:2"),
                zone: String::new(),
                standing: NodeStanding::Alive,
                incarnation: 1,
            };
            cluster.nodes.insert(name(replica), Arc::new(node));
        }
        let replicas = [1, 2, 3].map(|replica| (ReplicaId(replica), name(replica))).into();
        let moving = stage.map(|stage| ReplicaMove { leaves: ReplicaId(1), comes: ReplicaId(4), to: name(4), stage });
        let group = ReplicaGroup { moving, ..ReplicaGroup::new(ReplicaGroupId(0), replicas, ReplicaId(1)) };
        addresses(&cluster, &group)
    }

    #[test]
    fn lanes_go_to_whoever_may_lead() {
        assert_eq!(led_by(None), ["s1:1", "s2:1"]);
        assert_eq!(led_by(Some(MoveStage::Joins)), ["s1:1", "s2:1"]);
        assert_eq!(led_by(Some(MoveStage::Swaps)), ["s1:1", "s2:1", "s4:1"]);
    }
}
