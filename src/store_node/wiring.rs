//! What this store-node has to host, as namesrv says it; kept on disk, so that it starts while namesrv is away.

use std::collections::BTreeMap;
use std::io;

use apogee_host::{Disk, Exit, ExitWith};
use apogee_model::{Cluster, NodeName, ReplicaGroup, ReplicaGroupId, ReplicaId};
use serde::{Deserialize, Serialize};

/// Where it is kept.
const FILE: &str = "wiring.json";

/// The replicas of this store-node, and where the others of their replica groups are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wiring {
    pub(super) cluster_id: u64,
    pub(super) groups: BTreeMap<ReplicaGroupId, Hosted>,
}

/// One replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hosted {
    pub(super) me: ReplicaId,
    /// `host:port` of the replication ports of all replicas of the group, this one too.
    pub(super) addresses: BTreeMap<ReplicaId, String>,
}

/// A wiring that is not to be read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum WiringError {
    #[error("{FILE} cannot be used")]
    Io(#[source] io::Error),
    #[error("{FILE} is not what this version writes; remove it while namesrv can be reached")]
    Unreadable(#[source] serde_json::Error),
}

impl ExitWith for WiringError {
    fn exit(&self) -> Exit {
        match self {
            WiringError::Io(cause) => cause.exit(),
            WiringError::Unreadable(_) => Exit::Io,
        }
    }
}

impl Wiring {
    /// What `cluster` says that `node` hosts.
    pub(super) fn of(cluster: &Cluster, node: &NodeName) -> Wiring {
        let address = |host: &NodeName| cluster.nodes.get(host).map(|host| host.replication.clone());
        let hosted = |group: &ReplicaGroup| {
            let me = group.replica_of(node)?;
            let addresses = group.replicas.iter().filter_map(|(replica, host)| Some((*replica, address(host)?)));
            Some((group.id, Hosted { me, addresses: addresses.collect() }))
        };
        let groups = cluster.replica_groups.values().filter_map(|group| hosted(group)).collect();
        Wiring { cluster_id: cluster.cluster_id, groups }
    }

    /// What was kept last; `None` in a new folder.
    pub(super) async fn read(disk: &dyn Disk) -> Result<Option<Wiring>, WiringError> {
        match disk.read(FILE).await {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(WiringError::Unreadable),
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(WiringError::Io(cause)),
        }
    }

    /// Durable when this returns.
    pub(super) async fn keep(&self, disk: &dyn Disk) -> Result<(), WiringError> {
        let text = serde_json::to_vec_pretty(self).map_err(WiringError::Unreadable)?;
        disk.replace(FILE, text.into()).await.map_err(WiringError::Io)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use apogee_host::RealDisk;
    use apogee_model::{MacKey, MacKeys, NodeStanding, StoreNodeConfig};

    use super::*;

    fn name(node: &str) -> NodeName {
        NodeName::parse(node).expect("a plain name")
    }

    /// Group 0 is on n1 and n2, group 1 on n2 and n3.
    fn cluster() -> Cluster {
        let keys = MacKeys { current: MacKey { generation: 1, secret: [1; 32] }, previous: None };
        let mut cluster = Cluster::born(7, 3, Arc::new(keys));
        for node in ["n1", "n2", "n3"] {
            let node = StoreNodeConfig {
                name: name(node),
                lanes: format!("{node}:1"),
                replication: format!("{node}:2"),
                zone: String::new(),
                standing: NodeStanding::Alive,
                incarnation: 1,
            };
            cluster.nodes.insert(node.name.clone(), Arc::new(node));
        }
        for (id, hosts) in [(0, ["n1", "n2"]), (1, ["n2", "n3"])] {
            let (id, replicas) = (ReplicaGroupId(id), (1..).map(ReplicaId).zip(hosts.map(name)).collect());
            let group = ReplicaGroup::new(id, replicas, ReplicaId(1));
            cluster.replica_groups.insert(id, Arc::new(group));
        }
        cluster
    }

    #[tokio::test]
    async fn a_wiring_comes_back_from_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(folder.path()).unwrap();
        assert_eq!(Wiring::read(&disk).await.unwrap(), None);
        let wiring = Wiring::of(&cluster(), &name("n2"));
        assert_eq!(wiring.groups.keys().copied().collect::<Vec<_>>(), [ReplicaGroupId(0), ReplicaGroupId(1)]);
        assert_eq!(wiring.groups[&ReplicaGroupId(1)].me, ReplicaId(1));
        assert_eq!(wiring.groups[&ReplicaGroupId(0)].addresses[&ReplicaId(1)], "n1:2");
        wiring.keep(&disk).await.unwrap();
        assert_eq!(Wiring::read(&disk).await.unwrap(), Some(wiring));
        disk.replace(FILE, bytes::Bytes::from_static(b"{}")).await.unwrap();
        assert!(matches!(Wiring::read(&disk).await, Err(WiringError::Unreadable(_))));
    }

    #[test]
    fn a_node_hosts_what_names_it() {
        assert_eq!(Wiring::of(&cluster(), &name("n1")).groups.len(), 1);
        assert_eq!(Wiring::of(&cluster(), &name("n4")).groups.len(), 0);
    }
}
