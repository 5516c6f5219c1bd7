//! Check-backs: stores ask what became of transactions, and producers that are connected here are asked for it.
//!
//! Which producer sent the half message makes no difference: each one that said it produces to the topic may know. A check
//! counts once a producer's stream took it; before that the store asks again, through any proxy.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use apogee_model::store::{CheckBack, Checked};
use apogee_model::{ReplicaGroupId, Topic, TopicId, TopicType};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::end_transaction;
use crate::route::Directory;
use crate::session::{Streams, Word};
use crate::store::{CheckBacks, Stores};

/// Check-backs that are on their way to producers.
const UNDER_WAY_MAX: usize = 64;
/// Topics are made after their producers have come, and deleted; nobody tells, so we look.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Passes check-backs on.
pub(crate) struct Relay {
    pub(crate) directory: Directory,
    pub(crate) stores: Stores,
    pub(crate) streams: Arc<Streams>,
}

/// Topics that may have transactions and producers here.
type Produced = BTreeMap<TopicId, Topic>;

impl Relay {
    /// Tells the stores for which topics there are producers here, and asks these, until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), Infallible> {
        let mut backs = self.stores.check_backs();
        let (mut produced, mut under_way) = (Produced::new(), FuturesUnordered::new());
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                Some(()) = under_way.next() => {}
                (group, check) = backs.next(), if under_way.len() < UNDER_WAY_MAX => {
                    if let Some(topic) = produced.get(&check.topic) {
                        under_way.push(self.ask(group, check, topic.clone()));
                    }
                }
                () = self.streams.produced_changed() => self.tell(&mut produced, &mut backs),
                _ = look.tick() => self.tell(&mut produced, &mut backs),
            }
        }
    }

    fn tell(&self, produced: &mut Produced, backs: &mut CheckBacks) {
        let now = self.produced();
        if now != *produced {
            backs.set_topics(now.keys().copied().collect());
            *produced = now;
        }
    }

    fn produced(&self) -> Produced {
        let cluster = self.directory.routes().cluster();
        let topics = self.streams.produced();
        let known = topics.iter().filter_map(|topic| cluster.topics.get(topic));
        let transactional = known.filter(|it| matches!(it.topic_type, TopicType::Transaction | TopicType::Mixed));
        transactional.map(|it| (it.id, it.topic.clone())).collect()
    }

    async fn ask(&self, group: ReplicaGroupId, check: CheckBack, topic: Topic) {
        let keys = &self.directory.routes().cluster().mac_keys;
        let message_id = check.message.message_id().unwrap_or_default();
        let transaction_id = end_transaction::sign(group, check.topic, check.id, message_id, keys);
        let checked = Checked { topic: check.topic, id: check.id, check: check.check };
        let word = Word::CheckBack { check: Arc::new(check), transaction_id };
        match (self.streams.tell_a_producer(&topic, &word).await, self.stores.of(group)) {
            (Some(client), Ok(store)) => {
                store.checked(checked);
                tracing::debug!(event = "transaction_checked", %topic, %client, check = checked.check);
            }
            (None, _) | (_, Err(_)) => {
                tracing::debug!(event = "transaction_not_checked", %topic, "no producer took it")
            }
        }
    }
}
