//! Where things go: replica groups onto store-nodes, queues onto replica groups.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use apogee_model::{
    Cluster, NodeName, NodeStanding, ReplicaGroup, ReplicaGroupId, ReplicaId, StoreNodeConfig, TopicId, TopicType,
};

type Nodes = BTreeMap<NodeName, Arc<StoreNodeConfig>>;

/// The replica groups that become possible with `nodes`: one for each store-node that is home of none and stays, once
/// there are as many store-nodes as a group has replicas. Ids count on from `next`.
///
/// A store-node that stays is one that is not draining; a suspect one may be back in a second, and a replica group is
/// for years.
pub(super) fn new_groups(cluster: &Cluster, nodes: &Nodes, next: ReplicaGroupId) -> Vec<Arc<ReplicaGroup>> {
    let staying = nodes.values().filter(|node| node.standing != NodeStanding::Draining);
    let staying: Vec<&StoreNodeConfig> = staying.map(AsRef::as_ref).collect();
    if staying.len() < usize::from(cluster.replication_factor) {
        return Vec::new();
    }
    let homes: BTreeSet<&NodeName> = cluster.replica_groups.values().filter_map(|group| group.home()).collect();
    let mut loads = loads(cluster);
    let homeless = staying.iter().filter(|node| !homes.contains(&node.name));
    let mut groups = Vec::new();
    for (id, home) in (next.0..=u32::MAX).zip(homeless) {
        let members = members(home, &staying, usize::from(cluster.replication_factor), &loads);
        for member in &members {
            *loads.entry(member.clone()).or_default() += 1;
        }
        let replicas = (1..).map(ReplicaId).zip(members).collect();
        groups.push(Arc::new(ReplicaGroup::new(ReplicaGroupId(id), replicas, ReplicaId(1))));
    }
    groups
}

/// Home first, then one after the other the best of the rest: in a zone that has no replica yet, alive, with the fewest
/// replicas, with the smallest name.
fn members(
    home: &StoreNodeConfig,
    staying: &[&StoreNodeConfig],
    count: usize,
    loads: &BTreeMap<NodeName, usize>,
) -> Vec<NodeName> {
    let mut members = vec![home.name.clone()];
    let mut zones = BTreeSet::from([home.zone.as_str()]);
    while members.len() < count {
        let others = staying.iter().filter(|node| !members.contains(&node.name));
        let best = others.min_by_key(|node| {
            let load = loads.get(&node.name).copied().unwrap_or_default();
            (zones.contains(node.zone.as_str()), node.standing != NodeStanding::Alive, load, &node.name)
        });
        let Some(best) = best else { break };
        zones.insert(&best.zone);
        members.push(best.name.clone());
    }
    members
}

/// How many replicas each store-node hosts.
fn loads(cluster: &Cluster) -> BTreeMap<NodeName, usize> {
    let mut loads = BTreeMap::new();
    for node in cluster.replica_groups.values().flat_map(|group| group.replicas.values()) {
        *loads.entry(node.clone()).or_default() += 1;
    }
    loads
}

/// The replica group of each queue of a topic: in turn, beginning at another one for each topic, so that topics of one
/// queue are spread too. Replica groups whose home is about to leave get none, unless there is no other.
/// Those of a PRIORITY topic are all on one, because only a leader that has all levels knows which message is the most
/// urgent. Empty when there is no replica group.
pub(super) fn queues(cluster: &Cluster, topic: TopicId, topic_type: TopicType, count: u16) -> Vec<ReplicaGroupId> {
    let stays = |group: &&Arc<ReplicaGroup>| {
        let home = group.home().and_then(|home| cluster.nodes.get(home));
        home.is_none_or(|home| home.standing != NodeStanding::Draining)
    };
    let groups = cluster.replica_groups.values();
    let mut open: Vec<ReplicaGroupId> = groups.clone().filter(stays).map(|group| group.id).collect();
    if open.is_empty() {
        open = groups.map(|group| group.id).collect();
    }
    let from = usize::try_from(topic.0).unwrap_or_default();
    let step = if topic_type == TopicType::Priority { 0 } else { 1 };
    (0..usize::from(count)).filter_map(|queue| open.get((from + queue * step) % open.len().max(1)).copied()).collect()
}
