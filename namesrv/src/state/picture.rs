//! The state as it is written down, in files and for other members. Maps whose keys are no texts are lists here.

use std::sync::Arc;

use apogee_model::{
    Cluster, GroupConfig, GroupId, MacKeys, ReplicaGroup, ReplicaGroupId, StoreNodeConfig, TopicConfig, TopicId,
};
use serde::{Deserialize, Serialize};

use super::State;

/// [`State`], flat.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Picture {
    cluster: Option<ClusterPicture>,
    last_topic: TopicId,
    last_group: GroupId,
    next_replica_group: ReplicaGroupId,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClusterPicture {
    version: u64,
    cluster_id: u64,
    feature_level: u32,
    replication_factor: u8,
    mac_keys: Arc<MacKeys>,
    nodes: Vec<Arc<StoreNodeConfig>>,
    replica_groups: Vec<Arc<ReplicaGroup>>,
    topics: Vec<Arc<TopicConfig>>,
    groups: Vec<Arc<GroupConfig>>,
}

impl From<State> for Picture {
    fn from(state: State) -> Picture {
        Picture {
            cluster: state.cluster.as_deref().map(ClusterPicture::from),
            last_topic: state.last_topic,
            last_group: state.last_group,
            next_replica_group: state.next_replica_group,
        }
    }
}

impl From<Picture> for State {
    fn from(picture: Picture) -> State {
        State {
            cluster: picture.cluster.map(|cluster| Arc::new(cluster.into())),
            last_topic: picture.last_topic,
            last_group: picture.last_group,
            next_replica_group: picture.next_replica_group,
        }
    }
}

impl From<&Cluster> for ClusterPicture {
    fn from(cluster: &Cluster) -> ClusterPicture {
        ClusterPicture {
            version: cluster.version,
            cluster_id: cluster.cluster_id,
            feature_level: cluster.feature_level,
            replication_factor: cluster.replication_factor,
            mac_keys: Arc::clone(&cluster.mac_keys),
            nodes: cluster.nodes.values().cloned().collect(),
            replica_groups: cluster.replica_groups.values().cloned().collect(),
            topics: cluster.topics.values().cloned().collect(),
            groups: cluster.groups.values().cloned().collect(),
        }
    }
}

impl From<ClusterPicture> for Cluster {
    fn from(picture: ClusterPicture) -> Cluster {
        Cluster {
            version: picture.version,
            cluster_id: picture.cluster_id,
            feature_level: picture.feature_level,
            replication_factor: picture.replication_factor,
            mac_keys: picture.mac_keys,
            nodes: picture.nodes.into_iter().map(|node| (node.name.clone(), node)).collect(),
            replica_groups: picture.replica_groups.into_iter().map(|group| (group.id, group)).collect(),
            topics: picture.topics.into_iter().map(|topic| (topic.topic.clone(), topic)).collect(),
            groups: picture.groups.into_iter().map(|group| (group.group.clone(), group)).collect(),
        }
    }
}
