//! Subscriptions that do not keep the order their users may count on, told once each.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use apogee_model::{DeliveryOrder, GroupConfig, GroupId, TopicConfig, TopicId, TopicType};

/// Pairs that are remembered; more are told again.
const KNOWN_MAX: usize = 10_000;

/// What was told since the proxy started.
#[derive(Debug, Default)]
pub(crate) struct Mismatches {
    known: Mutex<BTreeSet<(GroupId, TopicId)>>,
    unordered: Arc<AtomicI64>,
}

impl Mismatches {
    /// FIFO topics times concurrent groups that read them.
    pub(crate) fn unordered(&self) -> &Arc<AtomicI64> {
        &self.unordered
    }

    /// A consumer of the group receives from the topic.
    pub(crate) fn look(&self, topic: &TopicConfig, group: &GroupConfig) {
        let (of_topic, of_group) = (topic.topic_type, group.order);
        let unordered = of_topic == TopicType::Fifo && of_group == DeliveryOrder::Concurrent;
        let one_by_one = of_topic == TopicType::Normal && of_group == DeliveryOrder::Fifo;
        if !(unordered || one_by_one) || !self.is_new((group.id, topic.id)) {
            return;
        }
        let (topic, group) = (&topic.topic, &group.group);
        if unordered {
            self.unordered.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                event = "fifo_unordered", %topic, %group,
                "a concurrent group reads a FIFO topic: its messages are delivered in no order; the group needs order fifo"
            );
        } else {
            tracing::warn!(
                event = "normal_in_order", %topic, %group,
                "an ordered group reads a NORMAL topic: the messages of each queue are delivered one after the other"
            );
        }
    }

    fn is_new(&self, pair: (GroupId, TopicId)) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(pair)
    }
}
