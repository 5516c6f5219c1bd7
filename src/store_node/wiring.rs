//! What this store-node has to host, as namesrv says it; kept on disk, so that it starts while namesrv is away.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use apogee_engine::{Exchange, Seating};
use apogee_host::{Disk, Exit, ExitWith};
use apogee_model::{Cluster, MoveStage, NodeName, ReplicaGroup, ReplicaGroupId, ReplicaId};
use serde::{Deserialize, Serialize};

/// Where it is kept.
const FILE: &str = "wiring.json";

/// The replicas of this store-node, and where the others of their replica groups are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wiring {
    pub(super) cluster_id: u64,
    pub(super) groups: BTreeMap<ReplicaGroupId, Hosted>,
    /// Replicas that have left this store-node; their files are still to be removed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) leaving: BTreeMap<ReplicaGroupId, ReplicaId>,
}

/// One replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hosted {
    pub(super) me: ReplicaId,
    /// `host:port` of the replication ports of all replicas of the group, this one too.
    pub(super) addresses: BTreeMap<ReplicaId, String>,
    /// One of them is about to take the place of another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exchange: Option<Exchanged>,
    /// The largest number that was ever given in the group, if it is larger than all of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<ReplicaId>,
}

/// See [`Exchange`].
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exchanged {
    leaves: ReplicaId,
    comes: ReplicaId,
    swaps: bool,
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
    /// Of a store-node that hosts nothing yet.
    pub(super) fn empty(cluster_id: u64) -> Wiring {
        Wiring { cluster_id, groups: BTreeMap::new(), leaving: BTreeMap::new() }
    }

    /// What `node` hosts after `cluster` says so. A replica leaves only when its number is gone for ever, so that nothing is
    /// lost to a picture that is old or has holes. The next replica of its group begins when its files are removed.
    pub(super) fn next(&self, cluster: &Cluster, node: &NodeName) -> Wiring {
        let mut next = self.clone();
        for group in cluster.replica_groups.values().filter(|group| !self.leaving.contains_key(&group.id)) {
            let named = group.replica_of(node);
            match self.groups.get(&group.id).map(|hosted| hosted.me) {
                Some(me) if group.is_gone(me) => {
                    next.groups.remove(&group.id);
                    next.leaving.insert(group.id, me);
                }
                Some(me) if named != Some(me) => {} // the picture is older than this replica
                Some(_) | None => {
                    let hosted = named.map(|me| (group.id, Hosted::of(me, group, cluster)));
                    next.groups.extend(hosted);
                }
            }
        }
        next
    }

    /// Without a replica whose files are removed.
    pub(super) fn left(&self, group: ReplicaGroupId) -> Wiring {
        let mut next = self.clone();
        next.leaving.remove(&group);
        next
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

impl Hosted {
    fn of(me: ReplicaId, group: &ReplicaGroup, cluster: &Cluster) -> Hosted {
        let address = |host: &NodeName| cluster.nodes.get(host).map(|host| host.replication.clone());
        let addresses: BTreeMap<_, _> =
            group.hosts().filter_map(|(replica, host)| Some((replica, address(host)?))).collect();
        let exchange = group.moving.as_ref().map(|moving| Exchanged {
            leaves: moving.leaves,
            comes: moving.comes,
            swaps: moving.stage == MoveStage::Swaps,
        });
        let last = Some(group.last_replica()).filter(|last| addresses.keys().all(|replica| replica < last));
        Hosted { me, addresses, exchange, last }
    }

    /// Who the replica group is to be.
    pub(super) fn seating(&self) -> Seating {
        let exchange = self.exchange.map(|Exchanged { leaves, comes, swaps }| Exchange { leaves, comes, swaps });
        let comes = exchange.map(|exchange| exchange.comes);
        let replicas: BTreeSet<_> = self.addresses.keys().copied().filter(|replica| Some(*replica) != comes).collect();
        let last = self.addresses.keys().copied().max().max(self.last).unwrap_or_default();
        Seating { replicas, exchange, last }
    }

    /// Whether this replica is new in its group, and nobody counts on it.
    pub(super) fn joins(&self) -> bool {
        self.exchange.is_some_and(|exchange| exchange.comes == self.me && !exchange.swaps)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use apogee_host::RealDisk;
    use apogee_model::{MacKey, MacKeys, NodeStanding, ReplicaMove, StoreNodeConfig};

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

    /// What `node` hosts of a cluster that it sees first.
    fn of(cluster: &Cluster, node: &str) -> Wiring {
        Wiring::empty(cluster.cluster_id).next(cluster, &name(node))
    }

    /// Group 1 as it becomes step by step: replica 1 leaves n2, replica 3 comes to n1, then 2 leaves n3 and 4 comes to n2.
    fn pictures() -> Vec<Cluster> {
        let mut now = cluster();
        let mut pictures = vec![now.clone()];
        let mut then = |replicas: &[(u64, &str)], moving: Option<(u64, u64, &str, MoveStage)>, last_gone| {
            let replicas = replicas.iter().map(|(replica, node)| (ReplicaId(*replica), name(node))).collect();
            let moving = moving.map(|(leaves, comes, to, stage)| ReplicaMove {
                leaves: ReplicaId(leaves),
                comes: ReplicaId(comes),
                to: name(to),
                stage,
            });
            let group = ReplicaGroup::new(ReplicaGroupId(1), replicas, ReplicaId(1));
            let group = ReplicaGroup { moving, last_gone: ReplicaId(last_gone), ..group };
            now.replica_groups.insert(ReplicaGroupId(1), Arc::new(group));
            pictures.push(now.clone());
        };
        for stage in [MoveStage::Joins, MoveStage::Swaps] {
            then(&[(1, "n2"), (2, "n3")], Some((1, 3, "n1", stage)), 0);
        }
        then(&[(2, "n3"), (3, "n1")], None, 1);
        for stage in [MoveStage::Joins, MoveStage::Swaps] {
            then(&[(2, "n3"), (3, "n1")], Some((2, 4, "n2", stage)), 1);
        }
        then(&[(3, "n1"), (4, "n2")], None, 2);
        pictures
    }

    #[tokio::test]
    async fn a_wiring_comes_back_from_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(folder.path()).unwrap();
        assert_eq!(Wiring::read(&disk).await.unwrap(), None);
        let wiring = of(&cluster(), "n2");
        assert_eq!(wiring.groups.keys().copied().collect::<Vec<_>>(), [ReplicaGroupId(0), ReplicaGroupId(1)]);
        assert_eq!(wiring.groups[&ReplicaGroupId(1)].me, ReplicaId(1));
        assert_eq!(wiring.groups[&ReplicaGroupId(0)].addresses[&ReplicaId(1)], "n1:2");
        wiring.keep(&disk).await.unwrap();
        assert_eq!(Wiring::read(&disk).await.unwrap(), Some(wiring));
        for picture in pictures() {
            let wiring = of(&cluster(), "n2").next(&picture, &name("n2"));
            wiring.keep(&disk).await.unwrap();
            assert_eq!(Wiring::read(&disk).await.unwrap(), Some(wiring));
        }
        disk.replace(FILE, bytes::Bytes::from_static(b"{}")).await.unwrap();
        assert!(matches!(Wiring::read(&disk).await, Err(WiringError::Unreadable(_))));
    }

    /// Store-nodes of the version before read it, and it reads theirs.
    #[test]
    fn without_moves_it_is_written_as_before_there_were_any() {
        let wiring = of(&cluster(), "n1");
        let text = serde_json::to_string(&wiring).unwrap();
        let before = r#"{"cluster_id":7,"groups":{"0":{"me":1,"addresses":{"1":"n1:2","2":"n2:2"}}}}"#;
        assert_eq!((text.as_str(), serde_json::from_str::<Wiring>(before).unwrap()), (before, wiring));
    }

    #[test]
    fn a_node_hosts_what_names_it() {
        assert_eq!(of(&cluster(), "n1").groups.len(), 1);
        assert_eq!(of(&cluster(), "n4").groups.len(), 0);
    }

    #[test]
    fn a_replica_leaves_when_its_number_is_gone() {
        let (pictures, node, group) = (pictures(), name("n2"), ReplicaGroupId(1));
        let mut wiring = Wiring::empty(7);
        let mut seen = Vec::new();
        for picture in &pictures {
            wiring = wiring.next(picture, &node);
            let hosted = wiring.groups.get(&group).map(|hosted| hosted.me.0);
            seen.push((hosted, wiring.leaving.get(&group).map(|gone| gone.0)));
        }
        let (hosts, leaves) = ((Some(1), None), (None, Some(1)));
        assert_eq!(seen, [hosts, hosts, hosts, leaves, leaves, leaves, leaves], "files first, then the next replica");
        wiring = wiring.left(group).next(&pictures[6], &node);
        assert_eq!((wiring.groups[&group].me, wiring.leaving.len()), (ReplicaId(4), 0));
        let kept = wiring.clone();
        for older in pictures.iter().rev() {
            wiring = wiring.next(older, &node);
            assert_eq!(
                (wiring.groups[&group].me, wiring.leaving.len()),
                (ReplicaId(4), 0),
                "nothing leaves by an old picture"
            );
        }
        assert_eq!(kept.next(&Cluster::born(7, 3, pictures[0].mac_keys.clone()), &node), kept, "nor by an empty one");
    }

    #[test]
    fn a_seating_has_who_comes_apart() {
        let pictures = pictures();
        let seating = |picture: usize| of(&pictures[picture], "n3").groups.get(&ReplicaGroupId(1)).map(Hosted::seating);
        let ids = |ids: &[u64]| ids.iter().copied().map(ReplicaId).collect::<BTreeSet<_>>();
        let exchange = |leaves, comes, swaps| Exchange { leaves: ReplicaId(leaves), comes: ReplicaId(comes), swaps };
        let of = |replicas, exchange, last| Some(Seating { replicas: ids(replicas), exchange, last: ReplicaId(last) });
        assert_eq!(seating(0), of(&[1, 2], None, 2));
        assert_eq!(seating(1), of(&[1, 2], Some(exchange(1, 3, false)), 3));
        assert_eq!(seating(2), of(&[1, 2], Some(exchange(1, 3, true)), 3));
        assert_eq!(seating(4), of(&[2, 3], Some(exchange(2, 4, false)), 4));
        let abandoned =
            ReplicaGroup { last_gone: ReplicaId(9), ..(*pictures[3].replica_groups[&ReplicaGroupId(1)]).clone() };
        let mut later = pictures[3].clone();
        later.replica_groups.insert(abandoned.id, Arc::new(abandoned));
        let last = super::Wiring::empty(7).next(&later, &name("n3")).groups[&ReplicaGroupId(1)].seating().last;
        assert_eq!(last, ReplicaId(9));
        let joins = |picture: usize| {
            super::Wiring::empty(7)
                .next(&pictures[picture], &name("n1"))
                .groups
                .get(&ReplicaGroupId(1))
                .is_some_and(Hosted::joins)
        };
        assert_eq!([joins(1), joins(2), joins(3)], [true, false, false]);
    }
}
