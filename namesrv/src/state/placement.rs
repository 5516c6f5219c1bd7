//! Where things go: replica groups onto store-nodes, queues onto replica groups.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use apogee_model::{
    Cluster, NodeName, NodeStanding, ReplicaGroup, ReplicaGroupId, ReplicaId, StoreNodeConfig, TopicId, TopicType,
};

type Nodes = BTreeMap<NodeName, Arc<StoreNodeConfig>>;
pub(super) type Loads = BTreeMap<NodeName, usize>;

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
    let mut loads = loads(cluster.replica_groups.values().map(AsRef::as_ref));
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

/// Home first, then one after the other the best of the rest.
fn members(home: &StoreNodeConfig, staying: &[&StoreNodeConfig], count: usize, loads: &Loads) -> Vec<NodeName> {
    let mut members = vec![home.name.clone()];
    let mut zones = BTreeSet::from([home.zone.as_str()]);
    while members.len() < count {
        let others = staying.iter().copied().filter(|node| !members.contains(&node.name));
        let Some(best) = best(others, &zones, loads) else { break };
        zones.insert(&best.zone);
        members.push(best.name.clone());
    }
    members
}

/// The store-node that should have a replica in the place of `leaves`: the best of those that could take it. `None` when
/// there is none.
pub(super) fn replacement(
    cluster: &Cluster,
    group: &ReplicaGroup,
    leaves: ReplicaId,
    loads: &Loads,
) -> Option<NodeName> {
    let stay = group.replicas.iter().filter(|(replica, _)| **replica != leaves);
    let zones = stay.filter_map(|(_, host)| cluster.nodes.get(host)).map(|host| host.zone.as_str()).collect();
    best(cluster.takers(group), &zones, loads).map(|best| best.name.clone())
}

/// In a zone that has no replica yet, alive, with the fewest replicas, with the smallest name.
fn best<'a>(
    nodes: impl Iterator<Item = &'a StoreNodeConfig>,
    zones: &BTreeSet<&str>,
    loads: &Loads,
) -> Option<&'a StoreNodeConfig> {
    nodes.min_by_key(|node| {
        let load = loads.get(&node.name).copied().unwrap_or_default();
        (zones.contains(node.zone.as_str()), node.standing != NodeStanding::Alive, load, &node.name)
    })
}

/// How many replicas each store-node hosts, or is to host.
pub(super) fn loads<'a>(groups: impl IntoIterator<Item = &'a ReplicaGroup>) -> Loads {
    let mut loads = Loads::new();
    for (_, node) in groups.into_iter().flat_map(ReplicaGroup::hosts) {
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
