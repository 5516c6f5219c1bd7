//! Who should lead: the preferred replica of each group, so that leaders are spread, and nobody on a store-node that is
//! draining or loses its vote. The one that leads gives the lead away; nobody takes it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use apogee_engine::{Engine, Role};
use apogee_host::{OnError, Tasks};
use apogee_model::{Cluster, MoveStage, NodeName, NodeStanding, ReplicaGroupId, ReplicaId};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

/// How often a leader looks whether another replica should lead.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Longest time to give the lead away.
const HAND_OVER_MAX: Duration = Duration::from_secs(5);

/// What is known of the cluster, by one store-node.
#[derive(Clone)]
pub(super) struct Leading {
    pub(super) node: NodeName,
    pub(super) cluster: watch::Receiver<Option<Arc<Cluster>>>,
}

/// Who should lead instead.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Instead {
    Nobody,
    /// This one, if it has what the leader has.
    Replica(ReplicaId),
    Anybody,
}

impl Leading {
    /// Looks after the lead of a replica of this store-node for as long as the tasks run.
    pub(super) fn look_after(&self, group: ReplicaGroupId, me: ReplicaId, engine: Engine, tasks: &Tasks) {
        let (leading, stop) = (self.clone(), tasks.token());
        tasks.spawn("preferred", OnError::StopProcess, async move {
            stop.run_until_cancelled(leading.look(group, me, &engine)).await;
            Ok::<_, Infallible>(())
        });
    }

    async fn look(&self, group: ReplicaGroupId, me: ReplicaId, engine: &Engine) {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            if !matches!(*engine.role().borrow(), Role::Leader { .. }) {
                continue;
            }
            let Some(cluster) = self.cluster.borrow().clone() else { continue };
            let given = match self.instead(&cluster, group, me) {
                Instead::Nobody => continue,
                Instead::Replica(replica) => engine.hand_over_to(replica, HAND_OVER_MAX).await,
                Instead::Anybody => engine.hand_over(HAND_OVER_MAX).await,
            };
            match given {
                Ok(()) => tracing::info!(event = "lead_given_away", %group, "another replica should lead"),
                Err(error) => tracing::debug!(event = "lead_kept", %group, %error, "no other replica can lead yet"),
            }
        }
    }

    fn instead(&self, cluster: &Cluster, group: ReplicaGroupId, me: ReplicaId) -> Instead {
        let Some(group) = cluster.replica_groups.get(&group) else { return Instead::Nobody };
        let swaps = group.moving.as_ref().filter(|moving| moving.stage == MoveStage::Swaps);
        // Who is about to lose its vote cannot give it away while it leads.
        let leaves = |replica| swaps.is_some_and(|moving| moving.leaves == replica);
        let home = group.home().and_then(|home| cluster.nodes.get(home));
        let home_is_well = home.is_some_and(|home| home.standing == NodeStanding::Alive) && !leaves(group.preferred);
        match (home_is_well, group.preferred == me) {
            (true, false) => Instead::Replica(group.preferred),
            _ if group.replicas.len() > 1 && (leaves(me) || drains(cluster, &self.node)) => Instead::Anybody,
            _ => Instead::Nobody,
        }
    }

    /// Whether this store-node should host nothing.
    pub(super) fn drains(&self) -> bool {
        self.cluster.borrow().as_ref().is_some_and(|cluster| drains(cluster, &self.node))
    }
}

fn drains(cluster: &Cluster, node: &NodeName) -> bool {
    cluster.nodes.get(node).is_some_and(|node| node.standing == NodeStanding::Draining)
}

#[cfg(test)]
mod tests {
    use apogee_model::{MacKey, MacKeys, ReplicaGroup, ReplicaMove, StoreNodeConfig};

    use super::*;

    fn name(node: &str) -> NodeName {
        NodeName::parse(node).expect("a plain name")
    }

    fn instead(standings: [NodeStanding; 2], me: u64) -> Instead {
        instead_while(None, standings, me)
    }

    /// One group on n1 and n2, at home on n1; replica 1 may be about to leave it.
    fn instead_while(leaves: Option<MoveStage>, standings: [NodeStanding; 2], me: u64) -> Instead {
        let keys = MacKeys { current: MacKey { generation: 1, secret: [1; 32] }, previous: None };
        let mut cluster = Cluster::born(7, 3, Arc::new(keys));
        for (node, standing) in ["n1", "n2"].into_iter().zip(standings) {
            let (lanes, replication, zone) = (String::new(), String::new(), String::new());
            let node = StoreNodeConfig { name: name(node), lanes, replication, zone, standing, incarnation: 1 };
            cluster.nodes.insert(node.name.clone(), Arc::new(node));
        }
        let (id, replicas) = (ReplicaGroupId(0), (1..).map(ReplicaId).zip([name("n1"), name("n2")]).collect());
        let moving =
            leaves.map(|stage| ReplicaMove { leaves: ReplicaId(1), comes: ReplicaId(3), to: name("n3"), stage });
        let group = ReplicaGroup { moving, ..ReplicaGroup::new(id, replicas, ReplicaId(1)) };
        cluster.replica_groups.insert(id, Arc::new(group));
        let (_sender, watched) = watch::channel(None);
        Leading { node: name(&format!("n{me}")), cluster: watched }.instead(&cluster, id, ReplicaId(me))
    }

    #[test]
    fn the_lead_goes_home_unless_home_is_away() {
        let (alive, suspect, draining) = (NodeStanding::Alive, NodeStanding::Suspect, NodeStanding::Draining);
        assert_eq!(instead([alive, alive], 2), Instead::Replica(ReplicaId(1)));
        assert_eq!(instead([alive, alive], 1), Instead::Nobody);
        assert_eq!(instead([suspect, alive], 2), Instead::Nobody);
        assert_eq!(instead([draining, alive], 2), Instead::Nobody);
        assert_eq!(instead([draining, alive], 1), Instead::Anybody);
        assert_eq!(instead([suspect, draining], 2), Instead::Anybody);
    }

    /// Though its store-node may not drain any more.
    #[test]
    fn whoever_loses_its_vote_does_not_lead() {
        let alive = [NodeStanding::Alive; 2];
        assert_eq!(instead_while(Some(MoveStage::Joins), alive, 1), Instead::Nobody);
        assert_eq!(instead_while(Some(MoveStage::Joins), alive, 2), Instead::Replica(ReplicaId(1)));
        assert_eq!(instead_while(Some(MoveStage::Swaps), alive, 1), Instead::Anybody);
        assert_eq!(instead_while(Some(MoveStage::Swaps), alive, 2), Instead::Nobody);
    }
}
