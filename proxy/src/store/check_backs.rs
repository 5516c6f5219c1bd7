//! What all replica groups want to know from producers here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use apogee_model::store::CheckBack;
use apogee_model::{ReplicaGroupId, TopicId};
use futures::future::select_all;
use tokio::sync::watch;

use super::{Checks, StoreNode, Stores};

/// Check-backs of all replica groups there are, and of those that come.
pub(crate) struct CheckBacks {
    stores: Stores,
    changed: watch::Receiver<u64>,
    topics: BTreeSet<TopicId>,
    groups: Vec<OfGroup>,
}

struct OfGroup {
    group: ReplicaGroupId,
    store: Arc<dyn StoreNode>,
    checks: Box<dyn Checks>,
}

impl Stores {
    /// What producers here are to be asked; there are none yet.
    pub(crate) fn check_backs(&self) -> CheckBacks {
        let (changed, topics) = (self.changed(), BTreeSet::new());
        let mut all = CheckBacks { stores: self.clone(), changed, topics, groups: Vec::new() };
        all.follow();
        all
    }
}

impl CheckBacks {
    /// There are producers of these topics here, and of no others.
    pub(crate) fn set_topics(&mut self, topics: BTreeSet<TopicId>) {
        if topics != self.topics {
            self.groups.iter().for_each(|of| of.checks.set_topics(topics.clone()));
            self.topics = topics;
        }
    }

    /// Waits until a replica group wants to know. Groups have their turns.
    ///
    /// Cancel safe.
    pub(crate) async fn next(&mut self) -> (ReplicaGroupId, CheckBack) {
        loop {
            let found = {
                let any = async {
                    if self.groups.is_empty() {
                        std::future::pending().await
                    }
                    let (check, which, _) = select_all(self.groups.iter_mut().map(|of| of.checks.next())).await;
                    (check, which)
                };
                tokio::select! {
                    found = any => Some(found),
                    Ok(()) = self.changed.changed() => None,
                }
            };
            match found {
                None => self.follow(),
                Some((check, which)) => {
                    let group = self.groups[which].group;
                    self.groups.rotate_left(which + 1);
                    return (group, check);
                }
            }
        }
    }

    /// Replica groups came, went, or are elsewhere.
    fn follow(&mut self) {
        self.changed.mark_unchanged();
        let mut stores: BTreeMap<_, _> = self.stores.by_group();
        self.groups.retain(|of| {
            let same = stores.get(&of.group).is_some_and(|store| Arc::ptr_eq(store, &of.store));
            if same {
                stores.remove(&of.group);
            }
            same
        });
        self.groups.extend(stores.into_iter().map(|(group, store)| {
            let checks = store.checks(self.topics.clone());
            OfGroup { group, store, checks }
        }));
    }
}
