//! Metadata in memory.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use apogee_model::{
    Cluster, ConsumerGroup, DeliveryOrder, GroupChanges, GroupConfig, GroupId, LiteGroup, MacKey, MacKeys,
    MetadataError, NamesrvMembers, NewGroup, NewTopic, NodeName, Permission, PriorityFactor, ProxyNode, ReplicaGroupId,
    RetryPolicy, Timestamp, Topic, TopicChanges, TopicConfig, TopicId, TopicType,
};
use apogee_proxy::Routes;
use futures::future::BoxFuture;

pub(crate) struct FakeRoutes {
    /// Those of the cluster, or why nobody knows them.
    pub proxies: Mutex<Result<Vec<ProxyNode>, String>>,
    cluster: tokio::sync::watch::Sender<Arc<Cluster>>,
}

impl Default for FakeRoutes {
    fn default() -> Self {
        let keys = MacKeys { current: MacKey { generation: 1, secret: [7; 32] }, previous: None };
        Self {
            proxies: Mutex::new(Ok(Vec::new())),
            cluster: tokio::sync::watch::Sender::new(Arc::new(Cluster::born(42, 1, Arc::new(keys)))),
        }
    }
}

impl FakeRoutes {
    fn change<T>(&self, change: impl FnOnce(&mut Cluster) -> T) -> T {
        let mut changed = None;
        self.cluster.send_modify(|cluster| {
            let mut next = Cluster::clone(cluster);
            next.version += 1;
            changed = Some(change(&mut next));
            *cluster = Arc::new(next);
        });
        changed.unwrap()
    }

    pub(crate) fn topic(&self, name: &str, topic_type: TopicType, permission: Permission) {
        let topic = Topic::parse("", name).unwrap();
        let new = NewTopic { topic, topic_type, queues: 4, permission, lite_expiration: None, key_index: true };
        self.add_topic(new).unwrap();
    }

    pub(crate) fn group(&self, name: &str, order: DeliveryOrder, max_attempts: u32) {
        let group = ConsumerGroup::parse("", name).unwrap();
        let (retry, priority_factor) = (RetryPolicy::default(), PriorityFactor::default());
        self.add_group(NewGroup { group, order, max_attempts, retry, priority_factor, lite: None }).unwrap();
    }

    /// A group that reads lite topics of this topic.
    pub(crate) fn lite_group(&self, name: &str, topic: &str) {
        let lite = LiteGroup {
            topic: Topic::parse("", topic).unwrap(),
            exclusive: false,
            client_max: 3,
            reset_on_takeover: false,
            reset_on_unsubscribe: false,
        };
        let (group, order) = (ConsumerGroup::parse("", name).unwrap(), DeliveryOrder::Fifo);
        let (max_attempts, retry, priority_factor) = (17, RetryPolicy::default(), PriorityFactor::default());
        self.add_group(NewGroup { group, order, max_attempts, retry, priority_factor, lite: Some(lite) }).unwrap();
    }

    pub(crate) fn forget_topic(&self, name: &str) {
        self.change(|cluster| cluster.topics.remove(&Topic::parse("", name).unwrap()));
    }

    fn add_topic(&self, new: NewTopic) -> Result<Arc<TopicConfig>, MetadataError> {
        self.change(|cluster| {
            if cluster.topics.contains_key(&new.topic) {
                return Err(MetadataError::TopicExists { topic: new.topic });
            }
            let config = Arc::new(TopicConfig {
                topic: new.topic.clone(),
                id: TopicId(u32::try_from(cluster.version).unwrap()),
                topic_type: new.topic_type,
                queues: new.queues,
                placement: vec![ReplicaGroupId(0); usize::from(new.queues)],
                permission: new.permission,
                lite_expiration: new.lite_expiration,
                key_index: new.key_index,
                epoch: 0,
                growing: None,
                created: Timestamp(0),
            });
            cluster.topics.insert(new.topic, Arc::clone(&config));
            Ok(config)
        })
    }

