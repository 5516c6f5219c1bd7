//! From one version of the cluster to the next, as a message.

use std::collections::BTreeMap;
use std::sync::Arc;

use apogee_model::Cluster;
use apogee_proto::namesrv::v1;

use super::replicas::{read_replica_group, replica_group};
use super::{
    Malformed, Read, bad, group, group_name, mac_keys, need, node, read_group, read_group_name, read_mac_keys,
    read_node, read_node_name, read_topic, read_topic_name, topic, topic_name,
};

/// What leads from `before` to `after`; everything, when there is no `before`.
pub(crate) fn between(before: Option<&Cluster>, after: &Cluster) -> v1::Update {
    let same_keys = before.is_some_and(|before| before.mac_keys == after.mac_keys);
    v1::Update {
        cluster_id: after.cluster_id,
        version: after.version,
        whole: before.is_none(),
        feature_level: after.feature_level,
        replication_factor: after.replication_factor.into(),
        mac_keys: (!same_keys).then(|| mac_keys(&after.mac_keys)),
        nodes: changed(before.map(|before| &before.nodes), &after.nodes).map(|it| node(it)).collect(),
        nodes_gone: gone(before.map(|before| &before.nodes), &after.nodes).map(|it| it.as_str().to_owned()).collect(),
        replica_groups: changed(before.map(|before| &before.replica_groups), &after.replica_groups)
            .map(|it| replica_group(it))
            .collect(),
        topics: changed(before.map(|before| &before.topics), &after.topics).map(|it| topic(0, it)).collect(),
        topics_gone: gone(before.map(|before| &before.topics), &after.topics).map(topic_name).collect(),
        groups: changed(before.map(|before| &before.groups), &after.groups).map(|it| group(0, it)).collect(),
        groups_gone: gone(before.map(|before| &before.groups), &after.groups).map(group_name).collect(),
    }
}

type Map<K, V> = BTreeMap<K, Arc<V>>;

fn changed<'a, K: Ord, V>(before: Option<&'a Map<K, V>>, after: &'a Map<K, V>) -> impl Iterator<Item = &'a Arc<V>> {
    let same = move |key: &K, value: &Arc<V>| {
        before.and_then(|before| before.get(key)).is_some_and(|before| Arc::ptr_eq(before, value))
    };
    after.iter().filter(move |(key, value)| !same(key, value)).map(|(_, value)| value)
}

fn gone<'a, K: Ord, V>(before: Option<&'a Map<K, V>>, after: &'a Map<K, V>) -> impl Iterator<Item = &'a K> {
    before.into_iter().flat_map(BTreeMap::keys).filter(|key| !after.contains_key(key))
}

/// The cluster that `update` leads to; `None` when nothing changed.
///
/// # Errors
/// [`Malformed`], also when it leads on from a cluster that is not here.
pub(crate) fn follow(before: Option<&Cluster>, update: v1::Update) -> Result<Option<Cluster>, Malformed> {
    let mut cluster = match before {
        None if update.version == 0 => return Ok(None), // not born yet
        _ if update.whole => {
            let keys = read_mac_keys(need(update.mac_keys.clone(), "the MAC keys")?)?;
            Cluster::born(update.cluster_id, replication_factor(&update)?, Arc::new(keys))
        }
        None => return Err(bad("what the update leads on from")),
        Some(before) if before.cluster_id != update.cluster_id => return Err(bad("the cluster id")),
        Some(before) if before.version == update.version => return Ok(None),
        Some(before) => before.clone(),
    };
    cluster.version = update.version;
    cluster.feature_level = update.feature_level;
    cluster.replication_factor = replication_factor(&update)?;
    if let Some(keys) = update.mac_keys {
        cluster.mac_keys = Arc::new(read_mac_keys(keys)?);
    }
    for gone in update.nodes_gone {
        cluster.nodes.remove(&read_node_name(&gone)?);
    }
    for changed in update.nodes {
        let changed = Arc::new(read_node(changed)?);
        cluster.nodes.insert(changed.name.clone(), changed);
    }
    for changed in update.replica_groups {
        let changed = Arc::new(read_replica_group(changed)?);
        cluster.replica_groups.insert(changed.id, changed);
    }
    for gone in update.topics_gone {
        cluster.topics.remove(&read_topic_name(Some(gone))?);
    }
    for changed in update.topics {
        let changed = Arc::new(read_topic(changed)?);
        cluster.topics.insert(changed.topic.clone(), changed);
    }
    for gone in update.groups_gone {
        cluster.groups.remove(&read_group_name(Some(gone))?);
    }
    for changed in update.groups {
        let changed = Arc::new(read_group(changed)?);
        cluster.groups.insert(changed.group.clone(), changed);
    }
    Ok(Some(cluster))
}

fn replication_factor(update: &v1::Update) -> Read<u8> {
    u8::try_from(update.replication_factor).map_err(|_| bad("the replication factor"))
}

#[cfg(test)]
mod tests {
    use apogee_model::{MacKey, MacKeys, NodeName, NodeStanding, StoreNodeConfig};

    use super::*;

    #[test]
    fn a_store_node_that_was_removed_is_gone_from_every_copy() {
        let keys = MacKeys { current: MacKey { generation: 1, secret: [1; 32] }, previous: None };
        let mut before = Cluster::born(7, 3, Arc::new(keys));
        for name in ["n1", "n2"].map(|name| NodeName::parse(name).unwrap()) {
            let (lanes, replication, zone) = (format!("{name}:1"), format!("{name}:2"), String::new());
            let standing = NodeStanding::Draining;
            let node = StoreNodeConfig { name: name.clone(), lanes, replication, zone, standing, incarnation: 1 };
            before.nodes.insert(name, Arc::new(node));
        }
        let mut after = before.clone();
        after.version += 1;
        after.nodes.remove(&NodeName::parse("n1").unwrap());
        let copy = follow(None, between(None, &before)).unwrap();
        assert_eq!(copy.as_ref(), Some(&before));
        let update = between(Some(&before), &after);
        assert_eq!((update.nodes_gone.as_slice(), update.nodes.len()), (["n1".to_owned()].as_slice(), 0));
        assert_eq!(follow(copy.as_ref(), update).unwrap(), Some(after));
    }
}
