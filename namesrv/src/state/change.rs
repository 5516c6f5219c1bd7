//! What a command came to.

use std::sync::Arc;

use apogee_model::{Cluster, GroupConfig, MacKeys, ReplicaGroup, StoreNodeConfig, TopicConfig};

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
    GroupCreated(Arc<GroupConfig>),
    GroupDeleted(Arc<GroupConfig>),
    KeysRotated(Arc<MacKeys>),
    /// A store-node as it is from now on, and the replica groups that this made possible.
    NodeChanged {
        node: Arc<StoreNodeConfig>,
        groups: Vec<Arc<ReplicaGroup>>,
    },
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
            Change::GroupCreated(group) => {
                cluster.groups.insert(group.group.clone(), Arc::clone(group));
            }
            Change::GroupDeleted(group) => {
                cluster.groups.remove(&group.group);
            }
            Change::KeysRotated(keys) => cluster.mac_keys = Arc::clone(keys),
            Change::NodeChanged { node, groups, .. } => {
                cluster.nodes.insert(node.name.clone(), Arc::clone(node));
                cluster.replica_groups.extend(groups.iter().map(|group| (group.id, Arc::clone(group))));
            }
        }
    }
}
