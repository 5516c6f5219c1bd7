//! The roles meet: what the proxy asks of its traits, namesrv and engine answer by plain calls.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use apogee_engine::Engine;
use apogee_model::store::{
    Append, Appended, CheckBack, Checked, CommitOffset, DeliveryKey, EndTransaction, Fetch, Fetched, Find, Found,
    GroupQueue, GroupRef, GroupStatus, GroupTrace, HalfId, LiteList, LiteStatus, LiteSubscribed, LiteSubscription,
    OffsetCommitted, OpenTransaction, Pop, Popped, QueueReset, QueueStatus, Recall, Recalled, Reset, Seal, Sealed,
    Settled, Settlement, StoreError, TopicRef, Trace, TransactionEnded,
};
use apogee_model::{
    ClientId, Cluster, ConsumerGroup, Filter, GroupChanges, GroupConfig, GroupId, MetadataError, NamesrvMember,
    NamesrvMembers, NewGroup, NewTopic, NodeName, ProxyNode, QueueOffset, ReplicaId, Topic, TopicChanges, TopicConfig,
    TopicId,
};
use apogee_namesrv::Namesrv;
use apogee_proxy::{Checks, ClientHeard, Routes, StoreNode, Watch};
use futures::future::{BoxFuture, ready};
use tokio::time::Instant;

/// The routes of a namesrv in this process.
pub(super) struct LocalRoutes(pub(super) Namesrv);

impl Routes for LocalRoutes {
    fn cluster(&self) -> Arc<Cluster> {
        self.0.cluster().expect("a namesrv without others opens with its cluster")
    }

    fn changed(&self, seen: u64) -> BoxFuture<'_, ()> {
        let mut told = self.0.watch();
        Box::pin(async move {
            if told.wait_for(|told| told.as_ref().is_some_and(|told| told.version != seen)).await.is_err() {
                std::future::pending::<()>().await; // it ends, and so does this process
            }
        })
    }

    fn create_topic(&self, new: NewTopic) -> BoxFuture<'_, Result<Arc<TopicConfig>, MetadataError>> {
        Box::pin(self.0.create_topic(new))
    }

    fn alter_topic(&self, changes: TopicChanges) -> BoxFuture<'_, Result<Arc<TopicConfig>, MetadataError>> {
        Box::pin(self.0.alter_topic(changes))
    }

    fn delete_topic<'a>(&'a self, topic: &'a Topic) -> BoxFuture<'a, Result<Arc<TopicConfig>, MetadataError>> {
        Box::pin(self.0.delete_topic(topic))
    }

    fn create_group(&self, new: NewGroup) -> BoxFuture<'_, Result<Arc<GroupConfig>, MetadataError>> {
        Box::pin(self.0.create_group(new))
    }

    fn alter_group(&self, changes: GroupChanges) -> BoxFuture<'_, Result<Arc<GroupConfig>, MetadataError>> {
        Box::pin(self.0.alter_group(changes))
    }

    fn delete_group<'a>(&'a self, group: &'a ConsumerGroup) -> BoxFuture<'a, Result<Arc<GroupConfig>, MetadataError>> {
        Box::pin(self.0.delete_group(group))
    }

    fn proxies(&self) -> BoxFuture<'_, Result<Vec<ProxyNode>, MetadataError>> {
        Box::pin(ready(self.0.proxies()))
    }

    fn drain_node<'a>(&'a self, node: &'a NodeName) -> BoxFuture<'a, Result<(), MetadataError>> {
        Box::pin(async move { self.0.drain_node(node).await.map(|_| ()) })
    }

    fn undrain_node<'a>(&'a self, node: &'a NodeName) -> BoxFuture<'a, Result<(), MetadataError>> {
        Box::pin(async move { self.0.undrain_node(node).await.map(|_| ()) })
    }

    fn remove_node<'a>(&'a self, node: &'a NodeName) -> BoxFuture<'a, Result<(), MetadataError>> {
        Box::pin(async move { self.0.remove_node(node.clone()).await.map(|_| ()) })
    }

    fn members(&self) -> BoxFuture<'_, Result<NamesrvMembers, MetadataError>> {
        let (members, leader) = self.0.members();
        let member = |member: apogee_namesrv::Member| NamesrvMember { id: member.id, address: member.registry };
        Box::pin(ready(Ok(NamesrvMembers { members: members.into_iter().map(member).collect(), leader })))
    }
}

/// The one replica group of this process, and its leader.
pub(super) struct LocalStore(pub(super) Engine);

impl StoreNode for LocalStore {
    fn leads(&self) -> bool {
        true // the only replica does from its start to its end
    }

    fn leader(&self) -> Option<ReplicaId> {
        Some(ReplicaId(1)) // namesrv counts replicas from 1
    }