    fn add_group(&self, new: NewGroup) -> Result<Arc<GroupConfig>, MetadataError> {
        self.change(|cluster| {
            if cluster.groups.contains_key(&new.group) {
                return Err(MetadataError::GroupExists { group: new.group });
            }
            let config = Arc::new(GroupConfig {
                group: new.group.clone(),
                id: GroupId(u32::try_from(cluster.version).unwrap()),
                order: new.order,
                max_attempts: new.max_attempts,
                retry: new.retry,
                priority_factor: new.priority_factor,
                lite: new.lite,
                created: Timestamp(0),
            });
            let dead_letters = TopicConfig {
                topic: new.group.dead_letter_topic(),
                id: TopicId(10_000 + config.id.0),
                topic_type: TopicType::Mixed,
                queues: 1,
                placement: vec![ReplicaGroupId(0)],
                permission: Permission::ReadWrite,
                lite_expiration: None,
                key_index: true,
                epoch: 0,
                growing: None,
                created: Timestamp(0),
            };
            cluster.topics.insert(dead_letters.topic.clone(), Arc::new(dead_letters));
            cluster.groups.insert(new.group, Arc::clone(&config));
            Ok(config)
        })
    }
}

impl Routes for FakeRoutes {
    fn cluster(&self) -> Arc<Cluster> {
        Arc::clone(&self.cluster.borrow())
    }
    fn changed(&self, seen: u64) -> BoxFuture<'_, ()> {
        let mut told = self.cluster.subscribe();
        Box::pin(async move {
            told.wait_for(|told| told.version != seen).await.unwrap();
        })
    }
    fn age(&self) -> Duration {
        Duration::from_millis(2500)
    }
    fn create_topic(&self, new: NewTopic) -> BoxFuture<'_, Result<Arc<TopicConfig>, MetadataError>> {
        Box::pin(async { self.add_topic(new) })
    }
    fn alter_topic(&self, _: TopicChanges) -> BoxFuture<'_, Result<Arc<TopicConfig>, MetadataError>> {
        unreachable!("no client alters a topic")
    }
    fn delete_topic<'a>(&'a self, topic: &'a Topic) -> BoxFuture<'a, Result<Arc<TopicConfig>, MetadataError>> {
        let missing = || MetadataError::NoSuchTopic { topic: topic.clone() };
        Box::pin(async move { self.change(|cluster| cluster.topics.remove(topic)).ok_or_else(missing) })
    }
    fn create_group(&self, new: NewGroup) -> BoxFuture<'_, Result<Arc<GroupConfig>, MetadataError>> {
        Box::pin(async { self.add_group(new) })
    }
    fn alter_group(&self, changes: GroupChanges) -> BoxFuture<'_, Result<Arc<GroupConfig>, MetadataError>> {
        Box::pin(async move {
            self.change(|cluster| {
                let known = cluster.groups.get_mut(&changes.group).expect("the test made it");
                let mut altered = (**known).clone();
                altered.max_attempts = changes.max_attempts.unwrap_or(altered.max_attempts);
                altered.retry = changes.retry.unwrap_or(altered.retry);
                altered.priority_factor = changes.priority_factor.unwrap_or(altered.priority_factor);
                *known = Arc::new(altered);
                Ok(Arc::clone(known))
            })
        })
    }
    fn proxies(&self) -> BoxFuture<'_, Result<Vec<ProxyNode>, MetadataError>> {
        let proxies = self.proxies.lock().unwrap().clone();
        Box::pin(async { proxies.map_err(|why| MetadataError::Unreachable { why }) })
    }
    fn delete_group<'a>(&'a self, group: &'a ConsumerGroup) -> BoxFuture<'a, Result<Arc<GroupConfig>, MetadataError>> {
        let missing = || MetadataError::NoSuchGroup { group: group.clone() };
        Box::pin(async move { self.change(|cluster| cluster.groups.remove(group)).ok_or_else(missing) })
    }
    fn drain_node<'a>(&'a self, _: &'a NodeName) -> BoxFuture<'a, Result<(), MetadataError>> {
        unreachable!("no client drains a store-node")
    }
    fn undrain_node<'a>(&'a self, _: &'a NodeName) -> BoxFuture<'a, Result<(), MetadataError>> {
        unreachable!("no client drains a store-node")
    }
    fn remove_node<'a>(&'a self, _: &'a NodeName) -> BoxFuture<'a, Result<(), MetadataError>> {
        unreachable!("no client removes a store-node")
    }
    fn members(&self) -> BoxFuture<'_, Result<NamesrvMembers, MetadataError>> {
        unreachable!("no client asks for namesrv")
    }
}
