//! Letting a group go on elsewhere.

use std::collections::BTreeMap;

use apogee_model::store::{QueueReset, Reset, ResetTo};
use apogee_model::{ConsumerGroup, QueueId, QueueOffset, Topic, TopicConfig};
use apogee_proto::admin::v1;
use apogee_proto::admin::v1::reset_offset_request::To;
use futures::future::try_join_all;

use super::convert::moment;
use super::error::AdminError;
use super::{Admin, known_group, known_topic};
use crate::route::{group_ref, topic_ref};

impl Admin {
    /// In all replica groups of the topic. One that fails does not undo the others.
    pub(super) async fn do_reset_offset(
        &self,
        ask: v1::ResetOffsetRequest,
    ) -> Result<v1::ResetOffsetResponse, AdminError> {
        let cluster = self.routes.cluster();
        let group = known_group(&cluster, ConsumerGroup::parse(&ask.namespace, &ask.group)?)?;
        let topic = known_topic(&cluster, Topic::parse(&ask.namespace, &ask.topic)?)?;
        let to = target(ask.to.ok_or(AdminError::Missing { field: "where the group is to go on" })?, &topic)?;
        let reset = Reset { group: group_ref(&group), topic: topic_ref(&topic), to, dry_run: ask.dry_run };
        let stores = self.stores.of_topic(&topic)?;
        let asked = stores.iter().map(|store| store.reset_offset(reset.clone()));
        let mut queues = try_join_all(asked).await?.concat();
        queues.sort_unstable_by_key(|row| row.queue);
        if !ask.dry_run {
            let (group, topic) = (&group.group, &topic.topic);
            tracing::info!(event = "offsets_reset", %group, %topic, to = ?reset.to, "a consumer group goes on elsewhere");
        }
        Ok(v1::ResetOffsetResponse { queues: queues.iter().map(row).collect() })
    }
}

fn target(to: To, topic: &TopicConfig) -> Result<ResetTo, AdminError> {
    Ok(match to {
        To::Place(given) => match v1::Place::try_from(given) {
            Ok(v1::Place::Earliest) => ResetTo::Earliest,
            Ok(v1::Place::Latest) => ResetTo::Latest,
            Ok(v1::Place::Unspecified) | Err(_) => {
                return Err(AdminError::Choice { field: "place", given, allowed: "EARLIEST, LATEST" });
            }
        },
        To::Time(at) => ResetTo::Time(moment(&at)),
        To::Offsets(offsets) => ResetTo::Offsets(per_queue(&offsets.offsets, topic)?),
    })
}

/// What is said of every queue, and then of some of them.
fn per_queue(offsets: &[v1::QueueOffset], topic: &TopicConfig) -> Result<BTreeMap<QueueId, QueueOffset>, AdminError> {
    let mut all = BTreeMap::new();
    for it in offsets.iter().filter(|it| it.queue_id.is_none()) {
        all.extend((0..topic.queues).map(|queue| (QueueId(queue), QueueOffset(it.offset))));
    }
    for it in offsets {
        if let Some(queue) = it.queue_id {
            all.insert(queue_of(queue, topic)?, QueueOffset(it.offset));
        }
    }
    if all.is_empty() { Err(AdminError::Missing { field: "an offset" }) } else { Ok(all) }
}

/// A queue that the topic has.
pub(super) fn queue_of(queue: u32, topic: &TopicConfig) -> Result<QueueId, AdminError> {
    let known = u16::try_from(queue).ok().filter(|queue| *queue < topic.queues);
    let name = || topic.topic.clone();
    known.map(QueueId).ok_or_else(|| AdminError::NoSuchQueue { topic: name(), queue, queues: topic.queues })
}

fn row(row: &QueueReset) -> v1::QueueReset {
    v1::QueueReset { queue_id: row.queue.0.into(), before: row.before.0, after: row.after.0, in_flight: row.in_flight }
}
