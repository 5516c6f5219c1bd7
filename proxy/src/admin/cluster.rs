//! The cluster as a whole: who keeps what, who leads, and what is wrong. Answered from what this proxy knows already, so
//! that it also answers when half of the cluster is down.

use std::collections::BTreeMap;
use std::sync::Arc;

use apogee_model::{
    Cluster, MetadataError, NamesrvMembers, NodeName, NodeStanding, ReplicaGroup, ReplicaGroupId, ReplicaId, Topic,
};
use apogee_proto::admin::v1;

use super::{Admin, AdminError, convert, known_topic};

type Members = Result<NamesrvMembers, MetadataError>;

impl Admin {
    pub(super) async fn do_describe_cluster(&self) -> v1::DescribeClusterResponse {
        let members = self.routes.members().await;
        let cluster = self.routes.cluster();
        let leader = |group| self.stores.leader(group);
        let mut queues: BTreeMap<ReplicaGroupId, u64> = BTreeMap::new();
        for group in cluster.topics.values().flat_map(|topic| &topic.placement) {
            *queues.entry(*group).or_default() += 1;
        }
        let group = |group: &ReplicaGroup| v1::ReplicaGroup {
            id: group.id.0,
            name: group.broker_name(),
            replicas: group.hosts().map(|(id, node)| replica(id, node)).collect(),
            preferred: group.preferred.0,
            leader: leader(group.id).unwrap_or_default().0,
            queues: queues.get(&group.id).copied().unwrap_or_default(),
            moving: group.moving.as_ref().map(convert::replica_move),
        };
        v1::DescribeClusterResponse {
            cluster_id: cluster.cluster_id,
            name: self.cluster_name.clone(),
            version: cluster.version,
            feature_level: cluster.feature_level,
            replication_factor: u32::from(cluster.replication_factor),
            topics: count(cluster.topics.len()),
            groups: count(cluster.groups.len()),
            namesrv: members.as_ref().map(namesrv).unwrap_or_default(),
            nodes: cluster.nodes.values().map(|node| convert::node(&cluster, node)).collect(),
            replica_groups: cluster.replica_groups.values().map(|one| group(one)).collect(),
            problems: problems(&cluster, &members, leader),
        }
    }

    pub(super) fn do_describe_topic_route(
        &self,
        ask: &v1::DescribeTopicRouteRequest,
    ) -> Result<v1::DescribeTopicRouteResponse, AdminError> {
        let cluster = self.routes.cluster();
        let topic = known_topic(&cluster, Topic::parse(&ask.namespace, &ask.name)?)?;
        let queue = |(queue, group): (u32, &ReplicaGroupId)| {
            let leader = self.stores.leader(*group);
            let host = cluster.replica_groups.get(group).zip(leader).and_then(|(group, id)| group.host(id));
            v1::QueueRoute {
                queue_id: queue,
                replica_group: group.0,
                leader: leader.unwrap_or_default().0,
                leader_node: host.map(|node| node.as_str().to_owned()).unwrap_or_default(),
            }
        };
        Ok(v1::DescribeTopicRouteResponse {
            topic: Some(convert::topic(&topic)),
            queues: (0..).zip(&topic.placement).map(queue).collect(),
        })
    }

    pub(super) async fn do_drain_node(&self, ask: v1::DrainNodeRequest) -> Result<v1::DrainNodeResponse, AdminError> {
        let node = NodeName::parse(&ask.name)?;
        self.routes.drain_node(&node).await?;
        tracing::info!(event = "node_drained", node = %node, "store-node is about to leave");
        Ok(v1::DrainNodeResponse {})
    }

    pub(super) async fn do_undrain_node(
        &self,
        ask: v1::UndrainNodeRequest,
    ) -> Result<v1::UndrainNodeResponse, AdminError> {
        let node = NodeName::parse(&ask.name)?;
        self.routes.undrain_node(&node).await?;
        tracing::info!(event = "node_undrained", node = %node, "store-node stays");
        Ok(v1::UndrainNodeResponse {})
    }

