//! What a namesrv tells about itself.

use apogee_model::{Cluster, MoveStage, NodeStanding};
use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use crate::server::Namesrv;

impl Namesrv {
    /// Shows this member in metrics for as long as the meter lives.
    pub fn observe(&self, meter: &Meter) {
        let namesrv = self.clone();
        let leads = move || u64::from(namesrv.consensus().is_ok_and(|consensus| consensus.leads()));
        gauge(meter, "rocketmq_namesrv_raft_is_leader", leads);
        let namesrv = self.clone();
        gauge(meter, "rocketmq_namesrv_raft_term", move || namesrv.consensus().map_or(0, |consensus| consensus.term()));
        let namesrv = self.clone();
        let committed = move || namesrv.consensus().map_or(0, |consensus| consensus.applied());
        gauge(meter, "rocketmq_namesrv_raft_commit_index", committed);
        let namesrv = self.clone();
        gauge(meter, "rocketmq_namesrv_route_version", move || namesrv.cluster().map_or(0, |cluster| cluster.version));
        let namesrv = self.clone();
        meter
            .u64_observable_gauge("rocketmq_namesrv_nodes")
            .with_callback(move |gauge| {
                let cluster = namesrv.cluster();
                for (standing, name) in STANDINGS {
                    let nodes = cluster.iter().flat_map(|cluster| cluster.nodes.values());
                    let count = nodes.filter(|node| node.standing == standing).count();
                    gauge.observe(u64::try_from(count).unwrap_or(u64::MAX), &[KeyValue::new("state", name)]);
                }
            })
            .build();
        let namesrv = self.clone();
        meter
            .u64_observable_gauge("rocketmq_namesrv_moves")
            .with_description("replicas that take the place of others, by how far they are")
            .with_callback(move |gauge| {
                let cluster = namesrv.cluster();
                for (stage, name) in STAGES {
                    let count = cluster.as_deref().map_or(0, |cluster| moves(cluster, stage));
                    gauge.observe(u64::try_from(count).unwrap_or(u64::MAX), &[KeyValue::new("stage", name)]);
                }
            })
            .build();
    }
}

const STAGES: [(MoveStage, &str); 2] = [(MoveStage::Joins, "joins"), (MoveStage::Swaps, "swaps")];

fn moves(cluster: &Cluster, stage: MoveStage) -> usize {
    let moving = cluster.replica_groups.values().filter_map(|group| group.moving.as_ref());
    moving.filter(|moving| moving.stage == stage).count()
}

const STANDINGS: [(NodeStanding, &str); 3] =
    [(NodeStanding::Alive, "alive"), (NodeStanding::Suspect, "suspect"), (NodeStanding::Draining, "draining")];

fn gauge(meter: &Meter, name: &'static str, value: impl Fn() -> u64 + Send + Sync + 'static) {
    meter.u64_observable_gauge(name).with_callback(move |gauge| gauge.observe(value(), &[])).build();
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use apogee_model::{MacKey, MacKeys, NodeName, ReplicaGroup, ReplicaGroupId, ReplicaId, ReplicaMove};

    use super::*;

    #[test]
    fn moves_are_counted_by_their_stage() {
        let mac_keys = Arc::new(MacKeys { current: MacKey { generation: 0, secret: [0; 32] }, previous: None });
        let mut cluster = Cluster::born(1, 1, mac_keys);
        let name = |name| NodeName::parse(name).unwrap();
        for (id, stage) in (0..).zip([None, Some(MoveStage::Joins), Some(MoveStage::Swaps), Some(MoveStage::Joins)]) {
            let (id, leaves, comes) = (ReplicaGroupId(id), ReplicaId(1), ReplicaId(2));
            let moving = stage.map(|stage| ReplicaMove { leaves, comes, to: name("n2"), stage });
            let group = ReplicaGroup::new(id, [(leaves, name("n1"))].into(), leaves);
            cluster.replica_groups.insert(id, Arc::new(ReplicaGroup { moving, ..group }));
        }
        assert_eq!(STAGES.map(|(stage, _)| moves(&cluster, stage)), [2, 1]);
    }
}
