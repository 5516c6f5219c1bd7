//! When store-nodes were heard: memory of the leader. A new one presumes that all are well.

use std::collections::BTreeMap;
use std::time::Duration;

use apogee_model::{Cluster, NodeName, NodeStanding, StoreNodeConfig};
use tokio::time::Instant;

/// A store-node that is not heard for this long is suspect.
pub const LEASE: Duration = Duration::from_secs(10);
/// How often store-nodes let themselves be heard, and how often their leases are looked at.
pub const BEAT: Duration = Duration::from_secs(1);

/// When all that are left of a replica group have wanted to leave for this long, none waits for the others any more. Long
/// enough for the first one to be back, if they are about to start again.
const ALL_LEAVE: Duration = Duration::from_secs(20);
/// Who has not asked again for this long does not want to leave any more.
const ASKS_AGAIN: Duration = Duration::from_secs(5);

/// When each store-node was heard last, and since when it wants to leave.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    heard: BTreeMap<NodeName, Instant>,
    leaving: BTreeMap<NodeName, Leaving>,
}

/// A store-node that waits for its turn.
#[derive(Debug)]
struct Leaving {
    since: Instant,
    asked: Instant,
}

impl Leases {
    pub(crate) fn hear(&mut self, node: &NodeName, now: Instant) {
        self.heard.insert(node.clone(), now);
    }

    /// The store-nodes that are taken to be alive and were not heard for [`LEASE`]. A lease that nobody knows of begins
    /// now, so that a new leader has some time.
    pub(crate) fn ended(&mut self, cluster: &Cluster, now: Instant) -> Vec<NodeName> {
        let leased = |node: &StoreNodeConfig| node.standing != NodeStanding::Suspect;
        self.heard.retain(|node, _| cluster.nodes.get(node).is_some_and(|node| leased(node)));
        let leased: Vec<_> = cluster.nodes.values().filter(|node| leased(node)).collect();
        let silent: Vec<_> = leased.into_iter().filter(|node| !self.may_be_there(&node.name, now)).collect();
        let ended = silent.into_iter().filter(|node| node.standing == NodeStanding::Alive);
        ended.map(|node| node.name.clone()).collect()
    }

    /// Whether a store-node was heard within [`LEASE`], or nobody here has waited for it that long.
    pub(crate) fn may_be_there(&mut self, node: &NodeName, now: Instant) -> bool {
        let heard = *self.heard.entry(node.clone()).or_insert(now);
        now.duration_since(heard) < LEASE
    }

    /// Whether a store-node that has no turn to leave would wait in vain: all alive ones that it shares a replica group with
    /// want to leave, too, and have for a while.
    pub(crate) fn waits_in_vain(&mut self, cluster: &Cluster, node: &NodeName, now: Instant) -> bool {
        self.leaving.retain(|_, leaving| now.duration_since(leaving.asked) < ASKS_AGAIN);
        self.leaving.entry(node.clone()).or_insert(Leaving { since: now, asked: now }).asked = now;
        let alive =
            |host: &NodeName| cluster.nodes.get(host).is_some_and(|host| host.standing != NodeStanding::Suspect);
        let leaves = |host: &NodeName| {
            self.leaving.get(host).is_some_and(|leaving| now.duration_since(leaving.since) >= ALL_LEAVE)
        };
        cluster.hosted(node).flat_map(|group| group.hosts()).all(|(_, host)| !alive(host) || leaves(host))
    }
}

#[cfg(test)]
mod tests {
    use apogee_model::NewNode;

    use super::*;
    use crate::state::{Command, Secret, State};

    fn name(name: &str) -> NodeName {
        NodeName::parse(name).unwrap()
    }

    /// Three store-nodes, of which the first is away already.
    fn two_of_three() -> State {
        let mut state = State::default();
        state.run(&Command::Birth { cluster_id: 9, replication_factor: 3, mac_key: Secret([1; 32]) });
        for node in ["n1", "n2", "n3"] {
            let (lanes, replication) = (format!("{node}:1"), format!("{node}:2"));
            let new = NewNode { name: name(node), lanes, replication, zone: String::new(), incarnation: 1 };
            state.run(&Command::RegisterNode { new });
        }
        state.run(&Command::NodeHeard { node: name("n1"), incarnation: 1, alive: false });
        state
    }

    #[test]
    fn nobody_waits_when_all_leave_and_none_comes_back() {
        let (mut leases, mut state, begin) = (Leases::default(), two_of_three(), Instant::now());
        let mut vain = |state: &State, node: &str, second: u64| {
            leases.waits_in_vain(state.cluster().unwrap(), &name(node), begin + Duration::from_secs(second))
        };
        for second in 0..30 {
            assert!(!vain(&state, "n2", second), "n3 stays");
        }
        assert!(!(30..50).any(|second| vain(&state, "n2", second) || vain(&state, "n3", second)), "n1 may be back");
        assert!(vain(&state, "n2", 50) && vain(&state, "n3", 50));
        assert!(!vain(&state, "n2", 60), "n3 has not asked again");
        state.run(&Command::NodeHeard { node: name("n1"), incarnation: 1, alive: true });
        assert!(!(61..90).any(|second| vain(&state, "n2", second) || vain(&state, "n3", second)), "n1 is back");
    }

    #[test]
    fn a_store_node_that_drains_is_listened_to() {
        let (mut leases, mut state, begin) = (Leases::default(), two_of_three(), Instant::now());
        state.run(&Command::DrainNode { node: name("n2") });
        let at = |second| begin + Duration::from_secs(second);
        assert_eq!(leases.ended(state.cluster().unwrap(), at(0)), []);
        leases.hear(&name("n2"), at(5));
        assert!(leases.may_be_there(&name("n2"), at(14)));
        assert_eq!(leases.ended(state.cluster().unwrap(), at(15)), [name("n3")], "n2 drains, n1 is suspect already");
        assert!(!leases.may_be_there(&name("n2"), at(15)));
    }
}
