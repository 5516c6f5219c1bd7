//! What a command came to.

use std::sync::Arc;

use apogee_model::{Cluster, GroupConfig, MacKeys, NodeName, ReplicaGroup, StoreNodeConfig, TopicConfig};

use super::groups::grown;

/// One step from a version of the cluster to the next, and the answer to who asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Born {
        cluster_id: u64,
        replication_factor: u8,
        mac_keys: Arc<MacKeys>,
    },
    TopicCreated(Arc<TopicConfig>),
    TopicAltered(Arc<TopicConfig>),
    TopicDeleted(Arc<TopicConfig>),
    /// A group, and the topic of its dead letters.
    GroupCreated(Arc<GroupConfig>, Arc<TopicConfig>),
    GroupAltered(Arc<GroupConfig>),
    /// With the topic of its dead letters.
    GroupDeleted(Arc<GroupConfig>),
    KeysRotated(Arc<MacKeys>),
    /// A store-node as it is from now on, and the replica groups that this made possible.
    NodeChanged {
        node: Arc<StoreNodeConfig>,
        groups: Vec<Arc<ReplicaGroup>>,
    },
    NodeRemoved(NodeName),
    /// Replica groups whose moves began, went on, ended or were given up.
    ReplicasMoved(Vec<Arc<ReplicaGroup>>),
    /// All is as it was asked for.
    Nothing,
}

impl Change {
    /// The cluster one version later. What did not change is shared with `before`.
    ///
    /// # Panics
    /// When `before` is missing and this is not the birth.
    pub(super) fn after(&self, before: Option<&Cluster>) -> Cluster {
        if let Change::Born { cluster_id, replication_factor, mac_keys } = self {
            return Cluster::born(*cluster_id, *replication_factor, Arc::clone(mac_keys));
        }
        let mut cluster = before.expect("only a born cluster changes").clone();
        cluster.version += 1;
        self.make(&mut cluster);
        cluster
    }

    fn make(&self, cluster: &mut Cluster) {
        match self {
            Change::Born { .. } | Change::Nothing => {}
            Change::TopicCreated(topic) | Change::TopicAltered(topic) => {
                cluster.topics.insert(topic.topic.clone(), Arc::clone(topic));
            }
            Change::TopicDeleted(topic) => {
                cluster.topics.remove(&topic.topic);
            }
            Change::GroupCreated(group, dead_letters) => {
                cluster.topics.insert(dead_letters.topic.clone(), Arc::clone(dead_letters));
                cluster.groups.insert(group.group.clone(), Arc::clone(group));
            }
            Change::GroupAltered(group) => {
                cluster.groups.insert(group.group.clone(), Arc::clone(group));
            }
            Change::GroupDeleted(group) => {
                cluster.groups.remove(&group.group);
                cluster.topics.remove(&group.group.dead_letter_topic());
            }
            Change::KeysRotated(keys) => cluster.mac_keys = Arc::clone(keys),
            Change::NodeChanged { node, groups, .. } => {
                cluster.nodes.insert(node.name.clone(), Arc::clone(node));
                let grown: Vec<_> = grown(cluster, groups).collect();
                cluster.topics.extend(grown.into_iter().map(|topic| (topic.topic.clone(), topic)));
                cluster.replica_groups.extend(groups.iter().map(|group| (group.id, Arc::clone(group))));
            }
            Change::NodeRemoved(node) => {
                cluster.nodes.remove(node);
            }
            Change::ReplicasMoved(groups) => {
                cluster.replica_groups.extend(groups.iter().map(|group| (group.id, Arc::clone(group))));
            }
        }
    }
}
