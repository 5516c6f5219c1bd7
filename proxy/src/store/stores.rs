//! All replica groups of the cluster, each through its leader.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use apogee_model::store::StoreError;
use apogee_model::{ClientId, ReplicaGroupId, ReplicaId, TopicConfig};
use tokio::sync::watch;

use super::{ClientHeard, StoreNode};

type Groups = BTreeMap<ReplicaGroupId, Arc<dyn StoreNode>>;

/// The replica groups by number. Clones share them.
#[derive(Clone, Default)]
pub struct Stores {
    groups: Arc<RwLock<Arc<Groups>>>,
    /// Counts changes of the above.
    changes: Arc<watch::Sender<u64>>,
}

impl Stores {
    /// A cluster of one replica group.
    pub fn one(group: ReplicaGroupId, store: Arc<dyn StoreNode>) -> Self {
        let stores = Self::default();
        stores.insert(group, store);
        stores
    }

    /// Adds a replica group, or puts it in the place of what was known of it.
    pub fn insert(&self, group: ReplicaGroupId, store: Arc<dyn StoreNode>) {
        self.change(|groups| drop(groups.insert(group, store)));
    }

    /// Forgets a replica group.
    pub fn remove(&self, group: ReplicaGroupId) {
        self.change(|groups| drop(groups.remove(&group)));
    }

    /// # Errors
    /// [`StoreError::NotLeader`] when this proxy has not heard of the replica group.
    pub(crate) fn of(&self, group: ReplicaGroupId) -> Result<Arc<dyn StoreNode>, StoreError> {
        self.snapshot().get(&group).cloned().ok_or(StoreError::NotLeader { leader: None })
    }

    /// The replica groups of a topic, in the order of their numbers.
    ///
    /// # Errors
    /// As [`Stores::of`].
    pub(crate) fn of_topic(&self, topic: &TopicConfig) -> Result<Vec<Arc<dyn StoreNode>>, StoreError> {
        topic.replica_groups().into_iter().map(|group| self.of(group)).collect()
    }

    /// Stirs when a replica group comes, goes, or is elsewhere.
    pub(crate) fn changed(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(crate) fn by_group(&self) -> BTreeMap<ReplicaGroupId, Arc<dyn StoreNode>> {
        BTreeMap::clone(&self.snapshot())
    }

    #[cfg(test)]
    pub(crate) fn groups(&self) -> Vec<ReplicaGroupId> {
        self.snapshot().keys().copied().collect()
    }

    pub(crate) fn all(&self) -> Vec<Arc<dyn StoreNode>> {
        self.snapshot().values().cloned().collect()
    }

    /// Whether somebody is known to lead this replica group.
    pub(crate) fn leads(&self, group: ReplicaGroupId) -> bool {
        self.snapshot().get(&group).is_some_and(|store| store.leads())
    }

    /// The replica that leads a replica group, if this proxy knows one.
    pub(crate) fn leader(&self, group: ReplicaGroupId) -> Option<ReplicaId> {
        self.snapshot().get(&group).and_then(|store| store.leader())
    }

    /// Tells all of them.
    pub(crate) fn heard(&self, clients: &[ClientHeard]) {
        self.snapshot().values().for_each(|store| store.heard(clients.to_vec()));
    }

    /// Tells all of them.
    pub(crate) fn hung_up(&self, clients: &[ClientHeard]) {
        self.snapshot().values().for_each(|store| store.hung_up(clients.to_vec()));
    }

    /// Tells all of them.
    pub(crate) fn lost(&self, client: &ClientId) {
        self.snapshot().values().for_each(|store| store.lost(client.clone()));
    }

    fn snapshot(&self) -> Arc<Groups> {
        Arc::clone(&self.groups.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: impl FnOnce(&mut Groups)) {
        let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut groups));
        drop(groups);
        self.changes.send_modify(|changes| *changes += 1);
    }
}