    pub(super) async fn do_remove_node(
        &self,
        ask: v1::RemoveNodeRequest,
    ) -> Result<v1::RemoveNodeResponse, AdminError> {
        let node = NodeName::parse(&ask.name)?;
        self.routes.remove_node(&node).await?;
        tracing::info!(event = "node_removed", node = %node, "store-node is forgotten");
        Ok(v1::RemoveNodeResponse {})
    }
}

/// Everything that is not as it should be. That somebody drains a store-node is on purpose, unless it can never end.
fn problems(
    cluster: &Cluster,
    members: &Members,
    leader: impl Fn(ReplicaGroupId) -> Option<ReplicaId>,
) -> Vec<v1::Problem> {
    use v1::ProblemKind as Kind;
    let mut problems = Vec::new();
    let mut add = |kind: Kind, subject: &str, detail: String| {
        problems.push(v1::Problem { kind: kind.into(), subject: subject.to_owned(), detail });
    };
    match members {
        Err(error) => add(Kind::NamesrvUnreachable, "namesrv", error.to_string()),
        Ok(members) if members.leader.is_none() => {
            add(Kind::NamesrvNoLeader, "namesrv", "no namesrv leads: nothing can be created or changed".to_owned());
        }
        Ok(_) => {}
    }
    if cluster.replica_groups.is_empty() {
        let (nodes, needed) = (cluster.nodes.len(), cluster.replication_factor);
        let error = MetadataError::NoReplicaGroups { nodes, needed };
        add(Kind::NoReplicaGroup, "cluster", error.to_string());
    }
    for group in cluster.replica_groups.values().filter(|group| leader(group.id).is_none()) {
        let name = group.broker_name();
        let detail = format!("nobody is known to lead {name}: its queues take and give nothing");
        add(Kind::NoLeader, &name, detail);
    }
    for node in cluster.nodes.values().filter(|node| node.standing == NodeStanding::Suspect) {
        add(Kind::NodeSuspect, node.name.as_str(), format!("store-node {} is not heard by namesrv", node.name));
    }
    for node in cluster.nodes.values().filter(|node| node.standing == NodeStanding::Draining) {
        if let Some(replicas) = stuck(cluster, &node.name) {
            let detail = format!("store-node {} drains, but no other could take its {replicas}", node.name);
            add(Kind::NodeCannotDrain, node.name.as_str(), detail);
        }
    }
    problems
}

/// The replicas of a store-node that no other one could take.
fn stuck(cluster: &Cluster, node: &NodeName) -> Option<String> {
    let waits = |group: &&Arc<ReplicaGroup>| group.moving.is_none() && cluster.takers(group).next().is_none();
    let mut waiting = cluster.hosted(node).filter(waits);
    let first = waiting.next()?.broker_name();
    match waiting.count() {
        0 => Some(format!("replica of {first}")),
        more => Some(format!("replicas of {first} and {more} more")),
    }
}

fn namesrv(members: &NamesrvMembers) -> Vec<v1::NamesrvMember> {
    let leads = |id| members.leader == Some(id);
    let rows = members.members.iter();
    rows.map(|one| v1::NamesrvMember { id: one.id, address: one.address.clone(), leads: leads(one.id) }).collect()
}

