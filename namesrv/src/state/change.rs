//! What a command came to.

use std::collections::BTreeMap;
use std::sync::Arc;

use apogee_model::{Cluster, GroupConfig, MacKeys, TopicConfig};

/// One step from a version of the cluster to the next, and the answer to who asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Born { cluster_id: u64, mac_keys: Arc<MacKeys> },
    TopicCreated(Arc<TopicConfig>),
    TopicDeleted(Arc<TopicConfig>),
    GroupCreated(Arc<GroupConfig>),
    GroupDeleted(Arc<GroupConfig>),
    KeysRotated(Arc<MacKeys>),
}

impl Change {
    /// The cluster one version later. Topics and groups that did not change are shared with `before`.
    ///
    /// # Panics
    /// When `before` is missing and this is not the birth.
    pub(super) fn after(&self, before: Option<&Cluster>) -> Cluster {
        if let Change::Born { cluster_id, mac_keys } = self {
            return Cluster {
                version: 1,
                cluster_id: *cluster_id,
                mac_keys: Arc::clone(mac_keys),
                topics: BTreeMap::new(),
                groups: BTreeMap::new(),
            };
        }
        let mut cluster = before.expect("only a born cluster changes").clone();
        cluster.version += 1;
        self.make(&mut cluster);
        cluster
    }

    fn make(&self, cluster: &mut Cluster) {
        match self {
            Change::Born { .. } => {}
            Change::TopicCreated(topic) => {
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
        }
    }
}
