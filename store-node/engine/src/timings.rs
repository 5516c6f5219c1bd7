//! What is told about messages that wait for their time.
//!
//! Every replica tells how many it has; what came and went is counted by the one that leads, so that the sum over all
//! replicas is right.
//!
//! Source: apache/rocketmq `store/.../DefaultStoreMetricsManager.java`.

use std::time::Duration;

use apogee_model::{Topic, TopicId};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter};

use crate::state::{State, Timing};

/// See the module.
pub(crate) struct Timings {
    group: [KeyValue; 1],
    waiting: Gauge<u64>,
    enqueued: Counter<u64>,
    dequeued: Counter<u64>,
    /// Time from send to delivery that senders asked for.
    delay: Histogram<f64>,
    late: Gauge<u64>,
    /// What `late` shows, in milliseconds.
    late_shown: u64,
}

impl Timings {
    /// Tells of what waits in `state` from the beginning.
    pub(crate) fn new(meter: &Meter, group: &str, state: &State) -> Self {
        let delay = vec![60.0, 600.0, 3600.0, 43_200.0, 86_400.0, 259_200.0];
        let timings = Self {
            group: [KeyValue::new("group", group.to_owned())],
            waiting: meter.u64_gauge("rocketmq_timing_messages").build(),
            enqueued: meter.u64_counter("rocketmq_timer_enqueue_total").build(),
            dequeued: meter.u64_counter("rocketmq_timer_dequeue_total").build(),
            delay: meter.f64_histogram("rocketmq_delay_message_latency").with_unit("s").with_boundaries(delay).build(),
            late: meter.u64_gauge("rocketmq_timer_dequeue_latency").with_unit("ms").build(),
            late_shown: 0,
        };
        timings.late.record(0, &timings.group);
        timings.show_waiting(state.waiting_topics(), state);
        timings
    }

    /// A block was applied.
    pub(crate) fn applied(&self, timing: &Timing, state: &State) {
        self.show_waiting(timing.topics(), state);
    }

    /// A block that this replica proposed was committed.
    pub(crate) fn committed(&self, timing: &Timing, state: &State) {
        for (topic, delays) in &timing.kept {
            let Some(labels) = self.labels(*topic, state) else { continue };
            self.enqueued.add(u64::try_from(delays.len()).unwrap_or(u64::MAX), &labels);
            delays.iter().for_each(|delay| self.delay.record(delay.as_secs_f64(), &labels));
        }
        for (topic, count) in &timing.came {
            let Some(labels) = self.labels(*topic, state) else { continue };
            self.dequeued.add(*count, &labels);
        }
    }

    /// So late is the message that should have been in its queue first; nothing is where nobody leads.
    pub(crate) fn late(&mut self, late: Duration) {
        let late = u64::try_from(late.as_millis()).unwrap_or(u64::MAX);
        if std::mem::replace(&mut self.late_shown, late) != late {
            self.late.record(late, &self.group);
        }
    }

    fn show_waiting(&self, topics: impl IntoIterator<Item = TopicId>, state: &State) {
        for topic in topics {
            if let Some(labels) = self.labels(topic, state) {
                self.waiting.record(state.waiting_of(topic), &labels);
            }
        }
    }

    fn labels(&self, topic: TopicId, state: &State) -> Option<[KeyValue; 2]> {
        let [group] = self.group.clone();
        let topic = state.topic_name(topic).map(Topic::to_string)?;
        Some([group, KeyValue::new("topic", topic)])
    }
}