fn replica(id: ReplicaId, node: &NodeName) -> v1::Replica {
    v1::Replica { id: id.0, node: node.as_str().to_owned() }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use apogee_model::{MacKey, MacKeys, MoveStage, NamesrvMember, ReplicaMove, StoreNodeConfig};

    use super::*;

    /// Two replica groups on s1, s2 and s3; s4 has nothing.
    fn cluster() -> Cluster {
        let mac_keys = Arc::new(MacKeys { current: MacKey { generation: 0, secret: [0; 32] }, previous: None });
        let mut cluster = Cluster::born(1, 3, mac_keys);
        let names = ["s1", "s2", "s3", "s4"].map(|name| NodeName::parse(name).expect("a good name"));
        for name in &names {
            let text = String::new;
            let (lanes, replication, zone, standing) = (text(), text(), text(), NodeStanding::Alive);
            let node = StoreNodeConfig { name: name.clone(), lanes, replication, zone, standing, incarnation: 1 };
            cluster.nodes.insert(name.clone(), Arc::new(node));
        }
        let replicas: BTreeMap<_, _> = (1..).map(ReplicaId).zip(names).take(3).collect();
        for id in [ReplicaGroupId(0), ReplicaGroupId(1)] {
            let group = ReplicaGroup::new(id, replicas.clone(), ReplicaId(1));
            cluster.replica_groups.insert(id, Arc::new(group));
        }
        cluster
    }

    fn members(leader: Option<u64>) -> Members {
        Ok(NamesrvMembers { members: vec![NamesrvMember { id: 1, address: String::new() }], leader })
    }

    fn stand(cluster: &mut Cluster, name: &str, standing: NodeStanding) {
        let name = NodeName::parse(name).expect("a good name");
        let node = StoreNodeConfig { standing, ..(*cluster.nodes[&name]).clone() };
        cluster.nodes.insert(name, Arc::new(node));
    }

    #[test]
    fn what_is_wrong_is_named_and_nothing_else() {
        let kinds = |cluster: &Cluster, members: &Members, led: &[u32]| -> Vec<_> {
            let leader = |group: ReplicaGroupId| led.contains(&group.0).then_some(ReplicaId(2));
            let found = problems(cluster, members, leader);
            found.into_iter().map(|problem| (problem.kind(), problem.subject)).collect()
        };
        let told = |kind, subject: &str| vec![(kind, subject.to_owned())];
        let mut well = cluster();
        stand(&mut well, "s2", NodeStanding::Draining);
        assert_eq!(kinds(&well, &members(Some(1)), &[0, 1]), []);
        assert_eq!(kinds(&well, &members(Some(1)), &[0]), told(v1::ProblemKind::NoLeader, "broker-1"));
        assert_eq!(kinds(&well, &members(None), &[0, 1]), told(v1::ProblemKind::NamesrvNoLeader, "namesrv"));
        let silent = Err(MetadataError::Stopped);
        assert_eq!(kinds(&well, &silent, &[0, 1]), told(v1::ProblemKind::NamesrvUnreachable, "namesrv"));
        stand(&mut well, "s3", NodeStanding::Suspect);
        assert_eq!(kinds(&well, &members(Some(1)), &[0, 1]), told(v1::ProblemKind::NodeSuspect, "s3"));
        stand(&mut well, "s3", NodeStanding::Draining);
        stand(&mut well, "s4", NodeStanding::Draining);
        let neither = ["s2", "s3"].map(|node| (v1::ProblemKind::NodeCannotDrain, node.to_owned()));
        assert_eq!(kinds(&well, &members(Some(1)), &[0, 1]), neither);
        let mut young = cluster();
        young.replica_groups.clear();
        assert_eq!(kinds(&young, &members(Some(1)), &[]), told(v1::ProblemKind::NoReplicaGroup, "cluster"));
    }

    #[test]
    fn a_store_node_is_stuck_with_what_nobody_could_take() {
        let (mut cluster, s1) = (cluster(), NodeName::parse("s1").expect("a good name"));
        assert_eq!(stuck(&cluster, &s1), None);
        stand(&mut cluster, "s4", NodeStanding::Suspect);
        assert_eq!(stuck(&cluster, &s1).as_deref(), Some("replicas of broker-0 and 1 more"));
        let to = NodeName::parse("s4").expect("a good name");
        let (leaves, comes, stage) = (ReplicaId(1), ReplicaId(4), MoveStage::Joins);
        let group = ReplicaGroup {
            moving: Some(ReplicaMove { leaves, comes, to, stage }),
            ..(*cluster.replica_groups[&ReplicaGroupId(0)]).clone()
        };
        cluster.replica_groups.insert(group.id, Arc::new(group));
        assert_eq!(stuck(&cluster, &s1).as_deref(), Some("replica of broker-1"), "the other one is on its way");
    }
}