    fn append(&self, messages: Vec<Append>) -> BoxFuture<'_, Result<Vec<Appended>, StoreError>> {
        Box::pin(self.0.append(messages))
    }

    fn pop(&self, pop: Pop) -> BoxFuture<'_, Result<Popped, StoreError>> {
        Box::pin(self.0.pop(pop))
    }

    fn settle(&self, key: DeliveryKey, what: Settlement) -> BoxFuture<'_, Result<Settled, StoreError>> {
        Box::pin(self.0.settle(key, what))
    }

    fn release(&self, deliveries: Vec<DeliveryKey>) {
        self.0.release(deliveries);
    }

    fn confirm(&self, deliveries: Vec<DeliveryKey>) {
        self.0.confirm(deliveries);
    }

    fn heard(&self, clients: Vec<ClientHeard>) {
        self.0.heard(&silent(&clients));
    }

    fn hung_up(&self, clients: Vec<ClientHeard>) {
        self.0.hung_up(&silent(&clients));
    }

    fn lost(&self, client: ClientId) {
        self.0.lost(&client);
    }

    fn watch(&self, group: GroupRef, topic: TopicRef, filter: Filter) -> Box<dyn Watch> {
        Box::new(LocalWatch(self.0.watch(&group, &topic, filter)))
    }

    fn watch_lite(&self, group: GroupRef, topic: TopicRef, client: ClientId) -> Box<dyn Watch> {
        Box::new(LocalWatch(self.0.watch_lite(&group, &topic, &client)))
    }

    fn lite_subscribe(&self, subscription: LiteSubscription) -> BoxFuture<'_, Result<LiteSubscribed, StoreError>> {
        Box::pin(self.0.lite_subscribe(subscription))
    }

    fn lite_list(&self, list: LiteList) -> BoxFuture<'_, Result<Vec<LiteStatus>, StoreError>> {
        Box::pin(self.0.lite_list(list))
    }

    fn seal(&self, seal: Seal) -> BoxFuture<'_, Result<Sealed, StoreError>> {
        Box::pin(self.0.seal(seal))
    }

    fn find(&self, find: Find) -> BoxFuture<'_, Result<Vec<Found>, StoreError>> {
        Box::pin(self.0.find(find))
    }

    fn trace(&self, trace: Trace) -> BoxFuture<'_, Result<Vec<GroupTrace>, StoreError>> {
        Box::pin(self.0.trace(trace))
    }

    fn topic_status(&self, topic: TopicId) -> BoxFuture<'_, Result<Vec<QueueStatus>, StoreError>> {
        Box::pin(self.0.topic_status(topic))
    }

    fn group_status(&self, group: GroupId) -> BoxFuture<'_, Result<Vec<GroupStatus>, StoreError>> {
        Box::pin(self.0.group_status(group))
    }

    fn reset_offset(&self, reset: Reset) -> BoxFuture<'_, Result<Vec<QueueReset>, StoreError>> {
        Box::pin(self.0.reset_offset(reset))
    }

    fn recall(&self, recall: Recall) -> BoxFuture<'_, Result<Recalled, StoreError>> {
        Box::pin(self.0.recall(recall))
    }

    fn end_transaction(&self, end: EndTransaction) -> BoxFuture<'_, Result<TransactionEnded, StoreError>> {
        Box::pin(self.0.end_transaction(end))
    }

    fn transactions(
        &self,
        topic: TopicId,
        from: HalfId,
        max: usize,
    ) -> BoxFuture<'_, Result<Vec<OpenTransaction>, StoreError>> {
        Box::pin(self.0.transactions(topic, from, max))
    }

    fn checks(&self, topics: BTreeSet<TopicId>) -> Box<dyn Checks> {
        Box::new(LocalChecks(self.0.checks(topics)))
    }

    fn checked(&self, checked: Checked) {
        self.0.checked(checked);
    }

    fn fetch(&self, fetch: Fetch) -> BoxFuture<'_, Result<Fetched, StoreError>> {
        Box::pin(self.0.fetch(fetch))
    }

    fn commit_offset(&self, commit: CommitOffset) -> BoxFuture<'_, Result<OffsetCommitted, StoreError>> {
        Box::pin(self.0.commit_offset(commit))
    }

    fn committed_offset(&self, of: GroupQueue) -> BoxFuture<'_, Result<Option<QueueOffset>, StoreError>> {
        Box::pin(self.0.committed_offset(of))
    }

    fn drop_topic(&self, topic: TopicId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.0.drop_topic(topic))
    }

    fn drop_group(&self, group: GroupId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.0.drop_group(group))
    }
}

/// Clients, and for how long each was silent.
fn silent(clients: &[ClientHeard]) -> Vec<(ClientId, Duration)> {
    let now = Instant::now();
    clients.iter().map(|heard| (heard.client.clone(), now.saturating_duration_since(heard.at))).collect()
}

struct LocalWatch(apogee_engine::Watch);

impl Watch for LocalWatch {
    fn ready(&mut self) -> BoxFuture<'_, u64> {
        Box::pin(self.0.ready())
    }
}

struct LocalChecks(apogee_engine::Checks);

impl Checks for LocalChecks {
    fn set_topics(&self, topics: BTreeSet<TopicId>) {
        self.0.set_topics(topics);
    }

    fn next(&mut self) -> BoxFuture<'_, CheckBack> {
        Box::pin(self.0.next())
    }
}
