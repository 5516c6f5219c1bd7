//! Topics with message groups that are to have more queues.
//!
//! The leaders are told to take no more messages that were hashed over the queues there are, and asked until the ordered
//! groups have settled what is there; then namesrv gives the topic its new queues. All of it may be asked again, by
//! whichever proxy does it next.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use apogee_model::store::{Seal, StoreError};
use apogee_model::{Cluster, DeliveryOrder, GroupId, MetadataError, TopicChanges, TopicConfig};
use futures::future::try_join_all;
use tokio::time::{sleep, timeout};

use super::clients::Clients;
use crate::route::topic_ref;
use crate::{Routes, Stores};

/// How often the leaders are asked.
const ROUND: Duration = Duration::from_millis(500);
/// The same while a leader, or namesrv, is away.
const ROUND_IN_TROUBLE: Duration = Duration::from_secs(5);
/// How often somebody tries who waits for the topic,
const TRIES: u32 = 4;
/// and how long he waits in between.
const PAUSE: Duration = Duration::from_millis(50);
/// How long they may take.
const ASK_MAX: Duration = Duration::from_secs(5);

/// Why a topic has to wait for longer.
#[derive(Debug, thiserror::Error)]
enum NotYet {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

/// Looks after such topics for ever.
pub(crate) async fn watch(clients: Clients, routes: Arc<dyn Routes>, stores: Stores) {
    loop {
        let cluster = routes.cluster();
        let growing: Vec<_> = cluster.topics.values().filter(|topic| topic.growing.is_some()).cloned().collect();
        if growing.is_empty() {
            routes.changed(cluster.version).await;
            continue;
        }
        let mut pause = ROUND;
        if clients.looks(&*routes).await {
            for topic in growing {
                match timeout(ASK_MAX, look_after(&topic, &cluster, &*routes, &stores)).await {
                    Ok(Ok(_grown_or_not)) => {}
                    Ok(Err(error)) => {
                        pause = ROUND_IN_TROUBLE;
                        let topic = &topic.topic;
                        tracing::warn!(event = "topic_waits", %topic, %error, "a topic waits for its new queues");
                    }
                    Err(_) => tracing::warn!(event = "topic_waits", topic = %topic.topic, "a leader does not answer"),
                }
            }
        }
        sleep(pause).await;
    }
}

/// Tries for a moment to give a topic its queues, when nobody has to consume anything for that; it gets them later if not.
pub(super) async fn at_once(topic: Arc<TopicConfig>, routes: &dyn Routes, stores: &Stores) -> Arc<TopicConfig> {
    for _ in 0..TRIES {
        if topic.growing.is_none() {
            break;
        }
        if let Ok(Ok(Some(grown))) = timeout(ASK_MAX, look_after(&topic, &routes.cluster(), routes, stores)).await {
            return grown;
        }
        sleep(PAUSE).await;
    }
    topic
}

/// Returns the topic when it has its queues.
async fn look_after(
    topic: &TopicConfig,
    cluster: &Cluster,
    routes: &dyn Routes,
    stores: &Stores,
) -> Result<Option<Arc<TopicConfig>>, NotYet> {
    // With the queues it has, nothing is hashed otherwise: somebody thought better of it.
    if topic.growing != Some(topic.queues) && !is_drained(topic, cluster, stores).await? {
        return Ok(None);
    }
    let (open, topic) = (Some(topic.epoch), topic.topic.clone());
    let grown =
        routes.alter_topic(TopicChanges { topic, queues: None, permission: None, key_index: None, open }).await?;
    let (topic, queues, epoch) = (&grown.topic, grown.queues, grown.epoch);
    tracing::info!(event = "topic_grown", %topic, queues, epoch, "a topic got its new queues");
    Ok(Some(grown))
}

/// Whether everything is settled that was there before its leaders took no more.
async fn is_drained(topic: &TopicConfig, cluster: &Cluster, stores: &Stores) -> Result<bool, StoreError> {
    let seal = Seal { topic: topic_ref(topic), epoch: topic.epoch, groups: ordered(cluster) };
    let all = stores.of_topic(topic)?;
    let sealed = try_join_all(all.iter().map(|store| store.seal(seal.clone()))).await?;
    Ok(sealed.iter().all(|sealed| sealed.drained))
}

/// The groups that keep message groups in order.
fn ordered(cluster: &Cluster) -> BTreeSet<GroupId> {
    let ordered = cluster.groups.values().filter(|group| group.order == DeliveryOrder::Fifo);
    ordered.map(|group| group.id).collect()
}
